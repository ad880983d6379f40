%% SPDX-License-Identifier: MIT
%% What of a pool needs no process and no socket: rendezvous, choice, health, endpoints.
-module(gen_driver_pool_tests).

-include_lib("eunit/include/eunit.hrl").
-include_lib("gen_driver_tcp/src/gen_driver_member.hrl").

-define(KEYS, 5000).

%%% Rendezvous

candidates(N) ->
    [{gen_driver_rendezvous:hash({{tcp, "host" ++ integer_to_list(I), 9900}, 1}), I} || I <- lists:seq(1, N)].

owners(Candidates) ->
    [hd(gen_driver_rendezvous:order(gen_driver_rendezvous:key(Key), Candidates)) || Key <- lists:seq(1, ?KEYS)].

one_that_goes_takes_only_its_own_keys_along_test_() ->
    [fun() ->
        Candidates = candidates(N),
        Gone = N div 2 + 1,
        [?assert(Before =:= After orelse Before =:= Gone)
         || {Before, After} <- lists:zip(owners(Candidates), owners(lists:keydelete(Gone, 2, Candidates)))]
     end || N <- [2, 3, 8, 17]].

%% And they go to all the others evenly.
the_keys_of_one_that_goes_are_spread_test() ->
    Candidates = candidates(8),
    New = [After || {3, After} <- lists:zip(owners(Candidates), owners(lists:keydelete(3, 2, Candidates)))],
    even(New, [1, 2, 4, 5, 6, 7, 8]).

one_that_comes_gets_its_share_and_no_other_key_moves_test_() ->
    [fun() ->
        Moved = [After || {Before, After} <- lists:zip(owners(candidates(N)), owners(candidates(N + 1))), Before =/= After],
        ?assertEqual([N + 1], lists:usort(Moved)),
        near(?KEYS / (N + 1), length(Moved))
     end || N <- [1, 2, 5, 16]].

keys_are_spread_evenly_test_() ->
    [fun() -> even(owners(candidates(N)), lists:seq(1, N)) end || N <- [2, 3, 10, 32]].

%% Within five standard deviations: a fixed set of keys, so either always or never.
even(Owners, All) ->
    [near(length(Owners) / length(All), length([O || O <- Owners, O =:= One])) || One <- All].

near(Expected, Count) ->
    ?assert(abs(Count - Expected) < 5 * math:sqrt(Expected), {Expected, Count}).

the_order_of_candidates_says_nothing_test() ->
    Candidates = candidates(9),
    [?assertEqual(gen_driver_rendezvous:order(Key, Candidates), gen_driver_rendezvous:order(Key, lists:reverse(Candidates)))
     || Key <- lists:seq(1, 100)].

%% What other nodes, of other releases, find for the same keys: written down once.
the_same_everywhere_test() ->
    ?assertEqual([3, 1, 2], gen_driver_rendezvous:order(gen_driver_rendezvous:key({user, <<"a">>}), candidates(3))).

weights_are_shares_of_keys_test() ->
    Weighted = [{Hash, case I of 3 -> 3; _ -> 1 end, I} || {Hash, I} <- candidates(3)],
    Owners = [hd(gen_driver_rendezvous:weighted(gen_driver_rendezvous:key(Key), Weighted)) || Key <- lists:seq(1, ?KEYS)],
    near(?KEYS * 3 / 5, length([O || O = 3 <- Owners])),
    near(?KEYS / 5, length([O || O = 1 <- Owners])).

%%% Choice: a pid for each member, and what is known of it

members(N) ->
    [member(I, 1, 0) || I <- lists:seq(1, N)].

member(I, Weight, Priority) ->
    #member{id = I, hash = gen_driver_rendezvous:hash(I), pid = pid(I), weight = Weight, priority = Priority}.

pid(I) -> list_to_pid("<0." ++ integer_to_list(1000 + I) ++ ".0>").

look(Standings) ->
    ByPid = maps:from_list([{pid(I), Standing} || {I, Standing} <- Standings]),
    fun(Pid) -> maps:get(Pid, ByPid) end.

up(Load) -> {up, Load, 1.0}.

%% The same chances each time.
tally(Choose, Times) ->
    _ = rand:seed(exsss, 1),
    lists:foldl(fun(_, Count) ->
        {ok, Pid} = Choose(),
        maps:update_with(Pid, fun(C) -> C + 1 end, 1, Count)
    end, #{}, lists:seq(1, Times)).

count(I, Tally) -> maps:get(pid(I), Tally, 0).

of_two_the_less_loaded_test() ->
    Tiers = gen_driver_choice:tiers(members(2)),
    Look = look([{1, up(5)}, {2, up(4)}]),
    [?assertEqual({ok, pid(2)}, gen_driver_choice:usable(Tiers, [], Look)) || _ <- lists:seq(1, 100)].

%% The most loaded of many is never chosen, and the least loaded not by all.
of_many_two_are_looked_at_test() ->
    Tiers = gen_driver_choice:tiers(members(4)),
    Look = look([{1, up(9)}, {2, up(3)}, {3, up(2)}, {4, up(1)}]),
    Tally = tally(fun() -> gen_driver_choice:usable(Tiers, [], Look) end, 6000),
    ?assertEqual(0, count(1, Tally)),
    near(1000, count(2, Tally)),
    near(2000, count(3, Tally)),
    near(3000, count(4, Tally)).

equal_loads_are_shared_test() ->
    Tiers = gen_driver_choice:tiers(members(3)),
    Tally = tally(fun() -> gen_driver_choice:usable(Tiers, [], look([{I, up(0)} || I <- [1, 2, 3]])) end, 6000),
    [near(2000, count(I, Tally)) || I <- [1, 2, 3]].

those_out_down_gone_or_tried_are_passed_over_test() ->
    Tiers = gen_driver_choice:tiers(members(5)),
    Look = look([{1, out}, {2, down}, {3, nobody}, {4, up(0)}, {5, up(100)}]),
    [?assertEqual({ok, pid(5)}, gen_driver_choice:usable(Tiers, [pid(4)], Look)) || _ <- lists:seq(1, 50)],
    [?assertEqual({ok, pid(4)}, gen_driver_choice:usable(Tiers, [], Look)) || _ <- lists:seq(1, 50)],
    ?assertEqual(none, gen_driver_choice:usable(Tiers, [pid(4), pid(5)], Look)),
    %% One that is up and was tried is tried again: nobody waits in one without a link.
    ?assertEqual(none, gen_driver_choice:waiting(Tiers, [pid(4), pid(5)], Look)).

where_none_is_up_a_call_waits_test() ->
    Tiers = gen_driver_choice:tiers(members(3)),
    ?assertEqual({ok, pid(1)}, gen_driver_choice:waiting(Tiers, [], look([{1, out}, {2, down}, {3, nobody}]))),
    ?assertEqual({ok, pid(2)}, gen_driver_choice:waiting(Tiers, [pid(1)], look([{1, out}, {2, down}, {3, nobody}]))),
    ?assertEqual(none, gen_driver_choice:waiting(Tiers, [], look([{I, nobody} || I <- [1, 2, 3]]))),
    ?assertEqual(none, gen_driver_choice:waiting([], [], look([]))).

one_that_returns_has_its_share_test() ->
    Tiers = gen_driver_choice:tiers(members(2)),
    Shares = fun(Share) ->
        Tally = tally(fun() -> gen_driver_choice:usable(Tiers, [], look([{1, {up, 0, Share}}, {2, up(0)}])) end, 10000),
        count(1, Tally)
    end,
    near(500, Shares(0.1)),
    near(2500, Shares(0.5)),
    near(5000, Shares(1.0)),
    %% Not when it is the only one.
    ?assertEqual({ok, pid(1)}, gen_driver_choice:usable(Tiers, [], look([{1, {up, 0, 0.1}}, {2, down}]))).

srv_weights_are_shares_test() ->
    Tiers = gen_driver_choice:tiers([member(1, 60, 0), member(2, 30, 0), member(3, 10, 0), member(4, 0, 0)]),
    Tally = tally(fun() -> gen_driver_choice:usable(Tiers, [], look([{I, up(0)} || I <- [1, 2, 3, 4]])) end, 10100),
    near(6000, count(1, Tally)),
    near(3000, count(2, Tally)),
    near(1000, count(3, Tally)),
    near(100, count(4, Tally)).

all_of_weight_nought_are_alike_test() ->
    Tiers = gen_driver_choice:tiers([member(I, 0, 0) || I <- [1, 2]]),
    Tally = tally(fun() -> gen_driver_choice:usable(Tiers, [], look([{1, up(0)}, {2, up(0)}])) end, 2000),
    near(1000, count(1, Tally)).

a_load_weighs_less_on_one_of_more_weight_test() ->
    Tiers = gen_driver_choice:tiers([member(1, 3, 0), member(2, 1, 0)]),
    ?assertEqual({ok, pid(1)}, gen_driver_choice:usable(Tiers, [], look([{1, up(5)}, {2, up(2)}]))),
    ?assertEqual({ok, pid(2)}, gen_driver_choice:usable(Tiers, [], look([{1, up(7)}, {2, up(2)}]))).

srv_priorities_are_tiers_test() ->
    Tiers = gen_driver_choice:tiers([member(1, 1, 20), member(2, 1, 10), member(3, 1, 10)]),
    ?assertEqual([2, 3, 1], [I || #member{id = I} <- gen_driver_choice:members(Tiers)]),
    All = [{1, up(0)}, {2, up(9)}, {3, up(9)}],
    [?assertNotEqual({ok, pid(1)}, gen_driver_choice:usable(Tiers, [], look(All))) || _ <- lists:seq(1, 50)],
    ?assertEqual({ok, pid(3)}, gen_driver_choice:usable(Tiers, [], look([{1, up(0)}, {2, down}, {3, up(9)}]))),
    ?assertEqual({ok, pid(1)}, gen_driver_choice:usable(Tiers, [], look([{1, up(0)}, {2, down}, {3, out}]))).

keys_stay_and_move_to_the_next_in_order_test() ->
    Tiers = gen_driver_choice:tiers(members(4)),
    AllUp = [{I, up(I)} || I <- [1, 2, 3, 4]],
    [begin
         Order = gen_driver_rendezvous:order(Key, [{H, P} || #member{hash = H, pid = P} <- members(4)]),
         [First, Second, Third, _] = Order,
         Look = look(AllUp),
         ?assertEqual({ok, First}, gen_driver_choice:keyed(Tiers, Key, [], Look)),
         ?assertEqual({ok, Second}, gen_driver_choice:keyed(Tiers, Key, [First], Look)),
         ?assertEqual(none, gen_driver_choice:keyed(Tiers, Key, Order, Look)),
         Without = fun(Pid) -> case Pid of First -> down; Second -> out; _ -> Look(Pid) end end,
         ?assertEqual({ok, Third}, gen_driver_choice:keyed(Tiers, Key, [], Without)),
         ?assertEqual({ok, First}, gen_driver_choice:keyed(Tiers, Key, [], fun(_) -> down end)),
         ?assertEqual({ok, First}, gen_driver_choice:kept(Tiers, Key, [])),
         ?assertEqual(none, gen_driver_choice:kept(Tiers, Key, [First]))
     end || Key <- lists:seq(1, 50)],
    ?assertEqual(none, gen_driver_choice:keyed([], 1, [], look([]))),
    ?assertEqual(none, gen_driver_choice:kept([], 1, [])).

%%% Health

some_failures_in_a_row_put_out_test() ->
    H0 = healthy([a, b, c]),
    Twice = failed(b, failed(b, H0)),
    ?assertEqual([], gen_driver_health:out(Twice)),
    {same, Forgiven} = gen_driver_health:pong(b, Twice),
    ?assertEqual([], gen_driver_health:out(failed(b, failed(b, Forgiven)))),
    Out = failed(b, Twice),
    ?assertEqual([b], gen_driver_health:out(Out)),
    ?assertEqual([b], gen_driver_health:out(failed(b, Out))),
    {returned, Back} = gen_driver_health:pong(b, Out),
    ?assertEqual([], gen_driver_health:out(failed(b, failed(b, Back)))).

one_without_a_link_is_not_out_but_counts_test() ->
    H = gen_driver_health:down(a, healthy([a, b])),
    ?assertEqual([], gen_driver_health:out(failed(a, failed(a, failed(a, H))))),
    ?assertNot(gen_driver_health:is_panic(0.5, H)),
    ?assert(gen_driver_health:is_panic(0.6, H)),
    ?assertMatch({returned, _}, gen_driver_health:pong(a, H)).

panic_test() ->
    Out = fun(Ids, H) -> lists:foldl(fun(Id, Acc) -> failed(Id, failed(Id, failed(Id, Acc))) end, H, Ids) end,
    Four = healthy([1, 2, 3, 4]),
    ?assertNot(gen_driver_health:is_panic(0.5, Out([1, 2], Four))),
    ?assert(gen_driver_health:is_panic(0.5, Out([1, 2, 3], Four))),
    ?assertNot(gen_driver_health:is_panic(0, Out([1, 2, 3, 4], Four))),
    ?assert(gen_driver_health:is_panic(1, Out([1], Four))).

those_that_left_are_forgotten_test() ->
    H = gen_driver_health:only([b], healthy([a, b])),
    ?assertNot(gen_driver_health:is_known(a, H)),
    ?assertEqual({same, H}, gen_driver_health:pong(a, H)),
    ?assertEqual(H, failed(a, H)),
    ?assertEqual(H, gen_driver_health:down(a, H)).

healthy(Ids) ->
    lists:foldl(fun(Id, H) -> {returned, Up} = gen_driver_health:pong(Id, H), Up end,
                gen_driver_health:only(Ids, gen_driver_health:new()), Ids).

failed(Id, H) ->
    gen_driver_health:failed(Id, 3, H).

%%% How a client stands

standing_test() ->
    Places = gen_driver_places:open(self(), {10, 1000}),
    ?assertEqual(down, gen_driver_places:standing(self())),
    ok = gen_driver_places:load(Places, true, 3),
    taken = gen_driver_places:take(self(), 1),
    ?assertEqual({up, 4, 1.0}, gen_driver_places:standing(self())),
    ok = gen_driver_places:grade(self(), out),
    ?assertEqual(out, gen_driver_places:standing(self())),
    Now = erlang:monotonic_time(millisecond),
    Shares = [begin ok = gen_driver_places:grade(self(), {slow, Now + From, Now + To}),
                    {up, 4, Share} = gen_driver_places:standing(self()), Share
              end || {From, To} <- [{0, 1 bsl 40}, {-(1 bsl 40), 1 bsl 40}, {-200, -100}, {1000, 2000}]],
    [?assert(abs(Share - Expected) < 0.01) || {Share, Expected} <- lists:zip(Shares, [0.1, 0.55, 1.0, 0.1])],
    ok = gen_driver_places:load(Places, false, 0),
    ?assertEqual(down, gen_driver_places:standing(self())),
    ok = gen_driver_places:close(self()),
    ?assertEqual(nobody, gen_driver_places:standing(self())),
    ok = gen_driver_places:grade(self(), out).

%%% Another try

what_never_started_and_may_do_better_is_tried_again_test() ->
    ?assertEqual([overloaded, draining, unavailable, not_run],
                 [R || R <- [overloaded, expired, cancelled, draining, unavailable, not_run, bad_request, quarantined, forbidden,
                             crashed, interrupted, timeout, bad_reply, undecodable, disconnected],
                       gen_driver_tries:again(R)]).

of_two_failures_the_worse_is_told_test() ->
    Worse = fun gen_driver_hedge:worse/2,
    Never = {failed, overloaded},
    [begin ?assertEqual(Failed, Worse(Never, Failed)), ?assertEqual(Failed, Worse(Failed, Never)) end
     || Failed <- [{failed, R} || R <- [crashed, interrupted, timeout, disconnected, bad_request, quarantined, forbidden, expired]]],
    ?assertEqual({failed, crashed}, Worse({failed, bad_request}, {failed, crashed})),
    ?assertEqual({failed, crashed}, Worse({failed, crashed}, {failed, bad_request})),
    ?assertEqual(Never, Worse(gone, Never)),
    ?assertEqual(Never, Worse(Never, gone)),
    ?assertEqual(gone, Worse(none, gone)).

%%% Endpoints

endpoints_are_read_test() ->
    ?assertEqual({ok, [{0, 1, "tcp://a:1"}]}, gen_driver_endpoints:read(["tcp://a:1"])),
    ?assertEqual({ok, [{0, 1, "tcp://a:1"}]}, gen_driver_endpoints:read(fun() -> ["tcp://a:1"] end)),
    ?assertEqual({error, no_endpoints}, gen_driver_endpoints:read(fun() -> [] end)),
    ?assertEqual({error, {not_a_list, none}}, gen_driver_endpoints:read(fun() -> none end)),
    ?assertEqual({error, {not_a_list, [a | b]}}, gen_driver_endpoints:read(fun() -> [a | b] end)),
    ?assertEqual({error, {error, oops}}, gen_driver_endpoints:read(fun() -> error(oops) end)),
    ?assertEqual({error, {exit, oops}}, gen_driver_endpoints:read(fun() -> exit(oops) end)).

srv_records_are_endpoints_test() ->
    ?assertEqual([{10, 60, {tcp, "a.example", 9900}}, {20, 0, {tcp, "b.example", 9901}}],
                 gen_driver_endpoints:of_srv(tcp, [{10, 60, 9900, "a.example"}, {20, 0, 9901, "b.example"}])),
    ?assertEqual([{1, 2, {tls, "a", 3}}], gen_driver_endpoints:of_srv(tls, [{1, 2, 3, "a"}, {0, 0, 0, "."}])).

addresses_of_this_machine_test() ->
    Local = [{local, "/p"}, {tcp, {127, 0, 0, 1}, 1}, {tls, {127, 9, 9, 9}, 1}, {tcp, {0, 0, 0, 0, 0, 0, 0, 1}, 1},
             {tcp, "localhost", 1}, {tcp, localhost, 1}, {tcp, "127.0.0.1", 1}],
    Not = [{tcp, {10, 0, 0, 1}, 1}, {tcp, "10.0.0.1", 1}, {tcp, host, 1}, {tcp, "db.example", 1}, {tls, {16#fe80, 0, 0, 0, 0, 0, 0, 1}, 1}],
    ?assertEqual(Local, [Address || Address <- Local ++ Not, gen_driver_endpoints:is_local(Address)]),
    ?assertEqual({node(), {local, "/p"}, 2}, gen_driver_cluster:identity({{local, "/p"}, 2}, node())),
    ?assertEqual({any, {tcp, "h", 1}, 2}, gen_driver_cluster:identity({{tcp, "h", 1}, 2}, node())).
