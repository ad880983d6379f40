%% SPDX-License-Identifier: MIT
%% The Erlang client and the daemon, together: the original's transcript, many callers on
%% one socket, names, keys, and what a caller hears when there is nobody. Needs a daemon at
%% $GENDRIVERD_URL with the instances sum, echo, tight (echo, small limits), test (sum, one thread), test4 (four), crash.
-module(system_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([the_originals_transcript/1, with_four_threads_the_numbers_part/1, a_list_of_bytes_is_summed_unsigned/1,
         a_thousand_callers_get_a_hundred_thousand_right_answers/1, a_slow_answer_does_not_hold_up_another/1,
         every_term_comes_back/1, no_term_ends_the_link/1, large_binaries_come_back/1, commands_have_names/1,
         plain_calls_and_casts_work_on_a_named_client/1, an_unknown_instance_is_said/1,
         a_unix_socket_serves_as_well/1, a_closed_client_leaves_nothing_behind/1,
         processes_casting_at_once_are_all_counted/1, casts_that_were_taken_arrive_when_the_client_stops/1,
         a_call_with_the_longest_timeout_is_answered/1]).
-export([a_processs_own_connection_makes_many_calls/1, many_calls_at_once_on_a_processs_own_connection/1,
         large_terms_on_a_processs_own_connection/1, a_crash_is_said_and_the_next_call_connects_anew/1]).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [the_originals_transcript, with_four_threads_the_numbers_part, a_list_of_bytes_is_summed_unsigned,
     a_thousand_callers_get_a_hundred_thousand_right_answers, a_slow_answer_does_not_hold_up_another,
     every_term_comes_back, no_term_ends_the_link, large_binaries_come_back, commands_have_names,
     plain_calls_and_casts_work_on_a_named_client, an_unknown_instance_is_said, a_unix_socket_serves_as_well,
     a_closed_client_leaves_nothing_behind, processes_casting_at_once_are_all_counted,
     casts_that_were_taken_arrive_when_the_client_stops, a_call_with_the_longest_timeout_is_answered,
     a_processs_own_connection_makes_many_calls, many_calls_at_once_on_a_processs_own_connection,
     large_terms_on_a_processs_own_connection, a_crash_is_said_and_the_next_call_connects_anew].

init_per_suite(Config) ->
    case os:getenv("GENDRIVERD_URL") of
        Unset when Unset =:= false; Unset =:= "" ->
            {skip, "GENDRIVERD_URL is not set"};
        Url ->
            ok = application:load(gen_driver_compat),
            ok = application:set_env(gen_driver_compat, connect, Url),
            [{url, Url} | Config]
    end.

end_per_suite(_Config) -> ok.

connect(Instance, Config) ->
    {ok, Pid} = gen_driver_tcp:start_link(#{connect => proplists:get_value(url, Config), instance => Instance}),
    ok = gen_driver_tcp:await(Pid, 15000),
    true = unlink(Pid),	% the end of a test case is no reason to report a crash
    Pid.

%% Must be the first to use the instance `test'.
the_originals_transcript(_Config) ->
    {ok, Pid} = gen_driver_test:start_link(),
    ?assertEqual({ok, 10.0}, gen_driver_test:sum(Pid, [1, 2, 3, 4])),
    ?assertEqual(ok, gen_driver_test:ping(Pid)),
    ?assertEqual({ok, [{driver, 2}, {thread, 2}]}, gen_driver_test:stats(Pid)),
    Ref = monitor(process, Pid),
    ok = gen_driver_test:stop(Pid),
    receive {'DOWN', Ref, process, Pid, normal} -> ok end.

with_four_threads_the_numbers_part(Config) ->
    Pid = connect(test4, Config),
    ?assertEqual({ok, 10.0}, gen_server:call(Pid, {port, 1, [1, 2, 3, 4]})),
    ?assertEqual(ok, gen_server:call(Pid, {port, 2})),
    {ok, [{driver, Driver}, {thread, Thread}]} = gen_server:call(Pid, {port, 3}),
    ?assertEqual(2, Driver),
    ?assert(Thread < Driver).

a_list_of_bytes_is_summed_unsigned(Config) ->
    Pid = connect(sum, Config),
    ?assertEqual({ok, 200.0}, gen_driver_tcp:call(Pid, 1, [200])),
    ?assertEqual({ok, 300.5}, gen_driver_tcp:call(Pid, 1, [200, 100.5])).

a_thousand_callers_get_a_hundred_thousand_right_answers(Config) ->
    Pid = connect(echo, Config),
    Self = self(),
    Callers = [spawn_link(fun() -> Self ! {self(), [ask(Pid, N, I) || I <- lists:seq(1, 100)]} end)
               || N <- lists:seq(1, 1000)],
    Answers = lists:append([receive {Caller, Answers} -> Answers end || Caller <- Callers]),
    ?assertEqual([], lists:usort([Wrong || {N, I, Wrong} <- Answers, Wrong =/= {ok, {N, I, N bxor I}}])),
    ?assertEqual(100000, length(Answers)).

%% Every second caller uses the seed's form.
ask(Pid, N, I) when N rem 2 =:= 0 ->
    {N, I, gen_server:call(Pid, {port, 1, {N, I, N bxor I}}, infinity)};
ask(Pid, N, I) ->
    {N, I, gen_driver_tcp:call(Pid, 1, {N, I, N bxor I}, infinity)}.

a_slow_answer_does_not_hold_up_another(Config) ->
    Pid = connect(echo, Config),
    Large = binary:copy(<<"0123456789abcdef">>, 1 bsl 19),
    Slow = gen_server:send_request(Pid, {port, 1, Large}),
    ?assertEqual({ok, small}, gen_driver_tcp:call(Pid, 1, small)),
    ?assertEqual({reply, {ok, Large}}, gen_server:receive_response(Slow, 60000)).

every_term_comes_back(Config) ->
    Pid = connect(echo, Config),
    Fun = fun lists:reverse/1,
    Terms = [0, 255, 256, -1, 1 bsl 31, -(1 bsl 31), 1 bsl 64, -(1 bsl 2000), 0.0, -0.0, 1.0e300, ok, 'Ünï', '', [],
             "text", [256], [a | b], lists:seq(1, 70000), {}, {a, {b, {c}}}, list_to_tuple(lists:seq(1, 300)), <<>>,
             <<1, 2, 3>>, <<5:3>>, #{}, #{a => #{1 => 2.0}, <<"k">> => [#{}]}, self(), make_ref(),
             hd(erlang:ports()), true, undefined],
    [?assertEqual({ok, Term}, gen_driver_tcp:call(Pid, 1, Term)) || Term <- Terms],
    ?assertEqual({error, {failed, undecodable}}, gen_driver_tcp:call(Pid, 1, Fun)),
    ?assertEqual({ok, still_there}, gen_driver_tcp:call(Pid, 1, still_there)).

large_binaries_come_back(Config) ->
    Pid = connect(echo, Config),
    [?assertEqual({ok, B}, gen_driver_tcp:call(Pid, 1, B, 60000))
     || Size <- [65535, 65536, 65537, 1 bsl 20, 15 bsl 20], B <- [crypto:strong_rand_bytes(Size)]].

%% Beyond the host's limits is for the caller; were the client's measure too low, the link would end.
no_term_ends_the_link(Config) ->
    Pid = connect(tight, Config),
    Terms = [term(rand:uniform(6)) || _ <- lists:seq(1, 2000)],
    Told = [gen_driver_tcp:call(Pid, 1, Term) || Term <- Terms],
    [?assertMatch({Term, T} when T =:= {ok, Term}; T =:= {error, {failed, bad_request}}, {Term, T})
     || {Term, T} <- lists:zip(Terms, Told)],
    ?assert(lists:member({error, {failed, bad_request}}, Told)),
    ?assertMatch(#{connects := 1}, gen_driver_tcp:info(Pid)),
    Most = [[[[[]]]], lists:seq(256, 283), "text of more than 40 bytes, as long as it likes", -(1 bsl 64) + 1],
    [?assertEqual({ok, Term}, gen_driver_tcp:call(Pid, 1, Term)) || Term <- Most].

term(0) ->
    Leaves = {0, -1, 256, 1 bsl 40, -(1 bsl 90), 1 bsl 400, a, 1.5, <<"b">>, <<5:3>>, [], {}, #{}, "ab", self(), make_ref(),
              lists:seq(1, 300), lists:duplicate(70, $c)},
    element(rand:uniform(tuple_size(Leaves)), Leaves);
term(Levels) ->
    Elements = [term(rand:uniform(Levels) - 1) || _ <- lists:seq(1, rand:uniform(4))],
    case rand:uniform(5) of
        1 -> Elements;
        2 -> list_to_tuple(Elements);
        3 -> maps:from_list([{Element, Levels} || Element <- Elements]);
        4 -> Elements ++ hd(Elements);
        5 -> [Elements, term(0) | x]
    end.

%% More than socket and driver hold: the client has to wait for the host to read.
casts_that_were_taken_arrive_when_the_client_stops(Config) ->
    Counting = connect(test4, Config),
    {ok, [{driver, Before}, _]} = gen_driver_tcp:call(Counting, stats),
    Casting = connect(test4, Config),
    [ok = gen_driver_tcp:cast(Casting, ping, <<0:80000>>) || _ <- lists:seq(1, 3000)],
    ok = gen_driver_tcp:stop(Casting),
    counted(fun() -> gen_driver_tcp:call(Counting, stats) end, Before + 1 + 3000).

%% Asking counts too. The suite's time trap is the limit.
counted(Ask, Expected) ->
    case Ask() of
        {ok, [{driver, Expected}, _]} -> ok;
        {ok, [{driver, Fewer}, _]} when Fewer < Expected -> counted(Ask, Expected + 1)
    end.

a_call_with_the_longest_timeout_is_answered(Config) ->
    Pid = connect(echo, Config),
    ?assertEqual({ok, 1}, gen_driver_tcp:call(Pid, echo, 1, 16#ffffffff)).

commands_have_names(Config) ->
    Pid = connect(sum, Config),
    ?assertEqual({ok, 6.0}, gen_driver_tcp:call(Pid, sum, [1, 2, 3])),
    ?assertEqual({ok, 6.0}, gen_driver_tcp:call(Pid, <<"sum">>, [1, 2, 3])),
    ?assertMatch({error, {unknown_command, <<"frobnicate">>}}, gen_driver_tcp:call(Pid, frobnicate, [], 5000)).

plain_calls_and_casts_work_on_a_named_client(Config) ->
    Options = #{connect => proplists:get_value(url, Config), instance => <<"sum">>},
    {ok, Pid} = gen_driver_tcp:start_link({local, sum_client}, Options),
    ?assertEqual({ok, 3.0}, gen_server:call(sum_client, {port, 1, [1, 2]})),
    ?assertEqual(ok, gen_server:cast(sum_client, {port, 2})),
    ?assertEqual(ok, gen_driver_tcp:cast(sum_client, ping)),
    ?assertMatch({ok, [_, _]}, gen_server:call(sum_client, {port, 3})),
    ok = gen_driver_tcp:stop(Pid).

an_unknown_instance_is_said(Config) ->
    {ok, Pid} = gen_driver_tcp:start_link(#{connect => proplists:get_value(url, Config), instance => <<"nobody">>}),
    ?assertMatch({error, {refused, unknown_instance}}, gen_driver_tcp:await(Pid, 15000)),
    ?assertEqual({error, {failed, unavailable}}, gen_driver_tcp:call(Pid, 1)),
    ok = gen_driver_tcp:stop(Pid).

a_unix_socket_serves_as_well(_Config) ->
    {ok, Pid} = gen_driver_tcp:start_link(#{connect => os:getenv("GENDRIVERD_UNIX_URL"), instance => sum}),
    ?assertEqual({ok, 10.0}, gen_driver_tcp:call(Pid, sum, [1, 2, 3, 4])),
    ok = gen_driver_tcp:stop(Pid).

a_closed_client_leaves_nothing_behind(Config) ->
    Before = length(erlang:ports()),
    [ok = gen_driver_tcp:stop(connect(sum, Config)) || _ <- lists:seq(1, 20)],
    ?assertEqual(Before, length(erlang:ports())).

processes_casting_at_once_are_all_counted(Config) ->
    Pid = connect(test, Config),
    {ok, [{driver, Before}, _]} = gen_driver_tcp:call(Pid, 3),
    Casters = [spawn_monitor(fun() -> [ok = gen_driver_tcp:cast(Pid, 2) || _ <- lists:seq(1, 50)] end)
               || _ <- lists:seq(1, 20)],
    [receive {'DOWN', Ref, process, Caster, Reason} -> ?assertEqual(normal, Reason) end || {Caster, Ref} <- Casters],
    {ok, [{driver, After}, _]} = gen_driver_tcp:call(Pid, 3),
    ?assertEqual(Before + 1 + 1000, After).

%%% gen_driver_conn

%% Over TCP and a unix socket.
on_both(Instance, Config, Fun) ->
    [begin
         {ok, Conn} = gen_driver_conn:connect(#{connect => Url, instance => Instance}),
         Fun(Conn),
         ok = gen_driver_conn:close(Conn)
     end || Url <- [proplists:get_value(url, Config), os:getenv("GENDRIVERD_UNIX_URL")]].

a_processs_own_connection_makes_many_calls(Config) ->
    on_both(echo, Config, fun(Conn) ->
        [?assertEqual({ok, {N, self()}}, gen_driver_conn:call(Conn, echo, {N, self()})) || N <- lists:seq(1, 10000)],
        ?assertEqual(pong, gen_driver_conn:ping(Conn, 5000)),
        ?assertMatch(#{connects := 1, in_flight := 0}, gen_driver_conn:info(Conn))
    end),
    on_both(test4, Config, fun(Conn) ->
        {ok, [{driver, Before}, _]} = gen_driver_conn:call(Conn, stats),
        [ok = gen_driver_conn:cast(Conn, ping, <<0:80000>>) || _ <- lists:seq(1, 1000)],
        counted(fun() -> gen_driver_conn:call(Conn, stats) end, Before + 1 + 1000)
    end).

many_calls_at_once_on_a_processs_own_connection(Config) ->
    on_both(echo, Config, fun(Conn) ->
        Params = [{N, N * N} || N <- lists:seq(1, 20000)],
        ?assert([{ok, P} || P <- Params] =:= gen_driver_conn:call_many(Conn, [{echo, P} || P <- Params], 60000))
    end).

large_terms_on_a_processs_own_connection(Config) ->
    on_both(echo, Config, fun(Conn) ->
        Large = [crypto:strong_rand_bytes(Size) || Size <- [65535, 65536, 1 bsl 20, 15 bsl 20]],
        [?assert({ok, B} =:= gen_driver_conn:call(Conn, echo, B, 60000)) || B <- Large],
        Many = lists:append(lists:duplicate(5, Large)),
        ?assert([{ok, B} || B <- Many] =:= gen_driver_conn:call_many(Conn, [{echo, B} || B <- Many], 60000))
    end).

a_crash_is_said_and_the_next_call_connects_anew(Config) ->
    [Segv, Pid] = [1, 17],
    on_both(crash, Config, fun(Conn) ->
        {ok, First} = gen_driver_conn:call(Conn, Pid),
        ?assertEqual({error, {failed, crashed}}, gen_driver_conn:call(Conn, Segv, [], 60000)),
        {ok, Second} = next(fun() -> gen_driver_conn:call(Conn, Pid, [], 60000) end),
        ?assertNotEqual(First, Second),
        ?assertMatch(#{connects := 2}, gen_driver_conn:info(Conn))
    end).

%% The host's goodbye may come after the call was sent, which then was not run.
next(Call) ->
    case Call() of
        {error, {failed, not_run}} -> Call();
        Other -> Other
    end.
