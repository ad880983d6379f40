%% SPDX-License-Identifier: MIT
%% @doc A call whose driver gives parts before its reply: the caller's side.
%%
%% The host sends no more parts than it has credit for, so that a caller that is
%% slow fills no mailbox, and no memory on the way: credit is given again as parts
%% are taken, half a window at a time. Parts and reply come to the caller's
%% mailbox under an alias, which ends with the stream: what is late reaches nobody.
-module(gen_driver_stream).

-include("gen_driver_request.hrl").

-export([start/3, next/2, check/2, fold/3, cancel/1]).
-export_type([stream/0, event/0]).

-record(stream, {
    server :: gen_server:server_ref(),
    ref :: reference(),                         % alias and monitor; also the name of the call in the client
    window :: pos_integer(),
    taken = 0 :: non_neg_integer(),             % parts since credit was last given
    until = infinity :: infinity | integer()    % ms
}).
-opaque stream() :: #stream{}.
-type event() :: {part, term(), stream()} | {done, gen_driver_caller:outcome()}.

%% @doc Start a call that takes parts, `Window' of them unread at most.
-spec start(gen_server:server_ref(), gen_driver_caller:request(), Window :: pos_integer()) ->
    {ok, stream()} | {failed, gen_driver_proto:failed_reason()} | nobody.
start(_Client, bad_request, _Window) ->
    {failed, bad_request};
start(Client, {Request = #request{options = Options}, Timeout}, Window) ->
    case gen_driver_caller:place(Client, {Request#request{style = stream, options = Options#{parts => Window}}, Timeout}) of
        {ok, Server, Placed} ->
            Ref = monitor(process, Server, [{alias, demonitor}]),
            gen_server:cast(Server, Placed#request{from = {self(), Ref}, ref = Ref}),
            {ok, #stream{server = Server, ref = Ref, window = Window, until = until(gen_driver_caller:beyond(Timeout))}};
        Not ->
            Not
    end.

until(infinity) -> infinity;
until(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

%% @doc The next part, or the end; `timeout' when neither comes in time, and the stream goes on. When the
%% call's own time has passed it is cancelled, and has failed: `timeout'.
-spec next(stream(), timeout()) -> event() | timeout.
next(Stream = #stream{until = Until}, Timeout) ->
    case left(Until) of
        0 -> late(Stream);
        Left -> next(Stream, Left, Timeout)
    end.

next(Stream = #stream{ref = Ref}, Left, Timeout) ->
    receive
        {gen_driver_stream, Ref, Answer} -> event(Answer, Stream);
        {'DOWN', Ref, process, _, Reason} -> {done, ended(Reason)}
    after min(Left, Timeout) ->
        case Left =< Timeout of
            true when Left =/= infinity -> late(Stream);
            _ -> timeout
        end
    end.

%% Parts may still be coming; but when all is there already, that is the end.
late(Stream = #stream{ref = Ref}) ->
    receive
        {gen_driver_stream, Ref, Final} when element(1, Final) =/= part -> event(Final, Stream)
    after 0 ->
        ok = cancel(Stream),
        {done, {failed, timeout}}
    end.

%% An atom is more than every number.
left(infinity) -> infinity;
left(Until) -> max(0, Until - erlang:monotonic_time(millisecond)).

%% @doc For a process that receives for itself: what a message means for this stream, if anything.
-spec check(Message :: term(), stream()) -> event() | no_part.
check({gen_driver_stream, Ref, Answer}, Stream = #stream{ref = Ref}) -> event(Answer, Stream);
check({'DOWN', Ref, process, _, Reason}, #stream{ref = Ref}) -> {done, ended(Reason)};
check(_Message, _Stream) -> no_part.

event({part, BodyAt, Frame}, Stream) ->
    case gen_driver_proto:term(Frame, BodyAt) of
        {ok, Term} ->
            {part, Term, taken(Stream)};
        undecodable ->
            ok = cancel(Stream),
            {done, {failed, undecodable}}
    end;
event(Final, #stream{ref = Ref}) ->
    true = demonitor(Ref, [flush]),
    {done, gen_driver_caller:outcome(Final)}.

taken(Stream = #stream{taken = Taken, window = Window}) when 2 * (Taken + 1) < Window ->
    Stream#stream{taken = Taken + 1};
taken(Stream = #stream{server = Server, ref = Ref, taken = Taken}) ->
    gen_server:cast(Server, {credit, Ref, Taken + 1}),
    Stream#stream{taken = 0}.

%% It may have been sent, or have waited in the client.
ended(noproc) -> {failed, unavailable};
ended(_Reason) -> {failed, disconnected}.

%% @doc All parts, one after another, into an accumulator; then the outcome. A function that raises ends the stream.
-spec fold(fun((Part :: term(), Acc) -> Acc), Acc, stream()) -> {gen_driver_caller:outcome(), Acc}.
fold(Fun, Acc, Stream) ->
    case next(Stream, infinity) of
        {part, Part, Next} -> fold(Fun, added(Fun, Part, Acc, Next), Next);
        {done, Outcome} -> {Outcome, Acc}
    end.

added(Fun, Part, Acc, Stream) ->
    try Fun(Part, Acc)
    catch
        Class:Reason:Stack ->
            ok = cancel(Stream),
            erlang:raise(Class, Reason, Stack)
    end.

%% @doc Want no more of it. What has come already is thrown away.
-spec cancel(stream()) -> ok.
cancel(#stream{server = Server, ref = Ref}) ->
    true = demonitor(Ref, [flush]),
    gen_server:cast(Server, {cancel, Ref}),
    flush(Ref).

flush(Ref) ->
    receive {gen_driver_stream, Ref, _} -> flush(Ref) after 0 -> ok end.
