%% SPDX-License-Identifier: MIT
%% @doc A port with ids, as one writes it by hand: many requests in flight, each sent and answered by itself.
-module(bench_port_mux).
-behaviour(bench_client).
-behaviour(gen_server).

-export([open/1, close/1, caller/1, leave/1, call/3, cast/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-record(state, {port :: port(), next = 0 :: non_neg_integer(), pending = #{} :: #{non_neg_integer() => term()}}).

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

-spec init(binary()) -> {ok, #state{}}.
init(Path) ->
    {ok, #state{port = open_port({spawn_executable, Path}, [{packet, 4}, binary, use_stdio])}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}}.
handle_call(os_pid, _From, State = #state{port = Port}) ->
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    {reply, OsPid, State};
handle_call({Command, Params}, From, State = #state{port = Port, next = Id, pending = Pending}) ->
    true = port_command(Port, term_to_binary({Id, Command, Params})),
    {noreply, State#state{next = (Id + 1) band 16#7ffffff, pending = Pending#{Id => From}}}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({Command, Params}, State = #state{port = Port}) ->
    true = port_command(Port, term_to_binary({cast, Command, Params})),
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({Port, {data, Data}}, State = #state{port = Port, pending = Pending}) ->
    {Id, Reply} = binary_to_term(Data),
    {From, Left} = maps:take(Id, Pending),
    gen_server:reply(From, Reply),
    {noreply, State#state{pending = Left}}.
