%% SPDX-License-Identifier: MIT
%% @doc Finds, without decoding it, the term that must not be decoded: a bit string of no bytes (77, 0:32, 0).
%%
%% OTP 28 takes its size for minus eight bits and ends the whole node, as it cannot allocate so much (28.5 does);
%% for OTP 25 it is an empty binary. A host never sends it, but a service that means harm may.
-module(gen_driver_etf).

-export([is_safe/2]).

%% @doc Whether the term at `At' can be given to `binary_to_term'; false, too, for some that it refuses anyway.
-spec is_safe(binary(), non_neg_integer()) -> boolean().
is_safe(Frame, At) ->
    Scope = [{scope, {At, byte_size(Frame) - At}}],
    %% One byte is found several times faster than six, and most frames do not have it.
    binary:match(Frame, <<77>>, Scope) =:= nomatch
        orelse binary:match(Frame, <<77, 0:40>>, Scope) =:= nomatch
        orelse walk(binary:part(Frame, At, byte_size(Frame) - At), 1).

%% Over the terms that are still to come. Funs are not walked: a reply that holds one is undecodable.
-spec walk(binary(), non_neg_integer()) -> boolean().
walk(_, 0) -> true;
walk(<<77, 0:32, _/binary>>, _) -> false;
walk(<<77, Size:32, _, _:Size/binary, Rest/binary>>, N) -> walk(Rest, N - 1);
walk(<<97, _, Rest/binary>>, N) -> walk(Rest, N - 1);
walk(<<98, _:32, Rest/binary>>, N) -> walk(Rest, N - 1);
walk(<<70, _:64, Rest/binary>>, N) -> walk(Rest, N - 1);
walk(<<99, _:31/binary, Rest/binary>>, N) -> walk(Rest, N - 1);
walk(<<110, Size, _, _:Size/binary, Rest/binary>>, N) -> walk(Rest, N - 1);
walk(<<111, Size:32, _, _:Size/binary, Rest/binary>>, N) -> walk(Rest, N - 1);
walk(<<106, Rest/binary>>, N) -> walk(Rest, N - 1);
walk(<<107, Size:16, _:Size/binary, Rest/binary>>, N) -> walk(Rest, N - 1);
walk(<<109, Size:32, _:Size/binary, Rest/binary>>, N) -> walk(Rest, N - 1);
walk(<<104, Arity, Rest/binary>>, N) -> walk(Rest, N - 1 + Arity);
walk(<<105, Arity:32, Rest/binary>>, N) -> walk(Rest, N - 1 + Arity);
walk(<<108, Length:32, Rest/binary>>, N) -> walk(Rest, N + Length);
walk(<<116, Pairs:32, Rest/binary>>, N) -> walk(Rest, N - 1 + 2 * Pairs);
walk(<<103, Rest/binary>>, N) -> of_node(Rest, 9, N);
walk(<<88, Rest/binary>>, N) -> of_node(Rest, 12, N);
walk(<<102, Rest/binary>>, N) -> of_node(Rest, 5, N);
walk(<<89, Rest/binary>>, N) -> of_node(Rest, 8, N);
walk(<<120, Rest/binary>>, N) -> of_node(Rest, 12, N);
walk(<<101, Rest/binary>>, N) -> of_node(Rest, 5, N);
walk(<<114, Words:16, Rest/binary>>, N) -> of_node(Rest, 1 + 4 * Words, N);
walk(<<90, Words:16, Rest/binary>>, N) -> of_node(Rest, 4 + 4 * Words, N);
walk(Atom, N) -> of_node(Atom, 0, N).

%% An atom, and so many bytes more: pids, ports and references.
of_node(<<Tag, Size:16, _:Size/binary, Rest/binary>>, More, N) when Tag =:= 100; Tag =:= 118 -> past(Rest, More, N);
of_node(<<Tag, Size, _:Size/binary, Rest/binary>>, More, N) when Tag =:= 115; Tag =:= 119 -> past(Rest, More, N);
of_node(_, _, _) -> false.

past(Bytes, More, N) ->
    case Bytes of
        <<_:More/binary, Rest/binary>> -> walk(Rest, N - 1);
        _ -> false
    end.
