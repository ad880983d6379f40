%% SPDX-License-Identifier: MIT
%% @doc Frames cut out of a stream of bytes, and put before them: 4 bytes of length, then that many.
%%
%% What is incomplete is kept as a list of the pieces that came, and joined once
%% when the frame is whole: joining at every piece would cost the square of it.
-module(gen_driver_frame).

-export([new/1, cut/2, join/1, fits/2, missing/1, is_empty/1]).
-export_type([cutter/0]).

-record(cutter, {
    limit :: pos_integer(),
    need = header :: header | pos_integer(),    % bytes until the next frame is whole
    have = 0 :: non_neg_integer(),
    pieces = [] :: [binary()]                   % newest first
}).
-opaque cutter() :: #cutter{}.

%% @doc A stream at its beginning. Frames of more than `Limit' bytes are an error.
-spec new(Limit :: pos_integer()) -> cutter().
new(Limit) ->
    #cutter{limit = Limit}.

%% @doc Every frame that is whole now, in order, each with its size checked.
%% After an error the stream is of no use any more; the frames before it are.
-spec cut(binary(), cutter()) ->
    {ok, [binary()], cutter()} | {error, [binary()], {frame_too_large, non_neg_integer()}}.
cut(Data, Cutter = #cutter{pieces = []}) ->
    cut(Data, Cutter, []);
cut(Data, Cutter = #cutter{need = Need, have = Have, pieces = Pieces})
  when is_integer(Need), Have + byte_size(Data) < Need ->
    {ok, [], Cutter#cutter{have = Have + byte_size(Data), pieces = [Data | Pieces]}};
%% The frame alone is joined: what follows must not hold on to it.
cut(Data, Cutter = #cutter{need = Need, have = Have, pieces = Pieces}) when is_integer(Need) ->
    <<Missing:(Need - Have)/binary, Rest/binary>> = Data,
    <<_:32, Frame/binary>> = iolist_to_binary(lists:reverse([Missing | Pieces])),
    cut(Rest, Cutter#cutter{need = header, have = 0, pieces = []}, [Frame]);
cut(Data, Cutter = #cutter{pieces = Pieces}) ->
    Whole = iolist_to_binary(lists:reverse([Data | Pieces])),
    cut(Whole, Cutter#cutter{need = header, have = 0, pieces = []}, []).

cut(<<Size:32, _/binary>>, #cutter{limit = Limit}, Frames) when Size > Limit ->
    {error, lists:reverse(Frames), {frame_too_large, Size}};
cut(<<Size:32, Frame:Size/binary, Rest/binary>>, Cutter, Frames) ->
    cut(Rest, Cutter, [Frame | Frames]);
cut(<<>>, Cutter, Frames) ->
    {ok, lists:reverse(Frames), Cutter};
cut(<<Size:32, _/binary>> = Rest, Cutter, Frames) ->
    keep(Rest, Size + 4, Cutter, Frames);
cut(Rest, Cutter, Frames) ->
    keep(Rest, header, Cutter, Frames).

keep(Rest, Need, Cutter, Frames) ->
    {ok, lists:reverse(Frames), Cutter#cutter{need = Need, have = byte_size(Rest), pieces = [Rest]}}.

%% @doc A frame ready to be sent.
-spec join(iodata()) -> iodata().
join(Frame) ->
    [<<(iolist_size(Frame)):32>> | Frame].

%% @doc Whether the stream stands between two frames and lets one of this size be.
-spec fits(Size :: non_neg_integer(), cutter()) -> boolean().
fits(Size, #cutter{limit = Limit, pieces = []}) -> Size =< Limit;
fits(_Size, _Cutter) -> false.

%% @doc Bytes until the frame that has begun is whole: 0 when it is not known how many.
-spec missing(cutter()) -> non_neg_integer().
missing(#cutter{need = header}) -> 0;
missing(#cutter{need = Need, have = Have}) -> Need - Have.

%% @doc Whether the stream is between two frames.
-spec is_empty(cutter()) -> boolean().
is_empty(#cutter{pieces = Pieces}) ->
    Pieces =:= [].
