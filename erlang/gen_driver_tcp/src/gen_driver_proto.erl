%% SPDX-License-Identifier: MIT
%% @doc Requests to frames and frames to answers (docs/protocol.md). Pure.
%%
%% An envelope is read by hand, so that no atom, and nothing else, is made of a
%% frame before its kind and its id are known: a reply that cannot be decoded is
%% its caller's trouble and nobody else's. The term inside is then decoded from
%% the whole frame: re-headed, a tail could begin with a tag that is only
%% allowed, or forbidden, at the beginning.
-module(gen_driver_proto).

-export([call_frame/4, cast_frame/2, encode_call/4, encode_cast/3, encode_cancel/1, encode_credit/2, encode_notes/1, encode_ping/1]).
-export([decode/1, term/2, retryable/1, unanswered/1, free_id/2, next_id/2]).
-export_type([id/0, command/0, params/0, options/0, answer/0, failed_reason/0, not_run/0, may_have_run/0]).

-type id() :: 0..16#7fffffff.
-type command() :: 0..16#3fffffff.
%% A term in External Term Format without its version byte.
-type params() :: none | iodata().
-type options() :: #{timeout => 0..16#ffffffff, key => 0..16#ffffffff, trace => binary(), parts => 1..16#ffffffff}.

-type not_run() :: overloaded | expired | cancelled | draining | unavailable | not_run
                 | bad_request | quarantined | forbidden.
-type may_have_run() :: crashed | interrupted | timeout | bad_reply | undecodable | disconnected.
-type failed_reason() :: not_run() | may_have_run().

-type answer() ::
    {reply, id(), BodyAt :: pos_integer()}
  | {failed, id(), failed_reason()}
  | {pong, id()}
  | {goodbye, Reason :: binary()}
  | {part, id(), BodyAt :: pos_integer()}
  | {note, BodyAt :: pos_integer()}
  | bad_frame.

-define(VERSION, 131).
-define(NIL, 106).
-define(MAX_ID, 16#7fffffff).
%% Larger binaries are not on a process's heap.
-define(HEAP, 64).

%% @doc `{call, Id, Cmd, Params}' or `{call, Id, Cmd, Params, #{timeout => Left}}', its length before it: most calls, in one
%% piece.
-spec call_frame(id(), command(), binary(), Left :: 0..16#7fffffff | infinity) -> binary().
call_frame(Id, Command, Params, infinity) ->
    <<(byte_size(Params) + 19):32, ?VERSION, 104, 4, 119, 4, "call", 98, Id:32, 98, Command:32, Params/binary>>;
call_frame(Id, Command, Params, Left) ->
    <<(byte_size(Params) + 38):32, ?VERSION, 104, 5, 119, 4, "call", 98, Id:32, 98, Command:32, Params/binary,
      116, 1:32, 119, 7, "timeout", 98, Left:32>>.

%% @doc `{cast, Cmd, Params}', its length before it.
-spec cast_frame(command(), binary()) -> binary().
cast_frame(Command, Params) ->
    <<(byte_size(Params) + 14):32, ?VERSION, 104, 3, 119, 4, "cast", 98, Command:32, Params/binary>>.

%% @doc `{call, Id, Cmd}', `{call, Id, Cmd, Params}' or `{call, Id, Cmd, Params, Options}'.
-spec encode_call(id(), command(), params(), options()) -> iodata().
encode_call(Id, Command, none, Options) when map_size(Options) =:= 0 ->
    <<?VERSION, 104, 3, 119, 4, "call", (int(Id))/binary, (int(Command))/binary>>;
encode_call(Id, Command, Params, Options) when map_size(Options) =:= 0 ->
    [<<?VERSION, 104, 4, 119, 4, "call", (int(Id))/binary, (int(Command))/binary>>, Params];
encode_call(Id, Command, Params, Options) ->
    [<<?VERSION, 104, 5, 119, 4, "call", (int(Id))/binary, (int(Command))/binary>>,
     params_or_nil(Params), encode_options(Options)].

%% @doc `{cast, Cmd}', `{cast, Cmd, Params}' or `{cast, Cmd, Params, Options}'.
-spec encode_cast(command(), params(), options()) -> iodata().
encode_cast(Command, none, Options) when map_size(Options) =:= 0 ->
    <<?VERSION, 104, 2, 119, 4, "cast", (int(Command))/binary>>;
encode_cast(Command, Params, Options) when map_size(Options) =:= 0 ->
    [<<?VERSION, 104, 3, 119, 4, "cast", (int(Command))/binary>>, Params];
encode_cast(Command, Params, Options) ->
    [<<?VERSION, 104, 4, 119, 4, "cast", (int(Command))/binary>>,
     params_or_nil(Params), encode_options(Options)].

%% @doc `{cancel, Id}'.
-spec encode_cancel(id()) -> iodata().
encode_cancel(Id) ->
    <<?VERSION, 104, 2, 119, 6, "cancel", (int(Id))/binary>>.

%% @doc `{credit, Id, Parts}'.
-spec encode_credit(id(), Parts :: 1..16#ffffffff) -> iodata().
encode_credit(Id, Parts) ->
    <<?VERSION, 104, 3, 119, 6, "credit", (int(Id))/binary, (unsigned(Parts))/binary>>.

%% @doc `{notes, Wanted}'.
-spec encode_notes(boolean()) -> iodata().
encode_notes(true) -> <<?VERSION, 104, 2, 119, 5, "notes", 119, 4, "true">>;
encode_notes(false) -> <<?VERSION, 104, 2, 119, 5, "notes", 119, 5, "false">>.

%% @doc `{ping, Id}'.
-spec encode_ping(id()) -> iodata().
encode_ping(Id) ->
    <<?VERSION, 104, 2, 119, 4, "ping", (int(Id))/binary>>.

int(N) when N < 256 -> <<97, N>>;
int(N) -> <<98, N:32>>.

unsigned(N) when N =< 16#7fffffff -> int(N);
unsigned(N) -> <<110, 4, 0, N:32/little>>.

encode_options(Options) ->
    <<?VERSION, Encoded/binary>> = term_to_binary(Options),
    Encoded.

params_or_nil(none) -> <<?NIL>>;
params_or_nil(Params) -> Params.

%% @doc What a frame from the host is. Of a reply, part or note only kind and id are read: `term/2'
%% gives the term.
-spec decode(Frame :: binary()) -> answer().
decode(<<?VERSION, 104, 3, 119, 5, "reply", 97, Id, _, _/binary>>) ->
    {reply, Id, 12};
decode(<<?VERSION, 104, 3, 119, 5, "reply", 98, 0:1, Id:31, _, _/binary>>) ->
    {reply, Id, 15};
decode(<<?VERSION, 104, Arity, Rest/binary>> = Frame) ->
    case atom(Rest) of
        {Tag, Body} -> decode(Arity, Tag, Body, byte_size(Frame));
        none -> bad_frame
    end;
decode(_) ->
    bad_frame.

decode(3, <<"reply">>, Body, Size) ->
    case id(Body) of
        {Id, Term} when Term =/= <<>> -> {reply, Id, Size - byte_size(Term)};
        _ -> bad_frame
    end;
decode(3, <<"failed">>, Body, _Size) ->
    case id(Body) of
        {Id, Term} -> failed(Id, atom(Term));
        none -> bad_frame
    end;
decode(2, <<"pong">>, Body, _Size) ->
    case id(Body) of
        {Id, <<>>} -> {pong, Id};
        _ -> bad_frame
    end;
decode(2, <<"goodbye">>, Body, _Size) ->
    case atom(Body) of
        {Reason, <<>>} -> {goodbye, Reason};
        _ -> bad_frame
    end;
decode(3, <<"part">>, Body, Size) ->
    case id(Body) of
        {Id, Term} when Term =/= <<>> -> {part, Id, Size - byte_size(Term)};
        _ -> bad_frame
    end;
decode(2, <<"note">>, Body, Size) when Body =/= <<>> ->
    {note, Size - byte_size(Body)};
decode(_Arity, _Tag, _Body, _Size) ->
    bad_frame.

failed(Id, {Reason, <<>>}) -> {failed, Id, failed_reason(Reason)};
failed(_Id, _) -> bad_frame.

atom(<<119, Size, Name:Size/binary, Rest/binary>>) -> {Name, Rest};
atom(<<100, Size:16, Name:Size/binary, Rest/binary>>) -> {Name, Rest};
atom(<<118, Size:16, Name:Size/binary, Rest/binary>>) -> {Name, Rest};
atom(<<115, Size, Name:Size/binary, Rest/binary>>) -> {Name, Rest};
atom(_) -> none.

id(<<97, Id, Rest/binary>>) -> {Id, Rest};
id(<<98, 0:1, Id:31, Rest/binary>>) -> {Id, Rest};
id(_) -> none.

failed_reason(<<"overloaded">>) -> overloaded;
failed_reason(<<"expired">>) -> expired;
failed_reason(<<"cancelled">>) -> cancelled;
failed_reason(<<"draining">>) -> draining;
failed_reason(<<"unavailable">>) -> unavailable;
failed_reason(<<"not_run">>) -> not_run;
failed_reason(<<"bad_request">>) -> bad_request;
failed_reason(<<"quarantined">>) -> quarantined;
failed_reason(<<"forbidden">>) -> forbidden;
failed_reason(<<"crashed">>) -> crashed;
failed_reason(<<"interrupted">>) -> interrupted;
failed_reason(<<"timeout">>) -> timeout;
failed_reason(<<"bad_reply">>) -> bad_reply;
%% A word of a later version: the closed set stays closed, and it may have run.
failed_reason(_) -> undecodable.

%% @doc The term that a reply, part or note carries, its last element, which begins at `BodyAt';
%% `undecodable' when it is not a term this node takes: an atom it does not know, NaN, a fun, bytes
%% left over.
-spec term(Frame :: binary(), BodyAt :: pos_integer()) -> {ok, term()} | undecodable.
term(Frame, BodyAt) ->
    <<_:BodyAt/binary, Body/binary>> = Frame,
    case small(Body) of
        none -> any(Frame, BodyAt);
        Term -> Term
    end.

%% The smallest and most common, by hand: binary_to_term costs several times as much, most of it for two atoms.
small(<<104, 2, 119, 2, "ok", 97, N>>) -> {ok, {ok, N}};
small(<<104, 2, 119, 2, "ok", 98, N:32/signed>>) -> {ok, {ok, N}};
small(<<104, 2, 119, 2, "ok", 70, F:64/float>>) -> {ok, {ok, F}};
small(<<104, 2, 119, 2, "ok", 109, Size:32, Bytes:Size/binary>>) when Size =< ?HEAP -> {ok, {ok, binary:copy(Bytes)}};
small(<<119, 2, "ok">>) -> {ok, ok};
small(<<97, N>>) -> {ok, N};
small(<<98, N:32/signed>>) -> {ok, N};
small(<<70, F:64/float>>) -> {ok, F};
small(<<109, Size:32, Bytes:Size/binary>>) when Size =< ?HEAP -> {ok, binary:copy(Bytes)};
small(_) -> none.

any(Frame, BodyAt) ->
    case gen_driver_etf:is_safe(Frame, BodyAt) of
        true -> decoded(Frame);
        false -> undecodable
    end.

decoded(Frame) ->
    try binary_to_term(Frame, [safe, used]) of
        {Envelope, Used} when Used =:= byte_size(Frame), is_tuple(Envelope), tuple_size(Envelope) > 0 ->
            {ok, element(tuple_size(Envelope), Envelope)};
        _ ->
            undecodable
    catch
        error:badarg -> undecodable;
        error:system_limit -> undecodable
    end.

%% @doc Whether a call that failed so certainly never started.
-spec retryable(failed_reason()) -> boolean().
retryable(overloaded) -> true;
retryable(expired) -> true;
retryable(cancelled) -> true;
retryable(draining) -> true;
retryable(unavailable) -> true;
retryable(not_run) -> true;
retryable(bad_request) -> true;
retryable(quarantined) -> true;
retryable(forbidden) -> true;
retryable(Reason) when is_atom(Reason) -> false.

%% @doc What the calls are told that have no answer when the host says goodbye: all it had taken by
%% then is answered (docs/protocol.md, rule 8).
-spec unanswered(Goodbye :: binary()) -> failed_reason().
unanswered(<<"stopping">>) -> draining;
unanswered(<<"host_died">>) -> not_run;
unanswered(<<"frame_too_large">>) -> not_run;
unanswered(<<"bad_term">>) -> not_run;
unanswered(<<"compressed">>) -> not_run;
unanswered(<<"trailing_bytes">>) -> not_run;
unanswered(<<"too_deep">>) -> not_run;
unanswered(<<"too_many_terms">>) -> not_run;
unanswered(<<"bignum_too_large">>) -> not_run;
unanswered(<<"bad_envelope">>) -> not_run;
unanswered(<<"duplicate_id">>) -> not_run;
unanswered(<<"slow_frame">>) -> not_run;
unanswered(_) -> disconnected.

%% @doc The id of the `Nth' call of a link, from 0 on: itself while there are so many, which no other call had; then
%% one that is not a key of `Taken'.
-spec next_id(Nth :: non_neg_integer(), Taken :: #{id() => term()}) -> id().
next_id(Nth, _Taken) when Nth =< ?MAX_ID -> Nth;
next_id(Nth, Taken) -> free_id(Nth band ?MAX_ID, Taken).

%% @doc The first id from `Id' on, round and round, that is not a key of `Taken'.
-spec free_id(non_neg_integer(), Taken :: #{id() => term()}) -> id().
free_id(Id, Taken) when Id > ?MAX_ID -> free_id(0, Taken);
free_id(Id, Taken) when is_map_key(Id, Taken) -> free_id(Id + 1, Taken);
free_id(Id, _Taken) -> Id.
