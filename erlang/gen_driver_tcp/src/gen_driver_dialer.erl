%% SPDX-License-Identifier: MIT
%% @doc Connects and shakes hands in a process of its own, then hands the socket over.
%%
%% Its owner gets one message, `{gen_driver_dialer, Pid, Outcome}', and meanwhile
%% answers its callers. The handshake is read exactly, so that whatever follows
%% stays in the socket for the owner.
-module(gen_driver_dialer).

-export([start_link/1]).
-export_type([outcome/0]).

-type outcome() ::
    {ok, gen_tcp:socket(), gen_driver_handshake:welcome()}
  | {refused, gen_driver_handshake:refusal()}
  | {error, Reason :: term()}.

%% A welcome with 256 atoms of the greatest length fits.
-define(MAX_FRAME, 1 bsl 19).

%% @doc Begin one attempt for the calling process.
-spec start_link(gen_driver_options:checked()) -> pid().
start_link(Options) ->
    Owner = self(),
    spawn_link(fun() -> Owner ! {?MODULE, self(), dial(Owner, Options)} end).

dial(Owner, Options = #{connect := Address, connect_timeout := Timeout}) ->
    {Host, Port, Family} = where(Address),
    %% A port, whatever the node's default: it tells how much it holds back.
    All = [{inet_backend, inet} | Family] ++ socket_options(Address, Options),
    try gen_tcp:connect(Host, Port, All, Timeout) of
        {ok, Socket} -> shake_hands(Socket, Owner, Options);
        {error, Reason} -> {error, Reason}
    catch
        exit:Reason -> {error, {Reason, {connect, Address, All}}}     % badarg: an option's value
    end.

where({local, Path}) -> {{local, Path}, 0, [local]};
where({tcp, Host, Port}) -> {Host, Port, []}.

socket_options(Address, #{tcp_options := Given}) ->
    ours() ++ defaults(Address) ++ Given.

defaults({tcp, _, _}) -> [{nodelay, true}, {keepalive, true}];
defaults({local, _}) -> [].

ours() ->
    [binary, {packet, raw}, {active, false}, {buffer, 65536}].

shake_hands(Socket, Owner, Options = #{instance := Instance, connect_timeout := Timeout}) ->
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    Steps = [fun() -> greeted(recv_frame(Socket, Deadline)) end,
             fun() -> gen_tcp:send(Socket, gen_driver_frame:join(gen_driver_handshake:hello(Instance))) end,
             fun() -> welcomed(recv_frame(Socket, Deadline), Options) end],
    case steps(Steps) of
        {welcome, Welcome} -> hand_over(Socket, Owner, Welcome);
        Not ->
            ok = gen_tcp:close(Socket),
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

hand_over(Socket, Owner, Welcome) ->
    case gen_tcp:controlling_process(Socket, Owner) of
        ok -> {ok, Socket, Welcome};
        {error, Reason} -> {error, Reason}
    end.

recv_frame(Socket, Deadline) ->
    case recv(Socket, 4, Deadline) of
        {ok, <<0:32>>} -> {ok, <<>>};
        {ok, <<Size:32>>} when Size =< ?MAX_FRAME -> recv(Socket, Size, Deadline);
        {ok, <<Size:32>>} -> {error, {frame_too_large, Size}};
        {error, Reason} -> {error, Reason}
    end.

recv(Socket, Size, Deadline) ->
    gen_tcp:recv(Socket, Size, max(0, Deadline - erlang:monotonic_time(millisecond))).
