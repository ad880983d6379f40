%% SPDX-License-Identifier: MIT
%% @doc gendriverd's own client, in each of the ways it can be called; the raw echo is called by it too.
-module(bench_gd).
-behaviour(bench_client).

-export([open/1, close/1, caller/1, leave/1, call/3, cast/3, parts/3]).

-define(BATCH, 128).
-define(TIMEOUT, 60000).

%% @doc `kind': plain, call, keyed, pool, conn (each caller its own) or batch (the same, many calls at once).
-spec open(map()) -> bench_client:opened().
open(#{kind := pool, size := Size} = Args) ->
    {Connect, Options} = maps:take(connect, options(Args)),
    {ok, Pool} = gen_driver_pool:start_link({local, bench_pool},
                                            Options#{endpoints => [Connect], size => Size, cluster => false}),
    up(Pool, Size, erlang:monotonic_time(millisecond) + ?TIMEOUT),
    #{system => {pool, bench_pool}, pids => [], each => 1};
open(#{kind := Kind} = Args) when Kind =:= conn; Kind =:= batch ->
    Each = case Kind of conn -> 1; batch -> ?BATCH end,
    #{system => {Kind, options(Args)}, pids => [], each => Each};
open(#{kind := Kind} = Args) ->
    {ok, Client} = gen_driver_tcp:start_link(options(Args)),
    case gen_driver_tcp:await(Client, ?TIMEOUT) of
        ok ->
            ok;
        {error, Reason} ->
            ok = gen_driver_tcp:stop(Client),
            error({not_connected, Reason})
    end,
    #{system => {Kind, Client}, pids => [], each => 1}.

options(#{ca := File} = Args) ->
    (options(maps:remove(ca, Args)))#{tls_options => [{cacertfile, binary_to_list(File)}]};
options(#{connect := Connect}) ->
    #{connect => binary_to_list(Connect), instance => work, max_queued => {10000, 268435456}, max_frame => 100663296}.

up(Pool, Size, Deadline) ->
    #{members := Members} = gen_driver_pool:info(Pool),
    case {length([up || #{status := up} <- Members]), erlang:monotonic_time(millisecond) < Deadline} of
        {Size, _} -> ok;
        {_, true} -> receive after 5 -> up(Pool, Size, Deadline) end;
        {_, false} -> error(pool_not_up)
    end.

-spec close(term()) -> term().
close({pool, Pool}) -> gen_driver_pool:stop(Pool);
close({Kind, _}) when Kind =:= conn; Kind =:= batch -> ok;
close({_, Client}) -> gen_driver_tcp:stop(Client).

-spec caller(term()) -> term().
caller({Kind, Options}) when Kind =:= conn; Kind =:= batch ->
    {ok, Conn} = gen_driver_conn:connect(Options),
    {Kind, Conn};
caller({keyed, Client}) ->
    {keyed, {Client, #{key => erlang:phash2(self(), 1 bsl 32)}}};
caller(System) ->
    System.

-spec leave(term()) -> term().
leave({Kind, Conn}) when Kind =:= conn; Kind =:= batch -> gen_driver_conn:close(Conn);
leave(_) -> ok.

-spec call(term(), pos_integer(), term()) -> term().
call({plain, Client}, Command, Params) -> gen_server:call(Client, {port, Command, Params}, infinity);
call({call, Client}, Command, Params) -> gen_driver_tcp:call(Client, Command, Params, ?TIMEOUT);
call({conn, Conn}, Command, Params) -> gen_driver_conn:call(Conn, Command, Params, ?TIMEOUT);
call({pool, Pool}, Command, Params) -> gen_driver_pool:call(Pool, Command, Params, ?TIMEOUT);
call({keyed, {Client, Options}}, Command, Params) -> gen_driver_tcp:call(Client, Command, Params, Options);
call({batch, Conn}, Command, Params) ->
    [First | Others] = gen_driver_conn:call_many(Conn, lists:duplicate(?BATCH, {Command, Params}), ?TIMEOUT),
    true = lists:all(fun(Other) -> Other =:= First end, Others),
    First.

-spec cast(term(), pos_integer(), term()) -> term().
cast({plain, Client}, Command, Params) -> gen_server:cast(Client, {port, Command, Params});
cast({call, Client}, Command, Params) -> ok = gen_driver_tcp:cast(Client, Command, Params);
cast({conn, Conn}, Command, Params) -> ok = gen_driver_conn:cast(Conn, Command, Params);
cast({pool, Pool}, Command, Params) -> ok = gen_driver_pool:cast(Pool, Command, Params).

%% @doc One stream, whose parts are counted as they come; it is left when the run stops.
-spec parts({term(), counters:counters_ref(), atomics:atomics_ref()}, pos_integer(), term()) -> term().
parts({{_, Client}, Counter, Stop}, Command, Params) ->
    {ok, Stream} = gen_driver_tcp:call_stream(Client, Command, Params, #{credit => 16}),
    next(Stream, Counter, Stop).

next(Stream, Counter, Stop) ->
    case {atomics:get(Stop, 1), gen_driver_tcp:next_part(Stream, ?TIMEOUT)} of
        {0, {part, _, Next}} ->
            counters:add(Counter, 1, 1),
            next(Next, Counter, Stop);
        {1, {part, _, Next}} ->
            gen_driver_tcp:cancel_stream(Next);
        {_, {done, ok}} ->
            ok
    end.
