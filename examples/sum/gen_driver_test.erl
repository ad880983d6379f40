%% SPDX-License-Identifier: MIT
%% @doc The original's example, unchanged for its callers: sums numbers, counts requests.
-module(gen_driver_test).

-export([start_link/0, stop/1, sum/2, ping/1, stats/1]).

-define(PATH, "../priv").
-define(NAME, "test").
-define(SUM, 1).
-define(PING, 2).
-define(STATS, 3).

%% @doc Connect to the instance `test'.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_driver:start_link(?PATH, ?NAME).

-spec stop(pid()) -> ok.
stop(Pid) ->
    gen_server:cast(Pid, stop).

%% @doc The sum of integers and floats, mixed as they come.
-spec sum(pid(), [number(), ...]) -> {ok, float()} | {error, term()}.
sum(Pid, Numbers) ->
    gen_server:call(Pid, {port, ?SUM, Numbers}).

%% @doc Counts as a request, and says nothing.
-spec ping(pid()) -> ok.
ping(Pid) ->
    gen_server:cast(Pid, {port, ?PING}).

%% @doc How many requests the driver has run, and how many the worker that answers this one.
-spec stats(pid()) -> {ok, [{driver | thread, pos_integer()}]} | {error, term()}.
stats(Pid) ->
    gen_server:call(Pid, {port, ?STATS}).
