%% SPDX-License-Identifier: MIT
%% Connecting, and every way a link can end: who hears what, and exactly once.
-module(gen_driver_link_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [accept/1, greet/1, hello/1, welcome/1, welcome/2, welcomed/2, refuse/2,
                          recv/1, recv/2, recv_calls/2, send/2, send_raw/2, frame/1, async/1, outcome/1]).
-import(gen_driver_test_client, [connected/1, connected/3, client/2, plain/2, call/4, until/2]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [patience_ends, {group, connecting}, {group, ends}].

groups() ->
    [{connecting, [parallel],
      [calls_wait_for_the_link, casts_without_a_link_are_dropped, refused_answers_at_once,
       nobody_listens, handshake_of_a_later_version, handshakes_that_fail, silent_handshake,
       stopped_while_connecting, handshake_in_pieces, words_right_behind_the_welcome, unix_socket]},
     {ends, [parallel],
      [end_of_file, host_died, goodbyes, closed_in_mid_frame, lies_about_lengths, bad_frames,
       yesterdays_socket, bystanders_and_frames_before_a_bad_one, reconnects_with_growing_pauses,
       giving_up_with_unsent_bytes_is_quick, reset_while_sending, answers_before_a_failed_send_count]}].

init_per_testcase(Case, Config) -> gen_driver_test_client:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_test_client:end_per_testcase(Case, Config).

listener(Config) ->
    ?config(listener, Config).

%%% Connecting

calls_wait_for_the_link(Config) ->
    Client = client(#{}, Config),
    Calls = [plain(Client, {port, 1}), call(Client, sum, [], 30000)],
    until(Client, fun(#{queued := Q}) -> Q =:= 2 end),
    Conn = welcome(listener(Config)),
    Ids = [element(2, Call) || Call <- recv_calls(Conn, 2)],
    [send(Conn, {reply, Id, ok}) || Id <- Ids],
    [ok, ok] = [outcome(C) || C <- Calls].

patience_ends(Config) ->
    Client = client(#{connect_wait => 150}, Config),
    Conn = accept(listener(Config)),
    Start = erlang:monotonic_time(millisecond),
    Plain = plain(Client, {port, 1}),
    Own = call(Client, 1, [], 50),
    {error, {failed, unavailable}} = outcome(Own),
    {error, {failed, unavailable}} = outcome(Plain),
    ?assert(erlang:monotonic_time(millisecond) - Start >= 150),
    #{queued := 0, status := connecting} = gen_driver_tcp:info(Client),
    gen_driver_fake:close(Conn).

casts_without_a_link_are_dropped(Config) ->
    Client = client(#{}, Config),
    ok = gen_driver_tcp:cast(Client, 1),
    ok = gen_server:cast(Client, {port, 2}),
    #{casts_dropped := 2} = gen_driver_tcp:info(Client),
    Conn = welcome(listener(Config)),
    ok = gen_driver_tcp:await(Client, 5000),
    ok = gen_driver_tcp:cast(Client, 3),
    {cast, 3} = recv(Conn).

refused_answers_at_once(Config) ->
    Client = client(#{backoff => {100, 100}}, Config),
    Waiting = plain(Client, {port, 1}),
    until(Client, fun(#{queued := Q}) -> Q =:= 1 end),
    Await = async(fun() -> gen_driver_tcp:await(Client, 5000) end),
    refuse(listener(Config), unknown_instance),
    {error, {failed, unavailable}} = outcome(Waiting),
    case outcome(Await) of
        {error, {refused, unknown_instance}} -> ok
    end,
    #{status := {refused, unknown_instance}} = gen_driver_tcp:info(Client),
    {error, {failed, unavailable}} = gen_driver_tcp:call(Client, 1),
    refuse(listener(Config), a_reason_of_later),
    until(Client, fun(#{status := S}) -> S =:= {refused, {unknown, <<"a_reason_of_later">>}} end),
    Conn = welcome(listener(Config)),
    ok = gen_driver_tcp:await(Client, 5000),
    ok = gen_driver_tcp:cast(Client, 1),
    {cast, 1} = recv(Conn).

nobody_listens(_Config) ->
    Listener = gen_driver_fake:listen(),
    Port = gen_driver_fake:port(Listener),
    gen_driver_fake:close(Listener),
    {ok, Client} = gen_driver_tcp:start_link([{instance, sum}, {connect, {tcp, "127.0.0.1", Port}}]),
    {error, econnrefused} = gen_driver_tcp:await(Client, 5000),
    #{status := connecting, trouble := econnrefused} = gen_driver_tcp:info(Client).

handshake_of_a_later_version(Config) ->
    Client = client(#{}, Config),
    Conn = accept(listener(Config)),
    ok = send_raw(Conn, named_later({gen_driver, 1, #{auth => none, an_atom_xxx => [an_atom_yyy, 1.5, -7, 1 bsl 70]}})),
    <<"sum">> = hello(Conn),
    {welcome, 1, Info} = welcomed(<<"sum">>, #{an_atom_xxx => {an_atom_yyy, "text", []}, generation => 1 bsl 40}),
    ok = send_raw(Conn, named_later({welcome, 1, Info})),
    ok = gen_driver_tcp:await(Client, 5000),
    #{welcome := #{generation := 16#10000000000}} = gen_driver_tcp:info(Client).

%% Atoms this node does not have.
named_later(Term) ->
    binary:replace(frame(Term), [<<"an_atom_xxx">>, <<"an_atom_yyy">>], <<"zz_atom_zzz">>, [global]).

handshakes_that_fail(Config) ->
    Client = client(#{backoff => {1, 2}, connect_wait => 60000}, Config),
    Greetings = [{{gen_driver, 2, #{}}, bad_version},
                 {{gen_driver, 1, #{auth => hmac}}, {auth, key_needed}},
                 {hello_world, bad_greeting}],
    [begin
         Conn = accept(listener(Config)),
         send(Conn, Greeting),
         until(Client, fun(#{trouble := T}) -> T =:= Trouble end),
         gen_driver_fake:close(Conn)
     end || {Greeting, Trouble} <- Greetings],
    Welcomes = [{frame({welcome, 2, #{}}), bad_welcome},
                {<<1:32, 0>>, bad_welcome},
                {<<0:32>>, bad_welcome},
                {<<16#7fffffff:32>>, {frame_too_large, 16#7fffffff}}],
    [begin
         Conn = accept(listener(Config)),
         greet(Conn),
         hello(Conn),
         send_raw(Conn, Welcome),
         until(Client, fun(#{trouble := T}) -> T =:= Trouble end),
         gen_driver_fake:close(Conn)
     end || {Welcome, Trouble} <- Welcomes],
    welcome(listener(Config)),
    ok = gen_driver_tcp:await(Client, 5000).

silent_handshake(Config) ->
    Client = client(#{connect_timeout => 50, backoff => {1, 1}}, Config),
    Silent = accept(listener(Config)),
    {error, timeout} = gen_driver_tcp:await(Client, 5000),
    closed = recv(Silent),
    accept(listener(Config)).

stopped_while_connecting(Config) ->
    Client = client(#{connect_timeout => 60000}, Config),
    Silent = accept(listener(Config)),
    Waiting = plain(Client, {port, 1}),
    until(Client, fun(#{queued := Q}) -> Q =:= 1 end),
    ok = gen_driver_tcp:stop(Client),
    {error, {failed, unavailable}} = outcome(Waiting),
    closed = recv(Silent).

handshake_in_pieces(Config) ->
    Client = client(#{}, Config),
    Conn = accept(listener(Config)),
    Greeting = frame({gen_driver, 1, #{server => <<"fake">>, auth => none, nonce => <<0:256>>}}),
    [send_raw(Conn, [Byte]) || <<Byte>> <= Greeting],
    <<"sum">> = hello(Conn),
    [send_raw(Conn, [Byte]) || <<Byte>> <= frame(welcomed(<<"sum">>, #{}))],
    ok = gen_driver_tcp:await(Client, 5000).

words_right_behind_the_welcome(Config) ->
    Client = client(#{}, Config),
    Conn = accept(listener(Config)),
    greet(Conn),
    hello(Conn),
    send_raw(Conn, [frame(welcomed(<<"sum">>, #{})), frame({note, hello}), frame({goodbye, stopping})]),
    until(Client, fun(#{trouble := T}) -> T =:= {lost, {goodbye, <<"stopping">>}} end).

unix_socket(Config) ->
    Path = filename:join("/tmp", "gen_driver_" ++ os:getpid() ++ ".sock"),
    Listener = gen_driver_fake:listen_unix(Path),
    try
        {ok, A} = gen_driver_tcp:start_link(#{instance => sum, connect => "unix:" ++ Path}),
        {ok, B} = gen_driver_tcp:start_link(#{instance => sum, connect => {local, Path}}),
        Conns = [welcome(Listener), welcome(Listener)],
        [ok = gen_driver_tcp:cast(Client, 1) || Client <- [A, B], ok =:= gen_driver_tcp:await(Client, 5000)],
        [{cast, 1} = recv(Conn) || Conn <- Conns]
    after
        gen_driver_fake:close(Listener),
        file:delete(Path),
        Config
    end.

%%% Ends

%% One call sent and one that waits, when the link ends as `End' says.
ended(End, Config) ->
    {Client, Conn} = connected(#{max_in_flight => 1, backoff => {1, 2}}, #{}, Config),
    Sent = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    Waiting = call(Client, 2, [], infinity),
    until(Client, fun(#{queued := Q}) -> Q =:= 1 end),
    End(Conn),
    Outcomes = {outcome(Sent), outcome(Waiting)},
    Again = welcome(listener(Config)),
    ok = gen_driver_tcp:await(Client, 5000),
    Next = plain(Client, {port, 3}),
    {call, 0, 3} = recv(Again),
    send(Again, {reply, 0, next}),
    next = outcome(Next),
    gen_driver_tcp:stop(Client),
    Outcomes.

failed(Sent) ->
    {{error, {failed, Sent}}, {error, {failed, unavailable}}}.

end_of_file(Config) ->
    ?assertEqual(failed(disconnected), ended(fun gen_driver_fake:half_close/1, Config)),
    ?assertEqual(failed(disconnected), ended(fun gen_driver_fake:close/1, Config)),
    ?assertEqual(failed(disconnected), ended(fun gen_driver_fake:reset/1, Config)).

host_died(Config) ->
    ?assertEqual(failed(not_run), ended(fun(Conn) -> send(Conn, {goodbye, host_died}) end, Config)).

goodbyes(Config) ->
    [?assertEqual({Reason, failed(Told)}, {Reason, ended(fun(Conn) -> send(Conn, {goodbye, Reason}) end, Config)})
     || {Told, Reasons} <- [{draining, [stopping]}, {disconnected, [unread, a_goodbye_of_later]},
                            {not_run, [frame_too_large, bad_term, compressed, trailing_bytes, too_deep, too_many_terms,
                                       bignum_too_large, bad_envelope, duplicate_id, slow_frame]}],
        Reason <- Reasons].

closed_in_mid_frame(Config) ->
    gen_driver_test_log:start(?FUNCTION_NAME),
    ?assertEqual(failed(disconnected),
                 ended(fun(Conn) -> send_raw(Conn, <<100:32, 131, 104>>), gen_driver_fake:close(Conn) end, Config)),
    gen_driver_test_log:warning("closed_in_mid_frame"),
    gen_driver_test_log:stop(?FUNCTION_NAME).

lies_about_lengths(Config) ->
    gen_driver_test_log:start(?FUNCTION_NAME),
    [?assertEqual(failed(disconnected), ended(fun(Conn) -> send_raw(Conn, <<Size:32, 131>>) end, Config))
     || Size <- [65 * 1024 * 1024 + 1, 16#ffffffff]],
    gen_driver_test_log:warning("frame_too_large"),
    gen_driver_test_log:stop(?FUNCTION_NAME).

bad_frames(Config) ->
    Compressed = term_to_binary({reply, 0, lists:duplicate(1000, 0)}, [compressed]),
    Frames = [<<>>, <<131>>, <<130, 104, 3>>, <<"garbage">>, Compressed,
              term_to_binary({reply, -1, ok}), term_to_binary({reply, 1 bsl 31, ok}), term_to_binary({reply, 0}),
              term_to_binary({failed, 0, "text"}), term_to_binary({goodbye, 1}), term_to_binary({pong, x}),
              term_to_binary({call, 0, 1}), term_to_binary([reply, 0, ok]),
              <<(term_to_binary({goodbye, host_died}))/binary, 0>>, <<131, 104, 3, 119, 5, "reply", 97, 0>>],
    [?assertEqual({failed(disconnected), Frame},
                  {ended(fun(Conn) -> send_raw(Conn, [<<(byte_size(Frame)):32>>, Frame]) end, Config), Frame})
     || Frame <- Frames].

yesterdays_socket(Config) ->
    {Client, Conn} = connected(#{backoff => {1, 2}}, #{}, Config),
    Old = gen_driver_test_client:client_socket(Client),
    gen_driver_fake:close(Conn),
    Again = welcome(listener(Config)),
    ok = gen_driver_tcp:await(Client, 5000),
    Call = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Again),
    Client ! {tcp, Old, frame({reply, 0, yesterdays})},
    Client ! {tcp, Old, frame({goodbye, host_died})},
    Client ! {tcp_passive, Old},
    Client ! {tcp_error, Old, etimedout},
    Client ! {tcp_closed, Old},
    Client ! {gen_driver_writer, Old, {error, closed}},
    #{in_flight := 1, connects := 2} = gen_driver_tcp:info(Client),
    send(Again, {reply, 0, todays}),
    todays = outcome(Call).

bystanders_and_frames_before_a_bad_one(Config) ->
    {Client, Conn} = connected(#{backoff => {1, 2}}, #{}, Config),
    Calls = [plain(Client, {port, N}) || N <- [1, 2]],
    [{call, A, Answered}, {call, _, _}] = recv_calls(Conn, 2),
    send_raw(Conn, [frame({reply, A, answered}), <<16#ffffffff:32>>, frame({reply, 1 - A, never})]),
    Outcomes = [outcome(C) || C <- Calls],
    ?assertEqual(answered, lists:nth(Answered, Outcomes)),
    ?assertEqual({error, {failed, disconnected}}, lists:nth(3 - Answered, Outcomes)).

reconnects_with_growing_pauses(Config) ->
    Client = client(#{backoff => {20, 80}}, Config),
    Times = [begin refuse(listener(Config), busy), erlang:monotonic_time(millisecond) end || _ <- lists:seq(1, 5)],
    Pauses = [B - A || {A, B} <- lists:zip(lists:droplast(Times), tl(Times))],
    [?assert(Pause >= Least - 1, Pauses) || {Pause, Least} <- lists:zip(Pauses, [10, 20, 40, 40])],
    welcome(listener(Config)),
    ok = gen_driver_tcp:await(Client, 5000).

%% A plain close would wait 5 s for what nobody reads.
giving_up_with_unsent_bytes_is_quick(Config) ->
    {Client, Conn} = connected(#{backoff => {1, 2}}, #{limits => #{}}, Config),
    Calls = [call(Client, 1, binary:copy(<<0>>, 20 bsl 20), infinity) || _ <- [1, 2]],
    until(Client, fun(#{in_flight := F}) -> F =:= 2 end),
    Start = erlang:monotonic_time(millisecond),
    send(Conn, {goodbye, unread}),
    [{error, {failed, disconnected}} = outcome(C) || C <- Calls],
    welcome(listener(Config)),
    ok = gen_driver_tcp:await(Client, 5000),
    ?assert(erlang:monotonic_time(millisecond) - Start < 3000).

reset_while_sending(Config) ->
    {Client, Conn} = connected(#{backoff => {1, 2}}, #{limits => #{}}, Config),
    Calls = [call(Client, 1, binary:copy(<<0>>, 4 bsl 20), infinity) || _ <- lists:seq(1, 8)],
    until(Client, fun(#{in_flight := F}) -> F > 0 end),
    gen_driver_fake:reset(Conn),
    [true = lists:member(outcome(C), [{error, {failed, disconnected}}, {error, {failed, unavailable}}]) || C <- Calls].

%% The socket is found closed by a send while the answer still waits in the mailbox.
answers_before_a_failed_send_count(Config) ->
    {Client, Conn} = connected(#{backoff => {1, 2}}, #{}, Config),
    Call = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    ok = sys:suspend(Client),
    [ok = gen_server:cast(Client, {port, 2}) || _ <- lists:seq(1, 300)],
    send(Conn, {reply, 0, in_time}),
    gen_driver_fake:close(Conn),
    waiting(Client, 302, erlang:monotonic_time(millisecond) + 5000),
    ok = sys:resume(Client),
    in_time = outcome(Call),
    welcome(listener(Config)),
    ok = gen_driver_tcp:await(Client, 5000).

waiting(Client, Least, Deadline) ->
    {message_queue_len, Waiting} = process_info(Client, message_queue_len),
    ?assert(erlang:monotonic_time(millisecond) < Deadline, Waiting),
    Waiting >= Least orelse waiting(Client, Least, Deadline).
