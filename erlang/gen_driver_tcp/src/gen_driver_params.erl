%% SPDX-License-Identifier: MIT
%% @doc Parameters: encoded once, and measured against what a host takes. Pure.
%%
%% A host bounds how deep a term is nested, how many terms it holds and how long
%% an integer is (docs/protocol.md, `limits'), and ends the connection of whoever
%% sends more, and everybody's calls with it. So what would be refused there is
%% refused here, for its caller alone. Most parameters are so small that their
%% size settles it; the others are walked over, in the process that encodes them.
-module(gen_driver_params).

-export([encode/1, fits/4, small/1]).
-export_type([shape/0]).

%% Not looked at; or levels of nesting, terms in all, bytes of the longest integer.
-type shape() :: small | {Depth :: non_neg_integer(), Terms :: pos_integer(), Bignum :: non_neg_integer()}.

-define(VERSION, 131).
-define(SMALL, 250).
%% Up to so many bytes one copy costs less than to keep the pieces apart.
-define(COPIED, 8192).
%% What an envelope with all options adds, its trace not counted: bytes, levels, terms.
-define(ENVELOPE, 80).
-define(LEVELS, 1).
-define(TERMS, 12).
%% A list of bytes up to this length travels as one term, STRING_EXT.
-define(STRING_MAX, 65535).
-define(IS_LEAF(T), (is_atom(T) orelse is_float(T) orelse is_bitstring(T) orelse T =:= [])).
-define(IS_SHORT(I), (is_integer(I) andalso I >= -16#80000000 andalso I =< 16#7fffffff)).

%% @doc Parameters as they travel, how many bytes they are, and what a host may have against them.
-spec encode(term()) -> {gen_driver_proto:params(), Size :: pos_integer(), shape()}.
encode(Term) ->
    case encoded(Term) of
        Encoded when byte_size(Encoded) =< ?SMALL -> {Encoded, byte_size(Encoded), small};
        Encoded -> {Encoded, iolist_size(Encoded), shape(Term)}
    end.

%% Large binaries are not copied: they go from the caller to the socket as they are.
encoded(Term) ->
    case erlang:external_size(Term) =< ?COPIED of
        true ->
            <<?VERSION, Encoded/binary>> = term_to_binary(Term),
            Encoded;
        false ->
            [<<?VERSION, First/binary>> | Rest] = erlang:term_to_iovec(Term),
            [First | Rest]
    end.

%% @doc Whether a host with these limits takes parameters of that shape, with so many bytes of other options.
-spec fits(gen_driver_proto:params(), shape(), Trace :: non_neg_integer(), Limits) -> boolean() when
    Limits :: #{frame | depth | terms | bignum | in_flight | in_flight_bytes => pos_integer()}.
fits(none, _Shape, Trace, Limits) ->
    fits(<<>>, small, Trace, Limits);
fits(Encoded, Shape, Trace, Limits) ->
    iolist_size(Encoded) + Trace + ?ENVELOPE =< limit(frame, Limits)
        andalso fits(Encoded, Shape, limit(depth, Limits) - ?LEVELS, limit(terms, Limits) - ?TERMS, limit(bignum, Limits)).

fits(Encoded, small, Depth, Terms, Bignum) ->
    Size = byte_size(Encoded),
    (Size =< 2 * Depth andalso Size =< Terms andalso Size =< Bignum)
        orelse fits(Encoded, shape(binary_to_term(<<?VERSION, Encoded/binary>>)), Depth, Terms, Bignum);
fits(_Encoded, {Depth, Terms, Bignum}, MaxDepth, MaxTerms, MaxBignum) ->
    Depth =< MaxDepth andalso Terms =< MaxTerms andalso Bignum =< MaxBignum.

%% @doc Parameters of so many bytes fit, whatever they are, when no trace goes with them.
-spec small(Limits) -> integer() when Limits :: #{frame | depth | terms | bignum | in_flight | in_flight_bytes => pos_integer()}.
small(Limits) ->
    lists:min([?SMALL, limit(frame, Limits) - ?ENVELOPE, 2 * (limit(depth, Limits) - ?LEVELS), limit(terms, Limits) - ?TERMS,
               limit(bignum, Limits)]).

limit(Which, Limits) ->
    maps:get(Which, Limits, 16#ffffffff).

shape(Term) ->
    term(Term, 0, {0, 0, 0}).

%% Level: containers around this term. Shape: of all that was seen so far.
term(Term, Level, Shape) when ?IS_LEAF(Term); ?IS_SHORT(Term) ->
    counted(Level, 1, Shape);
term(Term, Level, Shape) when is_list(Term) ->
    list(Term, Level + 1, true, 0, Shape);
term(Term, Level, Shape) when is_tuple(Term) ->
    elements(tuple_to_list(Term), Level + 1, counted(Level, 1, Shape));
term(Term, Level, Shape) when is_map(Term) ->
    maps:fold(fun(Key, Value, Acc) -> term(Value, Level + 1, term(Key, Level + 1, Acc)) end,
              counted(Level, 1, Shape), Term);
term(Term, Level, {Depth, Terms, Bignum}) when is_integer(Term) ->
    {max(Level, Depth), Terms + 1, max(Bignum, byte_size(binary:encode_unsigned(abs(Term))))};
term(Term, Level, Shape) when is_function(Term) ->
    case erlang:fun_info(Term, env) of
        {env, Values} when is_list(Values) -> elements(Values, Level + 1, counted(Level, 1, Shape));
        _ -> term([], Level, Shape)
    end;
term(_PidPortReference, Level, Shape) ->
    term([], Level, Shape).

elements([Element | Rest], Level, Shape) ->
    elements(Rest, Level, term(Element, Level, Shape));
elements([], _Level, Shape) ->
    Shape.

%% Bytes: whether all elements so far are; Leaves: those not yet counted.
list([Byte | Rest], Level, Bytes, Leaves, Shape) when is_integer(Byte), Byte >= 0, Byte =< 255 ->
    list(Rest, Level, Bytes, Leaves + 1, Shape);
list([Leaf | Rest], Level, _Bytes, Leaves, Shape) when ?IS_LEAF(Leaf); ?IS_SHORT(Leaf) ->
    list(Rest, Level, false, Leaves + 1, Shape);
list([Other | Rest], Level, _Bytes, Leaves, Shape) ->
    list(Rest, Level, false, Leaves, term(Other, Level, Shape));
list([], Level, true, Leaves, Shape) when Leaves =< ?STRING_MAX ->
    term([], Level - 1, Shape);
list(Tail, Level, _Bytes, Leaves, Shape) ->
    term(Tail, Level, counted(Level, Leaves + 1, Shape)).

counted(Level, More, {Depth, Terms, Bignum}) ->
    {max(Level, Depth), Terms + More, Bignum}.
