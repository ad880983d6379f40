%% SPDX-License-Identifier: MIT
%% Calls and casts, their answers and their callers, against a service played by hand.
-module(gen_driver_tcp_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [recv/1, recv/2, recv_calls/2, send/2, send_raw/2, async/1, outcome/1, drained/1]).
-import(gen_driver_test_client, [connected/1, connected/3, plain/2, call/4, until/2]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, requests}, {group, answers}, {group, callers}, words_beyond_the_deadline_are_waited_for].

groups() ->
    [{requests, [parallel],
      [forms_on_the_wire, options_on_the_wire, plain_timeout_goes_on_the_wire, commands_by_name,
       commands_out_of_range, too_large_a_request_costs_its_caller_only, a_term_beyond_the_hosts_limits_costs_its_caller_only, wrong_options_are_a_crash]},
     {answers, [parallel],
      [answers_in_any_order, unknown_and_repeated_ids_are_ignored, service_word_and_driver_word,
       undecodable_is_one_callers_trouble, driver_atoms_on_request, large_replies, dribbled_bytes,
       parts_notes_and_pongs_are_ignored]},
     {callers, [parallel],
      [own_timeout_cancels, an_id_is_taken_until_its_final_frame,
       dead_caller_is_cancelled, dead_caller_that_waits_is_forgotten, many_timeouts_at_once, no_client]}].

init_per_testcase(Case, Config) -> gen_driver_test_client:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_test_client:end_per_testcase(Case, Config).

%%% Requests

forms_on_the_wire(Config) ->
    {Client, Conn} = connected(Config),
    A = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    B = plain(Client, {port, 2, [1, 2.5, {a, <<"b">>}]}),
    {call, 1, 2, [1, 2.5, {a, <<"b">>}]} = recv(Conn),
    C = async(fun() -> gen_driver_tcp:call(Client, 1 bsl 30 - 1) end),
    {call, 2, 16#3fffffff, [], #{timeout := _}} = recv(Conn),
    D = call(Client, 300, #{x => y}, infinity),
    {call, 3, 300, #{x := y}} = recv(Conn),
    ok = gen_server:cast(Client, {port, 7}),
    {cast, 7} = recv(Conn),
    ok = gen_server:cast(Client, {port, 8, -0.0}),
    {cast, 8, _} = recv(Conn),
    ok = gen_driver_tcp:cast(Client, 9),
    {cast, 9} = recv(Conn),
    ok = gen_driver_tcp:cast(Client, 9, 1 bsl 100),
    {cast, 9, 1267650600228229401496703205376} = recv(Conn),
    [send(Conn, {reply, Id, {ok, Id}}) || Id <- lists:seq(0, 3)],
    [{ok, 0}, {ok, 1}, {ok, 2}, {ok, 3}] = [outcome(Call) || Call <- [A, B, C, D]].

options_on_the_wire(Config) ->
    {Client, Conn} = connected(Config),
    Call = call(Client, 1, x, #{timeout => 60000, key => 16#ffffffff, trace => <<"t">>}),
    {call, 0, 1, x, #{timeout := Left, key := 16#ffffffff, trace := <<"t">>}} = recv(Conn),
    ?assert(Left > 50000 andalso Left =< 60000),
    ok = gen_driver_tcp:cast(Client, 2, y, [{key, 3}]),
    {cast, 2, y, #{key := 3} = Options} = recv(Conn),
    ?assertEqual([key], maps:keys(Options)),
    send(Conn, {reply, 0, ok}),
    ok = outcome(Call).

plain_timeout_goes_on_the_wire(Config) ->
    {Client, Conn} = connected(#{plain_timeout => 30000}, #{}, Config),
    Call = plain(Client, {port, 1}),
    {call, 0, 1, [], #{timeout := Left}} = recv(Conn),
    ?assert(Left > 20000 andalso Left =< 30000),
    send(Conn, {reply, 0, ok}),
    ok = outcome(Call).

commands_by_name(Config) ->
    {Client, Conn} = connected(#{}, #{commands => #{<<"sum">> => 77}}, Config),
    ok = gen_driver_tcp:cast(Client, sum),
    {cast, 77} = recv(Conn),
    ok = gen_server:cast(Client, {port, <<"sum">>, 1}),
    {cast, 77, 1} = recv(Conn),
    {error, {unknown_command, <<"product">>}} = gen_driver_tcp:call(Client, product),
    {error, {unknown_command, <<"product">>}} = gen_server:call(Client, {port, product}),
    ok = gen_driver_tcp:cast(Client, product),
    until(Client, fun(#{casts_dropped := Dropped}) -> Dropped =:= 1 end).

commands_out_of_range(Config) ->
    {Client, Conn} = connected(Config),
    Bad = {error, {failed, bad_request}},
    [Bad, Bad, Bad, Bad] = [gen_driver_tcp:call(Client, C) || C <- [-1, 1 bsl 30, 1.0, "sum"]],
    [Bad, Bad] = [gen_server:call(Client, {port, C}) || C <- [-1, {sum}]],
    Bad = gen_driver_tcp:cast(Client, -1),
    ok = gen_driver_tcp:cast(Client, 1),
    {cast, 1} = recv(Conn).

too_large_a_request_costs_its_caller_only(Config) ->
    {Client, Conn} = connected(#{}, #{limits => #{frame => 1000}}, Config),
    Large = binary:copy(<<0>>, 1000),
    {error, {failed, bad_request}} = gen_driver_tcp:call(Client, 1, Large),
    {error, {failed, bad_request}} = gen_server:call(Client, {port, 1, Large}),
    {error, {failed, bad_request}} = gen_driver_tcp:call(Client, 1, [], #{trace => Large}),
    ok = gen_driver_tcp:cast(Client, 1, binary:copy(<<0>>, 800)),
    {cast, 1, _} = recv(Conn).

a_term_beyond_the_hosts_limits_costs_its_caller_only(Config) ->
    {Client, Conn} = connected(#{}, #{limits => #{depth => 300, terms => 500, bignum => 300}}, Config),
    Bad = [nested(300), lists:seq(300, 800), 1 bsl 2400, {<<0:3000>>, nested(299)}],
    [{error, {failed, bad_request}} = Call(Term) || Term <- Bad, Call <- both(Client)],
    {Few, Conn2} = connected(#{}, #{limits => #{depth => 3, terms => 20, bignum => 3}}, Config),
    [{error, {failed, bad_request}} = Call(Term) || Term <- [{{{{}}}}, {1, 2, {3, [400]}}, lists:seq(256, 270), 1 bsl 40],
                                                    Call <- both(Few)],
    ok = gen_driver_tcp:cast(Client, 1, nested(299)),
    ok = gen_driver_tcp:cast(Few, 1, {{}, 1}),
    [{cast, 1, _} = recv(C) || C <- [Conn, Conn2]].

nested(Levels) ->
    lists:foldl(fun(_, Term) -> {Term} end, [], lists:seq(1, Levels)).

both(Client) ->
    [fun(Term) -> gen_driver_tcp:call(Client, 1, Term) end, fun(Term) -> gen_server:call(Client, {port, 1, Term}) end].

wrong_options_are_a_crash(Config) ->
    {Client, _} = connected(Config),
    ?assertError({bad_option, {key, -1}}, gen_driver_tcp:call(Client, 1, [], #{key => -1})),
    ?assertError({bad_option, {deadline, 1}}, gen_driver_tcp:call(Client, 1, [], [{deadline, 1}])),
    ?assertError({bad_option, {timeout, -1}}, gen_driver_tcp:call(Client, 1, [], -1)),
    ?assertError({bad_option, {trace, t}}, gen_driver_tcp:cast(Client, 1, [], #{trace => t})).

%%% Answers

answers_in_any_order(Config) ->
    {Client, Conn} = connected(Config),
    Calls = [case N rem 2 of
                 0 -> plain(Client, {port, 1, N});
                 1 -> call(Client, 1, N, 30000)
             end || N <- lists:seq(1, 300)],
    Requests = recv_calls(Conn, 300),
    ?assertEqual(300, length(lists:usort([element(2, R) || R <- Requests]))),
    Shuffled = [R || {_, R} <- lists:sort([{rand:uniform(), R} || R <- Requests])],
    [send(Conn, {reply, element(2, R), {ok, element(4, R)}}) || R <- Shuffled],
    ?assertEqual([{ok, N} || N <- lists:seq(1, 300)], [outcome(C) || C <- Calls]).

unknown_and_repeated_ids_are_ignored(Config) ->
    {Client, Conn} = connected(Config),
    send(Conn, {reply, 1000, early}),
    send(Conn, {failed, 2147483647, crashed}),
    drained(Client),
    A = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    send(Conn, {reply, 0, first}),
    send(Conn, {reply, 0, second}),
    first = outcome(A),
    B = plain(Client, {port, 1}),
    {call, 1, 1} = recv(Conn),
    send(Conn, {failed, 0, crashed}),
    send(Conn, {reply, 1, mine}),
    mine = outcome(B).

service_word_and_driver_word(Config) ->
    {Client, Conn} = connected(Config),
    Safe = [overloaded, expired, cancelled, draining, unavailable, not_run, bad_request, quarantined, forbidden],
    Run = [crashed, interrupted, timeout, bad_reply],
    [begin
         {plain, Answer} = {plain, answered(plain(Client, {port, 1}), fun(Id) -> {failed, Id, Reason} end, Conn)},
         {own, Answer} = {own, answered(call(Client, 1, [], infinity), fun(Id) -> {failed, Id, Reason} end, Conn)},
         ?assertEqual({error, {failed, Reason}}, Answer),
         ?assertEqual(lists:member(Reason, Safe), gen_driver_tcp:retryable(Answer))
     end || Reason <- Safe ++ Run],
    Said = answered(call(Client, 1, [], infinity), fun(Id) -> {reply, Id, {error, expired}} end, Conn),
    ?assertEqual({error, expired}, Said),
    ?assertNot(gen_driver_tcp:retryable(Said)),
    %% A word of a later version.
    Later = answered(call(Client, 1, [], infinity), fun(Id) -> {failed, Id, a_word_of_later} end, Conn),
    ?assertEqual({error, {failed, undecodable}}, Later).

answered(Call, Answer, Conn) ->
    Request = recv(Conn),
    send(Conn, Answer(element(2, Request))),
    outcome(Call).

undecodable_is_one_callers_trouble(Config) ->
    {Client, Conn} = connected(Config),
    Other = plain(Client, {port, 9}),
    {call, 0, 9} = recv(Conn),
    Bodies = [<<119, 28, "an_atom_nobody_has_ever_made">>,
              <<100, 0, 29, "another_atom_nobody_ever_made">>,
              <<70, 16#7ff8:16, 0:48>>,                         % NaN
              <<70, 16#7ff0:16, 0:48>>,                         % infinity
              <<116, 2:32, 97, 1, 97, 1, 97, 1, 97, 2>>,        % a key twice
              <<97, 1, 97, 2>>,                                 % bytes left over
              <<80, 0, 0, 0, 2, 120, 156, 75, 4, 0, 0, 98, 0, 98>>,
              external(fun os:cmd/1),
              external([1, {#{k => fun lists:map/2}}]),
              external(fun(X) -> X end),
              <<98>>],
    [begin
         ?assertEqual({error, {failed, undecodable}}, with_body(plain(Client, {port, 1}), Body, Conn)),
         ?assertEqual({error, {failed, undecodable}}, with_body(call(Client, 1, [], infinity), Body, Conn))
     end || Body <- Bodies],
    %% Those bytes alone do not make a fun.
    ?assertEqual(<<"pq">>, with_body(plain(Client, {port, 1}), external(<<"pq">>), Conn)),
    send(Conn, {reply, 0, untouched}),
    untouched = outcome(Other).

external(Term) ->
    <<131, Body/binary>> = term_to_binary(Term),
    Body.

with_body(Call, Body, Conn) ->
    Request = recv(Conn),
    Frame = <<131, 104, 3, 119, 5, "reply", 97, (element(2, Request)), Body/binary>>,
    send_raw(Conn, [<<(byte_size(Frame)):32>>, Frame]),
    outcome(Call).

driver_atoms_on_request(Config) ->
    Body = <<119, 22, "made_because_asked_for">>,
    {_, Conn1} = {Plain, _} = connected(#{}, #{atoms => [<<"made_because_asked_for">>]}, Config),
    {error, {failed, undecodable}} = with_body(plain(Plain, {port, 1}), Body, Conn1),
    {_, Conn2} = {Asking, _} = connected(#{driver_atoms => true}, #{atoms => [<<"made_because_asked_for">>]}, Config),
    Atom = with_body(plain(Asking, {port, 1}), Body, Conn2),
    ?assertEqual(<<"made_because_asked_for">>, atom_to_binary(Atom)).

large_replies(Config) ->
    {Client, Conn} = connected(Config),
    Large = {ok, [lists:seq(1, 100000), binary:copy(<<"q">>, 1 bsl 20)]},
    %% Decoded by the caller, or in a process made for it: never by the client.
    1 = erlang:trace(Client, true, [procs]),
    ?assertEqual(Large, answered(plain(Client, {port, 1}), fun(Id) -> {reply, Id, Large} end, Conn)),
    receive {trace, Client, spawn, _, _} -> ok after 0 -> error(decoded_by_the_client) end,
    1 = erlang:trace(Client, false, [procs]),
    ?assertEqual(Large, answered(call(Client, 1, [], infinity), fun(Id) -> {reply, Id, Large} end, Conn)),
    Fun = {ok, [lists:seq(1, 100000), fun os:cmd/1]},
    Undecodable = {error, {failed, undecodable}},
    ?assertEqual(Undecodable, answered(plain(Client, {port, 1}), fun(Id) -> {reply, Id, Fun} end, Conn)),
    ?assertEqual(Undecodable, answered(call(Client, 1, [], infinity), fun(Id) -> {reply, Id, Fun} end, Conn)).

dribbled_bytes(Config) ->
    {Client, Conn} = connected(Config),
    Calls = [plain(Client, {port, N}) || N <- [1, 2]],
    [{call, A, _}, {call, B, _}] = recv_calls(Conn, 2),
    Bytes = <<(gen_driver_fake:frame({reply, A, {ok, <<"dribbled">>}}))/binary,
              (gen_driver_fake:frame({reply, B, {ok, <<"dribbled">>}}))/binary>>,
    [begin send_raw(Conn, [Byte]), drained(Client) end || <<Byte>> <= Bytes],
    [{ok, <<"dribbled">>}, {ok, <<"dribbled">>}] = [outcome(C) || C <- Calls].

parts_notes_and_pongs_are_ignored(Config) ->
    {Client, Conn} = connected(Config),
    Call = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    [send(Conn, Frame) || Frame <- [{part, 0, piece}, {note, unasked}, {pong, 0}, {reply, 0, whole}]],
    whole = outcome(Call).

%%% Callers

own_timeout_cancels(Config) ->
    {Client, Conn} = connected(Config),
    Start = erlang:monotonic_time(millisecond),
    {error, {failed, timeout}} = gen_driver_tcp:call(Client, 1, [], 50),
    ?assert(erlang:monotonic_time(millisecond) - Start >= 150),
    {call, 0, 1, [], #{timeout := _}} = recv(Conn),
    {cancel, 0} = recv(Conn),
    send(Conn, {reply, 0, late}),
    drained(Client),
    {messages, []} = process_info(self(), messages).

words_beyond_the_deadline_are_waited_for(Config) ->
    said_beyond(Config, 20).

%% Beyond the deadline, but not by 100 ms; where the machine is too busy to say it so soon, another time.
said_beyond(Config, Times) ->
    {Client, Conn} = connected(Config),
    Start = erlang:monotonic_time(millisecond),
    Call = call(Client, 1, [], 100),
    {call, 0, 1, [], #{timeout := Left}} = recv(Conn),
    Timer = erlang:start_timer(Left + 1, self(), deadline),
    receive {timeout, Timer, deadline} -> ok end,
    send(Conn, {failed, 0, expired}),
    drained(Client),
    Soon = erlang:monotonic_time(millisecond) - Start < 200,
    case outcome(Call) of
        {error, {failed, timeout}} when not Soon, Times > 1 -> said_beyond(Config, Times - 1);
        Outcome -> ?assertEqual({error, {failed, expired}}, Outcome)
    end.

an_id_is_taken_until_its_final_frame(Config) ->
    {Client, Conn} = connected(#{max_in_flight => 1}, #{}, Config),
    {error, {failed, timeout}} = gen_driver_tcp:call(Client, 1, [], 20),
    {call, 0, 1, _, _} = recv(Conn),
    {cancel, 0} = recv(Conn),
    Next = plain(Client, {port, 2}),
    until(Client, fun(#{queued := Q}) -> Q =:= 1 end),
    send(Conn, {failed, 0, cancelled}),
    {call, 1, 2} = recv(Conn),
    send(Conn, {reply, 1, ok}),
    ok = outcome(Next).

dead_caller_is_cancelled(Config) ->
    {Client, Conn} = connected(Config),
    {_, Plain} = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    {_, Own} = call(Client, 2, [], infinity),
    {call, 1, 2, []} = recv(Conn),
    exit(Plain, kill),
    {cancel, 0} = recv(Conn),
    exit(Own, kill),
    {cancel, 1} = recv(Conn),
    #{in_flight := 2} = gen_driver_tcp:info(Client).

dead_caller_that_waits_is_forgotten(Config) ->
    {Client, Conn} = connected(#{max_in_flight => 1}, #{}, Config),
    First = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    {_, Waiting} = plain(Client, {port, 2}),
    until(Client, fun(#{queued := Q}) -> Q =:= 1 end),
    exit(Waiting, kill),
    until(Client, fun(#{queued := Q}) -> Q =:= 0 end),
    send(Conn, {reply, 0, ok}),
    ok = outcome(First),
    timeout = recv(Conn, 0).

many_timeouts_at_once(Config) ->
    {Client, Conn} = connected(Config),
    Calls = [call(Client, 1, N, 50) || N <- lists:seq(1, 500)],
    Ids = [element(2, Call) || Call <- recv_calls(Conn, 500)],
    [{error, {failed, timeout}} = outcome(Call) || Call <- Calls],
    Cancelled = [Id || {cancel, Id} <- recv_calls(Conn, 500)],
    ?assertEqual(lists:sort(Ids), lists:sort(Cancelled)).

no_client(_Config) ->
    ?assertExit({noproc, _}, gen_driver_tcp:call(nobody_has_this_name, 1)),
    Dead = spawn(fun() -> ok end),
    Monitor = monitor(process, Dead),
    receive {'DOWN', Monitor, _, _, _} -> ok end,
    ?assertExit({noproc, _}, gen_driver_tcp:call(Dead, 1)),
    ok = gen_driver_tcp:cast(Dead, 1).
