#!/usr/bin/env escript
%% SPDX-License-Identifier: MIT
%% Holds the C validator against binary_to_term: every term that term_to_binary makes is
%% taken, and of N damaged ones none is taken that binary_to_term refuses, but for what
%% only it can judge: a map's duplicate keys. Where C is stricter (the head of etf.h says
%% when), that is counted.
%% (No local pids among what is damaged: their bits only the own node can judge.)
-mode(compile).

-define(BATCH, 20000).

main([Program]) -> main([Program, "100000"]);
main([Program, Count]) ->
    rand:seed(exsss, 1),
    Made = [term_to_binary(Term, Options)
            || Term <- [self(), make_ref(), fun lists:map/2, fun() -> Program end | [term(4) || _ <- lists:seq(1, 2000)]],
               Options <- [[], [{minor_version, 2}], [{minor_version, 1}]]],
    Refused = [Bin || {Bin, Verdict} <- verdicts(Program, Made), Verdict =/= "ok"],
    io:format("~b made, ~b refused~n", [length(Made), length(Refused)]),
    Tally = damaged(Program, list_to_tuple(seeds()), list_to_integer(Count), #{}),
    io:format("~p~n", [Tally]),
    halt(case {Refused, maps:get(wrong, Tally, 0)} of {[], 0} -> 0; _ -> 1 end).

damaged(_, _, N, Tally) when N =< 0 -> Tally;
damaged(Program, Seeds, N, Tally) ->
    Bins = [mutate(element(rand:uniform(tuple_size(Seeds)), Seeds), rand:uniform(3)) || _ <- lists:seq(1, min(N, ?BATCH))],
    damaged(Program, Seeds, N - ?BATCH, lists:foldl(fun count/2, Tally, verdicts(Program, Bins))).

count({Bin, Verdict}, Tally) ->
    Key = compare(Verdict, otp(Bin), Bin),
    [io:format("~p: C ~s, OTP ~p: ~w~n", [Key, Verdict, otp(Bin), Bin])
     || Key =:= wrong, maps:get(Key, Tally, 0) < 20],
    maps:update_with(Key, fun(N) -> N + 1 end, 1, Tally).

compare("ok", taken, _) -> both_take;
compare("ok", _, Bin) ->
    case binary:match(Bin, <<116>>) of
        nomatch -> wrong;
        _ -> maybe_duplicate_keys
    end;
compare("bad_term", taken, _) -> c_is_stricter;
compare(_, taken, _) -> c_has_limits;
compare(_, _, _) -> both_refuse.

otp(Bin) ->
    try binary_to_term(Bin, [used]) of
        {_, Used} when Used =:= byte_size(Bin) -> taken;
        _ -> trailing
    catch
        error:_ -> refused
    end.

verdicts(Program, Bins) ->
    File = string:trim(os:cmd("mktemp")),
    ok = file:write_file(File, [[binary:encode_hex(Bin), $\n] || Bin <- Bins]),
    Lines = string:lexemes(string:trim(os:cmd("tr A-F a-f <" ++ File ++ " | '" ++ Program ++ "'; rm " ++ File)), "\n"),
    lists:zip(Bins, Lines).

%% --- what is damaged, and how ---------------------------------------------------------

seeds() ->
    Node = <<119, 3, "n@h">>,
    Pid = <<88, Node/binary, 1:32, 0:32, 5:32>>,
    Body = <<1, 0:128, 0:32, 1:32, 119, 1, "m", 97, 0, 98, 77:32, Pid/binary, 106>>,
    Bodies = [Pid, <<89, Node/binary, 1:32, 5:32>>, <<120, Node/binary, 1:64, 5:32>>,
              <<90, 3:16, Node/binary, 5:32, 1:96>>, <<114, 2:16, Node/binary, 1, 1:64>>,
              <<101, Node/binary, 1:32, 1>>, <<102, Node/binary, 1:32, 1>>, <<103, Node/binary, 1:32, 0:32, 1>>,
              <<113, 119, 5, "lists", 119, 3, "map", 97, 2>>, <<112, (byte_size(Body) + 4):32, Body/binary>>,
              <<99, "1.50000000000000000000e+00", 0, 0, 0, 0, 0>>, <<118, 4:16, "abc", 0>>, <<77, 2:32, 3, 255, 224>>,
              <<105, 2:32, 97, 1, 106>>, <<111, 3:32, 0, 1, 2, 3>>],
    [<<131, B/binary>> || B <- Bodies] ++ [<<131, 104, 2, A/binary, B/binary>> || A <- Bodies, B <- Bodies] ++
        [term_to_binary(term(3), [{minor_version, Minor}]) || _ <- lists:seq(1, 1000), Minor <- [1, 2]].

mutate(Bin, 0) -> Bin;
mutate(Bin, N) -> mutate(damage(rand:uniform(6), Bin, rand:uniform(byte_size(Bin)) - 1), N - 1).

damage(1, Bin, At) -> put_byte(Bin, At, rand:uniform(256) - 1);
damage(2, Bin, At) -> put_byte(Bin, At, binary:at(Bin, At) bxor (1 bsl (rand:uniform(8) - 1)));
damage(3, Bin, At) -> put_byte(Bin, At, lists:nth(rand:uniform(30), tags()));
damage(4, Bin, At) when At > 0 -> binary:part(Bin, 0, At);
damage(5, Bin, At) -> <<A:At/binary, B/binary>> = Bin, <<A/binary, (rand:uniform(256) - 1), B/binary>>;
damage(_, Bin, At) when At > 0 -> <<A:At/binary, _, B/binary>> = Bin, <<A/binary, B/binary>>;
damage(_, Bin, _) -> Bin.

put_byte(Bin, At, Byte) -> <<A:At/binary, _, B/binary>> = Bin, <<A/binary, Byte, B/binary>>.

tags() -> [70, 77, 80, 88, 89, 90, 120 | lists:seq(97, 119)].

term(0) -> leaf(rand:uniform(9));
term(Depth) ->
    Some = fun() -> [term(Depth - 1) || _ <- lists:seq(1, rand:uniform(4))] end,
    case rand:uniform(6) of
        1 -> list_to_tuple(Some());
        2 -> Some();
        3 -> Some() ++ leaf(rand:uniform(9));
        4 -> maps:from_list([{term(0), T} || T <- Some()]);
        _ -> term(0)
    end.

leaf(1) -> rand:uniform(300) - 150;
leaf(2) -> (rand:uniform(1 bsl 62) - (1 bsl 61)) * (1 bsl rand:uniform(100));
leaf(3) -> rand:uniform() * 1.0e10;
leaf(4) -> lists:nth(rand:uniform(5), [ok, '', error, 'é', '日本']);
leaf(5) -> rand:bytes(rand:uniform(20));
leaf(6) -> [];
leaf(7) -> "a string";
leaf(8) -> <<5:3>>;
leaf(9) -> -(rand:uniform(1 bsl 40)).
