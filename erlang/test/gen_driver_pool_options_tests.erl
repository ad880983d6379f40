%% SPDX-License-Identifier: MIT
%% Options of pools and of calls to them: defaults, bounds, and the word for what is wrong.
-module(gen_driver_pool_options_tests).

-include_lib("eunit/include/eunit.hrl").

pool(Options) -> gen_driver_pool_options:pool(Options).

pool_defaults_test() ->
    {ok, Pool} = pool([{instance, sum}]),
    {ok, Client} = gen_driver_options:client([{instance, sum}, {connect_wait, 2000}]),
    ?assertEqual(#{source => [{tcp, {127, 0, 0, 1}, 9900}], client => Client, size => 1, refresh => 30000,
                   lookup_timeout => 5000, max_endpoints => 128, health => 5000, health_timeout => 2000, max_fails => 3,
                   min_healthy => 0.5, slow_start => 10000, retries => 2, drain => 5000, restarts => {10, 10},
                   cluster => true}, Pool).

pool_options_test_() ->
    Good = [{size, 1024}, {refresh, 1}, {lookup_timeout, 1}, {max_endpoints, 1}, {health, 1}, {health, infinity},
            {health_timeout, 1}, {max_fails, 1}, {min_healthy, 0}, {min_healthy, 1}, {min_healthy, 0.3}, {slow_start, 0},
            {retries, 0}, {drain, 0}, {restarts, {0, 1}}, {cluster, false}, {max_in_flight, 3}, {connect_wait, 7},
            {endpoints, ["tcp://a:1", {local, "/p"}, <<"unix:/q">>]}, {endpoints, fun() -> [] end},
            {endpoints, {srv, "_gendriverd._tcp.example.com"}}, {endpoints, {srv, "x", tls}}],
    Bad = [{size, 0}, {size, 1025}, {refresh, 0}, {refresh, infinity}, {lookup_timeout, 0}, {max_endpoints, 0}, {health, 0},
           {health_timeout, infinity}, {max_fails, 0}, {min_healthy, 1.1}, {min_healthy, -1}, {min_healthy, half},
           {slow_start, -1}, {slow_start, infinity}, {retries, -1}, {drain, infinity}, {restarts, 3}, {restarts, {1, 0}},
           {cluster, maybe}, {max_in_flight, 0}, {endpoints, []}, {endpoints, "tcp://a:1"}, {endpoints, [a | b]},
           {endpoints, fun(_) -> [] end}, {endpoints, {srv, ""}}, {endpoints, {srv, "x", udp}}, {endpoints, {srv, [a]}}],
    [?_assertMatch({ok, _}, pool([{instance, x}, Option])) || Option <- Good]
    ++ [?_assertEqual({error, {bad_option, Option}}, pool([{instance, x}, Option])) || Option <- Bad]
    ++ [?_assertEqual({error, {bad_option, {missing, instance}}}, pool([])),
        ?_assertEqual({error, {bad_option, {unknown, sizes}}}, pool(#{instance => x, sizes => 1})),
        ?_assertEqual({error, {bad_option, {unknown, 7}}}, pool(7)),
        ?_assertEqual({error, {bad_option, {endpoints, "nonsense"}}}, pool(#{instance => x, endpoints => ["tcp://a:1", "nonsense"]})),
        ?_assertEqual({error, {bad_option, {connect, "tcp://a:1"}}},
                      pool(#{instance => x, connect => "tcp://a:1", endpoints => ["tcp://b:1"]})),
        ?_assertMatch({error, {bad_option, {endpoints, _}}},
                      pool(#{instance => x, max_endpoints => 1, endpoints => ["tcp://a:1", "tcp://b:1"]})),
        ?_assertMatch({ok, _}, pool(#{instance => x, max_endpoints => 1, endpoints => ["tcp://a:1", {tcp, "a", 1}]}))].

endpoints_are_checked_and_distinct_test() ->
    {ok, Pool} = pool(#{instance => x, endpoints => fun() -> [] end, max_endpoints => 2}),
    Check = fun(Endpoints) -> gen_driver_pool_options:endpoints(Endpoints, Pool) end,
    {ok, [{0, 1, {tcp, "a", 1}}]} = Check([{0, 1, "tcp://a:1"}, {5, 6, {tcp, "a", 1}}]),
    ?assertEqual({error, {too_many, 3}}, Check([{0, 1, {tcp, Host, 1}} || Host <- ["a", "b", "c"]])),
    ?assertEqual({error, {bad_option, {connect, "nonsense"}}}, Check([{0, 1, "nonsense"}])).

call_options_test() ->
    Call = fun(Options) -> gen_driver_pool_options:call(Options, 5000) end,
    Plain = #{key => none, keep => false, hedge => none, retries => default},
    ?assertEqual({5000, #{}, Plain}, Call(#{})),
    ?assertEqual({7, #{}, Plain}, Call(7)),
    ?assertEqual({infinity, #{}, Plain}, Call([{timeout, infinity}])),
    Key = erlang:phash2({any, "term"}, 1 bsl 32),
    ?assertEqual({5000, #{key => Key, trace => <<"t">>}, Plain#{key := Key, keep := true, hedge := 5, retries := 0}},
                 Call([{key, {any, "term"}}, {trace, <<"t">>}, {keep, true}, {hedge, 5}, {retries, 0}])),
    [?assertError({bad_option, Option}, Call([Option]))
     || Option <- [{keep, 1}, {hedge, -1}, {hedge, infinity}, {retries, -1}, {timeout, -1}, {trace, t}, {ack, true}, {x, y}]].

cast_and_stream_options_test() ->
    Key = erlang:phash2(k, 1 bsl 32),
    {#{key := Key, ack := true, timeout := 9} = Cast, #{key := Key}} =
        gen_driver_pool_options:cast([{key, k}, {ack, true}, {timeout, 9}]),
    ?assertEqual(3, map_size(Cast)),
    ?assertMatch({9, #{key := none}}, gen_driver_pool_options:cast(9)),
    {#{credit := 3} = Stream, #{key := none, keep := true}} = gen_driver_pool_options:stream(#{credit => 3, keep => true}),
    ?assertEqual(1, map_size(Stream)),
    ?assertEqual({9, #{key => Key}, Key},
                 begin {T, W, #{key := K}} = gen_driver_pool_options:single([{key, k}, {timeout, 9}]), {T, W, K} end),
    ?assertError({bad_option, {hedge, 1}}, gen_driver_pool_options:cast(#{hedge => 1})),
    ?assertError({bad_option, {retries, 1}}, gen_driver_pool_options:stream([{retries, 1}])).
