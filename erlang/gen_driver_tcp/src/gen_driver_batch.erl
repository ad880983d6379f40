%% SPDX-License-Identifier: MIT
%% @doc Frames that go out in one send, in the order in which they were asked for. Pure.
%%
%% Until they are sent, nobody has seen them: calls and casts that are still here when their link is lost
%% have certainly never started.
-module(gen_driver_batch).

-include("gen_driver_request.hrl").

-export([new/0, call/4, cast/3, control/2, without_calls/1, data/1]).
-export([size/1, acks/1, calls/1, casts/1, places/1]).
-export_type([batch/0]).

%% Sent without waiting for an empty mailbox when so much has come together.
-define(REQUESTS, 256).
-define(BYTES, 65536).

-record(batch, {
    frames = [] :: [{call, gen_driver_proto:id(), iodata()} | {cast, iodata()} | {control, iodata()}],   % newest first
    requests = 0 :: non_neg_integer(),
    bytes = 0 :: non_neg_integer(),
    acks = [] :: [gen_server:from()],           % who is to hear that its cast has left; newest first
    places = 0 :: non_neg_integer(),            % of gen_driver_places, to be given back when they are sent
    place_bytes = 0 :: non_neg_integer()
}).
-opaque batch() :: #batch{}.

%% @doc Nothing is to be sent.
-spec new() -> batch().
new() ->
    #batch{}.

%% @doc And a call, under this id.
-spec call(gen_driver_proto:id(), Frame :: iodata(), gen_driver_queue:request(), batch()) -> batch().
call(Id, Frame, Request, Batch = #batch{frames = Frames}) ->
    request({call, Id, Frame}, Request, Frames, Batch).

%% @doc And a cast.
-spec cast(Frame :: iodata(), gen_driver_queue:request(), batch()) -> batch().
cast(Frame, Request = #request{from = {ack, From}}, Batch = #batch{frames = Frames, acks = Acks}) ->
    request({cast, Frame}, Request, Frames, Batch#batch{acks = [From | Acks]});
cast(Frame, Request, Batch = #batch{frames = Frames}) ->
    request({cast, Frame}, Request, Frames, Batch).

request(Entry, #request{placed = false} = Request, Frames, Batch = #batch{requests = Requests, bytes = Bytes}) ->
    Batch#batch{frames = [Entry | Frames], requests = Requests + 1, bytes = Bytes + gen_driver_ready:weight(Request)};
request(Entry, #request{size = Size} = Request, Frames, Batch) ->
    #batch{requests = Requests, bytes = Bytes, places = Places, place_bytes = PlaceBytes} = Batch,
    Batch#batch{frames = [Entry | Frames], requests = Requests + 1, bytes = Bytes + gen_driver_ready:weight(Request),
                places = Places + 1, place_bytes = PlaceBytes + Size}.

%% @doc And a word to the host itself.
-spec control(Frame :: iodata(), batch()) -> batch().
control(Frame, Batch = #batch{frames = Frames}) ->
    Batch#batch{frames = [{control, Frame} | Frames]}.

%% @doc The same, but for its calls.
-spec without_calls(batch()) -> batch().
without_calls(Batch = #batch{frames = Frames}) ->
    Batch#batch{frames = [Frame || Frame <- Frames, element(1, Frame) =/= call]}.

%% @doc What is to be sent.
-spec data(batch()) -> iodata().
data(#batch{frames = Frames}) ->
    data(Frames, []).

data([{call, _Id, Frame} | Frames], Data) -> data(Frames, [Frame | Data]);
data([{_Other, Frame} | Frames], Data) -> data(Frames, [Frame | Data]);
data([], Data) -> Data.

%% @doc Nothing; something; or as much as one send should take.
-spec size(batch()) -> none | some | enough.
size(#batch{frames = []}) -> none;
size(#batch{requests = Requests, bytes = Bytes}) when Requests < ?REQUESTS, Bytes < ?BYTES -> some;
size(#batch{}) -> enough.

%% @doc Who is to hear that its cast has left.
-spec acks(batch()) -> [gen_server:from()].
acks(#batch{acks = Acks}) ->
    Acks.

%% @doc The ids of its calls, oldest first.
-spec calls(batch()) -> [gen_driver_proto:id()].
calls(#batch{frames = Frames}) ->
    lists:reverse([Id || {call, Id, _} <- Frames]).

%% @doc How many casts it holds.
-spec casts(batch()) -> non_neg_integer().
casts(#batch{frames = Frames}) ->
    length([cast || {cast, _} <- Frames]).

%% @doc Places, and their bytes, that its requests hold.
-spec places(batch()) -> {non_neg_integer(), non_neg_integer()}.
places(#batch{places = Places, place_bytes = Bytes}) ->
    {Places, Bytes}.
