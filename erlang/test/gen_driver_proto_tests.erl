%% SPDX-License-Identifier: MIT
%% The codec against the vectors that every implementation of the protocol shares (tests/vectors).
-module(gen_driver_proto_tests).

-include_lib("eunit/include/eunit.hrl").

%%% frames.txt: a line is name, hex with the length in front, who says it, the term

frames_test_() ->
    [{Name, ?_test(frame(Who, unhex(Hex), parse(Term)))} || [Name, Hex, Who, Term] <- vectors("frames.txt")].

frame(Who, Bytes, Term) ->
    {ok, [Frame], Rest} = gen_driver_frame:cut(Bytes, gen_driver_frame:new(1000)),
    ?assert(gen_driver_frame:is_empty(Rest)),
    said(Who, Term, Frame).

said("client", {goodbye, done}, _Frame) ->
    ok;                                         % ours ends with a half-close
said("client", Term, Frame) ->
    ?assertEqual(Term, binary_to_term(iolist_to_binary(encode(Term)))),
    ?assertEqual(Term, binary_to_term(Frame));
said("server", {gen_driver, 1, _}, Frame) ->
    ?assertEqual({ok, none}, gen_driver_handshake:greeting(Frame));
said("server", {welcome, 1, Info}, Frame) ->
    {welcome, Welcome} = gen_driver_handshake:answer(Frame),
    ?assertEqual(maps:with(maps:keys(Welcome), Info), maps:with(maps:keys(Info), Welcome));
said("server", {refused, Reason}, Frame) ->
    ?assertEqual({refused, Reason}, gen_driver_handshake:answer(Frame));
said("host", {reply, Id, Term}, Frame) ->
    {reply, Id, BodyAt} = gen_driver_proto:decode(Frame),
    ?assertEqual({ok, Term}, gen_driver_proto:term(Frame, BodyAt));
said("host", {goodbye, Reason}, Frame) ->
    ?assertEqual({goodbye, atom_to_binary(Reason)}, gen_driver_proto:decode(Frame));
said("host", {part, Id, Term}, Frame) ->
    {part, Id, BodyAt} = gen_driver_proto:decode(Frame),
    ?assertEqual({ok, Term}, gen_driver_proto:term(Frame, BodyAt));
said("host", {note, Term}, Frame) ->
    {note, BodyAt} = gen_driver_proto:decode(Frame),
    ?assertEqual({ok, Term}, gen_driver_proto:term(Frame, BodyAt));
said("host", Term, Frame) ->
    ?assertEqual(Term, gen_driver_proto:decode(Frame)).

%% A timeout alone is written by hand; it and all others come out as the VM writes them.
options_test_() ->
    [?_assertEqual({call, 1, 2, [], Options},
                   binary_to_term(iolist_to_binary(gen_driver_proto:encode_call(1, 2, none, Options))))
     || Options <- [#{timeout => T} || T <- [0, 1, 255, 256, 5000, 16#7fffffff, 16#80000000, 16#ffffffff]]
                    ++ [#{timeout => 7, key => 8}, #{key => 9}, #{trace => <<"t">>}]].

encode({hello, 1, Instance, #{}}) -> gen_driver_handshake:hello(Instance);
encode({call, Id, Cmd}) -> gen_driver_proto:encode_call(Id, Cmd, none, #{});
encode({call, Id, Cmd, Params}) -> gen_driver_proto:encode_call(Id, Cmd, params(Params), #{});
encode({call, Id, Cmd, Params, Options}) -> gen_driver_proto:encode_call(Id, Cmd, params(Params), Options);
encode({cast, Cmd}) -> gen_driver_proto:encode_cast(Cmd, none, #{});
encode({cast, Cmd, Params}) -> gen_driver_proto:encode_cast(Cmd, params(Params), #{});
encode({cast, Cmd, Params, Options}) -> gen_driver_proto:encode_cast(Cmd, params(Params), Options);
encode({cancel, Id}) -> gen_driver_proto:encode_cancel(Id);
encode({credit, Id, Parts}) -> gen_driver_proto:encode_credit(Id, Parts);
encode({notes, Wanted}) -> gen_driver_proto:encode_notes(Wanted);
encode({ping, Id}) -> gen_driver_proto:encode_ping(Id).

params(Params) ->
    <<131, Encoded/binary>> = term_to_binary(Params),
    Encoded.

%%% handshake.txt: name, verdict, name of the key, key, greeting, hello, proof, welcome, server's proof

handshakes_test_() ->
    [{Name, ?_test(handshake(Verdict, [unhex(Hex) || Hex <- Columns]))}
     || [Name, Verdict, _KeyName | Columns] <- vectors("handshake.txt")].

handshake(Verdict, [Key, Greeting, Hello, Proof, Welcome, Told]) ->
    [G, H, P, W, T] = [Frame || <<Size:32, Frame:Size/binary>> <- [Greeting, Hello, Proof, Welcome, Told]],
    ?assertEqual({ok, hmac}, gen_driver_handshake:greeting(G)),
    ?assertMatch({hello, 1, _, #{key := _, nonce := <<_:32/bytes>>}}, binary_to_term(H)),
    ?assertMatch({welcome, _}, gen_driver_handshake:answer(W)),
    <<_:32, Ours/binary>> = gen_driver_handshake:proof(Key, Greeting, Hello),
    ?assertEqual(Verdict =/= "auth", binary_to_term(Ours) =:= binary_to_term(P)),
    Expected = case Verdict of "bad_proof" -> {error, bad_proof}; _ -> ok end,
    ?assertEqual(Expected, gen_driver_handshake:proved(Key, [Greeting, Hello, Proof, Welcome], T)).

%% Options without params: a driver sees [].
options_alone_test() ->
    ?assertEqual({call, 1, 2, [], #{key => 3}}, binary_to_term(iolist_to_binary(
        gen_driver_proto:encode_call(1, 2, none, #{key => 3})))),
    ?assertEqual({cast, 2, [], #{key => 3}}, binary_to_term(iolist_to_binary(
        gen_driver_proto:encode_cast(2, none, #{key => 3})))).

%% Most frames are written in one piece, with their length before them.
written_in_one_piece_test_() ->
    Params = [[], [1, 2, 3, 4], <<0:8000>>],
    Frames = [{gen_driver_proto:call_frame(Id, Command, params(P), infinity), {call, Id, Command, P}}
              || Id <- [0, 255, 256, 16#7fffffff], Command <- [0, 16#3fffffff], P <- Params]
        ++ [{gen_driver_proto:call_frame(1, 2, params(P), Left), {call, 1, 2, P, #{timeout => Left}}}
            || Left <- [0, 255, 256, 16#7fffffff], P <- Params]
        ++ [{gen_driver_proto:cast_frame(Command, params(P)), {cast, Command, P}} || Command <- [0, 16#3fffffff], P <- Params],
    [?_assertEqual({byte_size(Frame), Term}, {Size, binary_to_term(Frame)}) || {<<Size:32, Frame/binary>>, Term} <- Frames].

%% Terms that are read by hand, and their neighbours that are not.
small_terms_test_() ->
    Bytes = [bytes(N) || N <- [0, 1, 64, 65, 300]],
    Leaves = [0, 255, 256, -1, 16#7fffffff, -16#80000000, 16#80000000, 1 bsl 70, 0.0, -0.0, 1.5, -1.0e300, ok, error, true,
              [], {}, {ok}, {error, 1}, {ok, 1, 2}, [ok], <<1:3>>] ++ Bytes,
    Terms = Leaves ++ [{ok, Leaf} || Leaf <- Leaves],
    [?_assertEqual({ok, Term}, element_of(reply(Id, term_to_binary(Term)))) || Term <- Terms, Id <- [1, 300]]
        ++ [?_assertEqual(undecodable, element_of(reply(1, Bad)))
            || Bad <- [<<131, 70, 16#7ff8000000000000:64>>, <<131, 104, 2, 119, 2, "ok", 70, 16#7ff0000000000000:64>>,
                       <<131, 97, 1, 0>>, <<131, 104, 2, 119, 2, "ok", 97, 1, 0>>, <<131, 109, 3:32, "ab">>,
                       <<131, 109, 1:32, "ab">>, <<131, 98, 1:24>>]].

%% It does not hold on to the frame.
small_binaries_are_copies_test() ->
    {Frame, BodyAt} = reply(1, term_to_binary({ok, <<0:512>>})),
    {ok, {ok, Bytes}} = gen_driver_proto:term(<<Frame/binary>>, BodyAt),
    ?assertEqual(64, binary:referenced_byte_size(Bytes)).

reply(Id, <<131, Term/binary>>) ->
    <<131, Number/binary>> = term_to_binary(Id),
    Head = <<131, 104, 3, 119, 5, "reply", Number/binary>>,
    {<<Head/binary, Term/binary>>, byte_size(Head)}.

element_of({Frame, BodyAt}) ->
    {reply, _, BodyAt} = gen_driver_proto:decode(Frame),
    gen_driver_proto:term(Frame, BodyAt).

bytes(N) -> list_to_binary([I rem 256 || I <- lists:seq(1, N)]).

%%% envelopes.txt: what a host takes and refuses; here: what it takes that we would write

envelopes_test_() ->
    [{Name, ?_test(envelope(unhex(Hex)))} || [Name, Hex, "ok", "kind=call" ++ _] <- vectors("envelopes.txt"),
                                             string:find(Name, "unknown") =:= nomatch,
                                             string:find(Name, "empty options") =:= nomatch].

envelope(Frame) ->
    Term = binary_to_term(Frame),
    ?assertEqual(Term, binary_to_term(iolist_to_binary(encode(Term)))).

%%% terms.txt, as replies: name, hex, verdict, perhaps the term

terms_test_() ->
    [{Name, ?_test(term(unhex(Hex), Verdict, Text))} || [Name, Hex, Verdict | Text] <- vectors("terms.txt")].

term(<<131, Body/binary>>, Verdict, Text) ->
    Expected = [Term || {ok, Term} <- [try_parse(T) || T <- Text]],
    Frame = <<131, 104, 3, 119, 5, "reply", 98, 7:32, Body/binary>>,
    case gen_driver_proto:decode(Frame) of
        {reply, 7, BodyAt} -> verdict(Verdict, Expected, gen_driver_proto:term(Frame, BodyAt));
        bad_frame -> ?assertEqual(<<>>, Body)
    end;
term(_NoVersion, Verdict, _Text) ->
    ?assertEqual("bad_term", Verdict).

%% Beside every term: the one that ends a node of OTP 28, and a binary that only looks so.
a_bit_string_of_no_bytes_is_never_decoded_test_() ->
    Fatal = <<77, 0:32, 0>>,
    Looks = <<109, 6:32, Fatal/binary>>,
    [{Name, ?_test(beside(Body, Fatal, Looks))}
     || [Name, Hex, "ok" | _] <- vectors("terms.txt"), <<131, Body/binary>> <- [unhex(Hex)]].

beside(Body, Fatal, Looks) ->
    Alone = reply(Body),
    ?assertEqual(undecodable, reply(<<104, 2, Body/binary, Fatal/binary>>)),
    ?assertEqual(undecodable, reply(<<108, 1:32, Looks/binary, 116, 1:32, Body/binary, Fatal/binary>>)),
    ?assertEqual(case Alone of {ok, Term} -> {ok, {Term, <<77, 0:32, 0>>}}; undecodable -> undecodable end,
                 reply(<<104, 2, Body/binary, Looks/binary>>)).

reply(Body) ->
    Frame = <<131, 104, 3, 119, 5, "reply", 97, 7, Body/binary>>,
    {reply, 7, BodyAt} = gen_driver_proto:decode(Frame),
    gen_driver_proto:term(Frame, BodyAt).

verdict("ok", [Term], Got) -> ?assertEqual({ok, Term}, Got);
verdict("ok", [], _Got) -> ok;                  % held elsewhere, or of atoms this node has or not
verdict("compressed", _, Got) -> ?assertEqual(undecodable, Got);
verdict("trailing_bytes", _, Got) -> ?assertEqual(undecodable, Got);
verdict(_StricterThanSomeVMs, _, {ok, _}) -> ok;
verdict(_Refused, _, Got) -> ?assertEqual(undecodable, Got).

%%% Outcomes

every_reason_is_known_test_() ->
    Never = [overloaded, expired, cancelled, draining, unavailable, not_run, bad_request, quarantined, forbidden],
    Perhaps = [crashed, interrupted, timeout, bad_reply],
    [?_assertEqual({failed, 3, Reason}, gen_driver_proto:decode(term_to_binary({failed, 3, Reason})))
     || Reason <- Never ++ Perhaps]
    ++ [?_assert(gen_driver_proto:retryable(Reason)) || Reason <- Never]
    ++ [?_assertNot(gen_driver_proto:retryable(Reason)) || Reason <- [undecodable, disconnected | Perhaps]].

atoms_in_every_form_test_() ->
    [?_assertEqual({failed, 3, expired},
                   gen_driver_proto:decode(<<131, 104, 3, (atom(Form, "failed"))/binary, 97, 3,
                                             (atom(Form, "expired"))/binary>>))
     || Form <- [100, 115, 118, 119]].

atom(Form, Name) when Form =:= 100; Form =:= 118 -> <<Form, (length(Name)):16, (list_to_binary(Name))/binary>>;
atom(Form, Name) -> <<Form, (length(Name)), (list_to_binary(Name))/binary>>.

%%% Reading the files

vectors(File) ->
    {ok, Text} = file:read_file(filename:join([gen_driver_fake:repository(), "tests/vectors", File])),
    Lines = [string:split(Line, "\t", all) || Line <- string:split(binary_to_list(Text), "\n", all),
                                              Line =/= "", hd(Line) =/= $#],
    ?assert(length(Lines) > 10),
    Lines.

unhex(Hex) ->
    binary:decode_hex(list_to_binary(Hex)).

parse(Text) ->
    {ok, Term} = try_parse(Text),
    Term.

%% Pids, references and funs have no text that can be read.
try_parse(Text) ->
    case erl_scan:string(Text ++ ".") of
        {ok, Tokens, _} -> erl_parse:parse_term(Tokens);
        {error, _, _} -> unreadable
    end.
