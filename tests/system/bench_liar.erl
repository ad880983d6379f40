%% SPDX-License-Identifier: MIT
%% @doc A client for the benchmarks' load generator that begins honestly: `lies' says after how many calls, and how.
-module(bench_liar).
-behaviour(bench_client).

-export([open/1, close/1, caller/1, leave/1, call/3, cast/3]).

-define(COUNT, 5).

-spec open(map()) -> bench_client:opened().
open(#{lies := {After, How}}) ->
    #{system => {counters:new(2, []), After, How}, pids => [], each => 1}.

-spec close(term()) -> ok.
close(_) -> ok.

-spec caller(term()) -> term().
caller(System) -> System.

-spec leave(term()) -> ok.
leave(_) -> ok.

-spec call(term(), pos_integer(), term()) -> term().
call({Counters, _, _}, ?COUNT, _) ->
    {ok, counters:get(Counters, 2)};
call({Counters, After, How}, 1, List) ->
    counters:add(Counters, 1, 1),
    case {counters:get(Counters, 1) > After, How} of
        {true, wrong} -> {ok, lists:sum(List) + 1};
        {true, crash} -> exit(broken);
        _ -> {ok, lists:sum(List)}
    end.

%% One in a thousand runs twice.
-spec cast(term(), pos_integer(), term()) -> ok.
cast({Counters, _, How}, 1, _) ->
    counters:add(Counters, 1, 1),
    case {counters:get(Counters, 1) rem 1000, How} of
        {1, twice} -> counters:add(Counters, 2, 2);
        _ -> counters:add(Counters, 2, 1)
    end.
