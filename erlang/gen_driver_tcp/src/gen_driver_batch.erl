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
%% What a request weighs beyond its parameters.
-define(ENVELOPE, 80).

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
    name(Request, Batch);
check(Request, Batch = #batch{now = none}) ->
    check(Request, Batch#batch{now = erlang:monotonic_time(millisecond)});
check(Request = #request{deadline = Deadline}, Batch = #batch{now = Now}) when Deadline =< Now ->
    refuse(Request, {error, {failed, expired}}, Batch);
check(Request = #request{deadline = Deadline, options = Options}, Batch = #batch{now = Now}) ->
    name(Request#request{options = Options#{timeout => Deadline - Now}}, Batch).

name(Request = #request{command = Command}, Batch) when is_integer(Command) ->
    fit(Request, Batch);
name(Request = #request{command = Name}, Batch = #batch{link = Link}) ->
    case gen_driver_link:welcome(Link) of
        #{commands := #{Name := Command}} -> fit(Request#request{command = Command}, Batch);
        #{} -> refuse(Request, {error, {unknown_command, Name}}, Batch)
    end.

%% A bad frame would cost everybody the connection.
fit(Request = #request{params = Params, shape = Shape, options = Options}, Batch = #batch{link = Link}) ->
    #{limits := Limits} = gen_driver_link:welcome(Link),
    case gen_driver_params:fits(Params, Shape, byte_size(maps:get(trace, Options, <<>>)), Limits) of
        true -> encode(Request, Batch);
        false -> refuse(Request, {error, {failed, bad_request}}, Batch)
    end.

encode(#request{from = cast, command = Command, params = Params, options = Options, size = Size}, Batch) ->
    add(gen_driver_proto:encode_cast(Command, Params, Options), Size, Batch);
encode(Request = #request{from = {ack, From}}, Batch = #batch{acks = Acks}) ->
    encode(Request#request{from = cast}, Batch#batch{acks = [From | Acks]});
encode(#request{command = Command, params = Params, options = Options, size = Size} = Request,
       Batch = #batch{link = Link, tick = Tick, room = Room}) ->
    {Id, Entered} = gen_driver_link:enter(Request, Tick, Link),
    add(gen_driver_proto:encode_call(Id, Command, Params, Options), Size,
        Batch#batch{link = Entered, room = Room - 1}).

add(Frame, Size, Batch = #batch{frames = Frames, requests = Requests, bytes = Bytes}) ->
    Batch#batch{frames = [gen_driver_frame:join(Frame) | Frames],
                requests = Requests + 1, bytes = Bytes + Size + ?ENVELOPE}.

refuse(#request{from = cast}, _Why, Batch = #batch{dropped = Dropped}) ->
    Batch#batch{dropped = Dropped + 1};
refuse(Request = #request{from = {ack, From}}, Why, Batch) ->
    gen_driver_answer:said(From, plain, Why),
    refuse(Request#request{from = cast}, Why, Batch);
refuse(#request{from = From, style = Style}, Why, Batch) ->
    gen_driver_answer:said(From, Style, Why),
    Batch.
