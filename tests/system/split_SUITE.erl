%% SPDX-License-Identifier: MIT
%% Nodes A, B and C in a network that can be split (split_network.py). The daemon at $GENDRIVERD_URL is beside B and C:
%% A has no way to it but through a client that is registered on B, or the pools of B and C. A runs on $GENDRIVERD_ERL_OF_A.
-module(split_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([the_daemon_is_out_of_reach_of_a/1, a_plain_call_goes_through_another_node/1,
         a_split_is_noticed_on_both_sides_and_heals/1, a_call_across_a_split_ends_and_is_served_again_after_it/1,
         a_cluster_is_reached_from_every_node_through_a_split/1]).

suite() -> [{timetrap, {seconds, 60}}].

all() ->
    [the_daemon_is_out_of_reach_of_a, a_plain_call_goes_through_another_node, a_split_is_noticed_on_both_sides_and_heals,
     a_call_across_a_split_ends_and_is_served_again_after_it, a_cluster_is_reached_from_every_node_through_a_split].

init_per_suite(Config) ->
    case os:getenv("GENDRIVERD_NETWORK") of
        false -> {skip, "GENDRIVERD_NETWORK is not set"};
        Network -> [{network, Network}, {url, os:getenv("GENDRIVERD_URL")} | Config]
    end.

end_per_suite(_Config) -> ok.

init_per_testcase(_Case, Config) ->
    Cluster = gen_driver_nodes:new(),
    [A, B, C] = Members = [member(Cluster, Name, Host, Config)
                           || {Name, Host} <- [{a, "10.77.1.1"}, {b, "10.77.1.2"}, {c, "10.77.1.3"}]],
    Options = #{connect => proplists:get_value(url, Config), instance => sum},
    Spec = gen_driver_tcp:child_spec({{local, sum}, Options}),
    {ok, _} = gen_driver_nodes:call(B, supervisor, start_child, [kernel_safe_sup, Spec]),
    ok = gen_driver_nodes:call(B, gen_driver_tcp, await, [sum, 10000]),
    ok = gen_driver_nodes:connect(Members),
    [{cluster, Cluster}, {members, {A, B, C}} | Config].

%% Silence for four seconds is the end of a connection.
member(Cluster, Name, Host, Config) ->
    Namespace = proplists:get_value(network, Config) ++ "-" ++ atom_to_list(Name),
    Options = #{host => Host, under => ["ip", "netns", "exec", Namespace], args => ["-kernel", "net_ticktime", "4"]},
    gen_driver_nodes:start(Cluster, Name, case Name of a -> Options#{erl => os:getenv("GENDRIVERD_ERL_OF_A")}; _ -> Options end).

end_per_testcase(_Case, Config) ->
    link_of_a("up", Config),
    gen_driver_nodes:stop(proplists:get_value(cluster, Config), tuple_to_list(members(Config))).

members(Config) -> proplists:get_value(members, Config).

link_of_a(State, Config) ->
    "" = os:cmd("ip -n " ++ proplists:get_value(network, Config) ++ "-hub link set dev a " ++ State).

sum_from(Member, B) ->
    gen_driver_nodes:call(Member, gen_server, call, [{sum, gen_driver_nodes:node_of(B)}, {port, 1, [1, 2, 3, 4]}, 30000]).

the_daemon_is_out_of_reach_of_a(Config) ->
    {A, _, C} = members(Config),
    #{host := Host, port := Port} = uri_string:parse(proplists:get_value(url, Config)),
    Connect = fun(Member) -> gen_driver_nodes:call(Member, gen_tcp, connect, [Host, Port, [], 5000]) end,
    ?assertEqual({error, enetunreach}, Connect(A)),
    ?assertMatch({ok, _}, Connect(C)).

a_plain_call_goes_through_another_node(Config) ->
    {A, B, C} = members(Config),
    [?assertEqual({ok, 10.0}, sum_from(Member, B)) || Member <- [A, C]].

a_split_is_noticed_on_both_sides_and_heals(Config) ->
    {A, B, C} = members(Config),
    link_of_a("down", Config),
    [ok = gen_driver_nodes:down(One, Other) || {One, Other} <- [{A, B}, {A, C}, {B, A}, {C, A}]],
    ok = gen_driver_nodes:up(B, C),
    link_of_a("up", Config),
    healed(A, [B, C]),
    [ok = gen_driver_nodes:up(One, Other) || {One, Other} <- [{B, A}, {C, A}]].

%% An attempt may meet the other side's own, or a link that is just coming up. The time trap is the limit.
healed(Member, Others) ->
    Answers = [gen_driver_nodes:call(Member, net_adm, ping, [gen_driver_nodes:node_of(Other)]) || Other <- Others],
    lists:member(pang, Answers) andalso healed(Member, Others).

a_call_across_a_split_ends_and_is_served_again_after_it(Config) ->
    {A, B, C} = members(Config),
    link_of_a("down", Config),
    ?assertExit({{nodedown, _}, _}, sum_from(A, B)),
    ?assertEqual({ok, 10.0}, sum_from(C, B)),
    link_of_a("up", Config),
    healed(A, [B]),
    ?assertEqual({ok, 10.0}, sum_from(A, B)).

%% Nobody names a node here. What may have run is told so; what finds no pool is told that it never started.
a_cluster_is_reached_from_every_node_through_a_split(Config) ->
    {A, B, C} = Members = members(Config),
    [{ok, _} = gen_driver_nodes:call(Member, application, ensure_all_started, [gen_driver_tcp]) || Member <- tuple_to_list(Members)],
    [pool(Member, Config) || Member <- [B, C]],
    [known(Member, 2) || Member <- [A, B, C]],
    [?assertEqual({ok, 10.0}, summed(Member)) || Member <- [A, B, C], _ <- lists:seq(1, 20)],
    link_of_a("down", Config),
    ?assertMatch({error, {failed, Reason}} when Reason =:= disconnected; Reason =:= timeout, summed(A)),
    [ok = gen_driver_nodes:down(A, Other) || Other <- [B, C]],
    known(A, 0),
    ?assertEqual({error, {failed, unavailable}}, summed(A)),
    [?assertEqual({ok, 10.0}, summed(Member)) || Member <- [B, C], _ <- lists:seq(1, 20)],
    link_of_a("up", Config),
    healed(A, [B, C]),
    known(A, 2),
    [?assertEqual({ok, 10.0}, summed(A)) || _ <- lists:seq(1, 20)].

pool(Member, Config) ->
    Options = #{endpoints => [proplists:get_value(url, Config)], instance => sum},
    {ok, Pool} = gen_driver_nodes:call(Member, supervisor, start_child, [kernel_safe_sup, gen_driver_pool:child_spec({{local, sums}, Options})]),
    ?assertEqual({ok, 10.0}, gen_driver_nodes:call(Member, gen_driver_pool, call, [Pool, 1, [1, 2, 3, 4], 30000])).

summed(Member) ->
    gen_driver_nodes:call(Member, gen_driver_cluster, call, [sum, 1, [1, 2, 3, 4], 10000]).

known(Member, N) ->
    length(gen_driver_nodes:call(Member, gen_driver_cluster, members, [sum])) =:= N orelse known(Member, N).
