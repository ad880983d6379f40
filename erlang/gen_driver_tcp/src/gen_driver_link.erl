%% SPDX-License-Identifier: MIT
%% @doc One live socket, and the calls in flight on it.
%%
%% A value in the client's state, under its socket: what comes from a socket can
%% answer only what was sent on it. Every call entered here gets exactly one
%% outcome: a final frame's, or that of `give_up/3'.
-module(gen_driver_link).

-export([new/3, add/4, send/1, data/2, activate/1, sent/1, left/1, broken/1]).
-export([cancel/2, credit/3, notes/2, ping/2, pulse/3, watch/2, down/2, unsend/1, finish/1, give_up/3]).
-export([takes/2, waits/1, batch/1, is_busy/1, is_broken/1, has_answered/1, in_flight/1, welcome/1, is_draining/1, mid_frame/1]).
-export_type([link/0, socket/0]).

-type socket() :: gen_driver_socket:socket().
-record(link, {
    socket :: socket(),
    welcome :: gen_driver_handshake:welcome(),
    max_in_flight :: pos_integer(),
    small :: integer(),                         % parameters of so many bytes need no further look
    cutter :: gen_driver_frame:cutter(),
    calls :: gen_driver_calls:calls(),
    batch = gen_driver_batch:new() :: gen_driver_batch:batch(),
    pings = #{} :: #{gen_driver_proto:id() => gen_server:from()},
    next_ping = 1 :: gen_driver_proto:id(),     % 0: the pulse's
    heard = 0 :: integer(),                     % ms: when something last came, to a pulse
    quiet = false :: boolean(),                 % nothing has come since the last pulse
    writer = none :: none | pid(),
    %% busy: the writer has a batch. closed: nothing may be sent any more.
    sending = idle :: idle | busy | closed,
    draining = false :: boolean(),
    leaving = false :: boolean(),               % half-closed once the last stream has ended
    out = false :: boolean()                    % left, and all that was handed in has gone out
}).
-opaque link() :: #link{}.

%% Messages of a socket (64 KiB each at most) before it waits to be asked for more.
-define(ACTIVE, 32).
-define(PULSE, 0).
%% Asked and not answered, at once.
-define(PINGS, 1000).

%% @doc A socket that was welcomed; the calling process owns it.
-spec new(socket(), gen_driver_handshake:welcome(), gen_driver_options:checked()) -> link().
new(Socket, Welcome = #{limits := Limits}, Options) ->
    #{max_in_flight := Ours, max_frame := MaxFrame, undecodable := Undecodable} = Options,
    #link{socket = Socket, welcome = Welcome, calls = gen_driver_calls:new(Undecodable),
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

add_ready(Request, Left, Tick, Link = #link{calls = Calls, batch = Batch}) ->
    case gen_driver_queue:is_cast(Request) of
        true ->
            Link#link{batch = gen_driver_batch:cast(gen_driver_ready:cast(Request, Left), Request, Batch)};
        false ->
            {Id, Entered} = gen_driver_calls:add(Request, Tick, Calls),
            Frame = gen_driver_ready:call(Id, Request, Left),
            Link#link{calls = Entered, batch = gen_driver_batch:call(Id, Frame, Request, Batch)}
    end.

%% @doc Send what waits. Only while there is room. What cannot be sent ends the link, but by way of the
%% mailbox: answers may be waiting there.
-spec send(link()) -> link().
send(Link = #link{sending = idle, batch = Batch, socket = Socket, writer = Writer}) ->
    {Result, By} = gen_driver_sender:send(gen_driver_batch:data(Batch), Socket, Writer),
    Sent = Link#link{batch = gen_driver_batch:new(), writer = By},
    case Result of
        ok ->
            Sent;
        busy ->
            Sent#link{sending = busy};
        {error, Reason} ->
            self() ! {gen_driver_writer, Socket, {error, Reason}},
            broken(Sent)
    end.

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
data(Data, Link = #link{cutter = Cutter, calls = Calls}) ->
    case gen_driver_frame:cut(Data, Cutter) of
        {ok, Frames, Rest} ->
            frames(Frames, [], Calls, Link#link{cutter = Rest, quiet = false});
        {error, Frames, Reason} ->
            case frames(Frames, [], Calls, Link#link{quiet = false}) of
                {ok, Notes, Answered} -> {lost, Reason, Notes, Answered};
                Ended -> Ended
            end
    end.

frames([], Notes, Calls, Link) ->
    {ok, lists:reverse(Notes), answered(Calls, Link)};
frames([Frame | Frames], Notes, Calls, Link) ->
    case gen_driver_proto:decode(Frame) of
        {reply, Id, BodyAt} ->
            frames(Frames, Notes, gen_driver_calls:reply(Id, BodyAt, Frame, Calls), Link);
        {failed, Id, Reason} ->
            frames(Frames, Notes, gen_driver_calls:failed(Id, Reason, Calls), Link);
        {part, Id, BodyAt} ->
            case gen_driver_calls:part(Id, BodyAt, Frame, Calls) of
                {ok, Taken} -> frames(Frames, Notes, Taken, Link);
                bad_frame -> {lost, bad_frame, lists:reverse(Notes), answered(Calls, Link)}
            end;
        {note, BodyAt} ->
            frames(Frames, [{BodyAt, Frame} | Notes], Calls, Link);
        {pong, Id} ->
            frames(Frames, Notes, Calls, pong(Id, Link));
        {goodbye, <<"draining">>} ->
            frames(Frames, Notes, Calls, Link#link{draining = true});
        {goodbye, Reason} ->
            {goodbye, Reason, lists:reverse(Notes), answered(Calls, Link)};
        bad_frame ->
            {lost, bad_frame, lists:reverse(Notes), answered(Calls, Link)}
    end.

%% Some of its calls have ended: a link that is to be left may have waited for that.
answered(Calls, Link = #link{leaving = false, out = false}) ->
    Link#link{calls = Calls};
answered(Calls, Link = #link{calls = Before, leaving = true}) ->
    through(Before, finish(Link#link{calls = Calls, leaving = false}));
answered(Calls, Link = #link{calls = Before}) ->
    through(Before, Link#link{calls = Calls}).

%%% Calls whose callers change their minds

%% @doc Callers gave up: forget them and ask the host to forget their calls.
-spec cancel(#{reference() => true}, link()) -> link().
cancel(Refs, Link = #link{calls = Calls}) ->
    {Ids, Left} = gen_driver_calls:cancel(Refs, Calls),
    lists:foldr(fun cancelled/2, Link#link{calls = Left}, Ids).

cancelled(Id, Link) ->
    control(gen_driver_proto:encode_cancel(Id), Link).

%% @doc The caller of a stream takes so many parts more. `not_mine' when it is not in flight here.
-spec credit(reference(), pos_integer(), link()) -> {ok, link()} | not_mine.
credit(Ref, Parts, Link = #link{calls = Calls}) ->
    case gen_driver_calls:credit(Ref, Parts, Calls) of
        {ok, Id, Given} -> {ok, control(gen_driver_proto:encode_credit(Id, Parts), Link#link{calls = Given})};
        not_mine -> not_mine
    end.

%% @doc Monitor the callers of calls from before `Tick'.
-spec watch(Tick :: integer(), link()) -> link().
watch(Tick, Link = #link{calls = Calls}) ->
    Link#link{calls = gen_driver_calls:watch(Tick, Calls)}.

%% @doc A caller died.
-spec down(reference(), link()) -> {ok, link()} | not_mine.
down(Monitor, Link = #link{calls = Calls}) ->
    case gen_driver_calls:down(Monitor, Calls) of
        {ok, Id, Left} -> {ok, cancelled(Id, Link#link{calls = Left})};
        not_mine -> not_mine
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
unsend(Link = #link{calls = Calls, batch = Batch}) ->
    Left = lists:foldl(fun(Id, Acc) -> gen_driver_calls:failed(Id, unavailable, Acc) end, Calls, gen_driver_batch:calls(Batch)),
    answered(Left, Link#link{batch = gen_driver_batch:without_calls(Batch)}).

%% @doc Nothing more will be asked here: half-close once all is out, and no stream needs credit. Answers still come.
-spec finish(link()) -> link().
finish(Link = #link{sending = closed}) ->
    Link;
finish(Link = #link{calls = Calls, sending = Sending, batch = Batch}) ->
    Unsent = Sending =:= idle andalso gen_driver_batch:size(Batch) =/= none,
    case gen_driver_calls:has_streams(Calls) of
        true -> Link#link{leaving = true};
        false when Unsent -> finish(send(Link));
        false -> half_close(Link)
    end.

half_close(Link = #link{socket = Socket, writer = Writer}) ->
    By = gen_driver_sender:writer(Socket, Writer),
    ok = gen_driver_writer:half_close(By),
    broken(Link#link{writer = By}).

%% @doc The writer has half-closed it.
-spec left(link()) -> link().
left(Link) ->
    end_of_tls(Link#link{out = true}).

%% After some of these calls have ended.
through(Before, Link) ->
    case gen_driver_calls:size(Before) of
        0 -> Link;
        _ -> end_of_tls(Link)
    end.

%% TLS has no half-close that can be relied on: it ends here, when all that was asked is answered.
end_of_tls(Link = #link{out = Out, calls = Calls, socket = Socket}) ->
    _ = Out andalso gen_driver_calls:size(Calls) =:= 0 andalso gen_driver_socket:is_secure(Socket)
        andalso (self() ! {ssl_closed, Socket}),
    Link.

%% @doc The end: everybody in flight hears `Reason', once, or that its call has not left. `polite': what is in
%% the kernel's hands may still go out; `abrupt': a close that waits for nobody. The batch that was not sent
%% is given back: its casts are lost, and it holds places.
-spec give_up(gen_driver_proto:failed_reason(), polite | abrupt, link()) -> gen_driver_batch:batch().
give_up(Reason, Manner, Given) ->
    #link{socket = Socket, calls = Calls, writer = Writer, pings = Pings} = Link = unsend(Given),
    _ = is_pid(Writer) andalso gen_driver_writer:stop(Writer),
    ok = case Manner of
        polite -> gen_driver_socket:close(Socket);
        abrupt -> gen_driver_socket:abort(Socket)
    end,
    ok = gen_driver_calls:give_up(Reason, Calls),
    maps:foreach(fun(_Id, From) -> gen_server:reply(From, {error, disconnected}) end, Pings),
    Link#link.batch.

%%% Looking in

%% @doc Whether this request may be added now.
-spec takes(gen_driver_queue:request(), link()) -> boolean().
takes(Request, #link{sending = idle, calls = Calls, max_in_flight = Max}) ->
    gen_driver_calls:size(Calls) < Max orelse gen_driver_queue:is_cast(Request);
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
has_answered(#link{calls = Calls}) ->
    gen_driver_calls:has_answered(Calls).

%% @doc How many calls have no final frame yet.
-spec in_flight(link()) -> non_neg_integer().
in_flight(#link{calls = Calls}) ->
    gen_driver_calls:size(Calls).

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
