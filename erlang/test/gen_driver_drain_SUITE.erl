%% SPDX-License-Identifier: MIT
%% Drains: a host is replaced while it is in use, and nobody notices.
-module(gen_driver_drain_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [accept/1, greet/1, hello/1, welcome/1, welcome/2, welcomed/2, refuse/2,
                          recv/1, recv_calls/2, send/2, outcome/1]).
-import(gen_driver_test_client, [connected/1, connected/3, plain/2, call/4, until/2]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, drains}, keyed_requests_wait_for_the_drained_link].

groups() ->
    [{drains, [parallel],
      [drain_loses_nothing, drain_waits_for_the_new_link, drain_does_not_wait_for_ever, drain_to_nobody_ends,
       half_close_after_the_last_byte, drained_link_dies, drained_link_dies_first, drained_twice]}].

init_per_testcase(Case, Config) -> gen_driver_test_client:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_test_client:end_per_testcase(Case, Config).

listener(Config) ->
    ?config(listener, Config).

drain_loses_nothing(Config) ->
    {Client, Old} = connected(Config),
    Before = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Old),
    send(Old, {goodbye, draining}),
    New = welcome(listener(Config), #{generation => 2}),
    until(Client, fun(#{links := L}) -> L =:= 2 end),
    closed = recv(Old),
    After = plain(Client, {port, 2}),
    {call, 0, 2} = recv(New),
    send(Old, {reply, 0, old}),
    old = outcome(Before),
    gen_driver_fake:close(Old),
    until(Client, fun(#{links := L}) -> L =:= 1 end),
    send(New, {reply, 0, new}),
    new = outcome(After),
    #{connects := 2, welcome := #{generation := 2}} = gen_driver_tcp:info(Client).

drain_waits_for_the_new_link(Config) ->
    {Client, Old} = connected(#{backoff => {1, 2}}, #{}, Config),
    send(Old, {goodbye, draining}),
    Dialled = accept(listener(Config)),
    Call = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Old),
    gen_driver_fake:close(Dialled),
    refuse(listener(Config), busy),
    ok = gen_driver_tcp:cast(Client, 2),
    {cast, 2} = recv(Old),
    New = welcome(listener(Config)),
    closed = recv(Old),
    ok = gen_driver_tcp:cast(Client, 3),
    {cast, 3} = recv(New),
    send(Old, {failed, 0, draining}),
    {error, {failed, draining}} = outcome(Call).

%% A daemon that restarts lets nobody in before the old one is left.
drain_does_not_wait_for_ever(Config) ->
    {Client, Old} = connected(#{backoff => {1, 2}}, #{}, Config),
    send(Old, {goodbye, draining}),
    Before = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Old),
    Dialled = accept(listener(Config)),
    closed = recv(Old),
    After = plain(Client, {port, 2}),
    send(Old, {reply, 0, old}),
    old = outcome(Before),
    gen_driver_fake:close(Old),
    gen_driver_fake:close(Dialled),
    refuse(listener(Config), draining),
    New = welcome(listener(Config), #{generation => 2}),
    {call, 0, 2} = recv(New),
    send(New, {reply, 0, new}),
    new = outcome(After),
    #{connects := 2, links := 1} = gen_driver_tcp:info(Client).

%% And nobody comes: what waited is told, though it has all the time in the world.
drain_to_nobody_ends(Config) ->
    {Client, Old} = connected(#{backoff => {1, 2}, connect_wait => 50, max_in_flight => 1}, #{}, Config),
    First = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Old),
    Second = plain(Client, {port, 2}),
    until(Client, fun(#{queued := Queued}) -> Queued =:= 1 end),
    send(Old, {goodbye, draining}),
    _Dialled = accept(listener(Config)),
    closed = recv(Old),
    {error, {failed, unavailable}} = outcome(Second),
    send(Old, {reply, 0, old}),
    old = outcome(First).

keyed_requests_wait_for_the_drained_link(Config) ->
    {Client, Old} = connected(Config),
    First = call(Client, 1, first, #{key => 7}),
    {call, 0, 1, first, _} = recv(Old),
    send(Old, {goodbye, draining}),
    New = welcome(listener(Config)),
    closed = recv(Old),
    Keyed = call(Client, 1, second, #{key => 7, timeout => infinity}),
    until(Client, fun(#{queued := Q}) -> Q =:= 1 end),
    ok = gen_driver_tcp:cast(Client, 1, third, #{key => 7}),
    {error, {failed, expired}} = gen_driver_tcp:call(Client, 1, never, #{key => 7, timeout => 30}),
    Free = plain(Client, {port, 2}),
    {call, 0, 2} = recv(New),
    send(New, {reply, 0, free}),
    free = outcome(Free),
    #{queued := 2} = gen_driver_tcp:info(Client),
    send(Old, {reply, 0, first}),
    first = outcome(First),
    gen_driver_fake:close(Old),
    {call, 1, 1, second, #{key := 7}} = recv(New),
    {cast, 1, third, #{key := 7}} = recv(New),
    send(New, {reply, 1, second}),
    second = outcome(Keyed).

half_close_after_the_last_byte(Config) ->
    {Client, Old} = connected(#{}, #{limits => #{}}, Config),
    Large = binary:copy(<<7>>, 8 bsl 20),
    Calls = [plain(Client, {port, N, Large}) || N <- [1, 2]],
    until(Client, fun(#{in_flight := F}) -> F =:= 2 end),
    send(Old, {goodbye, draining}),
    New = welcome(listener(Config)),
    until(Client, fun(#{links := L}) -> L =:= 2 end),
    ok = gen_driver_tcp:cast(Client, 3),
    {cast, 3} = recv(New),
    Requests = recv_calls(Old, 2),
    [Large, Large] = [element(4, R) || R <- Requests],
    closed = recv(Old),
    [send(Old, {reply, element(2, R), ok}) || R <- Requests],
    [ok, ok] = [outcome(C) || C <- Calls].

drained_link_dies(Config) ->
    {Client, Old} = connected(Config),
    Before = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Old),
    send(Old, {goodbye, draining}),
    New = welcome(listener(Config)),
    closed = recv(Old),
    After = plain(Client, {port, 2}),
    {call, 0, 2} = recv(New),
    send(Old, {goodbye, host_died}),
    {error, {failed, not_run}} = outcome(Before),
    send(New, {reply, 0, unharmed}),
    unharmed = outcome(After).

drained_link_dies_first(Config) ->
    {Client, Old} = connected(Config),
    Before = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Old),
    send(Old, {goodbye, draining}),
    Dialled = accept(listener(Config)),
    gen_driver_fake:close(Old),
    {error, {failed, disconnected}} = outcome(Before),
    Waiting = plain(Client, {port, 2}),
    greet(Dialled),
    send(Dialled, welcomed(hello(Dialled), #{})),
    {call, 0, 2} = recv(Dialled),
    send(Dialled, {reply, 0, ok}),
    ok = outcome(Waiting).

drained_twice(Config) ->
    {Client, First} = connected(Config),
    Calls = [plain(Client, {port, 1})],
    {call, 0, 1} = recv(First),
    send(First, {goodbye, draining}),
    Second = welcome(listener(Config)),
    closed = recv(First),
    More = [plain(Client, {port, 2}) | Calls],
    {call, 0, 2} = recv(Second),
    send(Second, {goodbye, draining}),
    Third = welcome(listener(Config)),
    closed = recv(Second),
    All = [plain(Client, {port, 3}) | More],
    {call, 0, 3} = recv(Third),
    #{links := 3, in_flight := 3} = gen_driver_tcp:info(Client),
    [send(Conn, {reply, 0, ok}) || Conn <- [Third, First, Second]],
    [ok, ok, ok] = [outcome(C) || C <- All].
