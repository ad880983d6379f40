%% SPDX-License-Identifier: MIT
%% A client and its callers on different nodes, the service played by hand. Callers there take no place, and have a clock of
%% their own.
-module(gen_driver_nodes_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [welcome/1, recv/1, send/2, async/1, outcome/1]).
-import(gen_driver_nodes, [node_of/1]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [nodes_meet_and_hear_of_a_death, a_plain_call_from_another_node, the_deadline_of_a_caller_on_another_node_travels,
     a_call_to_a_node_that_is_killed_ends, a_stream_goes_to_another_node, a_node_that_does_not_listen_holds_up_nobody].

init_per_testcase(_Case, Config) ->
    Cluster = gen_driver_nodes:new(),
    Members = [gen_driver_nodes:start(Cluster, Name) || Name <- [a, b, c]],
    [{cluster, Cluster}, {members, Members}, {listener, gen_driver_fake:listen()} | Config].

end_per_testcase(_Case, Config) ->
    gen_driver_fake:close(?config(listener, Config)),
    gen_driver_nodes:stop(?config(cluster, Config), ?config(members, Config)),
    ?assertNot(filelib:is_dir(?config(cluster, Config))).

nodes_meet_and_hear_of_a_death(Config) ->
    [A, B, C] = Members = ?config(members, Config),
    ok = gen_driver_nodes:connect(Members),
    [?assertEqual(lists:sort([node_of(Other) || Other <- Members, Other =/= One]),
                  lists:sort(gen_driver_nodes:call(One, erlang, nodes, []))) || One <- Members],
    ok = gen_driver_nodes:kill(C),
    [ok = gen_driver_nodes:down(Other, C) || Other <- [A, B]],
    Again = gen_driver_nodes:start(?config(cluster, Config), c),
    ?assertEqual(node_of(C), node_of(Again)),
    ok = gen_driver_nodes:connect([A, B, Again]),
    ok = gen_driver_nodes:stop(Again).

%% A client registered on B, and the service's end of its connection.
client_on_b(Config) ->
    [A, B, _] = ?config(members, Config),
    Listener = ?config(listener, Config),
    Options = #{instance => sum, connect => gen_driver_fake:url(Listener)},
    Spec = gen_driver_tcp:child_spec({{local, sum}, Options}),
    {ok, _} = gen_driver_nodes:call(B, supervisor, start_child, [kernel_safe_sup, Spec]),
    {A, B, welcome(Listener)}.

a_plain_call_from_another_node(Config) ->
    {A, B, Conn} = client_on_b(Config),
    Call = plain_from(A, {sum, node_of(B)}),
    {call, 0, 1, [1, 2]} = recv(Conn),
    send(Conn, {reply, 0, {ok, 3.0}}),
    {ok, 3.0} = outcome(Call).

plain_from(Member, Client) ->
    async(fun() -> gen_driver_nodes:call(Member, gen_server, call, [Client, {port, 1, [1, 2]}, infinity]) end).

the_deadline_of_a_caller_on_another_node_travels(Config) ->
    {A, B, Conn} = client_on_b(Config),
    Args = [{sum, node_of(B)}, 1, there, 30000],
    Call = async(fun() -> gen_driver_nodes:call(A, gen_driver_tcp, call, Args) end),
    {call, 0, 1, there, #{timeout := Left}} = recv(Conn),
    ?assert(Left > 20000 andalso Left =< 30000),
    send(Conn, {reply, 0, {ok, there}}),
    {ok, there} = outcome(Call).

a_call_to_a_node_that_is_killed_ends(Config) ->
    {A, B, Conn} = client_on_b(Config),
    Call = plain_from(A, {sum, node_of(B)}),
    {call, 0, 1, [1, 2]} = recv(Conn),
    ok = gen_driver_nodes:kill(B),
    ?assertMatch({exit, {{nodedown, _}, _}}, outcome(Call)),
    closed = recv(Conn).

a_stream_goes_to_another_node(Config) ->
    {A, B, Conn} = client_on_b(Config),
    Args = [{sum, node_of(B)}, 1, x, #{credit => 2, fold => {fun erlang:'+'/2, 0}}],
    Fold = async(fun() -> gen_driver_nodes:call(A, gen_driver_tcp, call_stream, Args) end),
    {call, 0, 1, x, #{parts := 2}} = recv(Conn),
    [begin send(Conn, {part, 0, N}), {credit, 0, 1} = recv(Conn) end || N <- [1, 2, 3, 4, 5]],
    send(Conn, {reply, 0, ok}),
    {ok, 15} = outcome(Fold),
    Client = gen_driver_nodes:call(B, erlang, whereis, [sum]),
    {dictionary, Dictionary} = gen_driver_nodes:call(B, erlang, process_info, [Client, dictionary]),
    [] = [Key || {{gen_driver_answer, _} = Key, _} <- Dictionary].

%% Its callers' replies are more than the connection between the nodes takes while it is stopped.
a_node_that_does_not_listen_holds_up_nobody(Config) ->
    {A, B, Conn} = client_on_b(Config),
    [_, _, C] = ?config(members, Config),
    N = 60,
    [gen_driver_nodes:call(A, erlang, spawn, [gen_server, call, [{sum, node_of(B)}, {port, 1, x}, infinity]]) || _ <- lists:seq(1, N)],
    Ids = [element(2, recv(Conn)) || _ <- lists:seq(1, N)],
    Process = gen_driver_nodes:call(A, os, getpid, []),
    "" = os:cmd("kill -STOP " ++ Process),
    try
        [send(Conn, {reply, Id, binary:copy(<<Id>>, 500000)}) || Id <- Ids],
        Call = plain_from(C, {sum, node_of(B)}),
        {call, Id, 1, [1, 2]} = recv(Conn),
        send(Conn, {reply, Id, ok}),
        ok = outcome(Call)
    after
        "" = os:cmd("kill -CONT " ++ Process)
    end.
