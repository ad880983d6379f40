%% SPDX-License-Identifier: MIT
%% A service that lies, tears, stalls and dribbles: every caller still gets one outcome, and the client lives and serves.
-module(gen_driver_hostile_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [accept/1, greet/1, hello/1, welcome/1, welcome/2, welcomed/2, refuse/2, recv/1, recv_calls/2, send/2, send_raw/2, frame/1,
                          async/1, outcome/1, drained/1]).
-import(gen_driver_test_client, [connected/1, connected/3, client/2, plain/2, call/4, until/2, client_socket/1]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, frames}, {group, handshakes}, {group, rules}].

groups() ->
    [{frames, [parallel],
      [torn_at_every_byte_of_a_reply, a_length_too_long_keeps_nobody_for_ever, a_length_too_short_is_no_frame, garbage,
       bytes_flipped_in_a_reply, half_closed_is_hung_up_on, silence_then_the_answer_twice, words_after_a_goodbye]},
     {handshakes, [parallel],
      [welcomes_of_hostile_sizes, a_welcome_of_the_greatest_size, a_dribbled_handshake_has_an_end,
       welcomed_and_left_is_no_success, atoms_of_welcomes_have_an_end,
       no_word_of_a_server_commands_a_terminal]},
     {rules, [parallel],
      [a_plain_call_that_gives_up_is_not_cancelled, a_flush_waits_for_no_empty_mailbox, no_atom_of_a_welcome_is_made,
       an_answer_of_another_link_is_nobodys, no_port_command]}].

init_per_testcase(Case, Config) -> gen_driver_test_client:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_test_client:end_per_testcase(Case, Config).

listener(Config) ->
    ?config(listener, Config).

%% The client comes again, and is as good as new.
serves_again(Client, Config) ->
    Conn = welcome(listener(Config)),
    ok = gen_driver_tcp:await(Client, 5000),
    serves(Client, Conn),
    Conn.

serves(Client, Conn) ->
    Call = plain(Client, {port, 1, served}),
    {call, Id, 1, served} = recv(Conn),
    send(Conn, {reply, Id, served}),
    served = outcome(Call),
    #{in_flight := 0, queued := 0, queued_bytes := 0, status := up} = drained(Client).

quick() ->
    #{backoff => {1, 2}}.

%% One plain and one own call that the service has got.
asked(Client, Conn) ->
    Calls = [plain(Client, {port, 1, asked}), call(Client, 1, asked, infinity)],
    {Calls, [element(2, Call) || Call <- recv_calls(Conn, 2)]}.

lost(Calls) ->
    [{error, {failed, disconnected}} = outcome(Call) || Call <- Calls].

%%% Frames

torn_at_every_byte_of_a_reply(Config) ->
    {Client, First} = connected(quick(), #{}, Config),
    Frame = frame({reply, 0, {ok, <<"torn">>}}),
    lists:foldl(fun(Size, Conn) ->
                        Call = plain(Client, {port, 1}),
                        {call, 0, 1} = recv(Conn),
                        send_raw(Conn, binary:part(Frame, 0, Size)),
                        gen_driver_fake:close(Conn),
                        {Size, {error, {failed, disconnected}}} = {Size, outcome(Call)},
                        Next = welcome(listener(Config)),
                        ok = gen_driver_tcp:await(Client, 5000),
                        Next
                end, First, lists:seq(0, byte_size(Frame) - 1)),
    #{in_flight := 0} = gen_driver_tcp:info(Client).

%% The rest never comes: whoever has a time hears in time, and the next caller is not held up by it.
a_length_too_long_keeps_nobody_for_ever(Config) ->
    {Client, Conn} = connected(quick(), #{}, Config),
    Patient = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    <<_:32, Reply/binary>> = frame({reply, 0, never_whole}),
    send_raw(Conn, <<(byte_size(Reply) + 1):32, Reply/binary>>),
    {error, {failed, timeout}} = gen_driver_tcp:call(Client, 1, [], 10),
    #{in_flight := 2} = gen_driver_tcp:info(Client),
    gen_driver_fake:close(Conn),
    lost([Patient]),
    serves_again(Client, Config).

a_length_too_short_is_no_frame(Config) ->
    {Client, First} = connected(quick(), #{}, Config),
    Reply = <<131, 104, 3, 119, 5, "reply", 97, 0, 109, 100:32, 0:800>>,
    lists:foldl(fun(Size, Conn) ->
                        Call = plain(Client, {port, 1}),
                        {call, 0, 1} = recv(Conn),
                        send_raw(Conn, <<Size:32, Reply/binary>>),
                        %% An envelope with a piece of a term is its caller's trouble; less is no reply.
                        Told = case Size > 12 of true -> undecodable; false -> disconnected end,
                        gen_driver_fake:close(Conn),
                        {Size, {error, {failed, Told}}} = {Size, outcome(Call)},
                        welcome_again(Client, Config)
                end, First, [0, 1, 2, 3, 8, 11, 12, 13, 14, 50]),
    ok.

welcome_again(Client, Config) ->
    Conn = welcome(listener(Config)),
    ok = gen_driver_tcp:await(Client, 5000),
    Conn.

%% Anything may come of it but a wrong answer, a caller without one, or the client's end.
garbage(Config) ->
    {Client, First} = connected(quick(), #{}, Config),
    Random = rand:seed_s(exsss, 2012),
    lists:foldl(fun(_, {Conn, R}) ->
                        {Calls, _Ids} = asked(Client, Conn),
                        {Size, R1} = rand:uniform_s(2000, R),
                        {Bytes, R2} = rand:bytes_s(Size, R1),
                        send_raw(Conn, Bytes),
                        gen_driver_fake:close(Conn),
                        lost(Calls),
                        {serves_again(Client, Config), R2}
                end, {First, Random}, lists:seq(1, 50)).

bytes_flipped_in_a_reply(Config) ->
    {Client, First} = connected(quick(), #{}, Config),
    Frame = frame({reply, 0, {ok, [1, 2.0, <<"three">>, #{four => {}}]}}),
    lists:foldl(fun(At, Conn) ->
                        Call = plain(Client, {port, 1}),
                        {call, 0, 1} = recv(Conn),
                        <<Before:At/binary, Byte, After/binary>> = Frame,
                        send_raw(Conn, <<Before/binary, (Byte bxor 16#55), After/binary>>),
                        gen_driver_fake:close(Conn),
                        _ = outcome(Call),
                        true = is_process_alive(Client),
                        welcome_again(Client, Config)
                end, First, lists:seq(0, byte_size(Frame) - 1)),
    ok.

half_closed_is_hung_up_on(Config) ->
    {Client, Conn} = connected(quick(), #{}, Config),
    {Calls, _} = asked(Client, Conn),
    gen_driver_fake:half_close(Conn),
    lost(Calls),
    true = lists:member(recv(Conn), [closed, econnreset]),
    serves_again(Client, Config).

silence_then_the_answer_twice(Config) ->
    {Client, Conn} = connected(Config),
    {error, {failed, timeout}} = gen_driver_tcp:call(Client, 1, silence, 10),
    {call, 0, 1, silence, _} = recv(Conn),
    {cancel, 0} = recv(Conn),
    Next = plain(Client, {port, 2}),
    {call, 1, 2} = recv(Conn),
    [send(Conn, {reply, 0, late}) || _ <- [1, 2]],
    [send(Conn, {reply, 1, Answer}) || Answer <- [first, second]],
    first = outcome(Next),
    serves(Client, Conn),
    {messages, []} = process_info(self(), messages).

words_after_a_goodbye(Config) ->
    {Client, Conn} = connected(quick(), #{}, Config),
    {Calls, Ids} = asked(Client, Conn),
    send_raw(Conn, [frame({goodbye, host_died}) | [frame({reply, Id, too_late}) || Id <- Ids]]),
    [{error, {failed, not_run}} = outcome(Call) || Call <- Calls],
    serves_again(Client, Config).

%%% Handshakes

welcomes_of_hostile_sizes(Config) ->
    Client = client(#{backoff => {1, 2}, connect_wait => 60000}, Config),
    Head = <<131, 104, 3, 119, 7, "welcome", 97, 1>>,
    Welcomes = [<<Head/binary, 116, 16#ffffffff:32>>,                                   % a map of so many
                <<Head/binary, 108, 16#ffffffff:32, 106>>,
                <<Head/binary, 109, 16#ffffffff:32, 0>>,
                <<Head/binary, 110, 255, 0>>,
                <<Head/binary, (binary:copy(<<104, 1>>, 200000))/binary>>,              % nested, and never whole
                <<Head/binary, (binary:copy(<<108, 1:32>>, 100000))/binary>>,
                <<131, 104, 255>>],
    [begin
         Conn = accept(listener(Config)),
         greet(Conn),
         hello(Conn),
         send_raw(Conn, [<<(byte_size(Welcome)):32>>, Welcome]),
         closed = hung_up(Conn),
         #{trouble := bad_welcome} = until(Client, fun(#{trouble := T}) -> T =/= none end)
     end || Welcome <- Welcomes],
    [begin
         Conn = accept(listener(Config)),
         send_raw(Conn, <<Size:32, 0:800>>),
         closed = hung_up(Conn),
         until(Client, fun(#{trouble := T}) -> T =:= {frame_too_large, Size} end)
     end || Size <- [1 bsl 19 + 1, 16#ffffffff]],
    serves_again(Client, Config).

hung_up(Conn) ->
    case recv(Conn) of
        econnreset -> closed;
        Said -> Said
    end.

a_welcome_of_the_greatest_size(Config) ->
    Client = client(#{}, Config),
    Atoms = [<<(binary:copy(<<"a">>, 1000))/binary, (integer_to_binary(N))/binary>> || N <- lists:seq(1, 400)],
    Commands = maps:from_list([{<<"c", (integer_to_binary(N))/binary>>, N} || N <- lists:seq(1, 5000)]),
    Conn = accept(listener(Config)),
    greet(Conn),
    send(Conn, welcomed(hello(Conn), #{atoms => Atoms, commands => Commands#{<<"bad">> => -1}})),
    ok = gen_driver_tcp:await(Client, 5000),
    #{welcome := #{atoms := Kept, commands := Known}} = gen_driver_tcp:info(Client),
    ?assertEqual({256, 5000}, {length(Kept), map_size(Known)}),
    serves(Client, Conn).

%% Every byte comes in time, the whole never.
a_dribbled_handshake_has_an_end(Config) ->
    Client = client(#{connect_timeout => 200, backoff => {1, 2}}, Config),
    Conn = accept(listener(Config)),
    ok = inet:setopts(Conn, [{packet, raw}]),
    Await = async(fun() -> gen_driver_tcp:await(Client, 10000) end),
    ok = gen_tcp:send(Conn, <<4096:32>>),
    dribble(Conn, 4096),
    {error, timeout} = outcome(Await),
    serves_again(Client, Config).

dribble(Conn, Left) when Left > 1 ->
    case {gen_tcp:send(Conn, <<0>>), gen_tcp:recv(Conn, 0, 5)} of
        {ok, {error, timeout}} -> dribble(Conn, Left - 1);
        _ -> ok
    end.

%% Else a host that dies at once would be dialled without a pause.
welcomed_and_left_is_no_success(Config) ->
    Client = client(#{backoff => {20, 80}}, Config),
    Times = [begin
                 gen_driver_fake:close(welcome(listener(Config))),
                 erlang:monotonic_time(millisecond)
             end || _ <- lists:seq(1, 5)],
    Pauses = [B - A || {A, B} <- lists:zip(lists:droplast(Times), tl(Times))],
    [?assert(Pause >= Least - 1, Pauses) || {Pause, Least} <- lists:zip(Pauses, [10, 20, 40, 40])],
    serves_again(Client, Config).

%%% Rules of the client that nothing else breaks

a_plain_call_that_gives_up_is_not_cancelled(Config) ->
    {Client, Conn} = connected(Config),
    ?assertExit({timeout, _}, gen_server:call(Client, {port, 1}, 10)),
    {call, 0, 1} = recv(Conn),
    Next = plain(Client, {port, 2}),
    {call, 1, 2} = recv(Conn),
    send(Conn, {reply, 0, late}),
    send(Conn, {reply, 1, next}),
    next = outcome(Next),
    #{in_flight := 0} = drained(Client),
    {messages, []} = process_info(self(), messages).

%% 256 requests, or 64 KiB: else a steady stream would never be sent.
a_flush_waits_for_no_empty_mailbox(Config) ->
    {Client, Conn} = connected(Config),
    3 = sends(Client, Conn, lists:duplicate(640, small)),
    true = 4 =< sends(Client, Conn, lists:duplicate(10, binary:copy(<<0>>, 30000))).

sends(Client, Conn, Params) ->
    ok = sys:suspend(Client),
    [ok = gen_server:cast(Client, {port, 1, P}) || P <- Params],
    {ok, [{send_cnt, Before}]} = inet:getstat(client_socket(Client), [send_cnt]),
    ok = sys:resume(Client),
    recv_calls(Conn, length(Params)),
    {ok, [{send_cnt, After}]} = inet:getstat(client_socket(Client), [send_cnt]),
    After - Before.

no_atom_of_a_welcome_is_made(Config) ->
    Name = <<"an_atom_that_only_a_", "welcome_says">>,
    {Client, Conn} = connected(#{}, #{atoms => [Name], commands => #{<<"a_command_only_a_", "welcome_says">> => 1}}, Config),
    serves(Client, Conn),
    ?assertError(badarg, binary_to_existing_atom(Name)),
    ?assertError(badarg, binary_to_existing_atom(<<"a_command_only_a_", "welcome_says">>)).

%% A service that names others each time: the node has had 4,096 of them then, and not one more, whoever asks.
atoms_of_welcomes_have_an_end(Config) ->
    ok = gen_driver_test_log:start(?FUNCTION_NAME),
    Client = client((quick())#{driver_atoms => true}, Config),
    [begin
         Conn = welcome(listener(Config), #{atoms => names(Round)}),
         ok = gen_driver_tcp:await(Client, 5000),
         gen_driver_fake:close(Conn)
     end || Round <- lists:seq(1, 16)],
    ?assert(lists:all(fun is_atom_here/1, names(16))),
    [closed = recv(welcome(listener(Config), #{atoms => names(Round)})) || Round <- lists:seq(17, 20)],
    ok = gen_driver_test_log:warning("bad_welcome,too_many_atoms"),
    [] = [Line || Line <- gen_driver_test_log:warnings(), string:find(Line, "too_many_atoms") =/= nomatch],
    ok = gen_driver_test_log:stop(?FUNCTION_NAME),
    serves(Client, welcome(listener(Config), #{atoms => names(16)})),
    Other = async(fun() -> client(#{driver_atoms => true}, Config), receive stop -> ok end end),
    closed = recv(welcome(listener(Config), #{atoms => names(17)})),
    element(2, Other) ! stop,
    ?assertNot(lists:any(fun is_atom_here/1, names(17))).

names(Round) ->
    [iolist_to_binary(["an_atom_of_a_welcome_", integer_to_list(Round * 256 + N)]) || N <- lists:seq(1, 256)].

is_atom_here(Name) -> try is_atom(binary_to_existing_atom(Name)) catch error:badarg -> false end.

%% What a server says of itself, why it refuses and why it leaves: in logs, and in what telemetry counts by.
no_word_of_a_server_commands_a_terminal(Config) ->
    Evil = <<"\e]0;evil\a\x9b\r\n2026 all is well">>,
    ok = logger:set_module_level(gen_driver_links, info),
    ok = gen_driver_test_log:start(?FUNCTION_NAME, info),
    Client = client((quick())#{instance => ?FUNCTION_NAME}, Config),
    refuse(listener(Config), binary_to_atom(Evil, latin1)),
    Conn = welcome(listener(Config), #{instance => Evil}),
    ok = gen_driver_tcp:await(Client, 5000),
    #{welcome := #{instance := <<"no_word_of_a_server_commands_a_terminal">>}} = gen_driver_tcp:info(Client),
    send(Conn, {goodbye, binary_to_atom(Evil, latin1)}),
    Lines = [logged("no link to no_word"), logged("of no_word"), logged("goodbye")],
    ok = logger:unset_module_level(gen_driver_links),
    ok = gen_driver_test_log:stop(?FUNCTION_NAME),
    %% Our own line breaks are followed by an indentation.
    [] = [Line || Line <- Lines, re:run(Line, "[\\x{0}-\\x{9}\\x{b}-\\x{1f}\\x{7f}-\\x{9f}]|\n[^ ]", [unicode]) =/= nomatch].

logged(Text) ->
    receive {warning, Line} -> case string:find(Line, Text) of nomatch -> logged(Text); _ -> Line end end.

%% During a drain there are two links with the same ids.
an_answer_of_another_link_is_nobodys(Config) ->
    {Client, Old} = connected(Config),
    Before = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Old),
    send(Old, {goodbye, draining}),
    New = welcome(listener(Config)),
    closed = recv(Old),
    After = plain(Client, {port, 2}),
    {call, 0, 2} = recv(New),
    [send(Old, {reply, 0, Answer}) || Answer <- [old, older]],
    old = outcome(Before),
    #{in_flight := 1} = drained(Client),
    send(New, {reply, 0, new}),
    new = outcome(After).

%% On OTP 26 and later it corrupts the stream of a socket.
no_port_command(_Config) ->
    ok = case application:load(gen_driver_tcp) of {error, {already_loaded, _}} -> ok; Loaded -> Loaded end,
    {ok, Modules} = application:get_key(gen_driver_tcp, modules),
    Imports = [{Module, Function} || Module <- Modules,
                                     {ok, {_, [{imports, All}]}} <- [beam_lib:chunks(code:which(Module), [imports])],
                                     {erlang, Function, _} <- All],
    ?assert(lists:keymember(gen_driver_link, 1, Imports)),
    ?assertEqual([], [Import || {_, port_command} = Import <- Imports]).
