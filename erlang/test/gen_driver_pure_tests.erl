%% SPDX-License-Identifier: MIT
%% What needs no process and no socket: backoff, queue, places, frames, handshake, ids.
-module(gen_driver_pure_tests).

-include_lib("eunit/include/eunit.hrl").
-include_lib("gen_driver_tcp/src/gen_driver_request.hrl").

%%% Backoff

backoff_test() ->
    Range = {100, 1000},
    {Delays, _} = lists:mapfoldl(fun(_, B) -> gen_driver_backoff:next(0.0, B) end,
                                 gen_driver_backoff:new(Range), lists:seq(1, 6)),
    ?assertEqual([50, 100, 200, 400, 500, 500], Delays),
    {Late, Backoff} = gen_driver_backoff:next(0.999999, gen_driver_backoff:new(Range)),
    ?assertEqual(100, Late),
    ?assertMatch({50, _}, gen_driver_backoff:next(0.0, gen_driver_backoff:reset(Backoff))),
    ?assertMatch({1, _}, gen_driver_backoff:next(0.5, gen_driver_backoff:new({1, 1}))).

%%% Queue

queue_keeps_order_and_counts_test() ->
    Requests = [#request{command = N, size = N * 10} || N <- lists:seq(1, 5)],
    [One, Two, Three, Four, Five] = Requests,
    Q0 = lists:foldl(fun gen_driver_queue:in/2, gen_driver_queue:new(), Requests),
    ?assertEqual({5, 150 + 5 * 32}, sizes(Q0)),
    ?assertEqual(One, gen_driver_queue:peek(Q0)),
    Q1 = gen_driver_queue:hold(One, Q0),
    Q2 = gen_driver_queue:out(Q1),
    ?assertEqual({4, 130 + 4 * 32}, sizes(Q2)),
    ?assertEqual(Three, gen_driver_queue:peek(Q2)),
    Q3 = gen_driver_queue:release(Q2),
    ?assertEqual(One, gen_driver_queue:peek(Q3)),
    ?assertEqual({4, 130 + 4 * 32}, sizes(Q3)),
    {Removed, Q4} = gen_driver_queue:remove(fun(#request{command = C}) -> C =:= 4 end, Q3),
    ?assertEqual([Four], Removed),
    {Rest, Q5} = gen_driver_queue:empty(gen_driver_queue:hold(One, Q4)),
    ?assertEqual([One, Three, Five], Rest),
    ?assertEqual({0, 0}, sizes(Q5)),
    ?assertEqual(empty, gen_driver_queue:peek(Q5)),
    _ = Two.

queue_bounds_test() ->
    Q = gen_driver_queue:in(#request{size = 68}, gen_driver_queue:new()),
    ?assert(gen_driver_queue:is_full({1, 1000}, Q)),
    ?assert(gen_driver_queue:is_full({10, 100}, Q)),
    ?assertNot(gen_driver_queue:is_full({2, 101}, Q)).

sizes(Q) ->
    {gen_driver_queue:size(Q), gen_driver_queue:bytes(Q)}.

%%% Batch

batch_keeps_order_and_knows_what_it_holds_test() ->
    From = {self(), make_ref()},
    B0 = gen_driver_batch:new(),
    ?assertEqual(none, gen_driver_batch:size(B0)),
    B1 = gen_driver_batch:call(7, <<"a">>, #request{from = From, size = 10, placed = true}, B0),
    B2 = gen_driver_batch:cast(<<"b">>, #request{size = 20, placed = true}, B1),
    B3 = gen_driver_batch:control(<<"c">>, B2),
    B4 = gen_driver_batch:cast([<<"d">>, <<"e">>], #request{from = {ack, From}, size = 40}, B3),
    B5 = gen_driver_batch:call(8, <<"f">>, #request{from = From, size = 80}, B4),
    ?assertEqual(<<"abcdef">>, iolist_to_binary(gen_driver_batch:data(B5))),
    ?assertEqual({some, [7, 8], 2, [From], {2, 30}},
                 {gen_driver_batch:size(B5), gen_driver_batch:calls(B5), gen_driver_batch:casts(B5), gen_driver_batch:acks(B5),
                  gen_driver_batch:places(B5)}),
    Left = gen_driver_batch:without_calls(B5),
    ?assertEqual({<<"bcde">>, []}, {iolist_to_binary(gen_driver_batch:data(Left)), gen_driver_batch:calls(Left)}).

batch_is_enough_by_number_or_bytes_test() ->
    Cast = fun(Size) -> fun(_, Batch) -> gen_driver_batch:cast(<<"x">>, #request{size = Size}, Batch) end end,
    Some = lists:foldl(Cast(0), gen_driver_batch:new(), lists:seq(1, 255)),
    ?assertEqual(some, gen_driver_batch:size(Some)),
    ?assertEqual(enough, gen_driver_batch:size((Cast(0))(x, Some))),
    ?assertEqual(enough, gen_driver_batch:size((Cast(65536))(x, gen_driver_batch:new()))).

%% What is let through without a look is what a look lets through.
small_parameters_test_() ->
    Limits = [#{}, #{depth => 20}, #{terms => 40}, #{bignum => 16}, #{frame => 200}, #{depth => 1, terms => 1}],
    [?_assert(gen_driver_params:fits(<<0:(8 * gen_driver_params:small(Of))>>, small, 0, Of))
     || Of <- Limits, gen_driver_params:small(Of) > 0].

%%% Places

places_test() ->
    Places = gen_driver_places:open(self(), {2, 100}),
    ?assertEqual(taken, gen_driver_places:take(self(), 1000)),
    ?assertEqual(full, gen_driver_places:take(self(), 1)),
    ok = gen_driver_places:give(Places, 1, 1000),
    ?assertEqual([taken, taken, full], [gen_driver_places:take(self(), 1) || _ <- [1, 2, 3]]),
    ?assertEqual({2, 2}, gen_driver_places:taken(Places)),
    ok = gen_driver_places:close(self()),
    ?assertEqual(nobody, gen_driver_places:take(self(), 1)).

places_of_the_killed_go_test() ->
    Test = self(),
    {Pid, Monitor} = spawn_monitor(fun() -> gen_driver_places:open(self(), {1, 1}), Test ! open,
                                            receive stop -> ok end end),
    receive open -> ok end,
    exit(Pid, kill),
    receive {'DOWN', Monitor, _, _, _} -> ok end,
    ?assertEqual(taken, gen_driver_places:take(Pid, 1)),
    _ = gen_driver_places:open(self(), {1, 1}),
    ?assertEqual(nobody, gen_driver_places:take(Pid, 1)),
    ok = gen_driver_places:close(self()).

%%% Frames

frames_cut_anywhere_test() ->
    Frames = [<<>>, <<"a">>, <<"bcd">>, <<>>, binary:copy(<<"e">>, 300), <<"f">>],
    Stream = iolist_to_binary([gen_driver_frame:join(Frame) || Frame <- Frames]),
    [?assertEqual(Frames, cut_all([binary:part(Stream, 0, A), binary:part(Stream, A, B - A),
                                   binary:part(Stream, B, byte_size(Stream) - B)]))
     || A <- lists:seq(0, byte_size(Stream)), B <- lists:seq(A, byte_size(Stream), 7)],
    ?assertEqual(Frames, cut_all([<<Byte>> || <<Byte>> <= Stream])).

cut_all(Pieces) ->
    {Frames, Cutter} = lists:mapfoldl(fun(Piece, Cutter) ->
                                              {ok, Frames, Next} = gen_driver_frame:cut(Piece, Cutter),
                                              {Frames, Next}
                                      end, gen_driver_frame:new(1000), Pieces),
    ?assert(gen_driver_frame:is_empty(Cutter)),
    lists:append(Frames).

frame_limit_test() ->
    Cutter = gen_driver_frame:new(3),
    ?assertMatch({error, [<<"abc">>], {frame_too_large, 4}}, gen_driver_frame:cut(<<3:32, "abc", 4:32>>, Cutter)),
    {ok, [], Half} = gen_driver_frame:cut(<<255, 255>>, Cutter),
    ?assertNot(gen_driver_frame:is_empty(Half)),
    ?assertMatch({error, [], {frame_too_large, 16#ffffffff}}, gen_driver_frame:cut(<<255, 255>>, Half)).

%% What comes in many pieces costs its length, not the square of it.
pieces_are_joined_once_test() ->
    Size = 4 bsl 20,
    {ok, [], Begun} = gen_driver_frame:cut(<<Size:32>>, gen_driver_frame:new(Size)),
    Piece = binary:copy(<<0>>, 1024),
    {Time, {ok, [Frame], _}} = timer:tc(fun() ->
        lists:foldl(fun(_, {ok, [], Cutter}) -> gen_driver_frame:cut(Piece, Cutter) end,
                    {ok, [], Begun}, lists:seq(1, Size div 1024))
    end),
    ?assertEqual(Size, byte_size(Frame)),
    ?assert(Time < 1000000).

%%% Ids

ids_skip_taken_ones_and_come_round_test() ->
    Max = 16#7fffffff,
    ?assertEqual(5, gen_driver_proto:free_id(5, #{})),
    ?assertEqual(7, gen_driver_proto:free_id(5, #{5 => x, 6 => x})),
    ?assertEqual(Max, gen_driver_proto:free_id(Max, #{})),
    ?assertEqual(0, gen_driver_proto:free_id(Max + 1, #{})),
    ?assertEqual(2, gen_driver_proto:free_id(Max, #{Max => x, 0 => x, 1 => x})).

ids_of_calls_test() ->
    Max = 16#7fffffff,
    ?assertEqual([0, Max], [gen_driver_proto:next_id(N, #{}) || N <- [0, Max]]),
    ?assertEqual([0, 1, Max], [gen_driver_proto:next_id(N, #{}) || N <- [Max + 1, Max + 2, 2 * Max + 1]]),
    ?assertEqual([2, 2, 3], [gen_driver_proto:next_id(N, #{0 => x, 1 => x}) || N <- [Max + 1, Max + 3, Max + 4]]).

%%% Handshake

hello_test() ->
    ?assertEqual({hello, 1, <<"sum">>, #{}},
                 binary_to_term(iolist_to_binary(gen_driver_handshake:hello(<<"sum">>)))).

%% Whom a client does not introduce itself to.
mistrust_test_() ->
    Auth = {<<"anna">>, fun() -> binary:copy(<<"k">>, 32) end},
    Hmac = #{auth => hmac, nonce => <<0:256>>},
    [?_assertEqual({error, Reason},
                   gen_driver_handshake:introduce(term_to_binary({gen_driver, Version, About}), <<"sum">>, With))
     || {Version, About, With, Reason} <- [
            {1, Hmac, none, {auth, key_needed}},
            {1, #{auth => none}, Auth, {auth, not_offered}}, {1, #{}, Auth, {auth, not_offered}},
            {1, #{auth => password}, Auth, {auth, unknown_method}}, {1, #{auth => 1}, none, {auth, unknown_method}},
            {2, Hmac, Auth, bad_version},
            {1, Hmac, {<<"anna">>, fun() -> <<"short">> end}, {auth, bad_key}},
            {1, Hmac, {<<"anna">>, fun() -> "no binary at all, but long enough" end}, {auth, bad_key}},
            {1, Hmac, {<<"anna">>, fun() -> error({no_such_file, <<"secret">>}) end}, {auth, bad_key}}]].

a_hello_with_a_key_is_never_the_same_test() ->
    Auth = {<<"anna">>, fun() -> binary:copy(<<"k">>, 32) end},
    Greeting = term_to_binary({gen_driver, 1, #{auth => hmac, nonce => <<0:256>>}}),
    [Said, Again] = [iolist_to_binary(Frames) || _ <- [1, 2],
                     {ok, Frames, _} <- [gen_driver_handshake:introduce(Greeting, <<"sum">>, Auth)]],
    <<Size:32, Hello:Size/binary, Length:32, Proof:Length/binary>> = Said,
    ?assertMatch({hello, 1, <<"sum">>, #{key := <<"anna">>, nonce := <<_:32/bytes>>}}, binary_to_term(Hello)),
    ?assertMatch({proof, <<_:32/bytes>>}, binary_to_term(Proof)),
    ?assertNotEqual(Said, Again).

%% A welcome is taken as far as it is understood, and no atom is made of it.
welcome_test() ->
    Answer = fun(Info) -> gen_driver_handshake:answer(term_to_binary({welcome, 1, Info})) end,
    {welcome, Bare} = Answer(#{}),
    ?assertEqual(#{instance => <<>>, generation => 0, threads => 0, commands => #{}, atoms => [], limits => #{},
                   last_exit => none}, Bare),
    {welcome, Odd} = Answer(#{instance => 1, commands => #{<<"a">> => 1, b => 2, <<"c">> => d}, atoms => [<<"x">>, y],
                              limits => #{frame => 10, depth => none, other => 1, bignum => 0}, last_exit => none}),
    ?assertMatch(#{instance := <<>>, commands := #{<<"a">> := 1}, atoms := [<<"x">>], limits := #{frame := 10},
                   last_exit := none}, Odd),
    ?assertEqual(1, map_size(maps:get(commands, Odd))),
    {welcome, #{atoms := Atoms}} = Answer(#{atoms => [integer_to_binary(N) || N <- lists:seq(1, 300)]}),
    ?assertEqual(256, length(Atoms)),
    ?assertEqual({error, bad_welcome}, gen_driver_handshake:answer(<<131, 104, 3, 80>>)),
    ?assertEqual({error, bad_welcome}, gen_driver_handshake:answer(<<131, 108, 0, 0, 0, 1, 97, 1, 97, 2>>)),
    ?assertEqual({error, bad_welcome}, gen_driver_handshake:answer(<<131, 106, 0>>)).

refused_test() ->
    [?assertEqual({refused, Reason}, gen_driver_handshake:answer(term_to_binary({refused, Reason})))
     || Reason <- [unknown_instance, unavailable, bad_hello, bad_version, auth, busy, draining]].

%%% What a review found

a_small_frame_does_not_hold_on_to_a_large_one_test() ->
    Large = <<1000000:32, 0:8000000>>,
    {Begins, Ends} = split_binary(<<Large/binary, 100:32, 7:800, 5:32, 1>>, 500000),
    {First, Second} = {binary:copy(Begins), binary:copy(Ends)},
    {ok, [], Begun} = gen_driver_frame:cut(First, gen_driver_frame:new(1 bsl 20)),
    {ok, [Whole, Small], _} = gen_driver_frame:cut(Second, Begun),
    ?assertEqual(1000000, byte_size(Whole)),
    ?assertEqual(1000000, binary:referenced_byte_size(Whole) - 4),
    ?assertEqual(<<7:800>>, Small),
    ?assert(binary:referenced_byte_size(Small) < 600000).

%%% The socket

%% Since OTP 26 the emulator takes the first bytes of such a message for a tag: the stream is corrupt. gen_tcp:send is not.
nobody_sends_by_port_command_test_() ->
    Files = [code:which(Module) || Application <- [gen_driver_tcp, gen_driver_compat], Module <- modules(Application)],
    ?assert(length(Files) > 10),
    [{File, ?_assertEqual([], to_a_port(File))} || File <- Files].

modules(Application) ->
    ok = case application:load(Application) of {error, {already_loaded, _}} -> ok; Loaded -> Loaded end,
    {ok, Modules} = application:get_key(Application, modules),
    Modules.

to_a_port(File) ->
    {ok, {_, [{imports, Imports}]}} = beam_lib:chunks(File, [imports]),
    [Name || {Module, Name, _} <- Imports,
             {Module, Name} =:= {erlang, port_command} orelse Module =:= prim_inet].

%%% Parameters

large_binaries_are_not_copied_test() ->
    Large = crypto:strong_rand_bytes(1 bsl 20),
    {Pieces, Size, _} = gen_driver_params:encode({put, [Large, a], Large}),
    %% The same two references to one binary, and nothing else of that size.
    {binary, Held} = process_info(self(), binary),
    ?assertEqual(1, length(lists:usort([Id || {Id, Bytes, _} <- Held, Bytes >= 1 bsl 20]))),
    ?assertEqual(Size, iolist_size(Pieces)),
    ?assertEqual({put, [Large, a], Large}, binary_to_term(iolist_to_binary([131, Pieces]))).

parameters_are_encoded_whole_test_() ->
    [?_assertEqual(Term, binary_to_term(iolist_to_binary([131, element(1, gen_driver_params:encode(Term))])))
     || Term <- [[], a, <<>>, <<0:65536>>, <<0:65600>>, <<1:65537>>, {<<0:80000>>, "x", <<2:90000>>}, lists:seq(1, 5000)]].

%%% What may be unread

%% The newest, as many batches as have the messages that wait.
of_what_was_sent_so_much_may_be_unread_test_() ->
    Sent = lists:foldl(fun({Messages, Bytes}, Unread) -> gen_driver_unread:sent(Messages, Bytes, Unread) end,
                       gen_driver_unread:new(), [{10, 1}, {0, 100}, {5, 20}, {1, 300}, {4, 4000}]),
    [?_assertEqual(Bytes, gen_driver_unread:bytes(gen_driver_unread:waiting(Waiting, Sent)))
     || {Waiting, Bytes} <- [{0, 0}, {1, 4000}, {4, 4000}, {5, 4300}, {6, 4320}, {10, 4320}, {11, 4321}, {20, 4321}, {1000, 4321}]]
    ++ [?_assertEqual(4300, gen_driver_unread:bytes(gen_driver_unread:waiting(9, gen_driver_unread:waiting(5, Sent))))].

%%% What is kept while a send waits

of_what_was_asked_for_each_is_kept_once_test() ->
    ?assertEqual({ok, [{part, 2, a}, {reply, 1, one}, {pong, 5}, {goodbye, draining}, {part, 2, b}, {failed, 2, crashed}]},
                 kept([{note, n}, {part, 2, a}, {reply, 1, one}, {reply, 1, again}, {part, 1, c}, {pong, 4}, {pong, 5}, {pong, 5},
                       {goodbye, draining}, {goodbye, draining}, {part, 2, b}, {failed, 2, crashed}, {part, 2, c}, {reply, 2, d},
                       {reply, 9, nobodys}])).

nothing_is_kept_behind_an_end_test_() ->
    [?_assertEqual({Word, [{reply, 1, one} | Kept]}, kept([{reply, 1, one}, End, {reply, 2, two}]))
     || {End, Word, Kept} <- [{{goodbye, host_died}, ended, [{goodbye, host_died}]}, {no_frame, ended, [no_frame]},
                              {binary:copy(<<0>>, 2000), over, []}]]
    ++ [?_assertEqual({over, [{part, 2, a}, {part, 2, b}]}, kept([{part, 2, a}, {part, 2, b}, {part, 2, c}, {reply, 1, one}]))].

%% In whatever pieces they come.
kept(Said) ->
    Bytes = iolist_to_binary([gen_driver_frame:join(term_to_binary(Term)) || Term <- Said]),
    [Kept] = lists:usort([kept(Size, Bytes) || Size <- [1, 7, 50, byte_size(Bytes)]]),
    Kept.

kept(Size, Bytes) ->
    New = gen_driver_conn_kept:new(gen_driver_frame:new(1000), #{1 => none, 2 => 2}, 5),
    {Word, Frames, _} = gen_driver_conn_kept:all(lists:foldl(fun(Piece, Kept) ->
        element(2, gen_driver_conn_kept:take(Piece, Kept))
    end, New, pieces(Size, Bytes))),
    {Word, [binary_to_term(Frame) || Frame <- Frames]}.

pieces(Size, Bytes) when byte_size(Bytes) > Size -> [binary:part(Bytes, 0, Size) | pieces(Size, binary:part(Bytes, Size, byte_size(Bytes) - Size))];
pieces(_Size, Bytes) -> [Bytes].
