%% SPDX-License-Identifier: MIT
%% @doc A port at its best: ids, framing of its own, and all requests that wait leave in one port_command, as in
%% gen_driver_tcp.
-module(bench_port_drain).
-behaviour(bench_client).
-behaviour(gen_server).

-export([open/1, close/1, caller/1, leave/1, call/3, cast/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(REQUESTS, 256).

-record(state, {
    port :: port(),
    next = 0 :: non_neg_integer(),
    pending = #{} :: #{non_neg_integer() => term()},
    unsent = [] :: [iodata()],
    count = 0 :: non_neg_integer(),
    pieces = [] :: [binary()],          % newest first
    have = 0 :: non_neg_integer(),
    need = 4 :: pos_integer()
}).

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
    process_flag(message_queue_data, off_heap),
    {ok, #state{port = open_port({spawn_executable, Path}, [stream, binary, use_stdio])}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}} | {noreply, #state{}, 0}.
handle_call(os_pid, _From, State = #state{port = Port}) ->
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    {reply, OsPid, State};
handle_call({Command, Params}, From, State = #state{next = Id, pending = Pending}) ->
    next(add({Id, Command, Params}, State#state{next = (Id + 1) band 16#7ffffff, pending = Pending#{Id => From}})).

-spec handle_cast(term(), #state{}) -> {noreply, #state{}} | {noreply, #state{}, 0}.
handle_cast({Command, Params}, State) ->
    next(add({cast, Command, Params}, State)).

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {noreply, #state{}, 0}.
handle_info(timeout, State) ->
    {noreply, flush(State)};
handle_info({Port, {data, Data}}, State = #state{port = Port, have = Have, need = Need, pieces = Pieces})
  when Have + byte_size(Data) < Need ->
    next(State#state{have = Have + byte_size(Data), pieces = [Data | Pieces]});
handle_info({Port, {data, Data}}, State = #state{port = Port, pieces = []}) ->
    next(cut(Data, State));
handle_info({Port, {data, Data}}, State = #state{port = Port, pieces = Pieces}) ->
    next(cut(iolist_to_binary(lists:reverse([Data | Pieces])), State#state{pieces = [], have = 0, need = 4})).

cut(<<Size:32, Frame:Size/binary, Rest/binary>>, State = #state{pending = Pending}) ->
    {Id, Reply} = binary_to_term(Frame),
    {From, Left} = maps:take(Id, Pending),
    gen_server:reply(From, Reply),
    cut(Rest, State#state{pending = Left});
cut(<<>>, State) ->
    State;
cut(<<Size:32, _/binary>> = Rest, State) ->
    State#state{pieces = [Rest], have = byte_size(Rest), need = 4 + Size};
cut(Rest, State) ->
    State#state{pieces = [Rest], have = byte_size(Rest), need = 4}.

add(Request, State = #state{unsent = Unsent, count = Count}) ->
    Frame = term_to_binary(Request),
    State#state{unsent = [[<<(byte_size(Frame)):32>>, Frame] | Unsent], count = Count + 1}.

next(State = #state{count = 0}) -> {noreply, State};
next(State = #state{count = Count}) when Count < ?REQUESTS -> {noreply, State, 0};
next(State) -> {noreply, flush(State)}.

flush(State = #state{count = 0}) ->
    State;
flush(State = #state{port = Port, unsent = Unsent}) ->
    true = port_command(Port, lists:reverse(Unsent)),
    State#state{unsent = [], count = 0}.
