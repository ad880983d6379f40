#!/usr/bin/env escript
%% SPDX-License-Identifier: MIT
%% Writes terms.txt, envelopes.txt, frames.txt and handshake.txt beside itself. Every verdict is held
%% against binary_to_term first: what is `ok` it takes, what is not it refuses, but for
%% the terms that the service refuses on its own account (`stricter`: some VMs take them).
-mode(compile).

main([]) ->
    Dir = filename:dirname(filename:absname(escript:script_name())),
    write(Dir, "terms.txt", "name\thex\tverdict\tterm (where Erlang can read it)", terms()),
    write(Dir, "envelopes.txt", "name\thex\tverdict\twhat a host reads in it", envelopes()),
    write(Dir, "frames.txt", "name\thex, with the length in front\twho\tterm", frames()),
    write(Dir, "handshake.txt", "name\tverdict\tname of the key\tkey\tgreeting\thello\tproof\twelcome\tserver's proof",
          handshakes()).

write(Dir, File, Columns, Lines) ->
    Head = "# SPDX-License-Identifier: MIT\n# Made by generate.escript. ",
    ok = file:write_file(filename:join(Dir, File), unicode:characters_to_binary([Head, Columns, "\n", Lines])).

line(Name, Bin, Verdict, More) ->
    [lists:join($\t, [Name, hex(Bin), Verdict | [More || More =/= ""]]), $\n].

hex(Bin) -> string:lowercase(binary:encode_hex(Bin)).

text(Term) -> lists:flatten(io_lib:format("~w", [Term])).

takes(Bin) ->
    try binary_to_term(Bin, [used]) of
        {_, Used} -> Used =:= byte_size(Bin)
    catch
        error:badarg -> false
    end.

%% --- terms --------------------------------------------------------------------------

terms() ->
    [[same(Name, Term) || {Name, Term} <- plain()],
     [ok(Name, body(Body)) || {Name, Body} <- taken()],
     [refused(Name, body(Body), "bad_term") || {Name, Body} <- refused()],
     [line(Name, body(Body), "bad_term", "") || {Name, Body} <- stricter()],
     limits()].

body(Body) -> iolist_to_binary([131, Body]).

%% The two ways in which VMs in use write atoms, where they differ.
same(Name, Term) ->
    New = term_to_binary(Term, [{minor_version, 2}]),
    Old = term_to_binary(Term, [{minor_version, 1}]),
    Term = binary_to_term(New),
    [line(Name, New, "ok", readable(Term)),
     [line(Name ++ " (older atoms)", Old, "ok", readable(Term)) || Old =/= New]].

readable(Term) ->
    case text(Term) of
        Text when length(Text) < 2000 -> Text;
        _ -> ""
    end.

ok(Name, Bin) -> true = takes(Bin), line(Name, Bin, "ok", "").

refused(Name, Bin, Verdict) -> {false, _} = {takes(Bin), Name}, line(Name, Bin, Verdict, "").

plain() ->
    [{"integer " ++ integer_to_list(N), N} || N <- integers()] ++
    [{"bignum of " ++ integer_to_list(N) ++ " bytes", Sign * (1 bsl (8 * N) - 1)}
     || {N, Sign} <- [{9, 1}, {9, -1}, {100, 1}, {255, -1}, {256, 1}, {4096, -1}]] ++
    [{"float " ++ float_to_list(F, [short]), F}
     || F <- [0.0, -0.0, 1.5, -2.25, 1.0e308, 5.0e-324, 2.2250738585072014e-308, 0.1]] ++
    [{"empty atom", ''}, {"atom", ok}, {"atom with quotes", 'hello world'}, {"atom é", 'é'},
     {"atom 日本", '日本'}, {"atom of 255 letters", list_to_atom(lists:duplicate(255, $a))},
     {"atom of 255 emojis", list_to_atom(lists:duplicate(255, 16#1F600))},
     {"atom of 128 é", list_to_atom(lists:duplicate(128, $é))},
     {"true", true}, {"nil", []}, {"empty tuple", {}}, {"empty map", #{}}, {"empty binary", <<>>},
     {"binary", <<0, 1, 255>>}, {"binary of 300 bytes", binary:copy(<<"x">>, 300)},
     {"bit string", <<5:3>>}, {"bit string of 17 bits", <<"ab", 1:1>>},
     {"byte list", "abc"}, {"byte list with zero", [0, 255]}, {"byte list of 300", lists:duplicate(300, 7)},
     {"list", [1, a, 2.5]}, {"list of 256", [256]}, {"improper list", [a | b]},
     {"improper byte list", [1, 2 | 3]}, {"nested lists", [[[[]]], [[]], []]},
     {"tuple", {ok, 1, <<"x">>}}, {"tuple of 255", erlang:make_tuple(255, 0)},
     {"tuple of 256", erlang:make_tuple(256, 0)}, {"nested tuples", {{{{}}}}},
     {"map", #{a => 1}}, {"map with odd keys", #{[] => #{}, {1} => [a], 1 => 1.0, 1.0 => <<"b">>}},
     {"map of 40", maps:from_list([{N, N * N} || N <- lists:seq(1, 40)])},
     {"reply", {reply, 7, {ok, [#{name => <<"n">>, list => [1, 2, 3]}]}}}].

integers() ->
    [0, 1, 255, 256, -1, -256, 1 bsl 27 - 1, 1 bsl 30 - 1, 1 bsl 31 - 1, 1 bsl 31, -(1 bsl 31),
     -(1 bsl 31) - 1, 1 bsl 32 - 1, 1 bsl 32, 1 bsl 59, -(1 bsl 59) - 1, 1 bsl 63 - 1, -(1 bsl 63),
     1 bsl 63, -(1 bsl 63) - 1, 1 bsl 64 - 1, 1 bsl 64, -(1 bsl 64)].

%% What OTP sends and Erlang source cannot say, and what only others send.
taken() ->
    Node = small("n@h"),
    Old = [100, <<3:16>>, "n@h"],
    [{"pid", [88, Node, <<1:32, 0:32, 5:32>>]}, {"pid, older", [103, Old, <<1:32, 0:32, 3>>]},
     {"pid, all bits", [88, Node, <<-1:96>>]},
     {"port", [89, Node, <<1:32, 5:32>>]}, {"port, older", [102, Old, <<1:32, 3>>]},
     {"port of 64 bits", [120, Node, <<-1:64, 5:32>>]},
     {"reference", [90, <<3:16>>, Node, <<5:32, 1:96>>]},
     {"reference of 5 words", [90, <<5:16>>, Node, <<5:32, -1:160>>]},
     {"reference, older", [114, <<3:16>>, Old, <<3, 16#3ffff:32, -1:64>>]},
     {"reference, oldest", [101, Old, <<16#3ffff:32, 3>>]},
     {"external fun", [113, small("lists"), small("map"), 97, 2]},
     {"external fun, older atoms", [113, [100, <<5:16>>, "lists"], [100, <<3:16>>, "map"], 97, 2]},
     {"fun", a_fun(0, [])}, {"fun of two values", a_fun(2, [97, 1, small("a")])},
     {"fun in a fun", a_fun(1, a_fun(1, [106]))}, {"list of funs", [108, <<2:32>>, a_fun(0, []), a_fun(1, [106]), 106]},
     {"node ''", [88, small(""), <<1:32, 0:32, 5:32>>]},
     {"float as text", float_text("1.50000000000000000000e+00")},
     {"float as text, signed", float_text("-1.5e-3")}, {"float as text, plus", float_text("+2.0")},
     {"float as text, too small", float_text("1.0e-999")},
     {"float as text, rest ignored", [99, "1.5", 0, lists:duplicate(27, $x)]},
     {"Latin-1 atom", [100, <<1:16>>, 233]}, {"small Latin-1 atom", [115, 1, 233]},
     {"small atom", [115, 2, "ok"]}, {"long form of a short atom", [118, <<2:16>>, "ok"]},
     {"atom with zero byte", [119, 1, 0]},
     {"large tuple of one", [105, <<1:32>>, 106]}, {"large tuple of none", [105, <<0:32>>]},
     {"empty byte list", [107, <<0:16>>]}, {"longest byte list", [107, <<16#ffff:16>>, binary:copy(<<1>>, 16#ffff)]},
     {"integer in a larger form", [98, <<1:32>>]}, {"bignum of no bytes", [110, 0, 0]},
     {"bignum with leading zeros", [110, 9, 0, 1, <<0:64>>]}, {"large form of a small bignum", [111, <<1:32>>, 1, 1]},
     {"minus zero bignum", [110, 1, 1, 0]}, {"bits, all eight", [77, <<1:32>>, 8, 1]},
     {"bits not used", [77, <<1:32>>, 1, 16#ff]},
     {"list whose tail is a list", [108, <<1:32>>, 97, 1, 108, <<1:32>>, 97, 2, 106]}].

refused() ->
    Node = small("n@h"),
    Cut = fun(N, Bin) -> binary:part(Bin, 0, byte_size(Bin) - N) end,
    [{"nothing", []}, {"unknown tag 0", [0]}, {"atom cache reference", [82, 0]},
     {"LOCAL_EXT", [121, <<0:64>>, 97, 1]}, {"old fun", [117, <<0:32>>, 103, Node, <<1:32, 0:32, 0>>, small("m"), 97, 0, 97, 0]},
     {"second version byte", [131, 106]},
     {"integer cut", [98, 0, 0, 0]}, {"small integer cut", [97]},
     {"NaN", [70, <<16#7ff8000000000000:64>>]}, {"infinity", [70, <<16#7ff0000000000000:64>>]},
     {"minus infinity", [70, <<16#fff0000000000000:64>>]}, {"float cut", [70, <<0:56>>]},
     {"atom cut", [119, 5, "ab"]}, {"atom of 256 letters", [118, <<256:16>>, lists:duplicate(256, $a)]},
     {"Latin-1 atom of 256 letters", [100, <<256:16>>, lists:duplicate(256, $a)]},
     {"atom longer than a frame", [118, <<16#ffff:16>>, "a"]},
     {"atom: surrogate", [119, 3, 16#ed, 16#a0, 16#80]}, {"atom: overlong", [119, 2, 16#c0, 16#80]},
     {"atom: overlong of 3", [119, 3, 16#e0, 16#80, 16#80]}, {"atom: beyond Unicode", [119, 4, 16#f4, 16#90, 16#80, 16#80]},
     {"atom: cut character", [119, 1, 16#c3]}, {"atom: lone continuation", [119, 1, 16#80]},
     {"binary longer than the frame", [109, <<5:32>>, "ab"]}, {"binary of 4 GiB", [109, <<-1:32>>, "ab"]},
     {"bits: none used", [77, <<1:32>>, 0, 1]}, {"bits: nine", [77, <<1:32>>, 9, 1]}, {"bits: cut", [77, <<2:32>>, 1, 1]},
     {"bits of no bytes, one used", [77, <<0:32>>, 1]},
     {"bignum cut", [110, 9, 0, 1]}, {"large bignum of 4 GiB", [111, <<-1:32>>, 0, 1]},
     {"byte list cut", [107, <<3:16>>, 1, 2]}, {"list without tail", [108, <<1:32>>, 97, 1]},
     {"list of 4 Gi", [108, <<-1:32>>, 106]}, {"tuple cut", [104, 2, 97, 1]}, {"tuple of 255, empty", [104, 255]},
     {"large tuple of 4 Gi", [105, <<-1:32>>, 106]},
     {"map of 4 Gi", [116, <<-1:32>>, 106]}, {"map of 2 Gi", [116, <<16#80000000:32>>, 106]},
     {"map without a value", [116, <<1:32>>, 97, 1]},
     {"pid of no node", [88, 97, 1, <<1:32, 0:32, 5:32>>]}, {"pid cut", [88, Node, <<1:32, 0:32>>]},
     {"pid, older: creation 4", [103, Node, <<1:32, 0:32, 4>>]}, {"port cut", [89, Node, <<1:32>>]},
     {"port, older: creation 4", [102, Node, <<1:32, 4>>]}, {"port of 64 bits cut", [120, Node, <<1:64>>]},
     {"reference of 6 words", [90, <<6:16>>, Node, <<5:32, 0:192>>]}, {"reference cut", [90, <<3:16>>, Node, <<5:32, 0:64>>]},
     {"reference, older: creation 4", [114, <<1:16>>, Node, <<4, 1:32>>]},
     {"reference, older: 19 bits", [114, <<1:16>>, Node, <<0, 16#40000:32>>]},
     {"reference, oldest: 19 bits", [101, Node, <<16#40000:32, 0>>]},
     {"external fun of no module", [113, 97, 1, small("map"), 97, 2]}, {"external fun cut", [113, small("lists"), small("map"), 97]},
     {"external fun of minus one", [113, small("lists"), small("map"), 98, <<-1:32>>]},
     {"fun cut", Cut(1, iolist_to_binary(a_fun(1, [106])))}, {"fun of no module", a_fun([97, 0], 0, [])}] ++
    [{"float as text: " ++ S, float_text(S)} || S <- ["nan", "inf", "1e5", "1.", ".5", " 1.5", "1.5 ", "1.5e", "0x1.8", "1.0e999", ""]].

stricter() ->
    [{"list of no elements", [108, <<0:32>>, 106]}, {"list of no elements, tail 7", [108, <<0:32>>, 97, 7]},
     {"bits of no bytes", [77, <<0:32>>, 0]}, {"sign 2", [110, 1, 2, 5]}, {"large sign 255", [111, <<1:32>>, 255, 5]},
     {"float as text: 1,5", float_text("1,5")}, {"float as text: no end", [99, "1.50000000000000000000000000000"]},
     {"external fun, arity in a larger form", [113, small("lists"), small("map"), 98, <<2:32>>]},
     {"fun: size field 1 too small", sized_fun(-1)}, {"fun: size field 0", sized_fun(-1000000)},
     {"fun in a tuple: size field 1 too large", [104, 2, sized_fun(1), 106]}].

limits() ->
    Deep = fun(N) -> body([binary:copy(<<104, 1>>, N), 106]) end,
    Lists = fun(N) -> body([binary:copy(<<108, 1:32>>, N), binary:copy(<<106>>, N + 1)]) end,
    Conses = fun(N) -> binary:copy(<<108, 1:32, 97, 1>>, N) end,
    Compressed = term_to_binary(lists:duplicate(100, a), [compressed]),
    <<131, Inner/binary>> = Compressed,
    true = takes(Compressed),
    [ok("128 tuples deep", Deep(128)), line("129 tuples deep", Deep(129), "too_deep", ""),
     ok("a list cons by cons, 200 of them", body([Conses(200), 106])), 
     ok("the same, in a fun", body(a_fun(1, [Conses(200), 106]))), ok("the same, improper", body([Conses(200), 97, 7])),
     ok("the same, a string at its end", body([Conses(200), 107, <<2:16>>, "ab"])),
     ok("lists cons by cons in one", body([Conses(3), <<108, 2:32>>, Conses(150), 106, Conses(2), 106, 106])),
     line("128 lists deep in a list cons by cons", body([Conses(2), <<108, 1:32>>, binary:copy(<<108, 1:32>>, 128), binary:copy(<<106>>, 129), 106]), "too_deep", ""),
     line("a tuple as a tuple's last element is deep", body([binary:copy(<<104, 2, 97, 1>>, 129), 106]), "too_deep", ""),
     ok("128 lists deep", Lists(128)), line("129 lists deep", Lists(129), "too_deep", ""),
     line("bignum of 4097 bytes", term_to_binary(1 bsl (8 * 4097) - 1), "bignum_too_large", ""),
     line("bignum of 4097 bytes, in a map", term_to_binary(#{1 => 1 bsl (8 * 4097) - 1}), "bignum_too_large", ""),
     line("compressed", Compressed, "compressed", ""),
     refused("compressed in a tuple", body([104, 1, Inner]), "compressed"),
     line("trailing byte", body([106, 0]), "trailing_bytes", ""),
     line("two terms", body([97, 1, 97, 2]), "trailing_bytes", ""),
     refused("no version byte", <<106>>, "bad_term"), refused("other version byte", <<130, 106>>, "bad_term"),
     refused("no bytes", <<>>, "bad_term")].

small(Name) -> [119, length(Name), Name].

float_text(S) -> [99, S, lists:duplicate(31 - length(S), 0)].

a_fun(N, Values) -> a_fun(small("m"), N, Values).
a_fun(Module, N, Values) -> a_fun(Module, N, Values, 0).
a_fun(Module, N, Values, Wrong) ->
    Rest = iolist_to_binary([1, <<0:128>>, <<0:32>>, <<N:32>>, Module, 97, 0, 98, <<77:32>>,
                             [88, small("n@h"), <<1:32, 0:32, 5:32>>], Values]),
    [112, <<(max(0, byte_size(Rest) + 4 + Wrong)):32>>, Rest].

sized_fun(Wrong) -> a_fun(small("m"), 1, [106], Wrong).

%% --- envelopes ----------------------------------------------------------------------

envelopes() ->
    [[read(Name, Term, Expected) || {Name, Term, Expected} <- messages()],
     [line(Name, body(Body), "ok", Expected) || {Name, Body, Expected} <- odd_messages()],
     [bad(Name, "bad_envelope", Term, "") || {Name, Term} <- bad_envelopes()],
     [bad(Name, "bad_request", Term, Expected) || {Name, Term, Expected} <- bad_requests()]].

read(Name, Term, Expected) ->
    Older = term_to_binary(Term, [{minor_version, 1}]),
    [line(Name, term_to_binary(Term, [{minor_version, 2}]), "ok", Expected([{minor_version, 2}])),
     line(Name ++ " (older atoms)", Older, "ok", Expected([{minor_version, 1}]))].

bad(Name, Verdict, Term, Expected) ->
    line(Name, term_to_binary(Term, [{minor_version, 2}]), Verdict, Expected).

messages() ->
    Fixed = fun(Text) -> fun(_) -> Text end end,
    With = fun(Text, Params, More) ->
               fun(Options) ->
                   <<131, Bytes/binary>> = term_to_binary(Params, Options),
                   lists:flatten([Text, " params=", hex_text(Bytes), More])
               end
           end,
    [{"call", {call, 7, 1}, Fixed("kind=call id=7 cmd=1")},
     {"call 0", {call, 0, 0}, Fixed("kind=call id=0 cmd=0")},
     {"call, largest numbers", {call, 16#7fffffff, 16#3fffffff}, Fixed("kind=call id=2147483647 cmd=1073741823")},
     {"call with params", {call, 256, 3, [1, 2, 3, 4]}, With("kind=call id=256 cmd=3", [1, 2, 3, 4], "")},
     {"call with atoms", {call, 1, 2, {a, #{b => c}}}, With("kind=call id=1 cmd=2", {a, #{b => c}}, "")},
     {"call with empty options", {call, 1, 2, [], #{}}, With("kind=call id=1 cmd=2", [], "")},
     {"call with a timeout", {call, 1, 2, x, #{timeout => 5000}}, With("kind=call id=1 cmd=2", x, " timeout=5000")},
     {"call with every option", {call, 1, 2, x, #{timeout => 16#ffffffff, key => 16#ffffffff, trace => <<"t1">>}},
      With("kind=call id=1 cmd=2", x, " timeout=4294967295 key=4294967295 trace=7431")},
     {"call with zeros for options", {call, 1, 2, x, #{timeout => 0, key => 0, trace => <<>>}},
      With("kind=call id=1 cmd=2", x, " timeout=0 key=0 trace=")},
     {"call with unknown options", {call, 1, 2, x, #{key => 1, other => [#{timeout => a}], 7 => {key, 2}, <<"key">> => 3}},
      With("kind=call id=1 cmd=2", x, " key=1")},
     {"cast", {cast, 1}, Fixed("kind=cast cmd=1")},
     {"cast with params", {cast, 1, <<"p">>}, With("kind=cast cmd=1", <<"p">>, "")},
     {"cast with a key", {cast, 1, <<"p">>, #{key => 9}}, With("kind=cast cmd=1", <<"p">>, " key=9")},
     {"call that takes parts", {call, 1, 2, x, #{parts => 1, key => 3}}, With("kind=call id=1 cmd=2", x, " key=3 parts=1")},
     {"call that takes all parts", {call, 1, 2, x, #{parts => 16#ffffffff}}, With("kind=call id=1 cmd=2", x, " parts=4294967295")},
     {"cast with parts", {cast, 1, x, #{parts => 5}}, With("kind=cast cmd=1", x, " parts=5")},
     {"cancel", {cancel, 65536}, Fixed("kind=cancel id=65536")},
     {"credit", {credit, 7, 1}, Fixed("kind=credit id=7 parts=1")},
     {"credit, largest numbers", {credit, 16#7fffffff, 16#ffffffff}, Fixed("kind=credit id=2147483647 parts=4294967295")},
     {"notes", {notes, true}, Fixed("kind=notes wanted=true")},
     {"no notes", {notes, false}, Fixed("kind=notes wanted=false")},
     {"ping", {ping, 3}, Fixed("kind=ping id=3")},
     {"goodbye", {goodbye, done}, Fixed("kind=goodbye")}].

hex_text(Bin) -> binary_to_list(hex(Bin)).

odd_messages() ->
    [{"call in a large tuple", [105, <<3:32>>, small("call"), 97, 7, 97, 1], "kind=call id=7 cmd=1"},
     {"call, long atom", [104, 3, 118, <<4:16>>, "call", 97, 7, 97, 1], "kind=call id=7 cmd=1"},
     {"call, small Latin-1 atom", [104, 3, 115, 4, "call", 97, 7, 97, 1], "kind=call id=7 cmd=1"},
     {"call, id as a bignum", [104, 3, small("call"), 110, 4, 0, <<1:32/little>>, 111, <<2:32>>, 0, <<2:16/little>>], "kind=call id=1 cmd=2"},
     {"call, id with leading zeros", [104, 3, small("call"), 110, 9, 0, <<1:72/little>>, 98, <<2:32>>], "kind=call id=1 cmd=2"}].

bad_envelopes() ->
    [{"an atom", call}, {"an integer", 1}, {"a list", [call, 1, 2]}, {"a map", #{call => 1}}, {"a string", "call"},
     {"empty tuple", {}}, {"only a tag", {call}}, {"no command", {call, 1}}, {"cast only", {cast}},
     {"unknown tag", {frobnicate, 1}}, {"tag of other case", {'Call', 1, 1}}, {"longer tag", {call2, 1, 1}},
     {"tag is a binary", {<<"call">>, 1, 1}}, {"six elements", {call, 1, 1, [], #{}, 0}},
     {"cast of five", {cast, 1, [], #{}, 0}}, {"a tuple of twelve", erlang:make_tuple(12, call)},
     {"call: id -1", {call, -1, 1}}, {"call: id 2^31", {call, 16#80000000, 1}}, {"call: id 2^64", {call, 1 bsl 64, 1}},
     {"call: id is an atom", {call, x, 1}}, {"call: id is a float", {call, 1.0, 1}}, {"call: id is a list", {call, [1], 1}},
     {"cancel: id -1", {cancel, -1}}, {"cancel of three", {cancel, 1, 2}}, {"cancel alone", {cancel}},
     {"ping: id 2^31", {ping, 16#80000000}}, {"ping: id is a binary", {ping, <<1>>}}, {"ping of three", {ping, 1, 2}},
     {"goodbye: a number", {goodbye, 1}}, {"goodbye of three", {goodbye, done, 1}},
     {"credit of 0", {credit, 1, 0}}, {"credit of 2^32", {credit, 1, 1 bsl 32}}, {"credit of -1", {credit, 1, -1}},
     {"credit of an atom", {credit, 1, all}}, {"credit: id 2^31", {credit, 16#80000000, 1}},
     {"credit of two", {credit, 1}}, {"credit of four", {credit, 1, 1, 1}},
     {"notes: 1", {notes, 1}}, {"notes: maybe", {notes, maybe}}, {"notes of three", {notes, true, 1}}, {"notes alone", {notes}},
     {"a part", {part, 1, ok}}, {"a note", {note, ok}},
     {"a reply", {reply, 1, ok}}, {"hello again", {hello, 1, <<"sum">>, #{}}}].

bad_requests() ->
    [{"call: command -1", {call, 7, -1}, "kind=call id=7"}, {"call: command 2^30", {call, 7, 1 bsl 30}, "kind=call id=7"},
     {"call: command 2^70", {call, 7, 1 bsl 70}, "kind=call id=7"}, {"call: command is an atom", {call, 7, x}, "kind=call id=7"},
     {"call: command is a float", {call, 7, 1.0, []}, "kind=call id=7"},
     {"call: options are a list", {call, 7, 1, [], []}, "kind=call id=7"},
     {"call: timeout -1", {call, 7, 1, [], #{timeout => -1}}, "kind=call id=7"},
     {"call: timeout 2^32", {call, 7, 1, [], #{timeout => 1 bsl 32}}, "kind=call id=7"},
     {"call: timeout infinity", {call, 7, 1, [], #{timeout => infinity}}, "kind=call id=7"},
     {"call: key 2^32", {call, 7, 1, [], #{key => 1 bsl 32}}, "kind=call id=7"},
     {"call: key is a tuple", {call, 7, 1, [], #{key => {1}}}, "kind=call id=7"},
     {"call: parts 0", {call, 7, 1, [], #{parts => 0}}, "kind=call id=7"},
     {"call: parts 2^32", {call, 7, 1, [], #{parts => 1 bsl 32}}, "kind=call id=7"},
     {"call: parts infinity", {call, 7, 1, [], #{parts => infinity}}, "kind=call id=7"},
     {"call: trace is a string", {call, 7, 1, [], #{trace => "t"}}, "kind=call id=7"},
     {"call: trace is bits", {call, 7, 1, [], #{trace => <<1:1>>}}, "kind=call id=7"},
     {"cast: command 2^30", {cast, 1 bsl 30}, "kind=cast"}, {"cast: command is an atom", {cast, x, []}, "kind=cast"},
     {"cast: options are an atom", {cast, 1, [], x}, "kind=cast"}, {"cast: key -1", {cast, 1, [], #{key => -1}}, "kind=cast"}].

%% --- frames -------------------------------------------------------------------------

frames() ->
    [frame(Who, Term, Options) || {Who, Term} <- protocol(), Options <- [[{minor_version, 2}], [{minor_version, 1}]]].

frame(Who, Term, Options) ->
    Bin = term_to_binary(Term, Options),
    Older = case Options of [{minor_version, 1}] -> " (older atoms)"; _ -> "" end,
    line(atom_to_list(element(1, Term)) ++ "/" ++ integer_to_list(tuple_size(Term)) ++ Older,
         <<(byte_size(Bin)):32, Bin/binary>>, Who, text(Term)).

protocol() ->
    Welcome = #{instance => <<"sum">>, generation => 1, threads => 4, commands => #{<<"sum">> => 1},
                atoms => [<<"ok">>, <<"error">>], last_exit => none,
                limits => #{frame => 67108864, depth => 128, terms => 1000000, bignum => 4096,
                            in_flight => 1000, in_flight_bytes => 67108864}},
    [{"server", {gen_driver, 1, #{server => <<"gendriverd 0.1.0">>, auth => none, nonce => binary:copy(<<7>>, 32)}}},
     {"client", {hello, 1, <<"sum">>, #{}}},
     {"server", {welcome, 1, Welcome}}, {"server", {refused, unknown_instance}},
     {"client", {call, 0, 1}}, {"client", {call, 1, 1, [1, 2, 3, 4]}},
     {"client", {call, 2, 1, [1, 2, 3, 4], #{timeout => 5000, key => 7, trace => <<"t">>}}},
     {"client", {cast, 2}}, {"client", {cast, 2, {a, 1}}}, {"client", {cast, 2, {a, 1}, #{key => 7}}},
     {"client", {call, 3, 1, [], #{parts => 16}}}, {"client", {credit, 3, 8}}, {"client", {notes, true}},
     {"client", {cancel, 2}}, {"client", {ping, 3}}, {"client", {goodbye, done}},
     {"host", {reply, 0, {ok, 10.0}}}, {"host", {failed, 1, overloaded}}, {"host", {pong, 3}},
     {"host", {part, 2, [1]}}, {"host", {note, {changed, 1}}}, {"host", {goodbye, draining}}].

%% --- handshakes with keys -----------------------------------------------------------

%% `auth': the server refuses the client's proof; `bad_proof': the client the server's.
handshakes() ->
    [shaken("a key of 32 bytes", #{}),
     shaken("older atoms", #{minor => 1}),
     shaken("a text as key", #{key => <<"hm9kZGVuIGluIHBsYWluIHNpZ2h0LCBmb3IgdGVzdHM=">>}),
     shaken("a key longer than a block of the hash", #{key => bytes(100)}),
     shaken("the longest key", #{key => bytes(1024)}),
     shaken("a name that is no ASCII", #{name => <<"schl\303\274ssel">>}),
     shaken("keys of the maps that nobody knows", #{more => #{later => [1, <<"x">>]}}),
     shaken("a proof of another key", #{client => fun(C) -> client(C#{key := bytes(33)}) end, verdict => "auth"}),
     shaken("a proof of another greeting: replayed",
            #{client => fun(C) -> client(greeted(C#{server_nonce := nonce(9)})) end, verdict => "auth"}),
     shaken("a proof of another nonce of the client",
            #{client => fun(C) -> client(said(C#{client_nonce := nonce(9)})) end, verdict => "auth"}),
     shaken("a proof of another instance",
            #{client => fun(C) -> client(said(C#{instance := <<"echo">>})) end, verdict => "auth"}),
     shaken("a proof with the server's label",
            #{client => fun(C) -> mac(C, "gendriverd 1 server", [greeting, hello]) end, verdict => "auth"}),
     shaken("a proof without its label's end",
            #{client => fun(#{key := K, greeting := G, hello := H}) -> hmac(K, ["gendriverd 1 client", G, H]) end,
              verdict => "auth"}),
     shaken("a proof cut by a byte", #{client => fun(C) -> binary:part(client(C), 0, 31) end, verdict => "auth"}),
     shaken("an empty proof", #{client => fun(_) -> <<>> end, verdict => "auth"}),
     shaken("a proof that is an atom", #{client => fun(_) -> none end, verdict => "auth"}),
     shaken("a server that does not know the key",
            #{server => fun(C) -> server(C#{key := bytes(33)}) end, verdict => "bad_proof"}),
     shaken("a server's proof of another welcome",
            #{server => fun(C) -> server(C#{welcome := frame({welcome, 1, #{}}, 2)}) end, verdict => "bad_proof"}),
     shaken("a server's proof of another connection",
            #{server => fun(C) -> server(proved(said(C#{client_nonce := nonce(9)}))) end, verdict => "bad_proof"}),
     shaken("the client's own proof sent back", #{server => fun client/1, verdict => "bad_proof"}),
     shaken("a server's proof with the client's label",
            #{server => fun(C) -> mac(C, "gendriverd 1 client", [greeting, hello, proof, welcome]) end,
              verdict => "bad_proof"}),
     shaken("a server's proof that leaves out the client's",
            #{server => fun(C) -> mac(C, "gendriverd 1 server", [greeting, hello, welcome]) end, verdict => "bad_proof"}),
     shaken("a server's proof cut by a byte",
            #{server => fun(C) -> binary:part(server(C), 0, 31) end, verdict => "bad_proof"}),
     shaken("an empty proof of the server", #{server => fun(_) -> <<>> end, verdict => "bad_proof"})].

shaken(Name, Given) ->
    Case = maps:merge(#{verdict => "ok", name => <<"anna">>, key => bytes(32), minor => 2, more => #{},
                        instance => <<"sum">>, server_nonce => nonce(1), client_nonce => nonce(2),
                        client => fun client/1, server => fun server/1}, Given),
    All = welcomed(proved(said(greeted(Case)))),
    [lists:join($\t, [Name, maps:get(verdict, All), maps:get(name, All)
                      | [hex(maps:get(Field, All)) || Field <- [key, greeting, hello, proof, welcome, server_proof]]]), $\n].

greeted(C = #{server_nonce := Nonce, more := More, minor := Minor}) ->
    About = #{server => <<"gendriverd 0.1.0">>, auth => hmac, nonce => Nonce},
    C#{greeting => frame({gen_driver, 1, maps:merge(About, More)}, Minor)}.

said(C = #{name := Name, client_nonce := Nonce, instance := Instance, more := More, minor := Minor}) ->
    C#{hello => frame({hello, 1, Instance, maps:merge(#{key => Name, nonce => Nonce}, More)}, Minor)}.

proved(C = #{client := Client, minor := Minor}) ->
    C#{proof => frame({proof, Client(C)}, Minor)}.

welcomed(C = #{instance := Instance, server := Server, minor := Minor}) ->
    Limits = #{frame => 1000, depth => 128, terms => 1000, bignum => 64, in_flight => 10, in_flight_bytes => 1000},
    Welcome = #{instance => Instance, generation => 1, threads => 4, commands => #{<<"sum">> => 1}, atoms => [],
                limits => Limits, last_exit => none},
    Whole = C#{welcome => frame({welcome, 1, Welcome}, Minor)},
    Whole#{server_proof => frame({proof, Server(Whole)}, Minor)}.

client(C) -> mac(C, "gendriverd 1 client", [greeting, hello]).
server(C) -> mac(C, "gendriverd 1 server", [greeting, hello, proof, welcome]).

mac(C = #{key := Key}, Label, Frames) -> hmac(Key, [Label, 0 | [maps:get(Frame, C) || Frame <- Frames]]).

hmac(Key, Data) -> crypto:mac(hmac, sha256, Key, Data).

bytes(N) -> << <<((7 * I + N) rem 256)>> || I <- lists:seq(1, N) >>.

nonce(N) -> binary:copy(<<N>>, 32).

frame(Term, Minor) ->
    Encoded = term_to_binary(Term, [{minor_version, Minor}]),
    <<(byte_size(Encoded)):32, Encoded/binary>>.
