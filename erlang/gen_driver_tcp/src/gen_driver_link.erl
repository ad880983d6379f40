%% SPDX-License-Identifier: MIT
%% @doc One live socket, and the calls in flight on it.
%%
%% A value in the client's state, under its socket: what comes from a socket can
%% answer only what was sent on it. Every call entered here gets exactly one
%% outcome: a final frame's, or that of `give_up/3'. An id stays taken until its
%% final frame, whether or not anybody still waits for it.
%%
%% Sending never blocks the client: it sends itself only while the socket holds
%% nothing back, and leaves it to a writer process otherwise.
%%
%% Longer than other files: frames in, frames out and the calls between them are
%% one state, and each function here is about all three.
-module(gen_driver_link).

-include("gen_driver_request.hrl").

-export([new/3, add/4, send/1, data/2, activate/1, sent/1, left/1, broken/1]).
-export([cancel/2, credit/3, notes/2, ping/2, pulse/3, watch/2, down/2, unsend/1, finish/1, give_up/3]).
-export([takes/2, waits/1, batch/1, is_busy/1, is_broken/1, has_answered/1, in_flight/1, welcome/1, is_draining/1, mid_frame/1]).
-export_type([link/0, socket/0]).

-type socket() :: gen_driver_socket:socket().
-record(call, {
    from :: gen_driver_answer:to() | nobody,
    style :: gen_driver_answer:style(),
    ref :: none | reference(),
    tick :: integer(),
    monitor = none :: none | reference()
}).
-record(link, {
    socket :: socket(),
    welcome :: gen_driver_handshake:welcome(),
    max_in_flight :: pos_integer(),
    small :: integer(),                         % parameters of so many bytes need no further look
    undecodable :: term(),
    cutter :: gen_driver_frame:cutter(),
    pending = #{} :: #{gen_driver_proto:id() => #call{}},
    watched = #{} :: #{reference() => gen_driver_proto:id()},
    streams = #{} :: #{reference() => gen_driver_proto:id()},   % calls that take parts
    next_id = 0 :: non_neg_integer(),           % goes on beyond the last id: from then on they are not fresh
    batch = gen_driver_batch:new() :: gen_driver_batch:batch(),
    pings = #{} :: #{gen_driver_proto:id() => gen_server:from()},
    next_ping = 1 :: gen_driver_proto:id(),     % 0: the pulse's
    heard = 0 :: integer(),                     % ms: when something last came, to a pulse
    quiet = false :: boolean(),                 % nothing has come since the last pulse
    writer = none :: none | pid(),
    %% busy: the writer has a batch. closed: nothing may be sent any more.
    sending = idle :: idle | busy | closed,
    answered = false :: boolean(),              % some call, at some time
    draining = false :: boolean(),
    leaving = false :: boolean(),               % half-closed once the last stream has ended
    out = false :: boolean()                    % left, and all that was handed in has gone out
}).
-opaque link() :: #link{}.

%% Messages of a socket (64 KiB each at most) before it waits to be asked for more.
-define(ACTIVE, 32).
%% Beyond so many messages a send by the writer costs less than one through them.
-define(LONG_MAILBOX, 1000).
-define(PULSE, 0).
%% Asked and not answered, at once.
-define(PINGS, 1000).

%% @doc A socket that was welcomed; the calling process owns it.
-spec new(socket(), gen_driver_handshake:welcome(), gen_driver_options:checked()) -> link().
new(Socket, Welcome = #{limits := Limits}, Options) ->
    #{max_in_flight := Ours, max_frame := MaxFrame, undecodable := Undecodable} = Options,
    #link{socket = Socket, welcome = Welcome, undecodable = Undecodable,
          max_in_flight = min(Ours, maps:get(in_flight, Limits, Ours)),
          small = gen_driver_params:small(Limits),
          heard = erlang:monotonic_time(millisecond),
          cutter = gen_driver_frame:new(MaxFrame)}.

%% @doc Let the socket speak.
-spec activate(link()) -> ok | {error, gen_driver_socket:reason()}.
activate(#link{socket = Socket}) ->
    gen_driver_socket:setopts(Socket, [{active, ?ACTIVE}]).

%%% Out

%% @doc Take a request that has so much time (ms) left: it is in flight from here on, and goes out with the next
%% batch. Only one that `takes/2' lets in. Or what its caller is told instead.
-spec add(gen_driver_queue:request(), timeout(), Tick :: integer(), link()) ->
    {ok, link()} | {refused, gen_driver_ready:refused()}.
add(Request, Left, Tick, Link = #link{small = Small, welcome = Welcome}) ->
    case gen_driver_ready:check(Request, Small, Welcome) of
        {ok, Ready} -> {ok, add_ready(Ready, Left, Tick, Link)};
        {refused, Why} -> {refused, Why}
    end.

add_ready(Request = #request{from = From, style = Style, ref = Ref}, Left, Tick, Link) ->
    #link{pending = Pending, next_id = Next, batch = Batch} = Link,
    case gen_driver_queue:is_cast(Request) of
        true ->
            Link#link{batch = gen_driver_batch:cast(gen_driver_ready:cast(Request, Left), Request, Batch)};
        false ->
            Id = gen_driver_proto:next_id(Next, Pending),
            Call = #call{from = From, style = Style, ref = Ref, tick = Tick},
            Frame = gen_driver_ready:call(Id, Request, Left),
            streams(Call, Id, Link#link{pending = Pending#{Id => Call}, next_id = Next + 1,
                                        batch = gen_driver_batch:call(Id, Frame, Request, Batch)})
    end.

streams(#call{style = stream, ref = Ref}, Id, Link = #link{streams = Streams}) ->
    Link#link{streams = Streams#{Ref => Id}};
streams(_Call, _Id, Link) ->
    Link.

%% @doc Send what waits. Only while there is room. What cannot be sent ends the link, but by way of the
%% mailbox: answers may be waiting there.
-spec send(link()) -> link().
send(Link = #link{sending = idle, batch = Batch, socket = Socket}) ->
    Data = gen_driver_batch:data(Batch),
    Sent = Link#link{batch = gen_driver_batch:new()},
    case gen_driver_socket:is_clear(Socket) of
        true ->
            send_now(Data, process_info(self(), message_queue_len), Sent);
        false ->
            Writing = with_writer(Sent),
            ok = gen_driver_writer:send(Writing#link.writer, Data),
            Writing#link{sending = busy};
        closed ->
            failed(closed, Sent)
    end.

send_now(Data, {message_queue_len, Waiting}, Link) when Waiting > ?LONG_MAILBOX ->
    Writing = with_writer(Link),
    sent_now(gen_driver_writer:send_now(Writing#link.writer, Data), Writing);
send_now(Data, _, Link = #link{socket = Socket}) ->
    sent_now(gen_driver_socket:send(Socket, Data), Link).

sent_now(ok, Link) -> Link;
sent_now({error, Reason}, Link) -> failed(Reason, Link).

failed(Reason, Link = #link{socket = Socket}) ->
    self() ! {gen_driver_writer, Socket, {error, Reason}},
    broken(Link).

with_writer(Link = #link{writer = none, socket = Socket}) ->
    Link#link{writer = gen_driver_writer:start_link(Socket)};
with_writer(Link) ->
    Link.

%% @doc The writer's batch is out.
-spec sent(link()) -> link().
sent(Link = #link{sending = busy}) -> Link#link{sending = idle};
sent(Link = #link{sending = closed}) -> Link.

%% @doc Nothing can be sent any more; what has come is still read.
-spec broken(link()) -> link().
broken(Link) ->
    Link#link{sending = closed}.

%% With the next batch, or alone.
control(_Frame, Link = #link{sending = closed}) ->
    Link;
control(Frame, Link = #link{batch = Batch}) ->
    Link#link{batch = gen_driver_batch:control(gen_driver_frame:join(Frame), Batch)}.

%%% In

%% @doc Bytes came: calls are answered. `lost' when nothing more can be made of this socket;
%% `note' frames are handed on as they are.
-spec data(binary(), link()) ->
    {ok, Notes :: [gen_driver_notes:frame()], link()}
  | {goodbye, Reason :: binary(), Notes :: [gen_driver_notes:frame()], link()}
  | {lost, Reason :: term(), Notes :: [gen_driver_notes:frame()], link()}.
data(Data, Link = #link{cutter = Cutter}) ->
    Heard = Link#link{quiet = false},
    case gen_driver_frame:cut(Data, Cutter) of
        {ok, Frames, Rest} ->
            frames(Frames, [], Heard#link{cutter = Rest});
        {error, Frames, Reason} ->
            case frames(Frames, [], Heard) of
                {ok, Notes, Answered} -> {lost, Reason, Notes, Answered};
                Ended -> Ended
            end
    end.

frames([], Notes, Link) ->
    {ok, lists:reverse(Notes), Link};
frames([Frame | Frames], Notes, Link) ->
    case gen_driver_proto:decode(Frame) of
        {reply, Id, BodyAt} ->
            frames(Frames, Notes, replied(Id, BodyAt, Frame, Link));
        {failed, Id, Reason} ->
            frames(Frames, Notes, final(Id, {failed, Reason}, Link));
        {part, Id, BodyAt} ->
            ok = part(Id, BodyAt, Frame, Link),
            frames(Frames, Notes, Link);
        {note, BodyAt} ->
            frames(Frames, [{BodyAt, Frame} | Notes], Link);
        {pong, Id} ->
            frames(Frames, Notes, pong(Id, Link));
        {goodbye, <<"draining">>} ->
            frames(Frames, Notes, Link#link{draining = true});
        {goodbye, Reason} ->
            {goodbye, Reason, lists:reverse(Notes), Link};
        bad_frame ->
            {lost, bad_frame, lists:reverse(Notes), Link}
    end.

%% Most are of calls that have no more to them than a caller who waits.
replied(Id, BodyAt, Frame, Link = #link{pending = Pending, out = false}) ->
    case maps:take(Id, Pending) of
        {#call{from = From, style = Style, monitor = none}, Rest} when From =/= nobody, Style =/= stream ->
            ok = gen_driver_answer:reply(From, Style, BodyAt, Frame, Link#link.undecodable),
            Link#link{pending = Rest, answered = true};
        _ ->
            final(Id, {reply, BodyAt, Frame}, Link)
    end;
replied(Id, BodyAt, Frame, Link) ->
    final(Id, {reply, BodyAt, Frame}, Link).

%% A final frame for an id that is not in flight is ignored.
final(Id, Outcome, Link = #link{pending = Pending}) ->
    case maps:take(Id, Pending) of
        {Call, Rest} ->
            answer(Call, Outcome, Link),
            through(ended(Call, unwatch(Call, Link#link{pending = Rest, answered = true})));
        error ->
            Link
    end.

answer(#call{from = nobody}, _Outcome, _Link) ->
    ok;
answer(#call{from = From, style = Style}, {reply, BodyAt, Frame}, Link) ->
    gen_driver_answer:reply(From, Style, BodyAt, Frame, Link#link.undecodable);
answer(#call{from = From, style = Style}, {failed, Reason}, _Link) ->
    gen_driver_answer:failed(From, Style, Reason).

%% A part that nobody asked for, or that comes after its caller has left, is ignored.
part(Id, BodyAt, Frame, #link{pending = Pending}) ->
    case Pending of
        #{Id := #call{style = stream, from = From}} when From =/= nobody ->
            gen_driver_answer:part(From, BodyAt, Frame);
        #{} ->
            ok
    end.

ended(#call{style = stream, ref = Ref}, Link = #link{streams = Streams}) ->
    Left = Link#link{streams = maps:remove(Ref, Streams)},
    case Left of
        #link{leaving = true} -> finish(Left#link{leaving = false});
        #link{} -> Left
    end;
ended(_Call, Link) ->
    Link.

unwatch(#call{monitor = none}, Link) ->
    Link;
unwatch(#call{monitor = Monitor}, Link = #link{watched = Watched}) ->
    true = demonitor(Monitor, [flush]),
    Link#link{watched = maps:remove(Monitor, Watched)}.

%%% Calls whose callers change their minds

%% @doc Callers gave up: forget them and ask the host to forget their calls.
-spec cancel(#{reference() => true}, link()) -> link().
cancel(Refs, Link = #link{pending = Pending}) ->
    maps:fold(fun(_Id, #call{from = nobody}, Acc) -> Acc;     % its caller has died meanwhile: that was told
                 (Id, #call{ref = Ref} = Call, Acc) when is_map_key(Ref, Refs) -> abandon(Id, Call, Acc);
                 (_Id, _Call, Acc) -> Acc
              end, Link, Pending).

%% The id is still taken; the name is not, but a stream goes on until its final frame.
abandon(Id, Call, Link = #link{pending = Pending}) ->
    Left = unwatch(Call, Link),
    ok = gen_driver_answer:forget(Call#call.from, Call#call.style),
    Nobody = Call#call{from = nobody, monitor = none},
    control(gen_driver_proto:encode_cancel(Id), Left#link{pending = Pending#{Id := Nobody}}).

%% @doc The caller of a stream takes so many parts more. `not_mine' when it is not in flight here.
-spec credit(reference(), pos_integer(), link()) -> {ok, link()} | not_mine.
credit(Ref, Parts, Link = #link{streams = Streams}) ->
    case Streams of
        #{Ref := Id} -> {ok, control(gen_driver_proto:encode_credit(Id, Parts), Link)};
        #{} -> not_mine
    end.

%% @doc Monitor the callers of calls from before `Tick'; not those on other nodes: a monitor is a signal to
%% there, and would hold us while that node does not listen. Their calls end by their deadline.
-spec watch(Tick :: integer(), link()) -> link().
watch(Tick, Link = #link{pending = Pending}) ->
    maps:fold(fun(Id, #call{tick = Since, monitor = none, from = {Pid, _}} = Call, Acc)
                    when Since < Tick, node(Pid) =:= node() ->
                      Monitor = monitor(process, Pid),
                      Acc#link{pending = (Acc#link.pending)#{Id := Call#call{monitor = Monitor}},
                               watched = (Acc#link.watched)#{Monitor => Id}};
                 (_Id, _Call, Acc) -> Acc
              end, Link, Pending).

%% @doc A caller died.
-spec down(reference(), link()) -> {ok, link()} | not_mine.
down(Monitor, Link = #link{watched = Watched, pending = Pending}) ->
    case Watched of
        #{Monitor := Id} -> {ok, abandon(Id, maps:get(Id, Pending), Link)};
        #{} -> not_mine
    end.

%%% The host itself

%% @doc Have notes sent here, or no more.
-spec notes(boolean(), link()) -> link().
notes(Wanted, Link) ->
    control(gen_driver_proto:encode_notes(Wanted), Link).

%% @doc Ask the host's loop for a sign; `From' gets `pong'.
-spec ping(gen_server:from(), link()) -> link().
ping(From, Link = #link{pings = Pings}) when map_size(Pings) >= ?PINGS ->
    gen_server:reply(From, {error, overloaded}),
    Link;
ping(From, Link = #link{next_ping = Next, pings = Pings}) ->
    Id = case gen_driver_proto:free_id(Next, Pings) of ?PULSE -> ?PULSE + 1; Free -> Free end,
    control(gen_driver_proto:encode_ping(Id), Link#link{pings = Pings#{Id => From}, next_ping = Id + 1}).

pong(Id, Link = #link{pings = Pings}) ->
    case maps:take(Id, Pings) of
        {From, Left} ->
            gen_server:reply(From, pong),
            Link#link{pings = Left};
        error ->
            Link
    end.

%% @doc Now and then: a link that was quiet since the last time is asked for a sign; `silent' is one that has
%% given none for `Timeout' ms. One that was left cannot be asked, and a call that it still runs may take its
%% time: `Left' ms.
-spec pulse(Timeout :: pos_integer(), Left :: pos_integer(), link()) -> {ok, link()} | silent.
pulse(Timeout, Left, Link = #link{heard = Heard, quiet = Quiet, sending = Sending}) ->
    Now = erlang:monotonic_time(millisecond),
    Limit = case Sending of closed -> Left; _ -> Timeout end,
    case Quiet of
        false -> {ok, Link#link{heard = Now, quiet = true}};
        true when Now - Heard >= Limit -> silent;
        true -> {ok, control(gen_driver_proto:encode_ping(?PULSE), Link)}
    end.

%%% The end

%% @doc Calls that have not left will not: their callers hear `unavailable'.
-spec unsend(link()) -> link().
unsend(Link = #link{batch = Batch}) ->
    lists:foldl(fun(Id, Acc) -> final(Id, {failed, unavailable}, Acc) end,
                Link#link{batch = gen_driver_batch:without_calls(Batch)}, gen_driver_batch:calls(Batch)).

%% @doc Nothing more will be asked here: half-close once all is out, and no stream needs credit. Answers still come.
-spec finish(link()) -> link().
finish(Link = #link{sending = closed}) ->
    Link;
finish(Link = #link{streams = Streams}) when map_size(Streams) > 0 ->
    Link#link{leaving = true};
finish(Link = #link{sending = Sending, batch = Batch}) ->
    case Sending =:= idle andalso gen_driver_batch:size(Batch) =/= none of
        true -> finish(send(Link));
        false -> half_close(with_writer(Link))
    end.

half_close(Link = #link{writer = Writer}) ->
    ok = gen_driver_writer:half_close(Writer),
    broken(Link).

%% @doc The writer has half-closed it.
-spec left(link()) -> link().
left(Link) ->
    through(Link#link{out = true}).

%% TLS has no half-close that can be relied on: it ends here, when all that was asked is answered.
through(Link = #link{out = true, pending = Pending, socket = Socket}) when map_size(Pending) =:= 0 ->
    _ = gen_driver_socket:is_secure(Socket) andalso (self() ! {ssl_closed, Socket}),
    Link;
through(Link) ->
    Link.

%% @doc The end: everybody in flight hears `Reason', once, or that its call has not left. `polite': what is in
%% the kernel's hands may still go out; `abrupt': a close that waits for nobody. The batch that was not sent
%% is given back: its casts are lost, and it holds places.
-spec give_up(gen_driver_proto:failed_reason(), polite | abrupt, link()) -> gen_driver_batch:batch().
give_up(Reason, Manner, Given) ->
    #link{socket = Socket, pending = Pending, writer = Writer} = Link = unsend(Given),
    _ = is_pid(Writer) andalso gen_driver_writer:stop(Writer),
    ok = case Manner of
        polite -> gen_driver_socket:close(Socket);
        abrupt -> gen_driver_socket:abort(Socket)
    end,
    maps:foreach(fun(_Id, Call) -> answer(Call, {failed, Reason}, Link) end, Pending),
    maps:foreach(fun(_Id, From) -> gen_server:reply(From, {error, disconnected}) end, Link#link.pings),
    %% Without flush, which walks through the mailbox each time: a late 'DOWN' is ignored.
    lists:foreach(fun(Monitor) -> demonitor(Monitor) end, maps:keys(Link#link.watched)),
    Link#link.batch.

%%% Looking in

%% @doc Whether this request may be added now.
-spec takes(gen_driver_queue:request(), link()) -> boolean().
takes(Request, #link{sending = idle, pending = Pending, max_in_flight = Max}) ->
    map_size(Pending) < Max orelse gen_driver_queue:is_cast(Request);
takes(_Request, #link{}) ->
    false.

%% @doc What waits for `send/1', and can be sent now.
-spec waits(link()) -> none | some | enough.
waits(#link{sending = idle, batch = Batch}) -> gen_driver_batch:size(Batch);
waits(#link{}) -> none.

%% @doc What waits for `send/1'.
-spec batch(link()) -> gen_driver_batch:batch().
batch(#link{batch = Batch}) ->
    Batch.

%% @doc Whether the writer has a batch.
-spec is_busy(link()) -> boolean().
is_busy(#link{sending = Sending}) ->
    Sending =:= busy.

%% @doc Whether nothing can be sent any more.
-spec is_broken(link()) -> boolean().
is_broken(#link{sending = Sending}) ->
    Sending =:= closed.

%% @doc Whether any call was answered here.
-spec has_answered(link()) -> boolean().
has_answered(#link{answered = Answered}) ->
    Answered.

%% @doc How many calls have no final frame yet.
-spec in_flight(link()) -> non_neg_integer().
in_flight(#link{pending = Pending}) ->
    map_size(Pending).

%% @doc What the host said of itself.
-spec welcome(link()) -> gen_driver_handshake:welcome().
welcome(#link{welcome = Welcome}) ->
    Welcome.

%% @doc Whether the host asked to be left.
-spec is_draining(link()) -> boolean().
is_draining(#link{draining = Draining}) ->
    Draining.

%% @doc Whether the stream stands inside a frame.
-spec mid_frame(link()) -> boolean().
mid_frame(#link{cutter = Cutter}) ->
    not gen_driver_frame:is_empty(Cutter).
