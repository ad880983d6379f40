%% SPDX-License-Identifier: MIT
%% Pools against several services that the test plays: who is asked, who is asked again, who is left out.
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
    [{group, choosing}, {group, keys}, {group, again}, {group, hedges}, {group, checks}, {group, endpoints}, {group, life},
     thousands_of_callers].

groups() ->
    [{choosing, [parallel],
      [the_less_loaded_is_asked, calls_are_spread, casts_streams_and_requests_go_to_one,
       one_without_a_link_is_passed_over, all_without_a_link_then_one_with, wrong_options_are_a_crash]},
     {keys, [parallel],
      [a_key_stays, any_term_is_a_key, keys_of_an_endpoint_that_goes, a_key_whose_member_is_down_moves_if_it_may]},
     {again, [parallel],
      [what_never_started_is_tried_elsewhere, a_host_that_died_first, one_that_drains, what_may_have_run_is_not_made_again,
       what_will_not_do_better_is_not_made_again, a_drivers_own_words_are_its_own, retries_have_an_end,
       the_time_left_goes_along, no_time_no_retry, a_member_that_is_gone, a_member_killed_in_mid_call, no_member_at_all]},
     {hedges, [parallel],
      [the_second_wins_and_the_first_is_cancelled, the_first_wins_though_late, a_failure_waits_for_the_other,
       both_fail, nobody_to_hedge_with, a_hedge_that_times_out, hedged_and_refused_at_once]},
     {checks, [parallel],
      [silent_to_pings_is_ejected, it_comes_back_slowly, too_many_ejected_is_panic, a_member_that_returns_begins_small]},
     {endpoints, [parallel],
      [a_function_that_changes, a_function_that_fails_keeps_the_old_set, a_function_that_hangs, one_that_goes_answers_first,
       one_that_leaves_and_returns]},
     {life, [],
      [by_dns, a_crashed_member_is_restarted, under_a_supervisor, a_crashed_keeper_finds_its_members, stopped_and_gone,
       not_started]}].

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
    ?assertEqual(failed(unavailable), call(Pool, 100)),
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

%%% Made again

%% Two hosts: whichever is asked first answers so, the other replies.
first_and_then(Behaviour, Options) ->
    Hosts = hosts(2),
    Pool = pool(Hosts),
    First = atomics:new(1, []),
    [behave(Host, fun(Request) -> case atomics:add_get(First, 1, 1) of 1 -> Behaviour(Request); _ -> {reply, replied} end end)
     || Host <- Hosts],
    Result = call(Pool, Options),
    Calls = [calls(Host) || Host <- Hosts],
    ok = gen_driver_pool:stop(Pool),
    {Result, lists:sort(Calls)}.

what_never_started_is_tried_elsewhere(_Config) ->
    [?assertEqual({replied, [1, 1]}, first_and_then(fun(_) -> {failed, Reason} end, #{}))
     || Reason <- [overloaded, draining, unavailable, not_run]],
    ?assertEqual({failed(overloaded), [0, 1]}, first_and_then(fun(_) -> {failed, overloaded} end, #{retries => 0})).

a_host_that_died_first(_Config) ->
    ?assertEqual({replied, [1, 1]}, first_and_then(fun(_) -> {goodbye, host_died} end, #{})),
    ?assertEqual({replied, [1, 1]}, first_and_then(fun(_) -> {goodbye, stopping} end, #{})).

%% Asked to leave, the client may yet send there; a call past the drain's limit is told `draining'.
one_that_drains(_Config) ->
    [Host] = hosts(1),
    Pool = pool([Host]),
    First = atomics:new(1, []),
    behave(Host, fun(_) -> case atomics:add_get(First, 1, 1) of 1 -> {failed, draining}; _ -> {reply, replied} end end),
    ?assertEqual(replied, call(Pool)),
    ?assertEqual(2, calls(Host)).

what_may_have_run_is_not_made_again(_Config) ->
    [?assertEqual({failed(Reason), [0, 1]}, first_and_then(fun(_) -> {failed, Reason} end, #{}))
     || Reason <- [crashed, interrupted, timeout, bad_reply]],
    ?assertEqual({failed(disconnected), [0, 1]}, first_and_then(fun(_) -> close end, #{})),
    ?assertEqual({failed(timeout), [0, 1]}, first_and_then(fun(_) -> silent end, 100)).

what_will_not_do_better_is_not_made_again(_Config) ->
    [?assertEqual({failed(Reason), [0, 1]}, first_and_then(fun(_) -> {failed, Reason} end, #{}))
     || Reason <- [bad_request, quarantined, cancelled, expired]].

a_drivers_own_words_are_its_own(_Config) ->
    [?assertEqual({failed(Reason), [0, 1]}, first_and_then(fun(_) -> {reply, failed(Reason)} end, Options))
     || Reason <- [overloaded, not_run], Options <- [#{}, #{hedge => 10000}]].

retries_have_an_end(_Config) ->
    Hosts = hosts(2),
    Pool = pool(Hosts, #{retries => 4}),
    [behave(Host, fun(_) -> {failed, overloaded} end) || Host <- Hosts],
    ?assertEqual(failed(overloaded), call(Pool)),
    ?assertEqual([2, 3], lists:sort([calls(Host) || Host <- Hosts])),
    ?assertEqual(failed(overloaded), call(Pool, #{retries => 1})),
    ?assertEqual(7, lists:sum([calls(Host) || Host <- Hosts])).

the_time_left_goes_along(_Config) ->
    Hosts = hosts(2),
    Pool = pool(Hosts, #{retries => 50}),
    Test = self(),
    [behave(Host, fun({1, [], #{timeout := Left}}) -> Test ! {left, Left}, {failed, overloaded} end) || Host <- Hosts],
    Began = erlang:monotonic_time(millisecond),
    Failed = call(Pool, 1000),
    ?assert(lists:member(Failed, [failed(overloaded), failed(expired)])),
    ?assert(erlang:monotonic_time(millisecond) - Began < 10000),
    Lefts = left(),
    ?assert(length(Lefts) > 2),
    ?assert(hd(Lefts) =< 1000),
    ?assertEqual(lists:reverse(lists:sort(Lefts)), Lefts),
    ?assert(lists:last(Lefts) < hd(Lefts)).

left() ->
    receive {left, Left} -> [Left | left()] after 0 -> [] end.

no_time_no_retry(_Config) ->
    Hosts = hosts(2),
    Pool = pool(Hosts),
    [behave(Host, fun(_) -> {failed, overloaded} end) || Host <- Hosts],
    Result = call(Pool, 0),
    ?assert(lists:member(Result, [failed(overloaded), failed(expired), failed(timeout)])),
    ?assert(lists:sum([calls(Host) || Host <- Hosts]) =< 1).

a_member_that_is_gone(_Config) ->
    [A, B] = Hosts = hosts(2),
    Pool = pool(Hosts),
    %% The set still names a process that was killed, whose counters say that it is there.
    Old = client(A, Pool),
    Supervisor = Pool,
    ok = sys:suspend(Supervisor),
    Monitor = monitor(process, Old),
    exit(Old, kill),
    receive {'DOWN', Monitor, _, _, _} -> ok end,
    [?assertEqual({ok, maps:get(port, B)}, gen_driver_pool:call(Pool, 1, [], #{retries => 0})) || _ <- lists:seq(1, 30)],
    ?assertEqual({ok, maps:get(port, B)}, call(Pool, #{hedge => 10000, retries => 0})),
    ok = sys:resume(Supervisor),
    all_up(Pool, 2),
    ?assertNotEqual(Old, client(A, Pool)).

a_member_killed_in_mid_call(_Config) ->
    Hosts = hosts(2),
    Pool = pool(Hosts),
    [behave(Host, fun(_) -> silent end) || Host <- Hosts],
    [begin
         Before = lists:sum([calls(Host) || Host <- Hosts]),
         Call = async(fun() -> call(Pool, Options) end),
         until(fun() -> lists:sum([calls(Host) || Host <- Hosts]) > Before end),
         [Busy] = [Pid || #{load := 1, pid := Pid} <- members(Pool)],
         exit(Busy, kill),
         ?assertEqual(failed(disconnected), outcome(Call)),
         ?assertEqual(Before + 1, lists:sum([calls(Host) || Host <- Hosts])),
         all_up(Pool, 2)
     end || Options <- [#{}, #{hedge => 20000}]].

no_member_at_all(_Config) ->
    Gate = atomics:new(1, []),
    [Host] = hosts(1),
    Url = gen_driver_fake_host:url(Host),
    Pool = pool_of(fun() -> case atomics:get(Gate, 1) of 0 -> []; _ -> [Url] end end, #{refresh => 10, connect_wait => 50}),
    ?assertMatch(#{members := []}, gen_driver_pool:info(Pool)),
    until(fun() -> maps:get(trouble, gen_driver_pool:info(Pool)) =:= no_endpoints end),
    ?assertEqual(failed(unavailable), call(Pool)),
    ?assertEqual(failed(unavailable), call(Pool, #{key => k})),
    ?assertEqual(failed(unavailable), gen_driver_pool:cast(Pool, 1)),
    ?assertEqual(failed(unavailable), gen_driver_pool:cast(Pool, 1, [])),
    ?assertEqual({failed(unavailable), acc}, gen_driver_pool:call_stream(Pool, 1, [], #{fold => {fun(_, A) -> A end, acc}})),
    ?assertEqual(failed(unavailable), gen_driver_pool:call_stream(Pool, 1, [], #{})),
    Waiting = async(fun() -> call(Pool, #{timeout => 10000, retries => 1000}) end),
    atomics:put(Gate, 1, 1),
    {ok, _} = outcome(Waiting),
    #{trouble := none} = gen_driver_pool:info(Pool).

%%% Hedges

%% In the test's own process, whose mailbox must be as it was.
nothing_left() ->
    {messages, []} = process_info(self(), messages),
    ok.

%% Whoever is asked first is silent until the test lets it answer.
silent_first(Hosts, Second) ->
    First = atomics:new(1, []),
    [behave(Host, fun(_) -> case atomics:add_get(First, 1, 1) of 1 -> silent; _ -> Second end end) || Host <- Hosts],
    ok.

the_second_wins_and_the_first_is_cancelled(_Config) ->
    Hosts = hosts(2),
    Pool = pool(Hosts),
    silent_first(Hosts, {reply, second}),
    ?assertEqual(second, call(Pool, #{hedge => 20})),
    ?assertEqual([1, 1], [calls(Host) || Host <- Hosts]),
    until(fun() -> [1] =:= [1 || Host <- Hosts, {cancel, 0} <- seen(Host)] end),
    nothing_left().

%% Neither is answered before both are asked; then the first is.
the_first_wins_though_late(_Config) ->
    [A, B] = Hosts = hosts(2),
    Pool = pool(Hosts),
    behave(A, fun(_) -> await_calls(B, 1), {reply, a} end),
    behave(B, fun(_) -> await_calls(A, 1), silent end),
    ?assertEqual(a, call(Pool, #{hedge => 10})),
    until(fun() -> [cancel] =:= [cancel || {cancel, 0} <- seen(B)] end),
    nothing_left().

a_failure_waits_for_the_other(_Config) ->
    [A, B] = Hosts = hosts(2),
    Pool = pool(Hosts),
    Test = self(),
    behave(A, fun(_) -> await_calls(B, 1), Test ! failed, {failed, crashed} end),
    behave(B, fun(_) -> await_calls(A, 1), receive after 50 -> ok end, {reply, b} end),
    ?assertEqual(b, call(Pool, #{hedge => 10})),
    receive failed -> ok end,
    nothing_left().

both_fail(_Config) ->
    [A, B] = Hosts = hosts(2),
    Pool = pool(Hosts),
    behave(A, fun(_) -> await_calls(B, 1), {failed, crashed} end),
    behave(B, fun(_) -> await_calls(A, 1), {failed, overloaded} end),
    %% It may have run: not made again.
    ?assertEqual(failed(crashed), call(Pool, #{hedge => 10})),
    ?assertEqual([1, 1], [calls(Host) || Host <- Hosts]),
    behave(A, fun(_) -> await_calls(B, 2), {failed, overloaded} end),
    behave(B, fun(_) -> await_calls(A, 2), {failed, not_run} end),
    Failed = call(Pool, #{hedge => 10, retries => 0}),
    ?assert(lists:member(Failed, [failed(overloaded), failed(not_run)])),
    nothing_left().

nobody_to_hedge_with(_Config) ->
    [Host] = hosts(1),
    Pool = pool([Host]),
    behave(Host, fun(_) -> receive after 50 -> ok end, {reply, alone} end),
    ?assertEqual(alone, call(Pool, #{hedge => 1})),
    ?assertEqual(alone, call(Pool, #{hedge => 60000})),
    ?assertEqual(alone, call(Pool, #{hedge => 1, timeout => infinity})),
    ?assertEqual(3, calls(Host)),
    nothing_left().

a_hedge_that_times_out(_Config) ->
    Hosts = hosts(2),
    Pool = pool(Hosts),
    [behave(Host, fun(_) -> silent end) || Host <- Hosts],
    ?assertEqual(failed(timeout), call(Pool, #{hedge => 20, timeout => 100})),
    until(fun() -> [1, 1] =:= [1 || Host <- Hosts, {cancel, 0} <- seen(Host)] end),
    ?assertEqual(failed(timeout), call(Pool, #{hedge => 1000, timeout => 50})),
    nothing_left().

%% What fails before it takes long is made again as any other call is.
hedged_and_refused_at_once(_Config) ->
    ?assertEqual({replied, [1, 1]}, first_and_then(fun(_) -> {failed, overloaded} end, #{hedge => 20000})),
    ?assertEqual({failed(crashed), [0, 1]}, first_and_then(fun(_) -> {failed, crashed} end, #{hedge => 20000})),
    Hosts = hosts(2),
    Full = pool(Hosts, #{max_queued => 1, max_in_flight => 1}),
    [behave(Host, fun(_) -> silent end) || Host <- Hosts],
    Busy = lists:append([begin
        Calls = [async(fun() -> gen_driver_tcp:call(client(Host, Full), 1, [], infinity) end) || Host <- Hosts],
        until(fun() -> [N, N] =:= [Load || #{load := Load} <- members(Full)] end),
        [1, 1] = [calls(Host) || ok =:= await_calls(hd(Hosts), 1), ok =:= await_calls(lists:last(Hosts), 1), Host <- Hosts],
        Calls
    end || N <- [1, 2]]),
    ?assertEqual(failed(overloaded), call(Full, #{hedge => 20000, retries => 1})),
    ok = gen_driver_pool:stop(Full),
    [{error, {failed, _}} = outcome(Call) || Call <- Busy].

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
    ?assertEqual(2, length(gen_driver_cluster:members(sum))).

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
    ?assertEqual(lists:sort(Pids), lists:sort(gen_driver_cluster:members(sum))).

child(Id, Pool) ->
    element(2, lists:keyfind(Id, 1, supervisor:which_children(Pool))).

stopped_and_gone(_Config) ->
    [Host] = hosts(1),
    Pool = pool([Host]),
    Client = client(Host, Pool),
    [Client] = gen_driver_cluster:members(<<"sum">>),
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
        exit(maps:get(pid, hd(members(Pool))), kill),
        until(fun() -> [S || #{status := S} <- members(Pool)] =:= [up] end)
    after
        ok = application:start(gen_driver_tcp)
    end,
    %% Members come to a scope that begins anew.
    [#{pid := Member}] = members(Pool),
    until(fun() -> gen_driver_cluster:members(sum) =:= [Member] end),
    {ok, _} = gen_driver_cluster:call(sum, 1).

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
