%% SPDX-License-Identifier: MIT
%% @doc What waits in the client, in order: a bounded FIFO, and beside it what a drain holds back. Pure.
-module(gen_driver_queue).

-include("gen_driver_request.hrl").

-export([new/0, in/2, out/1, peek/1, hold/2, release/1, remove/2, empty/1, impatient/2]).
-export([is_full/2, is_cast/1, size/1, bytes/1]).
-export_type([queue/0, request/0]).

-type request() :: #request{}.
-record(queue, {
    ready = queue:new() :: queue:queue(request()),
    held = queue:new() :: queue:queue(request()),
    size = 0 :: non_neg_integer(),              % of both
    bytes = 0 :: non_neg_integer()              % of both
}).
-opaque queue() :: #queue{}.

%% What a request weighs beyond its parameters: bounds are on memory, not on payload.
-define(ENVELOPE, 32).

%% @doc Nothing waits.
-spec new() -> queue().
new() ->
    #queue{}.

%% @doc Whether nobody waits for what becomes of it.
-spec is_cast(request()) -> boolean().
is_cast(#request{from = cast}) -> true;
is_cast(#request{from = {ack, _}}) -> true;
is_cast(#request{}) -> false.

%% @doc At the end.
-spec in(request(), queue()) -> queue().
in(Request, Q) ->
    Q#queue{ready = queue:in(Request, Q#queue.ready),
            size = Q#queue.size + 1,
            bytes = Q#queue.bytes + weight(Request)}.

%% @doc The first that is ready.
-spec peek(queue()) -> request() | empty.
peek(#queue{ready = Ready}) ->
    case queue:peek(Ready) of
        {value, Request} -> Request;
        empty -> empty
    end.

%% @doc Without the first that is ready: it was sent or answered.
-spec out(queue()) -> queue().
out(Q = #queue{ready = Ready}) ->
    {{value, Request}, Rest} = queue:out(Ready),
    left(Request, Q#queue{ready = Rest}).

%% @doc The first that is ready waits aside, behind those already there.
-spec hold(request(), queue()) -> queue().
hold(Request, Q = #queue{ready = Ready, held = Held}) ->
    Q#queue{ready = queue:drop(Ready), held = queue:in(Request, Held)}.

%% @doc What was held back is ready again, before all that came later.
-spec release(queue()) -> queue().
release(Q = #queue{ready = Ready, held = Held}) ->
    Q#queue{ready = queue:join(Held, Ready), held = queue:new()}.

%% @doc There is no link for now: nothing that waits does so for longer than `Until' (ms).
-spec impatient(Until :: integer(), queue()) -> queue().
impatient(Until, Q = #queue{ready = Ready, held = Held}) ->
    Soon = fun(Request) -> [Request#request{patience = Until}] end,
    Q#queue{ready = queue:filter(Soon, Ready), held = queue:filter(Soon, Held)}.

%% @doc Take out those that `Select' says.
-spec remove(fun((request()) -> boolean()), queue()) -> {[request()], queue()}.
remove(Select, Q) ->
    {HeldOut, Held} = lists:partition(Select, queue:to_list(Q#queue.held)),
    case lists:partition(Select, queue:to_list(Q#queue.ready)) of
        {[], _} when HeldOut =:= [] ->
            {[], Q};
        {ReadyOut, Ready} ->
            Removed = HeldOut ++ ReadyOut,
            {Removed, lists:foldl(fun left/2,
                                  Q#queue{ready = queue:from_list(Ready), held = queue:from_list(Held)},
                                  Removed)}
    end.

%% @doc Take out all.
-spec empty(queue()) -> {[request()], queue()}.
empty(Q) ->
    remove(fun(_) -> true end, Q).

left(Request, Q) ->
    Q#queue{size = Q#queue.size - 1, bytes = Q#queue.bytes - weight(Request)}.

weight(#request{size = Size}) ->
    Size + ?ENVELOPE.

%% @doc Whether one more would be beyond the bounds.
-spec is_full({Requests :: pos_integer(), Bytes :: pos_integer()}, queue()) -> boolean().
is_full({MaxRequests, MaxBytes}, #queue{size = Size, bytes = Bytes}) ->
    Size >= MaxRequests orelse Bytes >= MaxBytes.

%% @doc How many wait, held ones too.
-spec size(queue()) -> non_neg_integer().
size(#queue{size = Size}) ->
    Size.

%% @doc What waits weighs so much.
-spec bytes(queue()) -> non_neg_integer().
bytes(#queue{bytes = Bytes}) ->
    Bytes.
