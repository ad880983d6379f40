%% SPDX-License-Identifier: MIT
%% Calls to an instance from any node of a cluster: real nodes, services that the test plays, nodes and processes that are
%% killed, and a cluster that is cut in two.
-module(gen_driver_cluster_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [async/1, outcome/1]).
-import(gen_driver_fake_host, [behave/2, calls/1, seen/1, await_calls/2, until/1]).
-import(gen_driver_nodes, [node_of/1]).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [local_members_first, a_node_without_a_pool, a_member_killed, a_silent_node_is_asked_last,
     all_nodes_agree_on_a_key, one_connection_point_from_several_nodes, hedged_over_nodes, cut_in_two_and_healed,
     a_node_without_the_application, plain_calls_to_a_name, a_node_killed_in_mid_call].

%% The nodes end with the process that starts them: one that lives as long as the suite.
init_per_suite(Config) ->
    Suite = self(),
    Holder = spawn(fun() ->
        Cluster = gen_driver_nodes:new(),
        Members = [gen_driver_nodes:start(Cluster, Name) || Name <- [a, b, c]],
        Suite ! {self(), Cluster, Members},
        receive {stop, From} -> From ! {self(), gen_driver_nodes:stop(Cluster, Members)} end
    end),
    Monitor = monitor(process, Holder),
    receive
        {Holder, _Cluster, Members} ->
            true = demonitor(Monitor, [flush]),
            ok = gen_driver_nodes:connect(Members),
            [{ok, _} = on(Member, application, ensure_all_started, [gen_driver_tcp]) || Member <- Members],
            [{holder, Holder}, {members, Members} | Config];
        {'DOWN', Monitor, process, Holder, Reason} ->
            error({no_nodes, Reason})
    end.

end_per_suite(Config) ->
    Holder = ?config(holder, Config),
    Holder ! {stop, self()},
    receive {Holder, ok} -> ok after 30000 -> error(not_stopped) end.

%% Nodes a and b have pools, each over a service of its own; c has none.
init_per_testcase(_Case, Config) ->
    [A, B, _C] = Members = ?config(members, Config),
    Hosts = [gen_driver_fake_host:start(), gen_driver_fake_host:start()],
    [pool_on(Member, Host) || {Member, Host} <- lists:zip([A, B], Hosts)],
    [until(fun() -> lists:sort(members(Member)) =:= lists:sort([member_on(A), member_on(B)]) end) || Member <- Members],
    [{hosts, Hosts} | Config].

end_per_testcase(_Case, Config) ->
    [begin
         ok = on(Member, supervisor, terminate_child, [kernel_safe_sup, Id]),
         ok = on(Member, supervisor, delete_child, [kernel_safe_sup, Id])
     end || #{peer := Peer} = Member <- ?config(members, Config), is_process_alive(Peer),
            {{Module, _} = Id, _, _, _} <- on(Member, supervisor, which_children, [kernel_safe_sup]),
            Module =:= gen_driver_pool orelse Module =:= gen_driver_tcp],
    [gen_driver_fake_host:stop(Host) || Host = #{pid := Pid} <- ?config(hosts, Config), is_process_alive(Pid)],
    ok.

setup(Config) ->
    list_to_tuple(?config(members, Config) ++ ?config(hosts, Config)).

on(Member, Module, Function, Args) ->
    gen_driver_nodes:call(Member, Module, Function, Args).

pool_on(Member, Host) ->
    Options = #{instance => sum, endpoints => [gen_driver_fake_host:url(Host)], backoff => {5, 20}, connect_wait => 300},
    Spec = gen_driver_pool:child_spec({{local, sums}, Options}),
    {ok, _} = on(Member, supervisor, start_child, [kernel_safe_sup, Spec]),
    until(fun() -> #{members := [#{status := S}]} = on(Member, gen_driver_pool, info, [sums]), S =:= up end).

member_on(Member) ->
    #{members := [#{pid := Pid}]} = on(Member, gen_driver_pool, info, [sums]),
    Pid.

members(Member) ->
    on(Member, gen_driver_cluster, members, [sum]).

call(Member) ->
    call(Member, 10000).

call(Member, Options) ->
    on(Member, gen_driver_cluster, call, [sum, 1, [], Options]).

failed(Reason) -> {error, {failed, Reason}}.

%%% Tests

local_members_first(Config) ->
    {A, B, _C, HostA, HostB} = setup(Config),
    [{ok, _} = call(A) || _ <- lists:seq(1, 20)],
    ?assertEqual({20, 0}, {calls(HostA), calls(HostB)}),
    ?assertEqual([node_of(A), node_of(B)], [node(Pid) || Pid <- members(A)]),
    ?assertEqual([node_of(B), node_of(A)], [node(Pid) || Pid <- members(B)]),
    %% What does not start here is tried there.
    behave(HostA, fun(_) -> {failed, overloaded} end),
    ?assertEqual({ok, maps:get(port, HostB)}, call(A)),
    behave(HostA, fun(_) -> {reply, failed(overloaded)} end),
    ?assertEqual(failed(overloaded), call(A)),
    %% And so is everything while there is no link here.
    ok = gen_driver_fake_host:stop(HostA),
    until(fun() -> #{members := [#{status := S}]} = on(A, gen_driver_pool, info, [sums]), S =:= down end),
    [?assertEqual({ok, maps:get(port, HostB)}, call(A)) || _ <- lists:seq(1, 5)].

a_node_without_a_pool(Config) ->
    {_A, _B, C, HostA, HostB} = setup(Config),
    until(fun() -> {ok, _} = call(C), calls(HostA) > 0 andalso calls(HostB) > 0 end),
    {ok, _} = on(C, gen_driver_cluster, call, [<<"sum">>, sum]),
    {ok, _} = on(C, gen_driver_cluster, call, ["sum", sum, [1]]),
    {error, {unknown_command, <<"product">>}} = on(C, gen_driver_cluster, call, [sum, product]),
    ok = on(C, gen_driver_cluster, cast, [sum, 7]),
    ok = on(C, gen_driver_cluster, cast, [sum, 7, x, #{key => k, ack => true}]),
    Key = erlang:phash2(k, 1 bsl 32),
    until(fun() -> Seen = seen(HostA) ++ seen(HostB),
                   lists:member({cast, 7, []}, Seen) andalso lists:member({cast, 7, x, #{key => Key}}, Seen) end),
    ?assertEqual(failed(unavailable), on(C, gen_driver_cluster, call, [other, 1])),
    ?assertEqual(failed(unavailable), on(C, gen_driver_cluster, cast, [other, 1])),
    ?assertEqual([], on(C, gen_driver_cluster, members, [other])).

a_node_killed_in_mid_call(Config) ->
    {A, B, C, HostA, HostB} = setup(Config),
    [behave(Host, fun(_) -> silent end) || Host <- [HostA, HostB]],
    Call = async(fun() -> call(C, 60000) end),
    until(fun() -> calls(HostA) + calls(HostB) =:= 1 end),
    {Killed, Other} = case calls(HostA) of 1 -> {A, {B, HostB}}; 0 -> {B, {A, HostA}} end,
    ok = gen_driver_nodes:kill(Killed),
    ?assertEqual(failed(disconnected), outcome(Call)),
    %% It may have run: nobody else was asked.
    ?assertEqual(1, calls(HostA) + calls(HostB)),
    {Left, Host} = Other,
    behave(Host, fun(_) -> {reply, left} end),
    until(fun() -> members(C) =:= [member_on(Left)] end),
    [?assertEqual(left, call(C)) || _ <- lists:seq(1, 5)].

a_member_killed(Config) ->
    {A, _B, C, _HostA, HostB} = setup(Config),
    %% Its supervisor is held, and C still knows it: it is asked, was not there, and another is asked.
    Pool = on(A, erlang, whereis, [sums]),
    Old = member_on(A),
    ok = on(A, sys, suspend, [Pool]),
    ok = on(C, sys, suspend, [gen_driver_cluster]),
    true = on(A, erlang, exit, [Old, kill]),
    until(fun() -> not on(A, erlang, is_process_alive, [Old]) end),
    true = lists:member(Old, members(C)),
    [?assertEqual({ok, maps:get(port, HostB)}, call(C, #{retries => 0})) || _ <- lists:seq(1, 20)],
    [?assertEqual({ok, maps:get(port, HostB)}, call(C, #{retries => 0, key => Key})) || Key <- lists:seq(1, 20)],
    ok = on(C, sys, resume, [gen_driver_cluster]),
    ok = on(A, sys, resume, [Pool]),
    until(fun() -> length(members(C)) =:= 2 andalso not lists:member(Old, members(C)) end),
    [{ok, _} = call(C) || _ <- lists:seq(1, 20)].

%% What timed out there is not made again, and others are asked first from then on.
a_silent_node_is_asked_last(Config) ->
    {A, _B, C, HostA, HostB} = setup(Config),
    behave(HostA, fun(_) -> silent end),
    until(fun() -> failed(timeout) =:= call(C, 500) end),
    Before = calls(HostA),
    [?assertEqual({ok, maps:get(port, HostB)}, call(C)) || _ <- lists:seq(1, 20)],
    ?assertEqual(Before, calls(HostA)),
    ?assert(on(C, gen_driver_doubts, is_doubted, [node_of(A)])),
    %% The only one left is asked all the same, and an answer clears it.
    behave(HostA, fun(_) -> {reply, a} end),
    behave(HostB, fun(_) -> {failed, overloaded} end),
    ?assertEqual(a, call(C)),
    ?assertNot(on(C, gen_driver_doubts, is_doubted, [node_of(A)])).

all_nodes_agree_on_a_key(Config) ->
    {A, B, C, HostA, HostB} = setup(Config),
    Owners = fun(Member) -> [begin {ok, Port} = call(Member, #{key => Key}), Port end || Key <- lists:seq(1, 60)] end,
    Ports = Owners(A),
    ?assertEqual(Ports, Owners(B)),
    ?assertEqual(Ports, Owners(C)),
    [?assert(length([P || P <- Ports, P =:= maps:get(port, Host)]) > 10) || Host <- [HostA, HostB]].

%% The same daemon from two nodes is the same member to a key: it is reached from here where that is possible, and
%% otherwise always by way of the same node.
one_connection_point_from_several_nodes(Config) ->
    {A, B, C, _HostA, _HostB} = setup(Config),
    Hosts = [gen_driver_fake_host:start(), gen_driver_fake_host:start()],
    [begin
         Spec = gen_driver_tcp:child_spec({{local, shared}, #{instance => shared, connect => gen_driver_fake_host:url(Host)}}),
         {ok, Pid} = on(Member, supervisor, start_child, [kernel_safe_sup, Spec]),
         ok = on(Member, gen_driver_tcp, await, [shared, 5000]),
         ok = on(Member, gen_driver_cluster, join, [<<"shared">>, {{tcp, "shared.example", 9900}, 1}, Pid])
     end || {Member, Host} <- lists:zip([A, B], Hosts)],
    until(fun() -> length(on(C, gen_driver_cluster, members, [shared])) =:= 2 end),
    Owner = fun(Member, Key) -> {ok, Port} = on(Member, gen_driver_cluster, call, [shared, 1, [], #{key => Key}]), Port end,
    [HereA, HereB] = [maps:get(port, Host) || Host <- Hosts],
    Keys = lists:seq(1, 40),
    ?assertEqual([HereA], lists:usort([Owner(A, Key) || Key <- Keys])),
    ?assertEqual([HereB], lists:usort([Owner(B, Key) || Key <- Keys])),
    FromC = [Owner(C, Key) || Key <- Keys],
    ?assertEqual(FromC, [Owner(C, Key) || Key <- Keys]),
    ?assertEqual(lists:sort([HereA, HereB]), lists:usort(FromC)).

hedged_over_nodes(Config) ->
    {A, B, C, HostA, HostB} = setup(Config),
    %% What was said of them before.
    [ok = on(C, gen_driver_doubts, heard, [member_on(Member), {reply, ok}]) || Member <- [A, B]],
    First = atomics:new(1, []),
    [behave(Host, fun(_) -> case atomics:add_get(First, 1, 1) of 1 -> silent; _ -> {reply, second} end end)
     || Host <- [HostA, HostB]],
    ?assertEqual(second, call(C, #{hedge => 30})),
    ?assertEqual({1, 1}, {calls(HostA), calls(HostB)}),
    until(fun() -> [{cancel, 0}] =:= [F || F = {cancel, _} <- seen(HostA) ++ seen(HostB)] end).

%% C on one side, A and B on the other.
cut_in_two_and_healed(Config) ->
    {A, B, C, HostA, HostB} = setup(Config),
    [behave(Host, fun(_) -> silent end) || Host <- [HostA, HostB]],
    Call = async(fun() -> call(C, 60000) end),
    until(fun() -> calls(HostA) + calls(HostB) =:= 1 end),
    Cookie = on(C, erlang, get_cookie, []),
    [begin
         true = on(C, erlang, set_cookie, [node_of(Other), cut]),
         true = on(Other, erlang, set_cookie, [node_of(C), off])
     end || Other <- [A, B]],
    [_ = on(C, erlang, disconnect_node, [node_of(Other)]) || Other <- [A, B]],
    ?assertEqual(failed(disconnected), outcome(Call)),
    until(fun() -> members(C) =:= [] end),
    ?assertEqual(failed(unavailable), call(C)),
    %% The others go on.
    [behave(Host, fun(_) -> {reply, ok} end) || Host <- [HostA, HostB]],
    [?assertEqual(ok, call(Other)) || Other <- [A, B]],
    [begin
         true = on(C, erlang, set_cookie, [node_of(Other), Cookie]),
         true = on(Other, erlang, set_cookie, [node_of(C), Cookie])
     end || Other <- [A, B]],
    ok = gen_driver_nodes:connect([A, B, C]),
    until(fun() -> length(members(C)) =:= 2 end),
    [?assertEqual(ok, call(C)) || _ <- lists:seq(1, 5)].

a_node_without_the_application(Config) ->
    {A, _B, C, HostA, _HostB} = setup(Config),
    ok = on(C, application, stop, [gen_driver_tcp]),
    NotStarted = {error, {not_started, gen_driver_tcp}},
    ?assertEqual(NotStarted, call(C)),
    ?assertEqual(NotStarted, members(C)),
    Pool = gen_driver_pool:child_spec({{local, sums}, #{instance => sum, connect => gen_driver_fake_host:url(HostA)}}),
    ?assertMatch({error, {{not_started, gen_driver_tcp}, _}}, on(C, supervisor, start_child, [kernel_safe_sup, Pool])),
    {ok, _} = call(A),
    ok = on(C, application, start, [gen_driver_tcp]),
    until(fun() -> length(members(C)) =:= 2 end),
    {ok, _} = call(C).

%% The original's form reaches a client on another node by its name: no application, no pool, no route to the daemon.
plain_calls_to_a_name(Config) ->
    {A, _B, C, HostA, _HostB} = setup(Config),
    Options = #{instance => sum, connect => gen_driver_fake_host:url(HostA)},
    {ok, _} = on(A, supervisor, start_child, [kernel_safe_sup, gen_driver_tcp:child_spec({{local, sum}, Options})]),
    ok = on(C, application, stop, [gen_driver_tcp]),
    behave(HostA, fun({1, Params, _}) -> {reply, {ok, lists:sum(Params)}} end),
    ?assertEqual({ok, 10}, on(C, gen_server, call, [{sum, node_of(A)}, {port, 1, [1, 2, 3, 4]}])),
    ok = on(C, application, start, [gen_driver_tcp]).
