%% SPDX-License-Identifier: MIT
%% @doc A request made ready for one link: its command's number, its last checks, its frame. Pure.
%%
%% Only on a link is it known what the host calls its commands, and what it takes.
-module(gen_driver_ready).

-include("gen_driver_request.hrl").

-export([check/3, call/3, cast/2, weight/1]).
-export_type([refused/0]).

%% A bad frame would cost everybody the connection.
-type refused() :: {error, {failed, bad_request}} | {error, {unknown_command, binary()}}.

%% What a request weighs beyond its parameters.
-define(ENVELOPE, 80).
%% The longest time (ms) that the quick way writes.
-define(LONG, 16#7fffffff).

%% @doc The request with its command as a number; or what its caller is told instead. Parameters of up to `Small' bytes
%% need no look (gen_driver_params:small/1).
-spec check(gen_driver_queue:request(), Small :: integer(), gen_driver_handshake:welcome()) ->
    {ok, gen_driver_queue:request()} | {refused, refused()}.
check(Request = #request{command = Command, size = Size, shape = small, options = Options}, Small, _Welcome)
  when is_integer(Command), Size =< Small, map_size(Options) =:= 0 ->
    {ok, Request};
check(Request = #request{command = Name}, Small, Welcome) when is_binary(Name) ->
    case Welcome of
        #{commands := #{Name := Command}} -> check(Request#request{command = Command}, Small, Welcome);
        #{} -> {refused, {error, {unknown_command, Name}}}
    end;
check(Request = #request{params = Params, shape = Shape, options = Options}, _Small, #{limits := Limits}) ->
    case gen_driver_params:fits(Params, Shape, trace(Options), Limits) of
        true -> {ok, Request};
        false -> {refused, {error, {failed, bad_request}}}
    end.

trace(#{trace := Trace}) -> byte_size(Trace);
trace(#{}) -> 0.

%% @doc Its frame, as a call that has so much time (ms).
-spec call(gen_driver_proto:id(), gen_driver_queue:request(), timeout()) -> iodata().
call(Id, #request{command = Command, params = Params, options = Options}, Left)
  when is_binary(Params), map_size(Options) =:= 0, Left =:= infinity orelse Left =< ?LONG ->
    gen_driver_proto:call_frame(Id, Command, Params, Left);
call(Id, #request{command = Command, params = Params, options = Options}, Left) ->
    gen_driver_frame:join(gen_driver_proto:encode_call(Id, Command, Params, timed(Options, Left))).

%% @doc Its frame, as a cast that has so much time (ms).
-spec cast(gen_driver_queue:request(), timeout()) -> iodata().
cast(#request{command = Command, params = Params, options = Options}, infinity)
  when is_binary(Params), map_size(Options) =:= 0 ->
    gen_driver_proto:cast_frame(Command, Params);
cast(#request{command = Command, params = Params, options = Options}, Left) ->
    gen_driver_frame:join(gen_driver_proto:encode_cast(Command, Params, timed(Options, Left))).

timed(Options, infinity) -> Options;
timed(Options, Left) -> Options#{timeout => Left}.

%% @doc Bytes that it takes on the way.
-spec weight(gen_driver_queue:request()) -> pos_integer().
weight(#request{size = Size}) ->
    Size + ?ENVELOPE.
