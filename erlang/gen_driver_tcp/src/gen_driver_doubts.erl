%% SPDX-License-Identifier: MIT
%% @doc Which other nodes have lately not answered: they are asked after all others.
%%
%% A node that was cut off is known as such only after a minute (net_ticktime); until
%% then each call to it would take all of its caller's time. A table of the application's:
%% callers write to it when a call has failed so, and when one is answered after that.
-module(gen_driver_doubts).

-export([open/0, heard/2, is_doubted/1]).

-define(LASTS, 10000).

%% @doc For the process that owns it while the application runs.
-spec open() -> ok.
open() ->
    ?MODULE = ets:new(?MODULE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @doc A call to a process there has ended so.
-spec heard(pid(), gen_driver_caller:outcome() | gone) -> ok.
heard(Pid, _Outcome) when node(Pid) =:= node() -> ok;
heard(Pid, {failed, timeout}) -> doubted(node(Pid));
heard(Pid, {failed, disconnected}) -> doubted(node(Pid));
heard(Pid, _Outcome) -> trusted(node(Pid)).

doubted(Node) ->
    true = in_table(fun() -> ets:insert(?MODULE, {Node, erlang:monotonic_time(millisecond)}) end, true),
    ok.

trusted(Node) ->
    true = in_table(fun() -> not ets:member(?MODULE, Node) orelse ets:delete(?MODULE, Node) end, true),
    ok.

%% @doc Whether one has failed within the last 10 s, and none was answered since.
-spec is_doubted(node()) -> boolean().
is_doubted(Node) ->
    in_table(fun() ->
        case ets:lookup(?MODULE, Node) of
            [{Node, Last}] -> Last > erlang:monotonic_time(millisecond) - ?LASTS;
            [] -> false
        end
    end, false).

%% The application may be stopping.
in_table(Do, Otherwise) ->
    try Do()
    catch
        error:badarg -> Otherwise
    end.
