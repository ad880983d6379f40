%% SPDX-License-Identifier: MIT
%% Pools against several services that the test plays: who is asked, and who is left out.
-module(gen_driver_pool_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [async/1, outcome/1]).
-import(gen_driver_fake_host, [behave/2, pings/2, calls/1, seen/1, await_calls/2, until/1]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, choosing}, {group, keys}, {group, checks}, thousands_of_callers].

groups() ->
    [{choosing, [parallel],
      [the_less_loaded_is_asked, calls_are_spread, casts_streams_and_requests_go_to_one,
       one_without_a_link_is_passed_over, all_without_a_link_then_one_with, wrong_options_are_a_crash]},
     {keys, [parallel],
      [a_key_stays, any_term_is_a_key, keys_of_an_endpoint_that_goes, a_key_whose_member_is_down_moves_if_it_may]},
     {checks, [parallel],
      [silent_to_pings_is_ejected, it_comes_back_slowly, too_many_ejected_is_panic, a_member_that_returns_begins_small]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(gen_driver_tcp),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(gen_driver_tcp).

hosts(N) ->
    [gen_driver_fake_host:start() || _ <- lists:seq(1, N)].

%% A pool over these, all of them connected.
pool(Hosts) ->
    pool(Hosts, #{}).

pool(Hosts, Options) ->
    Pool = pool_of([gen_driver_fake_host:url(Host) || Host <- Hosts], Options),
    ok = all_up(Pool, length(Hosts) * maps:get(size, Options, 1)),
    Pool.

pool_of(Endpoints, Options) ->
    Defaults = #{instance => sum, endpoints => Endpoints, slow_start => 0, backoff => {5, 20}},
    {ok, Pool} = gen_driver_pool:start_link(maps:merge(Defaults, Options)),
    Pool.

all_up(Pool, N) ->
    until(fun() -> length([up || #{status := up} <- members(Pool)]) =:= N end).

members(Pool) ->
    maps:get(members, gen_driver_pool:info(Pool)).

member(Host, Pool) ->
    [Member] = [M || M = #{endpoint := Endpoint} <- members(Pool), Endpoint =:= gen_driver_fake_host:address(Host)],
    Member.

client(Host, Pool) ->
    maps:get(pid, member(Host, Pool)).

call(Pool) ->
    gen_driver_pool:call(Pool, 1, [], 20000).

call(Pool, Options) ->
    gen_driver_pool:call(Pool, 1, [], Options).

failed(Reason) -> {error, {failed, Reason}}.

child(Id, Pool) ->
    element(2, lists:keyfind(Id, 1, supervisor:which_children(Pool))).

%% In the test's own process, whose mailbox must be as it was.
nothing_left() ->
    {messages, []} = process_info(self(), messages),
    ok.

%%% Choosing

the_less_loaded_is_asked(_Config) ->
    [A, B] = Hosts = hosts(2),
    Pool = pool(Hosts),
    behave(A, fun(_) -> silent end),
    Busy = [async(fun() -> gen_driver_tcp:call(client(A, Pool), 1, [], infinity) end) || _ <- lists:seq(1, 5)],
    await_calls(A, 5),
    until(fun() -> maps:get(load, member(A, Pool)) =:= 5 end),
    [?assertEqual({ok, maps:get(port, B)}, call(Pool)) || _ <- lists:seq(1, 100)],
    ?assertEqual(5, calls(A)),
    ok = gen_driver_pool:stop(Pool),
    [?assertEqual(failed(disconnected), outcome(Call)) || Call <- Busy].

calls_are_spread(_Config) ->
    Hosts = hosts(3),
    Pool = pool(Hosts, #{size => 2}),
    [{ok, _} = call(Pool) || _ <- lists:seq(1, 600)],
    [?assert(calls(Host) > 100) || Host <- Hosts],
    ?assertMatch(#{instance := <<"sum">>, panic := false, trouble := none}, gen_driver_pool:info(Pool)),
    [?assertMatch(#{endpoint := {tcp, _, _}, status := up, load := 0, ejected := false, weight := 1.0, priority := 0}, Member)
     || Member <- members(Pool)],
    ?assertEqual([1, 1, 1, 2, 2, 2], lists:sort([Index || #{index := Index} <- members(Pool)])).

casts_streams_and_requests_go_to_one(_Config) ->
    [Host] = hosts(1),
    Pool = pool([Host]),
    Key = erlang:phash2(k, 1 bsl 32),
    ok = gen_driver_pool:cast(Pool, 1),
    ok = gen_driver_pool:cast(Pool, 2, x, #{ack => true}),
    ok = gen_driver_pool:cast(Pool, sum, y, [{key, k}, {ack, true}]),
    until(fun() -> seen(Host) =:= [{cast, 1}, {cast, 2, x}, {cast, 1, y, #{key => Key}}] end),
    {error, {unknown_command, <<"product">>}} = gen_driver_pool:cast(Pool, product, [], #{ack => true}),
    Port = maps:get(port, Host),
    {ok, Port} = gen_driver_pool:call(Pool, sum),
    {ok, Port} = gen_driver_pool:call(Pool, sum, z),
    {error, {unknown_command, <<"product">>}} = gen_driver_pool:call(Pool, product),
    {error, {failed, bad_request}} = gen_driver_pool:call(Pool, -1),
    {reply, {ok, Port}} = gen_driver_tcp:receive_response(gen_driver_pool:send_request(Pool, 1, [], #{key => k}), 5000),
    {reply, {ok, Port}} = gen_driver_tcp:receive_response(gen_driver_pool:send_request(Pool, 1), 5000),
    behave(Host, fun({7, [], #{parts := 3, key := K}}) when K =:= Key -> {parts, [a, b]} end),
    {done, [b, a]} = gen_driver_pool:call_stream(Pool, 7, [], #{fold => {fun(P, Acc) -> [P | Acc] end, []}, credit => 3, key => k}),
    {ok, Stream} = gen_driver_pool:call_stream(Pool, 7, [], #{credit => 3, key => k}),
    {part, a, Next} = gen_driver_tcp:next_part(Stream, 5000),
    ok = gen_driver_tcp:cancel_stream(Next).

one_without_a_link_is_passed_over(_Config) ->
    [A, B] = Hosts = hosts(2),
    Pool = pool(Hosts, #{health => infinity}),
    ok = gen_driver_fake_host:stop(A),
    until(fun() -> maps:get(status, member(A, Pool)) =:= down end),
    [?assertEqual({ok, maps:get(port, B)}, call(Pool)) || _ <- lists:seq(1, 50)].

all_without_a_link_then_one_with(_Config) ->
    [A, B] = Hosts = hosts(2),
    Pool = pool(Hosts, #{connect_wait => 200}),
    [ok = gen_driver_fake_host:stop(Host) || Host <- Hosts],
    until(fun() -> [down, down] =:= [Status || #{status := Status} <- members(Pool)] end),
    %% Nobody comes: each try waits as a client's call does.
    ?assertEqual(failed(unavailable), call(Pool, #{retries => 0})),
    ?assertEqual(failed(unavailable), call(Pool, 5000)),
    Waiting = [async(fun() -> call(Pool, #{timeout => 20000, retries => 1000}) end) || _ <- lists:seq(1, 20)],
    until(fun() -> lists:sum([Load || #{pid := Pid} <- members(Pool), Load <- [maps:get(queued, gen_driver_tcp:info(Pid))]]) > 0 end),
    _ = gen_driver_fake_host:start(maps:get(port, B)),
    [?assertEqual({ok, maps:get(port, B)}, outcome(Call)) || Call <- Waiting],
    _ = gen_driver_fake_host:start(maps:get(port, A)),
    all_up(Pool, 2).

wrong_options_are_a_crash(_Config) ->
    [Host] = hosts(1),
    Pool = pool([Host]),
    ?assertError({bad_option, {hedge, now}}, call(Pool, #{hedge => now})),
    ?assertError({bad_option, {deadline, 1}}, call(Pool, [{deadline, 1}])),
    ?assertError({bad_option, {hedge, 1}}, gen_driver_pool:cast(Pool, 1, [], [{hedge, 1}])),
    ?assertEqual({error, {bad_option, {size, 0}}}, gen_driver_pool:start_link(#{instance => x, size => 0})),
    ?assertEqual({error, {bad_option, {unknown, siz}}}, gen_driver_pool:start_link({local, x}, #{instance => x, siz => 0})),
    ?assertExit({noproc, {gen_driver_pool, call, [nobody, 1]}}, gen_driver_pool:call(nobody, 1)),
    ?assertExit({noproc, {gen_driver_pool, cast, [_, 1]}}, gen_driver_pool:cast(self(), 1)).

%%% Keys

a_key_stays(_Config) ->
    Hosts = hosts(4),
    Pool = pool(Hosts),
    Owner = fun(Key) -> {ok, Port} = call(Pool, #{key => Key}), Port end,
    Owners = [{Key, Owner(Key)} || Key <- lists:seq(1, 200)],
    [?assertEqual(Port, Owner(Key)) || {Key, Port} <- Owners],
    [?assert(length([Key || {Key, Port} <- Owners, Port =:= maps:get(port, Host)]) > 10) || Host <- Hosts].

any_term_is_a_key(_Config) ->
    [Host] = hosts(1),
    Pool = pool([Host]),
    Terms = [a, "text", {1, 2.0}, #{k => v}, 5, self()],
    [{ok, _} = call(Pool, #{key => Term, timeout => infinity}) || Term <- Terms],
    ?assertEqual([erlang:phash2(Term, 1 bsl 32) || Term <- Terms], [Key || {call, _, 1, [], #{key := Key}} <- seen(Host)]).

keys_of_an_endpoint_that_goes(_Config) ->
    Hosts = hosts(4),
    Urls = ets:new(urls, [public]),
    ets:insert(Urls, {now, [gen_driver_fake_host:url(Host) || Host <- Hosts]}),
    Pool = pool_of(fun() -> ets:lookup_element(Urls, now, 2) end, #{refresh => 20}),
    all_up(Pool, 4),
    Owners = fun() -> [begin {ok, Port} = call(Pool, #{key => Key}), Port end || Key <- lists:seq(1, 300)] end,
    Before = Owners(),
    [Gone | Stay] = Hosts,
    ets:insert(Urls, {now, [gen_driver_fake_host:url(Host) || Host <- Stay]}),
    until(fun() -> length(members(Pool)) =:= 3 end),
    After = Owners(),
    [?assert(A =:= B orelse A =:= maps:get(port, Gone)) || {A, B} <- lists:zip(Before, After)],
    ?assertNot(lists:member(maps:get(port, Gone), After)),
    %% And back to where they were.
    ets:insert(Urls, {now, [gen_driver_fake_host:url(Host) || Host <- lists:reverse(Hosts)]}),
    all_up(Pool, 4),
    ?assertEqual(Before, Owners()).

a_key_whose_member_is_down_moves_if_it_may(_Config) ->
    Hosts = hosts(3),
    Pool = pool(Hosts, #{connect_wait => 50}),
    {ok, Port} = call(Pool, #{key => k}),
    [Owner] = [Host || Host = #{port := P} <- Hosts, P =:= Port],
    ok = gen_driver_fake_host:stop(Owner),
    until(fun() -> maps:get(status, member(Owner, Pool)) =:= down end),
    ?assertEqual(failed(unavailable), call(Pool, #{key => k, keep => true})),
    {ok, Other} = call(Pool, #{key => k}),
    ?assertNotEqual(Port, Other),
    [?assertEqual({ok, Other}, call(Pool, #{key => k})) || _ <- lists:seq(1, 20)],
    _ = gen_driver_fake_host:start(Port),
    all_up(Pool, 3),
    ?assertEqual({ok, Port}, call(Pool, #{key => k})),
    ?assertEqual({ok, Port}, call(Pool, #{key => k, keep => true})).

%%% Checks

checked() ->
    #{health => 20, health_timeout => 400, max_fails => 2}.

silent_to_pings_is_ejected(_Config) ->
    [A, B, C] = Hosts = hosts(3),
    Pool = pool(Hosts, checked()),
    pings(A, false),
    until(fun() -> maps:get(ejected, member(A, Pool)) end),
    #{status := up, weight := 0.0} = member(A, Pool),
    Before = calls(A),
    [{ok, _} = call(Pool) || _ <- lists:seq(1, 60)],
    ?assertEqual(Before, calls(A)),
    ?assert(calls(B) > 0 andalso calls(C) > 0),
    %% Its keys go to the next, too.
    [{ok, _} = call(Pool, #{key => Key}) || Key <- lists:seq(1, 60)],
    ?assertEqual(Before, calls(A)),
    pings(A, true),
    until(fun() -> not maps:get(ejected, member(A, Pool)) end),
    until(fun() -> {ok, _} = call(Pool), calls(A) > Before end).

it_comes_back_slowly(_Config) ->
    [A | _] = Hosts = hosts(3),
    Pool = pool(Hosts, (checked())#{slow_start => 3600000}),
    pings(A, false),
    until(fun() -> maps:get(ejected, member(A, Pool)) end),
    pings(A, true),
    until(fun() -> not maps:get(ejected, member(A, Pool)) end),
    #{weight := Weight} = member(A, Pool),
    ?assert(Weight >= 0.1 andalso Weight < 0.2).

too_many_ejected_is_panic(_Config) ->
    [A, B, C] = Hosts = hosts(3),
    Pool = pool(Hosts, checked()),
    pings(A, false),
    until(fun() -> maps:get(ejected, member(A, Pool)) end),
    pings(B, false),
    until(fun() -> maps:get(panic, gen_driver_pool:info(Pool)) end),
    [false, false, false] = [Ejected || #{ejected := Ejected} <- members(Pool)],
    until(fun() -> {ok, _} = call(Pool), lists:all(fun(Host) -> calls(Host) > 0 end, [A, B, C]) end),
    pings(B, true),
    until(fun() -> #{panic := Panic} = gen_driver_pool:info(Pool), not Panic andalso maps:get(ejected, member(A, Pool)) end).

%% A member that had no link when it was checked.
a_member_that_returns_begins_small(_Config) ->
    [A, _] = Hosts = hosts(2),
    Pool = pool(Hosts, (checked())#{slow_start => 1}),
    until(fun() -> [1.0, 1.0] =:= [Weight || #{weight := Weight} <- members(Pool)] end),
    ok = gen_driver_pool:stop(Pool),
    Slow = pool(Hosts, (checked())#{slow_start => 3600000}),
    until(fun() -> maps:get(weight, member(A, Slow)) < 0.2 end),
    Checker = child(gen_driver_checker, Slow),
    Client = client(A, Slow),
    ok = gen_driver_places:grade(Client, full),
    ok = gen_driver_fake_host:stop(A),
    until(fun() -> lists:member(down, maps:values(element(4, sys:get_state(Checker)))) end),
    _ = gen_driver_fake_host:start(maps:get(port, A)),
    all_up(Slow, 2),
    ?assert(maps:get(weight, member(A, Slow)) < 0.2),
    ?assertEqual({Checker, Client}, {child(gen_driver_checker, Slow), client(A, Slow)}).

%%% Many

thousands_of_callers(_Config) ->
    Hosts = hosts(3),
    Pool = pool(Hosts, #{size => 2, retries => 5}),
    Flaky = atomics:new(1, []),
    [behave(Host, fun({1, N, _}) -> case atomics:add_get(Flaky, 1, 1) rem 50 of 0 -> {failed, overloaded}; _ -> {reply, N} end end)
     || Host <- Hosts],
    Calls = [async(fun() ->
        [{N, I} = gen_driver_pool:call(Pool, 1, {N, I}, Options)
         || {I, Options} <- [{1, 30000}, {2, #{key => N, timeout => 30000}}, {3, #{hedge => 20000, timeout => 30000}}]]
    end) || N <- lists:seq(1, 2000)],
    [?assertEqual([{N, I} || I <- [1, 2, 3]], outcome(Call)) || {N, Call} <- lists:zip(lists:seq(1, 2000), Calls)],
    until(fun() -> lists:all(fun(#{load := Load}) -> Load =:= 0 end, members(Pool)) end),
    nothing_left().
