%% SPDX-License-Identifier: MIT
%% @doc A request made ready for one link: its command's number, its last checks, its frame. Pure.
%%
%% Only on a link is it known what the host calls its commands, and what it takes.
-module(gen_driver_ready).

-include("gen_driver_request.hrl").

-export([check/2, call/2, cast/1, weight/1]).

%% What a request weighs beyond its parameters.
-define(ENVELOPE, 80).

%% @doc The request with its command as a number; or what its caller is told instead: a bad frame
%% would cost everybody the connection.
-spec check(gen_driver_queue:request(), gen_driver_handshake:welcome()) ->
    {ok, gen_driver_queue:request()}
  | {refused, {error, {failed, bad_request}} | {error, {unknown_command, binary()}}}.
check(Request = #request{command = Name}, Welcome) when is_binary(Name) ->
    case Welcome of
        #{commands := #{Name := Command}} -> check(Request#request{command = Command}, Welcome);
        #{} -> {refused, {error, {unknown_command, Name}}}
    end;
check(Request = #request{params = Params, shape = Shape, options = Options}, #{limits := Limits}) ->
    case gen_driver_params:fits(Params, Shape, trace(Options), Limits) of
        true -> {ok, Request};
        false -> {refused, {error, {failed, bad_request}}}
    end.

trace(#{trace := Trace}) -> byte_size(Trace);
trace(#{}) -> 0.

%% @doc Its frame, as a call.
-spec call(gen_driver_proto:id(), gen_driver_queue:request()) -> iodata().
call(Id, #request{command = Command, params = Params, options = Options}) ->
    gen_driver_frame:join(gen_driver_proto:encode_call(Id, Command, Params, Options)).

%% @doc Its frame, as a cast.
-spec cast(gen_driver_queue:request()) -> iodata().
cast(#request{command = Command, params = Params, options = Options}) ->
    gen_driver_frame:join(gen_driver_proto:encode_cast(Command, Params, Options)).

%% @doc Bytes that it takes on the way.
-spec weight(gen_driver_queue:request()) -> pos_integer().
weight(#request{size = Size}) ->
    Size + ?ENVELOPE.
