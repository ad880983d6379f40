%% SPDX-License-Identifier: MIT
%% @doc Finds, without decoding it, what must not be decoded in a term: funs, and a bit string of no bytes.
%%
%% `binary_to_term' lets both in, with `safe' too, and both end the whole node: each fun of a module and number that
%% it does not know (112) stays in its table of funs for ever, which is full at half a million; a bit string (77, 0:32,
%% 0) has a size of minus eight bits for OTP 28 (28.5), which ends as it cannot allocate so much. A host never makes
%% one up, but a service that means harm may, and a driver that gives back what it gets gives back another client's.
-module(gen_driver_etf).

-export([is_safe/2]).

-define(FEW, 256).

%% @doc Whether the term at `At' can be given to `binary_to_term'; false, too, for some that it refuses anyway.
-spec is_safe(binary(), non_neg_integer()) -> boolean().
is_safe(Frame, At) ->
    Term = binary:part(Frame, At, byte_size(Frame) - At),
    is_bytes(Term) orelse not has_tag(Term) orelse walk(Term, 1).

%% The bytes of a binary are anything.
is_bytes(<<109, Size:32, _:Size/binary>>) -> true;
is_bytes(<<104, 2, 119, 2, "ok", 109, Size:32, _:Size/binary>>) -> true;
is_bytes(<<_/binary>>) -> false.

%% Only a term that has such a byte anywhere is walked. To prepare a search costs more than to look through few bytes
%% by hand.
has_tag(Term) when byte_size(Term) =< ?FEW -> is_there(Term);
%% One byte at a time is found faster than one of three.
has_tag(Term) -> lists:any(fun(Tag) -> binary:match(Term, Tag) =/= nomatch end, [<<77>>, <<112>>, <<113>>]).

is_there(<<Tag, _/binary>>) when Tag =:= 77; Tag =:= 112; Tag =:= 113 -> true;
is_there(<<_, Rest/binary>>) -> is_there(Rest);
is_there(<<>>) -> false.

%% Over the terms that are still to come: in one go and without a stack, however deep they are. That the first clause
%% does not begin with the bytes is on purpose: what is left is then wrapped anew for each term. Where the compiler
%% passes one match context on instead, a node of OTP 25 (25.2.3) may end in its garbage collector.
-spec walk(binary(), non_neg_integer()) -> boolean().
walk(_, 0) -> true;
walk(<<Tag, Rest/binary>>, N) -> over(Rest, Tag, N - 1);
walk(_, _) -> false.

%% What stands behind a tag, and then so many terms more. Funs (112, 113, 117) are none of these.
over(<<_, Rest/binary>>, 97, N) -> walk(Rest, N);
over(<<_:32, Rest/binary>>, 98, N) -> walk(Rest, N);
over(<<_:64, Rest/binary>>, 70, N) -> walk(Rest, N);
over(<<Size, _:Size/binary, Rest/binary>>, 119, N) -> walk(Rest, N);
over(<<Size:16, _:Size/binary, Rest/binary>>, 100, N) -> walk(Rest, N);
over(<<Size:32, _:Size/binary, Rest/binary>>, 109, N) -> walk(Rest, N);
over(<<Arity, Rest/binary>>, 104, N) -> walk(Rest, N + Arity);
over(<<Length:32, Rest/binary>>, 108, N) -> walk(Rest, N + Length + 1);
over(<<Rest/binary>>, 106, N) -> walk(Rest, N);
over(<<Size:16, _:Size/binary, Rest/binary>>, 107, N) -> walk(Rest, N);
over(<<Pairs:32, Rest/binary>>, 116, N) -> walk(Rest, N + 2 * Pairs);
over(<<Size, _, _:Size/binary, Rest/binary>>, 110, N) -> walk(Rest, N);
over(<<Size:32, _, _:Size/binary, Rest/binary>>, 111, N) -> walk(Rest, N);
over(<<Arity:32, Rest/binary>>, 105, N) -> walk(Rest, N + Arity);
over(<<0:32, _/binary>>, 77, _) -> false;
over(<<Size:32, _, _:Size/binary, Rest/binary>>, 77, N) -> walk(Rest, N);
over(<<_:31/binary, Rest/binary>>, 99, N) -> walk(Rest, N);
over(<<Size:16, _:Size/binary, Rest/binary>>, 118, N) -> walk(Rest, N);
over(<<Size, _:Size/binary, Rest/binary>>, 115, N) -> walk(Rest, N);
over(<<Rest/binary>>, 103, N) -> of_node(Rest, 9, N);
over(<<Rest/binary>>, 88, N) -> of_node(Rest, 12, N);
over(<<Rest/binary>>, 102, N) -> of_node(Rest, 5, N);
over(<<Rest/binary>>, 89, N) -> of_node(Rest, 8, N);
over(<<Rest/binary>>, 120, N) -> of_node(Rest, 12, N);
over(<<Rest/binary>>, 101, N) -> of_node(Rest, 5, N);
over(<<Words:16, Rest/binary>>, 114, N) -> of_node(Rest, 1 + 4 * Words, N);
over(<<Words:16, Rest/binary>>, 90, N) -> of_node(Rest, 4 + 4 * Words, N);
over(<<_/binary>>, _, _) -> false.

%% An atom, and so many bytes more: pids, ports and references.
of_node(<<Tag, Size:16, _:Size/binary, Rest/binary>>, More, N) when Tag =:= 100; Tag =:= 118 -> past(Rest, More, N);
of_node(<<Tag, Size, _:Size/binary, Rest/binary>>, More, N) when Tag =:= 115; Tag =:= 119 -> past(Rest, More, N);
of_node(<<_/binary>>, _, _) -> false.

past(Bytes, More, N) ->
    case Bytes of
        <<_:More/binary, Rest/binary>> -> walk(Rest, N);
        _ -> false
    end.
