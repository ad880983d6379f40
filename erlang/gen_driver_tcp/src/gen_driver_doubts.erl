%% SPDX-License-Identifier: MIT
%% @doc Which other nodes have lately not answered: they are asked after all others.
%%
%% A node that was cut off is known as such only after a minute (net_ticktime); until
%% then each call to it would take all of its caller's time. A counter for each node
%% that calls have gone to, in persistent_term: it is made once.
-module(gen_driver_doubts).

-export([heard/2, is_doubted/1]).

-define(KEY(Node), {?MODULE, Node}).
-define(LASTS, 10000).
%% Further back than any time.
-define(LONG_AGO, -(1 bsl 62)).

%% @doc A call to a process there has ended so.
-spec heard(pid(), gen_driver_caller:outcome() | gone) -> ok.
heard(Pid, _Outcome) when node(Pid) =:= node() -> ok;
heard(Pid, {failed, timeout}) -> at(node(Pid), erlang:monotonic_time(millisecond));
heard(Pid, {failed, disconnected}) -> at(node(Pid), erlang:monotonic_time(millisecond));
heard(Pid, _Outcome) -> at(node(Pid), ?LONG_AGO).

at(Node, Time) ->
    case persistent_term:get(?KEY(Node), none) of
        none when Time =:= ?LONG_AGO ->
            ok;
        none ->
            Last = atomics:new(1, [{signed, true}]),
            atomics:put(Last, 1, Time),
            persistent_term:put(?KEY(Node), Last);
        Last ->
            atomics:put(Last, 1, Time)
    end.

%% @doc Whether one has failed within the last 10 s, and none was answered since.
-spec is_doubted(node()) -> boolean().
is_doubted(Node) ->
    case persistent_term:get(?KEY(Node), none) of
        none -> false;
        Last -> atomics:get(Last, 1) > erlang:monotonic_time(millisecond) - ?LASTS
    end.
