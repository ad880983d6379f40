%% SPDX-License-Identifier: MIT
%% Requests that are encoded, and have not left yet when something else happens: all of it waits in the mailbox
%% of a client that was held.
-module(gen_driver_unsent_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [accept/1, greet/1, hello/1, welcome/1, welcomed/2, async/1, recv/1, send/2, outcome/1]).
-import(gen_driver_test_client, [connected/1, plain/2, call/4, until/2]).
-import(gen_driver_link_SUITE, [waiting/3]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, unsent}].

groups() ->
    [{unsent, [parallel], [the_link_ends, a_call_is_given_up, a_caller_dies, the_client_stops, the_link_is_left,
                           what_is_refused_holds_nothing_up]}].

init_per_testcase(Case, Config) -> gen_driver_test_client:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_test_client:end_per_testcase(Case, Config).

%% Do these one after another while the client is held; each is in its mailbox before the next.
held(Client, Steps) ->
    ok = sys:suspend(Client),
    Results = [begin
        Result = Step(),
        waiting(Client, Number, erlang:monotonic_time(millisecond) + 5000),
        Result
    end || {Number, Step} <- lists:zip(lists:seq(1, length(Steps)), Steps)],
    ok = sys:resume(Client),
    Results.

%% What certainly never started says so; no place is lost.
the_link_ends(Config) ->
    {Client, Conn} = connected(Config),
    Sent = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    [Own, Plain, _, Acked, _] = held(Client, [
        fun() -> call(Client, 2, [], infinity) end,
        fun() -> plain(Client, {port, 3}) end,
        fun() -> gen_driver_tcp:cast(Client, 4) end,
        fun() -> async(fun() -> gen_driver_tcp:cast(Client, 5, x, #{ack => true}) end) end,
        fun() -> gen_driver_fake:close(Conn) end]),
    {error, {failed, disconnected}} = outcome(Sent),
    [{error, {failed, unavailable}} = outcome(Call) || Call <- [Own, Plain, Acked]],
    Again = welcome(?config(listener, Config)),
    #{casts_dropped := 2, in_flight := 0, queued := 0} = until(Client, fun(#{status := Status}) -> Status =:= up end),
    {0, 0} = taken(Client),
    Next = call(Client, 6, [], infinity),
    {call, 0, 6, []} = recv(Again),
    send(Again, {reply, 0, ok}),
    ok = outcome(Next).

%% In this order, or the host would have nothing to cancel.
a_call_is_given_up(Config) ->
    {Client, Conn} = connected(Config),
    [Id, timeout] = held(Client, [
        fun() -> put(id, gen_driver_tcp:send_request(Client, 1)), get(id) end,
        fun() -> gen_driver_tcp:receive_response(get(id), 0) end]),
    {call, 0, 1, []} = recv(Conn),
    {cancel, 0} = recv(Conn),
    send(Conn, {failed, 0, cancelled}),
    until(Client, fun(#{in_flight := N}) -> N =:= 0 end),
    no_reply = gen_driver_tcp:check_response(nothing, Id),
    {0, 0} = taken(Client).

%% Of the host's word it hears no more; the id is free again when that has come.
a_caller_dies(Config) ->
    {Client, Conn} = connected(Config),
    {Caller, Monitor} = spawn_monitor(fun() -> receive go -> gen_driver_tcp:call(Client, 1, [], infinity) end end),
    held(Client, [
        fun() -> Caller ! go end,
        fun() -> exit(Caller, kill), receive {'DOWN', Monitor, process, _, killed} -> gen_driver_tcp:cast(Client, 2) end end]),
    {call, 0, 1, []} = recv(Conn),
    {cast, 2} = recv(Conn),
    {cancel, 0} = recv(Conn),
    send(Conn, {reply, 0, late}),
    until(Client, fun(#{in_flight := N}) -> N =:= 0 end).

%% Casts that were accepted go out, calls do not.
the_client_stops(Config) ->
    {Client, Conn} = connected(Config),
    [Own, ok, Plain, ok, _] = held(Client, [
        fun() -> call(Client, 1, [], infinity) end,
        fun() -> gen_driver_tcp:cast(Client, 2) end,
        fun() -> plain(Client, {port, 3}) end,
        fun() -> gen_driver_tcp:cast(Client, 4) end,
        fun() -> gen_server:cast(Client, stop) end]),
    [{error, {failed, unavailable}} = outcome(Call) || Call <- [Own, Plain]],
    [{cast, 2}, {cast, 4}, closed] = [recv(Conn) || _ <- [1, 2, 3]].

%% It carries what it had taken before it is half-closed.
the_link_is_left(Config) ->
    {Client, Old} = connected(Config),
    send(Old, {goodbye, draining}),
    New = accept(?config(listener, Config)),
    greet(New),
    Instance = hello(New),
    [Call, ok, Acked, Own, _] = held(Client, [
        fun() -> plain(Client, {port, 1}) end,
        fun() -> gen_driver_tcp:cast(Client, 2) end,
        fun() -> async(fun() -> gen_driver_tcp:cast(Client, 3, x, #{ack => true}) end) end,
        fun() -> call(Client, 4, [], infinity) end,
        fun() -> send(New, welcomed(Instance, #{generation => 2})) end]),
    [{call, 0, 1}, {cast, 2}, {cast, 3, x}, {call, 1, 4, []}, closed] = [recv(Old) || _ <- lists:seq(1, 5)],
    ok = outcome(Acked),
    [send(Old, {reply, Id, old}) || Id <- [0, 1]],
    [old = outcome(C) || C <- [Call, Own]],
    until(Client, fun(#{status := Status}) -> Status =:= up end),
    {0, 0} = taken(Client),
    Next = plain(Client, {port, 3}),
    {call, _, 3} = recv(New),
    gen_driver_fake:close(New),
    {error, {failed, disconnected}} = outcome(Next).

%% It is sent before the mailbox is empty: else a flood of those would keep it for ever.
what_is_refused_holds_nothing_up(Config) ->
    {Client, Conn} = connected(Config),
    [Call | _] = held(Client, [fun() -> call(Client, 1, [], infinity) end]
        ++ [fun() -> gen_server:cast(Client, {port, -1}) end || _ <- lists:seq(1, 100)]
        ++ [fun() -> gen_server:cast(Client, stop) end]),
    {call, 0, 1, []} = recv(Conn),
    {error, {failed, disconnected}} = outcome(Call).

taken(Client) ->
    gen_driver_places:taken(persistent_term:get({gen_driver_places, Client})).
