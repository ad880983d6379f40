%% SPDX-License-Identifier: MIT
%% @doc A passive socket that its process writes and reads itself: frames out, events in.
%%
%% What was asked on it and has no final frame yet is `pending'; whoever asks says
%% what it still waits for, all else is skipped when it comes.
%%
%% A send must not wait: the peer may be waiting for us to read. It does not while
%% all that was sent is known to have been read, since its last answer came
%% (`clear'), or while the socket holds nothing back. Otherwise a writer does the
%% waiting, and this process reads meanwhile.
-module(gen_driver_conn_link).

-export([open/2, check/2, room/1, max_bytes/1, enter/2, send/5, written/2, cancel/2, next/2, ahead/1]).
-export([finish/1, close/2]).
-export([welcome/1, touch/1, pending/1, is_draining/1, is_over/1, is_clear/1, is_past/1]).
-export_type([link/0, event/0, until/0]).

-type until() :: infinity | integer().          % monotonic ms
-type event() ::
    {reply | part, gen_driver_proto:id(), BodyAt :: pos_integer(), Frame :: binary()}
  | {failed, gen_driver_proto:id(), gen_driver_proto:failed_reason()}
  | {pong, gen_driver_proto:id()}
  | timeout
  | {over, gen_driver_proto:failed_reason()}.   % and what all unanswered calls are told

-record(link, {
    socket :: gen_driver_socket:socket(),
    welcome :: gen_driver_handshake:welcome(),
    small :: integer(),                         % parameters of so many bytes need no further look
    max_in_flight :: pos_integer(),
    cutter :: gen_driver_frame:cutter(),
    frames = [] :: [binary()],                  % cut, not looked at
    pending = #{} :: #{gen_driver_proto:id() => gen_driver_conn_kept:parts()},
    ping = none :: none | gen_driver_proto:id(),        % the newest
    next_id = 0 :: non_neg_integer(),
    %% An id: what was sent has been read by the host when its final frame comes.
    clear = true :: boolean() | gen_driver_proto:id(),
    waited = false :: boolean(),                % what was sent last may have waited for the kernel
    used :: integer(),                          % ms
    draining = false :: boolean(),
    over = no :: no | gen_driver_proto:failed_reason()
}).
-opaque link() :: #link{}.

%% Bytes that a kernel's empty buffer certainly takes.
-define(SMALL, 16384).
%% A frame is read in slices of this size at most: what gen_tcp takes is bounded.
-define(SLICE, 1 bsl 24).
%% Less than this is read as it comes.
-define(PIECE, 65536).
%% Time (ms) for a cancel to go out.
-define(CANCEL, 100).
-define(MAX_MS, 16#ffffffff).

%% @doc Connect and shake hands, in the calling process.
-spec open(gen_driver_options:checked(), until()) -> {ok, link()} | {error, Reason :: term()}.
open(Options, Until) ->
    case gen_driver_dialer:dial(Options, Until) of
        {ok, Socket, Welcome} -> {ok, new(Socket, Welcome, Options)};
        {refused, Refusal} -> {error, {refused, Refusal}};
        {error, Reason} -> {error, Reason}
    end.

new(Socket, Welcome = #{limits := Limits}, #{max_in_flight := Ours, max_frame := MaxFrame}) ->
    ok = hold_nothing_back(Socket),
    #link{socket = Socket, welcome = Welcome, small = gen_driver_params:small(Limits), cutter = gen_driver_frame:new(MaxFrame),
          max_in_flight = min(Ours, maps:get(in_flight, Limits, Ours)), used = now_ms()}.

%% Whoever sends while the port holds anything waits until it holds nothing.
hold_nothing_back(Socket) when is_port(Socket) ->
    %% An error says that it is closed already, and the first send will too.
    _ = gen_driver_socket:setopts(Socket, [{high_watermark, 1}, {low_watermark, 0}]),
    ok;
hold_nothing_back(_Socket) ->
    ok.

%%% Out

%% @doc As gen_driver_ready:check/3, for this link.
-spec check(gen_driver_queue:request(), link()) -> {ok, gen_driver_queue:request()} | {refused, gen_driver_ready:refused()}.
check(Request, #link{small = Small, welcome = Welcome}) ->
    gen_driver_ready:check(Request, Small, Welcome).

%% @doc How many calls more may be entered.
-spec room(link()) -> non_neg_integer().
room(#link{max_in_flight = Max, pending = Pending}) ->
    max(0, Max - map_size(Pending)).

%% @doc How many bytes of calls may be in flight; an atom is more than every number.
-spec max_bytes(link()) -> pos_integer() | infinity.
max_bytes(#link{welcome = #{limits := Limits}}) ->
    maps:get(in_flight_bytes, Limits, infinity).

%% @doc An id for a call, which is pending from here on, and may have so many parts unread; or for a ping.
-spec enter(gen_driver_conn_kept:parts() | ping, link()) -> {gen_driver_proto:id(), link()}.
enter(ping, Link = #link{next_id = Next, pending = Pending}) ->
    Id = gen_driver_proto:free_id(Next, Pending),
    {Id, Link#link{next_id = Id + 1, ping = Id}};
enter(Parts, Link = #link{next_id = Next, pending = Pending}) ->
    Id = gen_driver_proto:free_id(Next, Pending),
    {Id, Link#link{next_id = Id + 1, pending = Pending#{Id => Parts}}}.

%% @doc Send. `Mark': the id of the newest call in it; false when it holds none.
%% `unsent': no frame of it left whole, and the link is over. `late': the same, for want of time.
-spec send(iodata(), Size :: non_neg_integer(), Mark :: gen_driver_proto:id() | false, until(), link()) ->
    {ok | unsent | late, link()}.
send(_Data, _Size, _Mark, _Until, Link = #link{over = Over}) when Over =/= no ->
    {unsent, Link};
send(Data, Size, Mark, Until, Link = #link{socket = Socket, clear = Clear}) ->
    case (Clear =:= true andalso (is_port(Socket) orelse Size =< ?SMALL))
             orelse gen_driver_socket:is_clear(Socket) =:= true of
        true -> sent(gen_driver_socket:send(Socket, Data), Link#link{clear = Mark, waited = Size > ?SMALL});
        false ->
            case written(Data, Until, Link#link{clear = Mark, waited = true}) of
                %% It may just have left: what the last frames say counts.
                {ended, Read} -> {ok, Read};
                Done -> Done
            end
    end.

sent(ok, Link) -> {ok, Link};
sent({error, _}, Link) -> {unsent, over(disconnected, Link)}.

%% @doc Wait until all that was sent is in the kernel's hands.
-spec written(until(), link()) -> {ok | unsent | late, link()}.
written(_Until, Link = #link{over = Over}) when Over =/= no ->
    {unsent, Link};
written(Until, Link = #link{socket = Socket, waited = Waited}) ->
    case is_port(Socket) andalso gen_driver_socket:is_clear(Socket) =/= true of
        false when Waited ->
            %% A reset empties what a socket holds back, too.
            case gen_driver_socket:is_open(Socket) of
                true -> {ok, Link};
                false -> {unsent, over(disconnected, Link)}
            end;
        false ->
            {ok, Link};
        true ->
            case written(<<>>, Until, Link) of
                {ended, Read} -> {unsent, Read};
                Done -> Done
            end
    end.

written(Data, Until, Link = #link{socket = Socket, cutter = Before, frames = Frames, pending = Pending, ping = Ping}) ->
    {Outcome, IsOpen, Kept} =
        gen_driver_conn_writing:write(Socket, Data, Until, gen_driver_conn_kept:new(Before, Pending, Ping)),
    {Word, More, Cutter} = gen_driver_conn_kept:all(Kept),
    Read = Link#link{frames = Frames ++ More, cutter = Cutter},
    Lost = Outcome =:= unsent orelse Outcome =:= late orelse Word =:= over
        orelse (not IsOpen andalso Read#link.frames =:= []),
    {Outcome, case Lost of true -> over(disconnected, Read); false -> Read end}.

%% @doc Nobody waits for these calls any more; their ids stay taken. A link that does not even take this is given up.
-spec cancel([gen_driver_proto:id()], link()) -> link().
cancel(Ids, Link) ->
    Frames = [gen_driver_frame:join(gen_driver_proto:encode_cancel(Id)) || Id <- Ids],
    {_, Told} = send(Frames, iolist_size(Frames), false, now_ms() + ?CANCEL, Link),
    Told.

%%% In

%% @doc The next event of a call that is pending, or of a ping. A timeout loses nothing of a frame that has begun.
-spec next(until(), link()) -> {event(), link()}.
next(Until, Link) ->
    next(Until, false, Link).

next(Until, Last, Link = #link{frames = [Frame | Frames]}) ->
    event(gen_driver_proto:decode(Frame), Frame, Until, Last, Link#link{frames = Frames});
next(_Until, _Last, Link = #link{over = Over}) when Over =/= no ->
    {{over, Over}, Link};
next(_Until, true, Link) ->
    {timeout, Link};
next(Until, false, Link = #link{socket = Socket, cutter = Cutter}) ->
    Left = left(Until),
    case gen_driver_socket:recv(Socket, wanted(gen_driver_frame:missing(Cutter)), Left) of
        %% However much there is: when the time has passed, this was the last of it.
        {ok, Data} -> next(Until, Left =:= 0, took(Data, Link));
        {error, timeout} -> {timeout, Link};
        {error, _} -> next(Until, false, over(disconnected, Link))
    end.

%% Most frames come whole, header and all, in one piece; a large one is read into its place.
wanted(Missing) when Missing =< ?PIECE -> 0;
wanted(Missing) -> min(Missing, ?SLICE).

%% There is nothing that was not looked at.
took(<<Size:32, Frame:Size/binary>> = Data, Link = #link{cutter = Cutter}) ->
    case gen_driver_frame:fits(Size, Cutter) of
        true -> Link#link{frames = [Frame]};
        false -> cut(Data, Link)
    end;
took(Data, Link) ->
    cut(Data, Link).

cut(Data, Link = #link{cutter = Cutter}) ->
    case gen_driver_frame:cut(Data, Cutter) of
        {ok, Frames, Rest} -> Link#link{frames = Frames, cutter = Rest};
        {error, Frames, _TooLarge} -> over(disconnected, Link#link{frames = Frames})
    end.

event({reply, Id, BodyAt}, Frame, Until, Last, Link) ->
    final({reply, Id, BodyAt, Frame}, Id, Until, Last, Link);
event({failed, Id, Reason}, _Frame, Until, Last, Link) ->
    final({failed, Id, Reason}, Id, Until, Last, Link);
event({part, Id, BodyAt}, Frame, _Until, _Last, Link = #link{pending = Pending}) when is_map_key(Id, Pending) ->
    {{part, Id, BodyAt, Frame}, Link};
event({pong, Id}, _Frame, _Until, _Last, Link) ->
    {{pong, Id}, Link};
event({goodbye, <<"draining">>}, _Frame, Until, Last, Link) ->
    next(Until, Last, Link#link{draining = true});
event({goodbye, Reason}, _Frame, _Until, _Last, Link) ->
    Told = gen_driver_proto:unanswered(Reason),
    {{over, Told}, (over(Told, Link))#link{frames = []}};
event(bad_frame, _Frame, _Until, _Last, Link) ->
    {{over, disconnected}, (over(disconnected, Link))#link{frames = []}};
event(_NotAskedFor, _Frame, Until, Last, Link) ->
    next(Until, Last, Link).

final(Event, Id, Until, Last, Link = #link{pending = Pending, clear = Clear}) ->
    case Pending of
        #{Id := _} when Clear =:= Id -> {Event, Link#link{pending = maps:remove(Id, Pending), clear = true}};
        #{Id := _} -> {Event, Link#link{pending = maps:remove(Id, Pending)}};
        #{} -> next(Until, Last, Link)
    end.

%% @doc Read what has come already, which nobody waits for: it may be a goodbye, or the end.
-spec ahead(link()) -> link().
ahead(Link) ->
    case next(now_ms(), Link) of
        {timeout, Read} -> Read;
        {{over, _}, Read} -> Read;
        {_Late, Read = #link{frames = []}} -> Read;
        {_Late, Read} -> ahead(Read)
    end.

%%% The end

over(Reason, Link = #link{over = no}) -> Link#link{over = Reason};
over(_Reason, Link) -> Link.

%% @doc Nothing more will be asked here; what was asked is still answered.
-spec finish(link()) -> link().
finish(Link = #link{socket = Socket}) ->
    case gen_driver_socket:half_close(Socket) of
        ok -> Link;
        {error, _} -> over(disconnected, Link)
    end.

%% @doc The end. `polite': what was sent still arrives; `abrupt': a close that waits for nobody.
-spec close(polite | abrupt, link()) -> ok.
close(Manner, #link{socket = Socket}) ->
    ok = case Manner of
        polite -> gen_driver_socket:close(Socket);
        abrupt -> gen_driver_socket:abort(Socket)
    end,
    forget(Socket).

%% An owner that traps exits must not hear of a port that has ended by itself.
forget(Socket) when is_port(Socket) ->
    true = unlink(Socket),
    receive {'EXIT', Socket, _} -> ok after 0 -> ok end;
forget(_Socket) ->
    ok.

%%% Looking in

%% @doc What the host said of itself.
-spec welcome(link()) -> gen_driver_handshake:welcome().
welcome(#link{welcome = Welcome}) ->
    Welcome.

%% @doc It is used now. `fresh': so it was in this very millisecond already.
-spec touch(link()) -> fresh | link().
touch(Link = #link{used = Used}) ->
    case now_ms() of
        Used -> fresh;
        Now -> Link#link{used = Now}
    end.

%% @doc Calls without a final frame.
-spec pending(link()) -> non_neg_integer().
pending(#link{pending = Pending}) ->
    map_size(Pending).

%% @doc Whether the host asked to be left.
-spec is_draining(link()) -> boolean().
is_draining(#link{draining = Draining}) ->
    Draining.

%% @doc Whether nothing more comes of it.
-spec is_over(link()) -> boolean().
is_over(#link{over = Over}) ->
    Over =/= no.

%% @doc Whether a send would not wait for the peer, which may be waiting for us to read; and whether all that was
%% read was looked at.
-spec is_clear(link()) -> boolean().
is_clear(#link{frames = [_ | _]}) -> false;
is_clear(#link{clear = true}) -> true;
is_clear(#link{socket = Socket}) -> gen_driver_socket:is_clear(Socket) =:= true.

%% An atom is more than every number.
%% @doc Whether that time has passed.
-spec is_past(until()) -> boolean().
is_past(infinity) -> false;
is_past(Until) -> Until =< now_ms().

left(infinity) -> infinity;
left(Until) -> min(max(0, Until - now_ms()), ?MAX_MS).

now_ms() ->
    erlang:monotonic_time(millisecond).
