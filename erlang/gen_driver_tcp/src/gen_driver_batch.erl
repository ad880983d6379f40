%% SPDX-License-Identifier: MIT
%% @doc What goes out next: from the queue, through its last checks, onto a link.
%%
%% Checks are made here, not on arrival: only now is it known what this link's
%% host calls its commands, what it takes and how much time is left.
-module(gen_driver_batch).

-include("gen_driver_request.hrl").

-export([take/4]).

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
    dropped = 0 :: non_neg_integer()
}).

%% @doc Frames for one send, and how many casts had to be dropped. With `Hold', keyed requests wait
%% aside: a link that is being drained may still be running their predecessors.
-spec take(Tick :: integer(), Hold :: boolean(), gen_driver_queue:queue(), gen_driver_link:link()) ->
    {iodata(), Dropped :: non_neg_integer(), gen_driver_queue:queue(), gen_driver_link:link()}.
take(Tick, Hold, Queue, Link) ->
    Batch = take(#batch{link = Link, queue = Queue, tick = Tick, hold = Hold,
                        room = gen_driver_link:room(Link)}),
    {lists:reverse(Batch#batch.frames), Batch#batch.dropped, Batch#batch.queue, Batch#batch.link}.

take(Batch = #batch{requests = Requests, bytes = Bytes}) when Requests >= ?REQUESTS; Bytes >= ?BYTES ->
    Batch;
take(Batch = #batch{queue = Queue}) ->
    case gen_driver_queue:peek(Queue) of
        empty ->
            Batch;
        #request{from = From} when From =/= cast, Batch#batch.room =:= 0 ->
            Batch;
        #request{options = #{key := _}} = Request when Batch#batch.hold ->
            take(Batch#batch{queue = gen_driver_queue:hold(Request, Queue)});
        Request ->
            take(check(Request, Batch#batch{queue = gen_driver_queue:out(Queue)}))
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
refuse(#request{from = From, style = Style}, Why, Batch) ->
    gen_driver_answer:said(From, Style, Why),
    Batch.
