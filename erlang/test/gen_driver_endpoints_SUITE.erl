%% SPDX-License-Identifier: MIT
%% Pools whose endpoints come and go, and whose processes crash, are supervised and stopped.
-module(gen_driver_endpoints_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [async/1, outcome/1]).
-import(gen_driver_fake_host, [behave/2, calls/1, await_calls/2, until/1]).
-import(gen_driver_pool_SUITE, [hosts/1, pool/1, pool/2, pool_of/2, all_up/2, members/1, client/2, call/1, failed/1, child/2]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, endpoints}, {group, life}].

groups() ->
    [{endpoints, [parallel],
      [a_function_that_changes, a_function_that_fails_keeps_the_old_set, a_function_that_hangs, one_that_goes_answers_first,
       one_that_leaves_and_returns]},
     {life, [],
      [by_dns, a_crashed_member_is_restarted, under_a_supervisor, a_crashed_keeper_finds_its_members, stopped_and_gone,
       not_started]}].

init_per_suite(Config) -> gen_driver_pool_SUITE:init_per_suite(Config).
end_per_suite(Config) -> gen_driver_pool_SUITE:end_per_suite(Config).

%%% Endpoints

a_function_that_changes(_Config) ->
    [A, B] = Hosts = hosts(2),
    Urls = ets:new(urls, [public]),
    ets:insert(Urls, {now, [gen_driver_fake_host:url(A)]}),
    Pool = pool_of(fun() -> ets:lookup_element(Urls, now, 2) end, #{refresh => 10}),
    all_up(Pool, 1),
    {ok, _} = call(Pool),
    ets:insert(Urls, {now, [gen_driver_fake_host:url(Host) || Host <- Hosts]}),
    all_up(Pool, 2),
    until(fun() -> {ok, _} = call(Pool), calls(B) > 0 end),
    First = client(A, Pool),
    Monitor = monitor(process, First),
    ets:insert(Urls, {now, [gen_driver_fake_host:url(B)]}),
    receive {'DOWN', Monitor, process, First, shutdown} -> ok end,
    [#{status := up}] = members(Pool),
    ?assertEqual({ok, maps:get(port, B)}, call(Pool)).

a_function_that_fails_keeps_the_old_set(_Config) ->
    [Host] = hosts(1),
    Url = gen_driver_fake_host:url(Host),
    Said = ets:new(said, [public]),
    ets:insert(Said, {now, fun() -> [Url] end}),
    Pool = pool_of(fun() -> (ets:lookup_element(Said, now, 2))() end, #{refresh => 10, max_endpoints => 2}),
    all_up(Pool, 1),
    Client = client(Host, Pool),
    [begin
         ets:insert(Said, {now, Fun}),
         until(fun() -> maps:get(trouble, gen_driver_pool:info(Pool)) =:= Trouble end),
         ?assertEqual(Client, client(Host, Pool)),
         {ok, _} = call(Pool)
     end || {Fun, Trouble} <- [{fun() -> error(oops) end, {error, oops}}, {fun() -> [] end, no_endpoints},
                               {fun() -> exit(self(), kill) end, killed}, {fun() -> nonsense end, {not_a_list, nonsense}},
                               {fun() -> ["nonsense"] end, {bad_option, {connect, "nonsense"}}},
                               {fun() -> [{tcp, "h", Port} || Port <- [1, 2, 3]] end, {too_many, 3}}]],
    ets:insert(Said, {now, fun() -> [Url] end}),
    until(fun() -> maps:get(trouble, gen_driver_pool:info(Pool)) =:= none end).

a_function_that_hangs(_Config) ->
    [Host] = hosts(1),
    Url = gen_driver_fake_host:url(Host),
    Times = atomics:new(1, []),
    Hangs = fun() -> case atomics:add_get(Times, 1, 1) of 1 -> [Url]; _ -> receive never -> [] end end end,
    Pool = pool_of(Hangs, #{refresh => 10, lookup_timeout => 30}),
    all_up(Pool, 1),
    until(fun() -> maps:get(trouble, gen_driver_pool:info(Pool)) =:= timeout end),
    until(fun() -> atomics:get(Times, 1) > 3 end),
    {ok, _} = call(Pool).

one_that_goes_answers_first(_Config) ->
    [A, B] = hosts(2),
    Urls = ets:new(urls, [public]),
    ets:insert(Urls, {now, [gen_driver_fake_host:url(A)]}),
    Pool = pool_of(fun() -> ets:lookup_element(Urls, now, 2) end, #{refresh => 10, drain => 60000}),
    all_up(Pool, 1),
    Test = self(),
    behave(A, fun(_) -> Test ! {asked, self()}, receive answer -> {reply, late} end end),
    Call = async(fun() -> call(Pool) end),
    Asked = receive {asked, Pid} -> Pid end,
    ets:insert(Urls, {now, [gen_driver_fake_host:url(B)]}),
    until(fun() -> [maps:get(endpoint, M) || M <- members(Pool)] =:= [gen_driver_fake_host:address(B)] end),
    {ok, _} = call(Pool),
    Asked ! answer,
    ?assertEqual(late, outcome(Call)).

one_that_leaves_and_returns(_Config) ->
    [A, B] = Hosts = hosts(2),
    Urls = ets:new(urls, [public]),
    ets:insert(Urls, {now, [gen_driver_fake_host:url(Host) || Host <- Hosts]}),
    Pool = pool_of(fun() -> ets:lookup_element(Urls, now, 2) end, #{refresh => 10, drain => 60000}),
    all_up(Pool, 2),
    behave(A, fun(_) -> silent end),
    Client = client(A, Pool),
    Busy = async(fun() -> gen_driver_tcp:call(Client, 1, [], infinity) end),
    await_calls(A, 1),
    ets:insert(Urls, {now, [gen_driver_fake_host:url(B)]}),
    until(fun() -> length(members(Pool)) =:= 1 end),
    ets:insert(Urls, {now, [gen_driver_fake_host:url(Host) || Host <- Hosts]}),
    all_up(Pool, 2),
    %% The same that was busy.
    ?assertEqual(Client, client(A, Pool)),
    ok = gen_driver_pool:stop(Pool),
    ?assertEqual(failed(disconnected), outcome(Busy)).

%%% Life

%% A name server of the test's own, on loopback, by whose records two hosts come and go.
by_dns(_Config) ->
    [A, B] = hosts(2),
    {ok, Socket} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Port} = inet:port(Socket),
    Zone = ets:new(zone, [public]),
    ets:insert(Zone, {now, [{10, 5, maps:get(port, A)}]}),
    Server = spawn_link(fun() -> name_server(Socket, Zone) end),
    ok = gen_udp:controlling_process(Socket, Server),
    Old = [{Option, inet_db:res_option(Option)} || Option <- [resolv_conf, nameservers]],
    ok = inet_db:res_option(resolv_conf, ""),
    ok = inet_db:res_option(nameservers, [{{127, 0, 0, 1}, Port}]),
    try
        Pool = pool_of({srv, "_gendriverd._tcp.example.test"}, #{refresh => 20, lookup_timeout => 2000}),
        all_up(Pool, 1),
        [#{endpoint := {tcp, "127.0.0.1", _}, priority := 10}] = members(Pool),
        {ok, _} = call(Pool),
        %% A second of a lower priority is asked when the first cannot be.
        ets:insert(Zone, {now, [{10, 5, maps:get(port, A)}, {20, 5, maps:get(port, B)}]}),
        all_up(Pool, 2),
        [{ok, _} = call(Pool) || _ <- lists:seq(1, 30)],
        ?assertEqual(0, calls(B)),
        ok = gen_driver_fake_host:stop(A),
        until(fun() -> {ok, maps:get(port, B)} =:= call(Pool) end),
        %% No such name any more: those known are kept.
        ets:insert(Zone, {now, nxdomain}),
        until(fun() -> maps:get(trouble, gen_driver_pool:info(Pool)) =:= nxdomain end),
        2 = length(members(Pool)),
        ets:insert(Zone, {now, [{10, 5, maps:get(port, B)}]}),
        until(fun() -> length(members(Pool)) =:= 1 end),
        {ok, _} = call(Pool),
        ok = gen_driver_pool:stop(Pool)
    after
        [ok = inet_db:res_option(Option, Value) || {Option, Value} <- Old]
    end.

%% One question, of whose name only the end is of interest; answers point back to it.
name_server(Socket, Zone) ->
    {ok, {Ip, Port, <<Id:16, _Flags:16, 1:16, _Counts:48, Rest/binary>>}} = gen_udp:recv(Socket, 0),
    [Name, _] = binary:split(Rest, <<0>>),
    <<_:(byte_size(Name))/binary, 0, Type:16, _/binary>> = Rest,
    Records = case ets:lookup_element(Zone, now, 2) of
        Known when is_list(Known), Type =:= 33 -> [srv(Record) || Record <- Known];
        _ -> []
    end,
    Code = case Records of [] -> 3; _ -> 0 end,
    ok = gen_udp:send(Socket, Ip, Port, [<<Id:16, (16#8580 + Code):16, 1:16, (length(Records)):16, 0:32>>,
                                         Name, <<0, Type:16, 1:16>>, Records]),
    name_server(Socket, Zone).

srv({Priority, Weight, Port}) ->
    Target = <<3, "127", 1, "0", 1, "0", 1, "1", 0>>,
    <<3:2, 12:14, 33:16, 1:16, 0:32, (6 + byte_size(Target)):16, Priority:16, Weight:16, Port:16, Target/binary>>.

a_crashed_member_is_restarted(_Config) ->
    Hosts = hosts(2),
    Pool = pool(Hosts, #{restarts => {100, 1}}),
    [begin
         #{pid := Pid, endpoint := Endpoint} = lists:nth(1 + N rem 2, members(Pool)),
         exit(Pid, kill),
         until(fun() -> [New] = [P || #{pid := P, endpoint := E} <- members(Pool), E =:= Endpoint], New =/= Pid end),
         all_up(Pool, 2),
         {ok, _} = call(Pool)
     end || N <- lists:seq(1, 6)],
    until(fun() -> length(gen_driver_cluster:members(sum)) =:= 2 end).

under_a_supervisor(_Config) ->
    [Host] = hosts(1),
    Options = #{instance => sum, endpoints => [gen_driver_fake_host:url(Host)], size => 2},
    Spec = gen_driver_pool:child_spec({{local, ?FUNCTION_NAME}, Options}),
    ok = supervisor:check_childspecs([Spec, gen_driver_pool:child_spec(Options), gen_driver_pool:child_spec([{instance, x}])]),
    {ok, Supervisor} = gen_driver_test_sup:start_link([Spec]),
    [{{gen_driver_pool, {local, ?FUNCTION_NAME}}, Pool, supervisor, [gen_driver_pool_sup]}] = supervisor:which_children(Supervisor),
    Pool = whereis(?FUNCTION_NAME),
    {ok, _} = gen_driver_pool:call(?FUNCTION_NAME, 1),
    {ok, _} = gen_driver_pool:call({?FUNCTION_NAME, node()}, 1),
    [#{pid := One}, #{pid := Two}] = members(?FUNCTION_NAME),
    exit(Pool, kill),
    [begin M = monitor(process, Pid), receive {'DOWN', M, _, _, _} -> ok end end || Pid <- [Pool, One, Two]],
    until(fun() -> whereis(?FUNCTION_NAME) =/= undefined end),
    until(fun() -> gen_driver_members:find(?FUNCTION_NAME) =/= undefined end),
    {ok, _} = gen_driver_pool:call(?FUNCTION_NAME, 1),
    New = whereis(?FUNCTION_NAME),
    ok = gen_driver_test_sup:stop(Supervisor),
    ?assertEqual(none, gen_driver_members:set(Pool)),
    ?assertEqual(none, gen_driver_members:set(New)),
    ?assertExit({noproc, _}, gen_driver_pool:call(?FUNCTION_NAME, 1)).

a_crashed_keeper_finds_its_members(_Config) ->
    Hosts = hosts(2),
    Pool = pool(Hosts),
    Pids = [Pid || #{pid := Pid} <- members(Pool)],
    [begin
         Old = child(Module, Pool),
         exit(Old, kill),
         until(fun() -> New = child(Module, Pool), is_pid(New) andalso New =/= Old end),
         [{ok, _} = call(Pool) || _ <- lists:seq(1, 10)],
         ok = gen_driver_keeper:ready(child(gen_driver_keeper, Pool)),
         ?assertEqual(Pids, [Pid || #{pid := Pid} <- members(Pool)])
     end || Module <- [gen_driver_keeper, gen_driver_checker]],
    until(fun() -> lists:sort(gen_driver_cluster:members(sum)) =:= lists:sort(Pids) end).

stopped_and_gone(_Config) ->
    [Host] = hosts(1),
    Pool = pool([Host]),
    Client = client(Host, Pool),
    until(fun() -> gen_driver_cluster:members(<<"sum">>) =:= [Client] end),     % those of the test before are gone
    ok = gen_driver_pool:stop(Pool),
    ?assertNot(is_process_alive(Client)),
    ?assertExit({noproc, _}, gen_driver_pool:call(Pool, 1)),
    until(fun() -> gen_driver_cluster:members(sum) =:= [] end).

not_started(_Config) ->
    [Host] = hosts(1),
    Options = #{instance => sum, connect => gen_driver_fake_host:url(Host)},
    {ok, Pool} = gen_driver_pool:start_link(Options),
    ok = application:stop(gen_driver_tcp),
    try
        NotStarted = {error, {not_started, gen_driver_tcp}},
        ?assertEqual(NotStarted, gen_driver_pool:start_link(Options)),
        [?assertEqual(NotStarted, Result)
         || Result <- [gen_driver_cluster:call(sum, 1), gen_driver_cluster:call(sum, 1, []), gen_driver_cluster:cast(sum, 1),
                       gen_driver_cluster:members(sum), gen_driver_cluster:call(sum, 1, [], #{key => k})]],
        %% What needs no cluster needs no application, and pools go on.
        {ok, Alone} = gen_driver_pool:start_link(Options#{cluster => false}),
        {ok, _} = gen_driver_pool:call(Alone, 1),
        {ok, Client} = gen_driver_tcp:start_link(Options),
        {ok, _} = gen_driver_tcp:call(Client, 1),
        {ok, _} = gen_driver_pool:call(Pool, 1),
        [#{pid := Killed}] = members(Pool),
        exit(Killed, kill),
        until(fun() -> [S || #{status := S, pid := Pid} <- members(Pool), Pid =/= Killed] =:= [up] end)
    after
        ok = application:start(gen_driver_tcp)
    end,
    %% Members come to a scope that begins anew.
    [#{pid := Member}] = members(Pool),
    until(fun() -> gen_driver_cluster:members(sum) =:= [Member] end),
    {ok, _} = gen_driver_cluster:call(sum, 1).
