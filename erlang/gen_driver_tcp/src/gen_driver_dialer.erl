%% SPDX-License-Identifier: MIT
%% @doc Connects and shakes hands in a process of its own, then hands the socket over.
%%
%% Its owner gets one message, `{gen_driver_dialer, Pid, Outcome}', and meanwhile
%% answers its callers. The handshake is read exactly, so that whatever follows
%% stays in the socket for the owner.
-module(gen_driver_dialer).

-export([start_link/1, dial/1]).
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
dial(Options = #{connect := Address, connect_timeout := Timeout}) ->
    case gen_driver_socket:connect(Address, Options, Timeout) of
        {ok, Socket} -> shake_hands(Socket, Options);
        {error, Reason} -> {error, Reason}
    end.

shake_hands(Socket, Options = #{instance := Instance, connect_timeout := Timeout}) ->
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    Steps = [fun() -> greeted(recv_frame(Socket, Deadline)) end,
             fun() -> gen_driver_socket:send(Socket, gen_driver_frame:join(gen_driver_handshake:hello(Instance))) end,
             fun() -> welcomed(recv_frame(Socket, Deadline), Options) end],
    case steps(Steps) of
        {welcome, Welcome} -> {ok, Socket, Welcome};
        Not ->
            ok = gen_driver_socket:close(Socket),
            Not
    end.

%% `ok' goes on; anything else is the outcome.
steps([Step | Steps]) ->
    case Step() of
        ok -> steps(Steps);
        Outcome -> Outcome
    end.

greeted({ok, Frame}) -> gen_driver_handshake:greeting(Frame);
greeted({error, Reason}) -> {error, Reason}.

welcomed({ok, Frame}, #{driver_atoms := MakeAtoms}) ->
    case gen_driver_handshake:answer(Frame) of
        {welcome, Welcome} when MakeAtoms -> make_atoms(Welcome);
        Answer -> Answer
    end;
welcomed({error, Reason}, _Options) ->
    {error, Reason}.

%% Asked for by the option: from now on replies that hold them can be decoded.
make_atoms(Welcome = #{atoms := Names}) ->
    try lists:foreach(fun(Name) -> _ = binary_to_atom(Name) end, Names) of
        ok -> {welcome, Welcome}
    catch
        error:_ -> {error, bad_welcome}
    end.

recv_frame(Socket, Deadline) ->
    case recv(Socket, 4, Deadline) of
        {ok, <<0:32>>} -> {ok, <<>>};
        {ok, <<Size:32>>} when Size =< ?MAX_FRAME -> recv(Socket, Size, Deadline);
        {ok, <<Size:32>>} -> {error, {frame_too_large, Size}};
        {error, Reason} -> {error, Reason}
    end.

recv(Socket, Size, Deadline) ->
    gen_driver_socket:recv(Socket, Size, max(0, Deadline - erlang:monotonic_time(millisecond))).
