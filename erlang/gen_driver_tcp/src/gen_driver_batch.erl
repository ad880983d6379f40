%% SPDX-License-Identifier: MIT
%% @doc What goes out next: from the queue, through its last checks, onto a link.
%%
%% Checks are made here, not on arrival: only now is it known what this link's
%% host calls its commands, what it takes and how much time is left.
-module(gen_driver_batch).

-include("gen_driver_request.hrl").

-export([take/4]).
-export_type([taken/0]).

%% Frames to send, how many casts had to be dropped, who is to hear that its cast has left; what remains waiting, and
%% the link on which the calls are in flight now.
-type taken() :: #{frames := [iodata()], dropped := non_neg_integer(), acks := [gen_server:from()],
                   queue := gen_driver_queue:queue(), link := gen_driver_link:link()}.

-define(REQUESTS, 256).
-define(BYTES, 65536).

-record(batch, {
    link :: gen_driver_link:link(),
    queue :: gen_driver_queue:queue(),
    tick :: integer(),
    hold :: boolean(),
    now = none :: none | integer(),
    room :: non_neg_integer(),
    frames = [] :: [iodata()],                  % newest first
    requests = 0 :: non_neg_integer(),
    bytes = 0 :: non_neg_integer(),
    acks = [] :: [gen_server:from()],
    dropped = 0 :: non_neg_integer()
}).

%% @doc What goes out in one send. With `Hold', keyed requests wait aside: a link that is being
%% drained may still be running their predecessors.
-spec take(Tick :: integer(), Hold :: boolean(), gen_driver_queue:queue(), gen_driver_link:link()) -> taken().
take(Tick, Hold, Queue, Link) ->
    Batch = take(#batch{link = Link, queue = Queue, tick = Tick, hold = Hold,
                        room = gen_driver_link:room(Link)}),
    #{frames => lists:reverse(Batch#batch.frames), dropped => Batch#batch.dropped, acks => Batch#batch.acks,
      queue => Batch#batch.queue, link => Batch#batch.link}.

take(Batch = #batch{requests = Requests, bytes = Bytes}) when Requests >= ?REQUESTS; Bytes >= ?BYTES ->
    Batch;
take(Batch = #batch{queue = Queue}) ->
    case gen_driver_queue:peek(Queue) of
        empty ->
            Batch;
        #request{options = #{key := _}} = Request when Batch#batch.hold ->
            take(Batch#batch{queue = gen_driver_queue:hold(Request, Queue)});
        Request ->
            case Batch#batch.room > 0 orelse gen_driver_queue:is_cast(Request) of
                true -> take(check(Request, Batch#batch{queue = gen_driver_queue:out(Queue)}));
                false -> Batch
            end
    end.

check(Request = #request{deadline = infinity}, Batch) ->
    ready(Request, Batch);
check(Request, Batch = #batch{now = none}) ->
    check(Request, Batch#batch{now = erlang:monotonic_time(millisecond)});
check(Request = #request{deadline = Deadline}, Batch = #batch{now = Now}) when Deadline =< Now ->
    refuse(Request, {error, {failed, expired}}, Batch);
check(Request = #request{deadline = Deadline, options = Options}, Batch = #batch{now = Now}) ->
    ready(Request#request{options = Options#{timeout => Deadline - Now}}, Batch).

ready(Request, Batch = #batch{link = Link}) ->
    case gen_driver_ready:check(Request, gen_driver_link:welcome(Link)) of
        {ok, Ready} -> encode(Ready, Batch);
        {refused, Why} -> refuse(Request, Why, Batch)
    end.

encode(#request{from = cast} = Request, Batch) ->
    add(gen_driver_ready:cast(Request), Request, Batch);
encode(Request = #request{from = {ack, From}}, Batch = #batch{acks = Acks}) ->
    encode(Request#request{from = cast}, Batch#batch{acks = [From | Acks]});
encode(Request, Batch = #batch{link = Link, tick = Tick, room = Room}) ->
    {Id, Entered} = gen_driver_link:enter(Request, Tick, Link),
    add(gen_driver_ready:call(Id, Request), Request, Batch#batch{link = Entered, room = Room - 1}).

add(Frame, Request, Batch = #batch{frames = Frames, requests = Requests, bytes = Bytes}) ->
    Batch#batch{frames = [Frame | Frames], requests = Requests + 1, bytes = Bytes + gen_driver_ready:weight(Request)}.

refuse(#request{from = cast}, _Why, Batch = #batch{dropped = Dropped}) ->
    Batch#batch{dropped = Dropped + 1};
refuse(Request = #request{from = {ack, From}}, Why, Batch) ->
    gen_driver_answer:said(From, plain, Why),
    refuse(Request#request{from = cast}, Why, Batch);
refuse(#request{from = From, style = Style}, Why, Batch) ->
    gen_driver_answer:said(From, Style, Why),
    Batch.
