%% SPDX-License-Identifier: MIT
%% @doc A port as one begins with: its owner does one request at a time.
-module(bench_port_serial).
-behaviour(bench_client).
-behaviour(gen_server).

-export([open/1, close/1, caller/1, leave/1, call/3, cast/3]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(TIMEOUT, 60000).

-spec open(map()) -> bench_client:opened().
open(#{path := Path}) ->
    {ok, Pid} = gen_server:start_link(?MODULE, Path, []),
    #{system => Pid, pids => [gen_server:call(Pid, os_pid)], each => 1}.

-spec close(pid()) -> ok.
close(Pid) -> gen_server:stop(Pid).

-spec caller(pid()) -> pid().
caller(Pid) -> Pid.

-spec leave(pid()) -> ok.
leave(_) -> ok.

-spec call(pid(), pos_integer(), term()) -> term().
call(Pid, Command, Params) -> gen_server:call(Pid, {Command, Params}, infinity).

-spec cast(pid(), pos_integer(), term()) -> ok.
cast(Pid, Command, Params) -> gen_server:cast(Pid, {Command, Params}).

-spec init(binary()) -> {ok, port()}.
init(Path) ->
    {ok, open_port({spawn_executable, Path}, [{packet, 4}, binary, use_stdio])}.

-spec handle_call(term(), gen_server:from(), port()) ->
    {reply, term(), port()} | {stop, timeout, port()}.
handle_call(os_pid, _From, Port) ->
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    {reply, OsPid, Port};
handle_call({Command, Params}, _From, Port) ->
    true = port_command(Port, term_to_binary({0, Command, Params})),
    receive
        {Port, {data, Data}} ->
            {0, Reply} = binary_to_term(Data),
            {reply, Reply, Port}
    after ?TIMEOUT ->
        {stop, timeout, Port}
    end.

-spec handle_cast(term(), port()) -> {noreply, port()}.
handle_cast({Command, Params}, Port) ->
    true = port_command(Port, term_to_binary({cast, Command, Params})),
    {noreply, Port}.
