%% SPDX-License-Identifier: MIT
%% @doc Latencies as counts: writing one down makes no garbage, so that it is not the collector that is measured.
%%
%% Up to 2 ms in steps of 20 ns, up to 4 s in steps of 20 us.
-module(bench_hist).

-export([new/0, add/2, quantiles/2, max/1]).
-export_type([hist/0]).

-opaque hist() :: counters:counters_ref().

-define(FINE, 20).
-define(COARSE, 20000).
-define(BINS, 100000).          % fine ones; twice as many coarse ones follow

%% @doc Without any latency yet.
-spec new() -> hist().
new() ->
    counters:new(3 * ?BINS, [atomics]).

%% @doc One more, in nanoseconds.
-spec add(hist(), non_neg_integer()) -> ok.
add(Hist, Nanos) when Nanos < ?FINE * ?BINS ->
    counters:add(Hist, Nanos div ?FINE + 1, 1);
add(Hist, Nanos) ->
    counters:add(Hist, min(?BINS + Nanos div ?COARSE + 1, 3 * ?BINS), 1).

%% @doc In microseconds; 0.0 for all where there is none.
-spec quantiles(hist(), [float()]) -> [float()].
quantiles(Hist, Shares) ->
    Counts = [{Bin, Count} || Bin <- lists:seq(1, 3 * ?BINS), (Count = counters:get(Hist, Bin)) > 0],
    Total = lists:sum([Count || {_, Count} <- Counts]),
    [at(Counts, Share * Total, 0.0) || Share <- Shares].

%% @doc The longest, in microseconds.
-spec max(hist()) -> float().
max(Hist) ->
    [Longest] = quantiles(Hist, [1.0]),
    Longest.

at([], _Rank, Last) -> Last;
at([{Bin, Count} | _], Rank, _Last) when Count >= Rank -> middle(Bin);
at([{Bin, Count} | Rest], Rank, _Last) -> at(Rest, Rank - Count, middle(Bin)).

middle(Bin) when Bin =< ?BINS -> (Bin - 0.5) * ?FINE / 1000;
middle(Bin) -> (Bin - ?BINS - 0.5) * ?COARSE / 1000.
