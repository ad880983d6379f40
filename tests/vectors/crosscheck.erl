%% SPDX-License-Identifier: MIT
%% Holds the validator in C and the guard in Python against binary_to_term and each other (make crosscheck).
%%
%% What term_to_binary makes they take: of COUNT random terms all, but for what is refused on purpose, compressed ones
%% and those beyond the limits. What they take, binary_to_term takes: of COUNT damaged terms all, but for what only it
%% can judge, a map's duplicate keys; and what became of it they take again. Where they are stricter (the head of
%% etf.h says when), that is counted. No identifiers of the own node are among what is damaged: their bits only
%% that node can judge.
-module(crosscheck).

-export([main/1]).

-define(BATCH, 2000).
-define(OK, 0).
-define(REASONS, {bad_term, compressed, trailing_bytes, too_deep, too_many_terms, bignum_too_large, no_memory}).

-spec main([string()]) -> no_return().
main([C, Python, Guard, Count]) ->
    Seed = case os:getenv("SEED", "") of "" -> erlang:unique_integer([positive]) + os:system_time(); N -> list_to_integer(N) end,
    io:format("OTP ~s, SEED=~b~n", [erlang:system_info(otp_release), Seed]),
    rand:seed(exsss, Seed),
    put(atoms, list_to_tuple([atom(rand:uniform(4)) || _ <- lists:seq(1, 3000)])),
    Judges = judges([{C, []}, {Python, [Guard]}], ["128", "1000000", "4096"]),
    Narrow = judges([{C, []}, {Python, [Guard]}], ["3", "20", "8"]),
    Wanted = list_to_integer(Count),
    Made = made(Judges, Wanted, #{}),
    Damaged = damaged(Judges, Wanted, #{}),
    Limited = limited(Narrow, Wanted div 4, #{}),
    io:format("made: ~p~ndamaged: ~p~nnarrow limits: ~p~n", [Made, Damaged, Limited]),
    Wrong = lists:sum([maps:get(wrong, Tally, 0) || Tally <- [Made, Damaged, Limited]]),
    io:format("~b terms made and ~b damaged, ~b disagreements~n", [Wanted, Wanted, Wrong]),
    halt(min(Wrong, 1)).

judges(Programs, Limits) ->
    [open_port({spawn_executable, Program}, [{args, Arguments ++ Limits}, {packet, 4}, binary]) || {Program, Arguments} <- Programs].

%% --- made ------------------------------------------------------------------------------

made(_, N, Tally) when N =< 0 -> Tally;
made(Judges, N, Tally) ->
    Bins = [encoded(rand:uniform(200)) || _ <- lists:seq(1, min(N, ?BATCH))],
    made(Judges, N - ?BATCH, tally(fun taken/1, verdicts(Judges, Bins), Tally)).

%% A few are of the kinds that are refused.
encoded(1) -> term_to_binary({lists:seq(1, 1000), term(2)}, [compressed]);
encoded(2) -> term_to_binary(nested(rand:uniform(300), term(0)));
encoded(3) -> term_to_binary(integer(rand:uniform(8192)));
encoded(4) -> term_to_binary(large(rand:uniform(7)));
encoded(_) -> term_to_binary(term(rand:uniform(4)), option(rand:uniform(4))).

option(1) -> [{minor_version, 1}];
option(2) -> [{minor_version, 0}];
option(_) -> [].

%% binary_to_term takes all of them.
taken({_, Verdict, Other}) when Verdict =/= Other -> wrong;
taken({_, ?OK, _}) -> taken;
taken({<<131, 80, _/binary>>, 2, _}) -> compressed;
taken({Bin, 4, _}) -> case depth(binary_to_term(Bin)) > 128 of true -> too_deep; false -> wrong end;
taken({Bin, 6, _}) when byte_size(Bin) > 4096 -> bignum_too_large;
taken(_) -> wrong.

nested(0, Term) -> Term;
nested(N, Term) -> nested(N - 1, case rand:uniform(3) of 1 -> [Term]; 2 -> {Term}; 3 -> #{Term => 1} end).

%% As etf.h counts it.
depth([_ | _] = List) -> case is_string(List, 65535) of true -> 0; false -> 1 + lists:max(depths(List)) end;
depth(T) when is_tuple(T), T =/= {} -> 1 + lists:max(depths(tuple_to_list(T)));
depth(T) when is_map(T), map_size(T) > 0 -> 1 + lists:max(depths(maps:keys(T) ++ maps:values(T)));
depth(T) when is_function(T) -> {env, Env} = erlang:fun_info(T, env), 1 + lists:max([0 | depths(Env)]);
depth(_) -> 0.

depths([T | Tail]) -> [depth(T) | depths(Tail)];
depths([]) -> [];
depths(Tail) -> [depth(Tail)].

is_string([], _) -> true;
is_string([Byte | Tail], N) when is_integer(Byte), Byte >= 0, Byte < 256, N > 0 -> is_string(Tail, N - 1);
is_string(_, _) -> false.

%% --- damaged -----------------------------------------------------------------------------

damaged(_, N, Tally) when N =< 0 -> Tally;
damaged(Judges, N, Tally) ->
    Seeds = list_to_tuple(seeds()),
    Bins = [mutate(element(rand:uniform(tuple_size(Seeds)), Seeds), rand:uniform(3)) || _ <- lists:seq(1, min(N, ?BATCH))],
    Judged = verdicts(Judges, Bins),
    Again = [term_to_binary(binary_to_term(Bin)) || {Bin, ?OK, _} <- Judged, otp(Bin) =:= taken],
    More = tally(fun compared/1, Judged, Tally),
    damaged(Judges, N - ?BATCH, tally(fun again/1, verdicts(Judges, Again), More)).

%% With little room for each, which OTP knows nothing of: C and Python against each other.
limited(_, N, Tally) when N =< 0 -> Tally;
limited(Judges, N, Tally) ->
    Seeds = list_to_tuple(seeds()),
    Bins = [mutate(element(rand:uniform(tuple_size(Seeds)), Seeds), rand:uniform(2) - 1) || _ <- lists:seq(1, min(N, ?BATCH))],
    limited(Judges, N - ?BATCH, tally(fun alike/1, verdicts(Judges, Bins), Tally)).

alike({_, ?OK, ?OK}) -> both_take;
alike({_, Verdict, Verdict}) -> element(Verdict, ?REASONS);
alike(_) -> wrong.

%% Of what was taken it is made anew: an older form may have had less, and so more fits now.
again({_, ?OK, ?OK}) -> taken_again;
again(_) -> wrong.

compared({_, Verdict, Other}) when Verdict =/= Other -> wrong;
compared({Bin, Verdict, _}) -> compared(Verdict, otp(Bin, Verdict), Bin).

compared(?OK, taken, _) -> both_take;
compared(?OK, _, Bin) -> case otp(without_maps(Bin)) of taken -> duplicate_keys; _ -> wrong end;
compared(1, taken, _) -> stricter;
compared(Verdict, taken, _) -> element(Verdict, ?REASONS);
compared(_, not_asked, _) -> not_asked;
compared(_, _, _) -> both_refuse.

%% A bit string of no bytes and no bits takes the whole VM down, from 28 on: so what is refused is not asked.
otp(Bin, Verdict) ->
    case Verdict =/= ?OK andalso binary:match(Bin, <<77, 0:40>>) =/= nomatch of
        true -> not_asked;
        false -> otp(Bin)
    end.

otp(Bin) ->
    try binary_to_term(Bin, [used]) of
        {_, Used} when Used =:= byte_size(Bin) -> taken;
        _ -> trailing
    catch
        error:_ -> refused
    end.

%% --- the judges -----------------------------------------------------------------------

%% [{Bin, Verdict of C, Verdict of Python}]
verdicts(_, []) -> [];
verdicts(Judges, Bins) ->
    Packet = [[<<(byte_size(Bin)):32>>, Bin] || Bin <- Bins],
    [true = port_command(Judge, Packet) || Judge <- Judges],
    [C, Python] = [receive {Judge, {data, Answer}} -> binary_to_list(Answer) after 120000 -> halt(2) end || Judge <- Judges],
    lists:zip3(Bins, C, Python).

tally(Judge, Judged, Tally) ->
    lists:foldl(fun(Each, Seen) -> count(Judge(Each), Each, Seen) end, Tally, Judged).

count(Key, {Bin, C, Python}, Tally) ->
    [io:format("wrong: C ~b, Python ~b, OTP ~p: ~s~n", [C, Python, otp(Bin, C), binary:encode_hex(Bin)])
     || Key =:= wrong, maps:get(Key, Tally, 0) < 5],
    maps:update_with(Key, fun(N) -> N + 1 end, 1, Tally).

%% --- a term whose maps are tuples ----------------------------------------------------------

%% Of a valid one: the bytes are the same, but for tag and count.
without_maps(<<131, Rest/binary>>) ->
    {Done, <<>>} = walk(Rest, 1, []),
    iolist_to_binary([131 | lists:reverse(Done)]).

walk(Rest, 0, Done) -> {Done, Rest};
walk(<<116, Pairs:32, Rest/binary>>, N, Done) -> walk(Rest, N - 1 + 2 * Pairs, [<<105, (2 * Pairs):32>> | Done]);
walk(Bin, N, Done) ->
    {Size, Inside} = head(Bin),
    <<Head:Size/binary, Rest/binary>> = Bin,
    walk(Rest, N - 1 + Inside, [Head | Done]).

%% Bytes up to the next term, and how many of those are inside. A fun's size stays what it is.
head(<<104, N, _/binary>>) -> {2, N};
head(<<105, N:32, _/binary>>) -> {5, N};
head(<<108, N:32, _/binary>>) -> {5, N + 1};
head(<<112, _:32, _:168, Free:32, Rest/binary>>) -> {30 + lists:sum(fun_parts(Rest, 4)), Free};
head(Bin) -> {leaf(Bin), 0}.

fun_parts(_, 0) -> [];
fun_parts(Bin, N) -> Size = leaf(Bin), <<_:Size/binary, Rest/binary>> = Bin, [Size | fun_parts(Rest, N - 1)].

leaf(<<97, _/binary>>) -> 2;
leaf(<<98, _/binary>>) -> 5;
leaf(<<99, _/binary>>) -> 32;
leaf(<<70, _/binary>>) -> 9;
leaf(<<106, _/binary>>) -> 1;
leaf(<<Tag, N:16, _/binary>>) when Tag =:= 100; Tag =:= 107; Tag =:= 118 -> 3 + N;
leaf(<<Tag, N, _/binary>>) when Tag =:= 115; Tag =:= 119 -> 2 + N;
leaf(<<109, N:32, _/binary>>) -> 5 + N;
leaf(<<77, N:32, _/binary>>) -> 6 + N;
leaf(<<110, N, _/binary>>) -> 3 + N;
leaf(<<111, N:32, _/binary>>) -> 6 + N;
leaf(<<103, Node/binary>>) -> 1 + leaf(Node) + 9;
leaf(<<88, Node/binary>>) -> 1 + leaf(Node) + 12;
leaf(<<102, Node/binary>>) -> 1 + leaf(Node) + 5;
leaf(<<89, Node/binary>>) -> 1 + leaf(Node) + 8;
leaf(<<120, Node/binary>>) -> 1 + leaf(Node) + 12;
leaf(<<101, Node/binary>>) -> 1 + leaf(Node) + 5;
leaf(<<114, Words:16, Node/binary>>) -> 3 + leaf(Node) + 1 + 4 * Words;
leaf(<<90, Words:16, Node/binary>>) -> 3 + leaf(Node) + 4 + 4 * Words;
leaf(<<113, Rest/binary>>) -> 1 + lists:sum(fun_parts(Rest, 3)).

%% --- what is damaged, and how --------------------------------------------------------------

seeds() ->
    Node = <<119, 3, "n@h">>,
    Pid = <<88, Node/binary, 1:32, 0:32, 5:32>>,
    Body = <<1, 0:128, 0:32, 1:32, 119, 1, "m", 97, 0, 98, 77:32, Pid/binary, 106>>,
    Bodies = [Pid, <<89, Node/binary, 1:32, 5:32>>, <<120, Node/binary, 1:64, 5:32>>,
              <<90, 3:16, Node/binary, 5:32, 1:96>>, <<114, 2:16, Node/binary, 1, 1:64>>,
              <<101, Node/binary, 1:32, 1>>, <<102, Node/binary, 1:32, 1>>, <<103, Node/binary, 1:32, 0:32, 1>>,
              <<113, 119, 5, "lists", 119, 3, "map", 97, 2>>, <<112, (byte_size(Body) + 4):32, Body/binary>>,
              <<99, "1.50000000000000000000e+00", 0, 0, 0, 0, 0>>, <<118, 4:16, "abc", 0>>, <<77, 2:32, 3, 255, 224>>,
              <<105, 2:32, 97, 1, 106>>, <<111, 3:32, 0, 1, 2, 3>>, <<116, 2:32, 97, 1, 106, 97, 2, 106>>],
    [<<131, B/binary>> || B <- Bodies] ++ [<<131, 104, 2, A/binary, B/binary>> || A <- Bodies, B <- Bodies] ++
        [term_to_binary(foreign(3), option(rand:uniform(4))) || _ <- lists:seq(1, 300)].

mutate(Bin, 0) -> Bin;
mutate(Bin, N) -> mutate(damage(rand:uniform(6), Bin, rand:uniform(max(1, byte_size(Bin))) - 1), N - 1).

damage(_, <<>>, _) -> <<131>>;
damage(1, Bin, At) -> put_byte(Bin, At, rand:uniform(256) - 1);
damage(2, Bin, At) -> put_byte(Bin, At, binary:at(Bin, At) bxor (1 bsl (rand:uniform(8) - 1)));
damage(3, Bin, At) -> put_byte(Bin, At, lists:nth(rand:uniform(30), tags()));
damage(4, Bin, At) when At > 0 -> binary:part(Bin, 0, At);
damage(5, Bin, At) -> <<A:At/binary, B/binary>> = Bin, <<A/binary, (rand:uniform(256) - 1), B/binary>>;
damage(_, Bin, At) when At > 0 -> <<A:At/binary, _, B/binary>> = Bin, <<A/binary, B/binary>>;
damage(_, Bin, _) -> Bin.

put_byte(Bin, At, Byte) -> <<A:At/binary, _, B/binary>> = Bin, <<A/binary, Byte, B/binary>>.

tags() -> [70, 77, 80, 88, 89, 90, 120 | lists:seq(97, 119)].

%% --- terms ---------------------------------------------------------------------------------

term(Depth) -> some(Depth, 18).
%% The own node has no part in these.
foreign(Depth) -> some(Depth, 13).

some(0, Leaves) -> leaf_of(rand:uniform(Leaves));
some(Depth, Leaves) ->
    Some = fun() -> [some(Depth - 1, Leaves) || _ <- lists:seq(1, rand:uniform(5) - 1)] end,
    case rand:uniform(7) of
        1 -> list_to_tuple(Some());
        2 -> Some();
        3 -> Some() ++ leaf_of(rand:uniform(Leaves));
        4 -> maps:from_list([{some(rand:uniform(2) - 1, Leaves), T} || T <- Some()]);
        5 -> maps:from_list([{K, some(0, Leaves)} || K <- [1, 1.0, -0.0, 0, <<>>, [], {}, #{}]]);
        _ -> some(0, Leaves)
    end.

leaf_of(1) -> rand:uniform(300) - 150;
leaf_of(2) -> integer(rand:uniform(20));
leaf_of(3) -> (rand:uniform() - 0.5) * math:pow(10, rand:uniform(600) - 300);
leaf_of(4) -> element(rand:uniform(3000), get(atoms));
leaf_of(5) -> rand:bytes(rand:uniform(20) - 1);
leaf_of(6) -> [];
leaf_of(7) -> binary_to_list(rand:bytes(rand:uniform(30)));
leaf_of(8) -> Bits = rand:uniform(70), <<(rand:uniform(1 bsl 70)):Bits>>;
leaf_of(9) -> -(rand:uniform(1 bsl 40));
leaf_of(10) -> lists:nth(rand:uniform(6), [true, false, ok, '', 'é', '日本']);
leaf_of(11) -> lists:nth(rand:uniform(4), [0.0, -0.0, 1.7976931348623157e308, 5.0e-324]);
leaf_of(12) -> lists:nth(rand:uniform(6), [1 bsl 27, -(1 bsl 27) - 1, 1 bsl 31, -(1 bsl 31), 1 bsl 59, 1 bsl 63]);
leaf_of(13) -> fun lists:map/2;
leaf_of(14) -> self();
leaf_of(15) -> make_ref();
leaf_of(16) -> hd(erlang:ports());
leaf_of(17) -> T = some(1, 13), fun() -> T end;
leaf_of(18) -> T = some(0, 17), fun(X) -> {X, T} end.

%% Of up to so many bytes.
integer(Bytes) ->
    <<N:Bytes/unit:8>> = rand:bytes(Bytes),
    case rand:uniform(2) of 1 -> N; 2 -> -N end.

large(1) -> lists:duplicate(65535 + rand:uniform(3) - 2, 7);
large(2) -> list_to_tuple(lists:seq(1, 253 + rand:uniform(5)));
large(3) -> maps:from_list([{N, N} || N <- lists:seq(1, 30 + rand:uniform(300))]);
large(4) -> rand:bytes(rand:uniform(100000));
large(5) -> integer(254 + rand:uniform(4));
large(6) -> lists:foldl(fun(N, Tail) -> [N | Tail] end, tail, lists:seq(1, 2000));
large(7) -> [lists:seq(1, N) || N <- lists:seq(1, 100)].

%% Of one byte a character, of two, three and four, up to 255 of them.
atom(1) -> list_to_atom([rand:uniform(127) || _ <- lists:seq(1, rand:uniform(256) - 1)]);
atom(2) -> list_to_atom([127 + rand:uniform(128) || _ <- lists:seq(1, rand:uniform(256) - 1)]);
atom(3) -> list_to_atom([16#800 + rand:uniform(16#ca00) || _ <- lists:seq(1, rand:uniform(256) - 1)]);
atom(4) -> list_to_atom([16#10000 + rand:uniform(16#ffff) || _ <- lists:seq(1, rand:uniform(256) - 1)]).
