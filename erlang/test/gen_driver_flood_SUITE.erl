%% SPDX-License-Identifier: MIT
%% A service that babbles without an end, or reads nothing while it cannot write: the client serves, and keeps its memory small.
-module(gen_driver_flood_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [frame/1, async/1, outcome/1]).
-import(gen_driver_test_client, [connected/1, connected/3, plain/2, call/4]).
-import(gen_driver_hostile_SUITE, [quick/0, serves/2]).

suite() ->
    [{timetrap, {seconds, 120}}].

%% One after the other: each wants the machine for itself.
all() ->
    [callers_are_served_in_a_flood, a_flood_leaves_no_memory_behind, an_echo_that_stops_reading_while_its_output_is_full].

init_per_testcase(Case, Config) -> gen_driver_test_client:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_test_client:end_per_testcase(Case, Config).

babble() ->
    Unasked = [{part, 0, <<0:2000>>}, {note, <<0:2000>>}, {pong, 1}, {reply, 16#7fffffff, <<0:2000>>},
               {failed, 16#7ffffffe, crashed}],
    iolist_to_binary([frame(Term) || Term <- Unasked, _ <- lists:seq(1, 10)]).

%% Babbles as fast as the client takes it, and answers what it is asked.
babbling(Conn, Babble, Left) ->
    ok = gen_tcp:send(Conn, Babble),
    case gen_tcp:recv(Conn, 0, 0) of
        {ok, Bytes} -> babbling(Conn, Babble, answered(<<Left/binary, Bytes/binary>>, Conn));
        {error, timeout} -> babbling(Conn, Babble, Left);
        {error, closed} -> ok
    end.

answered(<<Size:32, Frame:Size/binary, Rest/binary>>, Conn) ->
    case binary_to_term(Frame) of
        {call, Id, 1, N, _} -> ok = gen_tcp:send(Conn, frame({reply, Id, {ok, N}}));
        {call, Id, 1, N} -> ok = gen_tcp:send(Conn, frame({reply, Id, {ok, N}}))
    end,
    answered(Rest, Conn);
answered(Rest, _Conn) ->
    Rest.

callers_are_served_in_a_flood(Config) ->
    {Client, Conn} = connected(Config),
    {Pid, Monitor} = babbler(Conn),
    Callers = [async(fun() -> [ask(Client, Caller, N) || N <- lists:seq(1, 50)] end) || Caller <- lists:seq(1, 20)],
    [?assertEqual([{ok, N} || N <- lists:seq(1, 50)], outcome(Caller)) || Caller <- Callers],
    stopped(Pid, Monitor),
    {memory, Memory} = process_info(Client, memory),
    ?assert(Memory < 16 bsl 20, Memory).

ask(Client, Caller, N) when Caller rem 2 =:= 0 -> gen_driver_tcp:call(Client, 1, N, 60000);
ask(Client, _Caller, N) -> gen_server:call(Client, {port, 1, N}, infinity).

babbler(Conn) ->
    ok = inet:setopts(Conn, [{packet, raw}]),
    Pid = spawn(fun() -> receive go -> babbling(Conn, babble(), <<>>) end end),
    ok = gen_tcp:controlling_process(Conn, Pid),
    Pid ! go,
    {Pid, monitor(process, Pid)}.

stopped(Pid, Monitor) ->
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

%% 64 MiB of what nobody asked for, while the client cannot look: it stays in the sockets.
a_flood_leaves_no_memory_behind(Config) ->
    {Client, Conn} = connected(quick(), #{}, Config),
    ok = sys:suspend(Client),
    Babble = babble(),
    Times = (64 bsl 20) div byte_size(Babble),
    ok = inet:setopts(Conn, [{packet, raw}]),
    Flood = spawn_monitor(fun() -> [ok = gen_tcp:send(Conn, Babble) || _ <- lists:seq(1, Times)] end),
    until_passive(Client, erlang:monotonic_time(millisecond) + 10000),
    {message_queue_len, Waiting} = process_info(Client, message_queue_len),
    ?assert(Waiting =< 34, Waiting),
    ok = sys:resume(Client),
    {Pid, Monitor} = Flood,
    receive {'DOWN', Monitor, process, Pid, normal} -> ok end,
    ok = inet:setopts(Conn, [{packet, 4}]),
    serves(Client, Conn).

%% Its socket waits to be asked for more.
until_passive(Client, Deadline) ->
    {messages, Messages} = process_info(Client, messages),
    ?assert(erlang:monotonic_time(millisecond) < Deadline),
    lists:keymember(tcp_passive, 1, Messages) orelse until_passive(Client, Deadline).

%% It reads a request only when the reply before is out: with a client that waited to send, each would wait for the other.
an_echo_that_stops_reading_while_its_output_is_full(Config) ->
    {Client, Conn} = connected(Config),
    Echo = spawn(fun() -> receive go -> echo(Conn) end end),
    ok = gen_tcp:controlling_process(Conn, Echo),
    Echo ! go,
    Params = binary:copy(<<1>>, 512 * 1024),
    Calls = [case N rem 2 of
                 0 -> plain(Client, {port, 1, {N, Params}});
                 1 -> call(Client, 1, {N, Params}, infinity)
             end || N <- lists:seq(1, 64)],
    [{ok, {N, Params}} = outcome(Call) || {N, Call} <- lists:zip(lists:seq(1, 64), Calls)],
    #{in_flight := 0, queued := 0} = gen_driver_tcp:info(Client).

echo(Conn) ->
    case gen_tcp:recv(Conn, 0) of
        {ok, Frame} ->
            {call, Id, 1, Params} = binary_to_term(Frame),
            ok = gen_tcp:send(Conn, term_to_binary({reply, Id, {ok, Params}})),
            echo(Conn);
        {error, _} ->
            ok
    end.
