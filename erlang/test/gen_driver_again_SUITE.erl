%% SPDX-License-Identifier: MIT
%% Calls that a pool makes again, and those that it asks two members for: which, when, and never twice by mistake.
-module(gen_driver_again_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [async/1, outcome/1]).
-import(gen_driver_fake_host, [behave/2, calls/1, seen/1, await_calls/2, until/1]).
-import(gen_driver_pool_SUITE, [hosts/1, pool/1, pool/2, pool_of/2, all_up/2, members/1, client/2, call/1, call/2, failed/1, nothing_left/0]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, again}, {group, hedges}].

groups() ->
    [{again, [parallel],
      [what_never_started_is_tried_elsewhere, a_host_that_died_first, one_that_drains, what_may_have_run_is_not_made_again,
       what_will_not_do_better_is_not_made_again, a_drivers_own_words_are_its_own, retries_have_an_end,
       the_time_left_goes_along, no_time_no_retry, a_member_that_is_gone, a_member_killed_in_mid_call, no_member_at_all]},
     {hedges, [parallel],
      [the_second_wins_and_the_first_is_cancelled, the_first_wins_though_late, a_failure_waits_for_the_other,
       both_fail, nobody_to_hedge_with, a_hedge_that_times_out, hedged_and_refused_at_once]}].

init_per_suite(Config) -> gen_driver_pool_SUITE:init_per_suite(Config).
end_per_suite(Config) -> gen_driver_pool_SUITE:end_per_suite(Config).

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
     || Reason <- [bad_request, quarantined, forbidden, cancelled, expired]].

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
    behave(A, fun(_) -> await_calls(B, 1), {failed, crashed} end),
    behave(B, answers_when_told(b)),
    Call = async(fun() -> call(Pool, #{hedge => 10}) end),
    Conn = receive {asked, Asked} -> Asked end,
    await_calls(A, 1),
    until(fun() -> maps:get(in_flight, gen_driver_tcp:info(client(A, Pool))) =:= 0 end),
    Conn ! answer,
    ?assertEqual(b, outcome(Call)),
    nothing_left().

%% Its connection tells the test that it was asked, and then waits for it.
answers_when_told(Reply) ->
    Test = self(),
    fun(_) -> Test ! {asked, self()}, receive answer -> {reply, Reply} end end.

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
    behave(Host, answers_when_told(alone)),
    [begin
         {_, Caller} = Call = async(fun() -> call(Pool, Options) end),
         Conn = receive {asked, Asked} -> Asked end,
         until(fun() -> is_in(Function, Caller) end),
         Conn ! answer,
         ?assertEqual(alone, outcome(Call))
     end || {Options, Function} <- [{#{hedge => 1}, first}, {#{hedge => 60000}, call},
                                    {#{hedge => 1, timeout => infinity}, first}]],
    ?assertEqual(3, calls(Host)),
    nothing_left().

%% Of gen_driver_hedge: in call/5 until the hedge's time is over, in first/3 thereafter.
is_in(Function, Caller) ->
    {current_stacktrace, Stack} = process_info(Caller, current_stacktrace),
    [] =/= [at || {gen_driver_hedge, Name, _, _} <- Stack, Name =:= Function].

a_hedge_that_times_out(_Config) ->
    Hosts = hosts(2),
    Pool = pool(Hosts),
    [behave(Host, fun(_) -> silent end) || Host <- Hosts],
    ?assertEqual(failed(timeout), call(Pool, #{hedge => 20, timeout => 1000})),
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
        [ok = await_calls(Host, 1) || Host <- Hosts],
        [1, 1] = [calls(Host) || Host <- Hosts],
        %% A host may see a call before its client has given the call's place back.
        [#{in_flight := 1} = gen_driver_tcp:info(client(Host, Full)) || Host <- Hosts],
        Calls
    end || N <- [1, 2]]),
    ?assertEqual(failed(overloaded), call(Full, #{hedge => 20000, retries => 1})),
    ok = gen_driver_pool:stop(Full),
    [{error, {failed, _}} = outcome(Call) || Call <- Busy].
