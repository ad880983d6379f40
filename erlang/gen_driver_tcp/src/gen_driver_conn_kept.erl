%% SPDX-License-Identifier: MIT
%% @doc What a peer says while a send waits for it: kept is what was asked for, once each; all else is dropped. Pure.
%%
%% Nobody looks at it before the send is done, and a peer that does not read can say much until then.
-module(gen_driver_conn_kept).

-export([new/3, take/2, all/1]).
-export_type([kept/0, parts/0]).

%% Of a call that takes parts: how many may be on their way.
-type parts() :: none | non_neg_integer().
%% ended: with the last that is kept the peer says that it hears no more. over: it breaks the rules.
-type word() :: ok | ended | over.
-record(kept, {
    cutter :: gen_driver_frame:cutter(),
    word = ok :: word(),
    asked :: #{gen_driver_proto:id() => parts()},    % no final frame is among the frames
    ping :: none | gen_driver_proto:id(),
    draining = false :: boolean(),
    frames = [] :: [binary()]                   % newest first
}).
-opaque kept() :: #kept{}.

%% @doc Nothing yet. Where the stream stands, the calls that are pending, and the ping that is.
-spec new(gen_driver_frame:cutter(), #{gen_driver_proto:id() => parts()}, none | gen_driver_proto:id()) -> kept().
new(Cutter, Asked, Ping) ->
    #kept{cutter = Cutter, asked = Asked, ping = Ping}.

%% @doc And what is in these bytes. `ended': nothing that comes from now on counts.
-spec take(binary(), kept()) -> {ok | ended, kept()}.
take(Data, Kept = #kept{word = ok, cutter = Cutter}) ->
    Taken = case gen_driver_frame:cut(Data, Cutter) of
        {ok, Frames, Rest} -> frames(Frames, Kept#kept{cutter = Rest});
        {error, Frames, _TooLarge} -> at_the_end(frames(Frames, Kept))
    end,
    {case Taken of #kept{word = ok} -> ok; #kept{} -> ended end, Taken};
take(_Data, Kept) ->
    {ended, Kept}.

at_the_end(Kept = #kept{word = ok}) -> Kept#kept{word = over};
at_the_end(Kept) -> Kept.

frames([], Kept) ->
    Kept;
frames([Frame | Frames], Kept) ->
    case one(gen_driver_proto:decode(Frame), Kept) of
        {keep, Left} -> frames(Frames, keep(Frame, Left));
        drop -> frames(Frames, Kept);
        ended -> keep(Frame, Kept#kept{word = ended});
        over -> Kept#kept{word = over}
    end.

keep(Frame, Kept = #kept{frames = Frames}) ->
    Kept#kept{frames = [Frame | Frames]}.

one({reply, Id, _}, Kept) -> final(Id, Kept);
one({failed, Id, _}, Kept) -> final(Id, Kept);
one({part, Id, _}, Kept = #kept{asked = Asked}) ->
    case Asked of
        #{Id := 0} -> over;
        #{Id := Parts} when is_integer(Parts) -> {keep, Kept#kept{asked = Asked#{Id := Parts - 1}}};
        #{} -> drop
    end;
one({pong, Id}, Kept = #kept{ping = Id}) -> {keep, Kept#kept{ping = none}};
one({goodbye, <<"draining">>}, Kept = #kept{draining = false}) -> {keep, Kept#kept{draining = true}};
one({goodbye, <<"draining">>}, _Kept) -> drop;
one({goodbye, _}, _Kept) -> ended;
one(bad_frame, _Kept) -> ended;
one(_NotAskedFor, _Kept) -> drop.

final(Id, Kept = #kept{asked = Asked}) when is_map_key(Id, Asked) -> {keep, Kept#kept{asked = maps:remove(Id, Asked)}};
final(_Id, _Kept) -> drop.

%% @doc All that is kept, in order, and where the stream stands.
-spec all(kept()) -> {word(), [binary()], gen_driver_frame:cutter()}.
all(#kept{word = Word, frames = Frames, cutter = Cutter}) ->
    {Word, lists:reverse(Frames), Cutter}.
