%% SPDX-License-Identifier: MIT
%% @doc A connection of a process's own: no process between it and the host.
%%
%% ```
%% {ok, Conn} = gen_driver_conn:connect(#{instance => "sum"}),
%% {ok, 10.0} = gen_driver_conn:call(Conn, sum, [1, 2, 3, 4]).
%% '''
%% For a process that makes many calls one after another and whose mailbox is short:
%% what is received looks through all that waits there. The process itself sends and
%% reads, so there is nothing to call with gen_server, and nothing goes on between
%% two functions of this module: a link that was lost is replaced by the next call.
%%
%% The connection is kept in the process dictionary of its owner, under a reference:
%% every call leaves it in another state, of which only the last is good. It ends with
%% its owner, and is of no use to other processes.
-module(gen_driver_conn).

-export([connect/1, close/1, info/1, ping/2]).
-export([call/2, call/3, call/4, call_many/2, call_many/3, call_stream/4, cast/2, cast/3, cast/4]).
-export_type([conn/0, result/0, not_usable/0]).

-record(conn, {owner :: pid(), ref :: reference()}).
-opaque conn() :: #conn{}.
%% Of another process; closed; or in a function that is folding the parts of a stream.
-type not_usable() :: {error, not_owner | closed | busy}.
-type result() :: gen_driver_tcp:result() | not_usable().

-define(TIMEOUT, 5000).

%% @doc Connect and wait for the welcome: `connect_timeout' at most, and again for the handshake. Options are those
%% of gen_driver_tcp; the ones about what waits, and about what happens in the background, mean nothing here.
-spec connect(gen_driver_options:options()) -> {ok, conn()} | {error, gen_driver_options:bad_option() | term()}.
connect(Options) ->
    case gen_driver_options:client(Options) of
        {ok, Checked} -> connected(gen_driver_conn_own:open(Checked));
        {error, Bad} -> {error, Bad}
    end.

connected({ok, Own}) ->
    Ref = make_ref(),
    undefined = put(Ref, Own),
    {ok, #conn{owner = self(), ref = Ref}};
connected({error, Reason}) ->
    {error, Reason}.

%% @doc The end. Casts that were sent arrive; what is still unanswered was given up already.
-spec close(conn()) -> ok | not_usable().
close(Conn = #conn{ref = Ref}) ->
    case own(Conn) of
        {error, Why} ->
            {error, Why};
        Own ->
            _ = erase(Ref),
            gen_driver_conn_own:close(Own)
    end.

%% @doc How it is, as far as the last request has seen: `up', or `down' until the next one connects anew.
-spec info(conn()) -> gen_driver_conn_own:info() | not_usable().
info(Conn) ->
    case own(Conn) of
        {error, Why} -> {error, Why};
        Own -> gen_driver_conn_own:info(Own)
    end.

%% @doc Whether the host's loop answers.
-spec ping(conn(), timeout()) -> pong | {error, unavailable | disconnected | timeout} | not_usable().
ping(Conn, Timeout) ->
    case used(Conn, fun(Own) -> gen_driver_conn_calls:ping(Timeout, Own) end) of
        pong -> pong;
        {error, Why} -> {error, Why}
    end.

%%% Calls

%% @equiv call(Conn, Command, [], 5000)
-spec call(conn(), gen_driver_tcp:command()) -> result().
call(Conn, Command) ->
    called(Conn, gen_driver_caller:request(Command, none, ?TIMEOUT, #{})).

%% @equiv call(Conn, Command, Params, 5000)
-spec call(conn(), gen_driver_tcp:command(), Params :: term()) -> result().
call(Conn, Command, Params) ->
    called(Conn, gen_driver_caller:request(Command, {params, Params}, ?TIMEOUT, #{})).

%% @doc As `gen_driver_tcp:call/4'.
-spec call(conn(), gen_driver_tcp:command(), Params :: term(), gen_driver_options:request_options()) -> result().
call(Conn, Command, Params, TimeoutOrOptions) ->
    {Timeout, Options} = options(TimeoutOrOptions, ?TIMEOUT),
    called(Conn, gen_driver_caller:request(Command, {params, Params}, Timeout, Options)).

called(Conn = #conn{ref = Ref}, Request) ->
    case own(Conn) of
        {error, Why} ->
            {error, Why};
        Own ->
            {Outcome, After} = gen_driver_conn_calls:call(Request, Own),
            _ = put(Ref, After),
            gen_driver_caller:result(Outcome)
    end.

%% @equiv call_many(Conn, Calls, 5000)
-spec call_many(conn(), [{gen_driver_tcp:command(), Params :: term()}]) -> [result()] | not_usable().
call_many(Conn, Calls) ->
    call_many(Conn, Calls, ?TIMEOUT).

%% @doc Many calls, sent together; their results in the same order. The timeout is for all of them, the other
%% options for each.
-spec call_many(conn(), [{gen_driver_tcp:command(), Params :: term()}], gen_driver_options:request_options()) ->
    [result()] | not_usable().
call_many(Conn, Calls, TimeoutOrOptions) ->
    {Timeout, Options} = options(TimeoutOrOptions, ?TIMEOUT),
    Requests = [gen_driver_caller:request(Command, {params, Params}, Timeout, Options) || {Command, Params} <- Calls],
    case used(Conn, fun(Own) -> gen_driver_conn_many:call(Requests, Timeout, Own) end) of
        {error, Why} -> {error, Why};
        Outcomes -> [gen_driver_caller:result(Outcome) || Outcome <- Outcomes]
    end.

%% @doc A call whose driver gives parts before it replies: `Fun(Part, Acc)' sees every one, and the result comes with
%% the last accumulator. Options are those of a call (the timeout is for all of it: infinity unless said), `credit',
%% how many parts may be on their way or unread, and `fold => {Fun, Acc}', which must be there. Within the function the
%% connection is `busy'.
-spec call_stream(conn(), gen_driver_tcp:command(), Params :: term(), gen_driver_options:stream_options()) ->
    {result(), Acc :: term()} | not_usable().
call_stream(Conn, Command, Params, Given) ->
    case gen_driver_options:stream(Given) of
        {Credit, {Fun, Acc}, Rest} ->
            {Timeout, Options} = options(Rest, infinity),
            Request = gen_driver_caller:request(Command, {params, Params}, Timeout, Options#{parts => Credit}),
            streamed(Conn, Request, Credit, Fun, Acc);
        {_, none, _} ->
            error({bad_option, {missing, fold}})
    end.

streamed(Conn = #conn{ref = Ref}, Request, Credit, Fun, Acc) ->
    case own(Conn) of
        {error, Why} ->
            {error, Why};
        Own ->
            _ = put(Ref, busy),
            {Outcome, Last, After} = gen_driver_conn_stream:fold(Request, Credit, Fun, Acc, Own),
            _ = put(Ref, After),
            case Outcome of
                {raised, Class, Reason, Stack} -> erlang:raise(Class, Reason, Stack);
                _ -> {gen_driver_caller:result(Outcome), Last}
            end
    end.

%% @equiv cast(Conn, Command, [])
-spec cast(conn(), gen_driver_tcp:command()) -> ok | result().
cast(Conn, Command) ->
    cast_away(Conn, gen_driver_caller:request(Command, none, infinity, #{})).

%% @equiv cast(Conn, Command, Params, infinity)
-spec cast(conn(), gen_driver_tcp:command(), Params :: term()) -> ok | result().
cast(Conn, Command, Params) ->
    cast_away(Conn, gen_driver_caller:request(Command, {params, Params}, infinity, #{})).

%% @doc Have a command run and never hear of it. `ok': it is in the kernel's hands (over TLS: sent as far as
%% `ssl' tells); it waits for that, while the host takes no more. A timeout ends this wait and the link with it.
-spec cast(conn(), gen_driver_tcp:command(), Params :: term(), gen_driver_options:request_options()) -> ok | result().
cast(Conn, Command, Params, TimeoutOrOptions) ->
    {Timeout, Options} = options(TimeoutOrOptions, infinity),
    cast_away(Conn, gen_driver_caller:request(Command, {params, Params}, Timeout, Options)).

cast_away(Conn, Request) ->
    case used(Conn, fun(Own) -> gen_driver_conn_calls:cast(Request, Own) end) of
        ok -> ok;
        {error, Why} -> {error, Why};
        Outcome -> gen_driver_caller:result(Outcome)
    end.

options(infinity, _Default) -> {infinity, #{}};
options(TimeoutOrOptions, Default) ->
    case gen_driver_options:request(TimeoutOrOptions) of
        {default, Options} -> {Default, Options};
        Given -> Given
    end.

%%% The process dictionary

used(Conn = #conn{ref = Ref}, Fun) ->
    case own(Conn) of
        {error, Why} ->
            {error, Why};
        Own ->
            {Result, After} = Fun(Own),
            _ = put(Ref, After),
            Result
    end.

own(#conn{owner = Owner, ref = Ref}) when Owner =:= self() ->
    case get(Ref) of
        undefined -> {error, closed};
        busy -> {error, busy};
        Own -> Own
    end;
own(#conn{}) ->
    {error, not_owner}.
