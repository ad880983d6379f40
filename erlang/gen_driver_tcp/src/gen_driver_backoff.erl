%% SPDX-License-Identifier: MIT
%% @doc How long to wait before the next attempt to connect: doubling, with jitter. Pure.
-module(gen_driver_backoff).

-export([new/1, next/2, reset/1]).
-export_type([backoff/0, range/0]).

-type range() :: {First :: pos_integer(), Max :: pos_integer()}.
-opaque backoff() :: {range(), Next :: pos_integer()}.

%% @doc `{First, Max}' in milliseconds.
-spec new(range()) -> backoff().
new({First, _Max} = Range) ->
    {Range, First}.

%% @doc The delay to wait now, between half of the step and all of it, so that the
%% clients of one daemon do not come back in step. `Uniform' is 0.0 =&lt; U &lt; 1.0.
-spec next(Uniform :: float(), backoff()) -> {non_neg_integer(), backoff()}.
next(Uniform, {{_First, Max} = Range, Step}) ->
    Half = Step div 2,
    {Half + trunc(Uniform * (Step - Half + 1)), {Range, min(Step * 2, Max)}}.

%% @doc A link came up: begin again.
-spec reset(backoff()) -> backoff().
reset({Range, _Step}) ->
    new(Range).
