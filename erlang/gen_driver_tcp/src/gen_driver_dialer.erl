%% SPDX-License-Identifier: MIT
%% @doc Connects and shakes hands in a process of its own, then hands the socket over.
%%
%% Its owner gets one message, `{gen_driver_dialer, Pid, Outcome}', and meanwhile
%% answers its callers. The handshake is read exactly, so that whatever follows
%% stays in the socket for the owner.
-module(gen_driver_dialer).

-export([start_link/1, dial/1, dial/2]).
-export_type([outcome/0]).

-type outcome() ::
    {ok, gen_driver_socket:socket(), gen_driver_handshake:welcome()}
  | {refused, gen_driver_handshake:refusal()}
  | {error, Reason :: term()}.

%% A welcome with 256 atoms of the greatest length fits.
-define(MAX_FRAME, 1 bsl 19).

%% @doc Begin one attempt for the calling process.
-spec start_link(gen_driver_options:checked()) -> pid().
start_link(Options) ->
    Owner = self(),
    spawn_link(fun() -> Owner ! {?MODULE, self(), hand_over(dial(Options), Owner)} end).

hand_over({ok, Socket, Welcome}, Owner) ->
    case gen_driver_socket:give(Socket, Owner) of
        ok -> {ok, Socket, Welcome};
        {error, Reason} -> {error, Reason}
    end;
hand_over(Not, _Owner) ->
    Not.

%% @doc One attempt in the calling process, which waits, and owns the socket then.
-spec dial(gen_driver_options:checked()) -> outcome().
dial(Options) ->
    dial(Options, infinity).

%% @doc The same, and no longer than until then: monotonic milliseconds.
-spec dial(gen_driver_options:checked(), Until :: integer() | infinity) -> outcome().
dial(Options = #{connect := Address}, Until) ->
    case gen_driver_socket:connect(Address, Options, left(deadline(Options, Until))) of
        {ok, Socket} -> shake_hands(Socket, Options, deadline(Options, Until));
        {error, Reason} -> {error, Reason}
    end.

%% An atom is more than every number.
deadline(#{connect_timeout := Timeout}, Until) ->
    min(erlang:monotonic_time(millisecond) + Timeout, Until).

left(Deadline) ->
    max(0, Deadline - erlang:monotonic_time(millisecond)).

shake_hands(Socket, Options, Deadline) ->
    Steps = [fun(_) -> greeted(recv_frame(Socket, Deadline), Options) end,
             fun({Said, Check}) -> sent(gen_driver_socket:send(Socket, Said), Check) end,
             fun(Check) -> answered(recv_frame(Socket, Deadline), Check) end,
             fun({Welcome, none}) -> {next, Welcome};
                ({Welcome, Check}) -> proved(recv_frame(Socket, Deadline), Welcome, Check) end,
             fun(Welcome) -> welcomed(Welcome#{instance := maps:get(instance, Options)}, Options) end],
    case steps(Steps, none) of
        {welcome, Welcome} -> {ok, Socket, Welcome};
        Not ->
            ok = gen_driver_socket:close(Socket),
            Not
    end.

%% `next' goes on with what a step has found; anything else is the outcome.
steps([Step | Steps], Found) ->
    case Step(Found) of
        {next, Next} -> steps(Steps, Next);
        Outcome -> Outcome
    end.

greeted({ok, Frame}, #{instance := Instance, auth := Auth}) ->
    case gen_driver_handshake:introduce(Frame, Instance, Auth) of
        {ok, Said, Check} -> {next, {Said, Check}};
        {error, Reason} -> {error, Reason}
    end;
greeted({error, Reason}, _Options) ->
    {error, Reason}.

sent(ok, Check) -> {next, Check};
sent({error, Reason}, _Check) -> {error, Reason}.

answered({ok, Frame}, Check) ->
    case gen_driver_handshake:answer(Frame) of
        {welcome, Welcome} when Check =:= none -> {next, {Welcome, none}};
        {welcome, Welcome} -> {next, {Welcome, fun(Proof) -> Check(Frame, Proof) end}};
        Not -> Not
    end;
answered({error, Reason}, _Check) ->
    {error, Reason}.

proved({ok, Proof}, Welcome, Check) ->
    case Check(Proof) of
        ok -> {next, Welcome};
        {error, Reason} -> {error, Reason}
    end;
proved({error, Reason}, _Welcome, _Check) ->
    {error, Reason}.

%% Its name is the one that was asked for, whatever a server says: it is logged, and counted by. Atoms are made where
%% the option asks for them.
welcomed(Welcome = #{atoms := Names}, #{driver_atoms := true, connect := Address, instance := Instance}) ->
    case gen_driver_atoms:make(Names, {Address, Instance}) of
        ok -> {welcome, Welcome};
        {error, Reason} -> {error, Reason}
    end;
welcomed(Welcome, _Options) ->
    {welcome, Welcome}.

recv_frame(Socket, Deadline) ->
    case recv(Socket, 4, Deadline) of
        {ok, <<0:32>>} -> {ok, <<>>};
        {ok, <<Size:32>>} when Size =< ?MAX_FRAME -> recv(Socket, Size, Deadline);
        {ok, <<Size:32>>} -> {error, {frame_too_large, Size}};
        {error, Reason} -> {error, Reason}
    end.

recv(Socket, Size, Deadline) ->
    gen_driver_socket:recv(Socket, Size, left(Deadline)).
