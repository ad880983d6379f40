%% SPDX-License-Identifier: MIT
%% A thousand callers and a hundred casters on four connections, one of them through a relay that can be cut. Each
%% request carries a number of its own; what its sender was told is written down: number, outcome, microseconds, a
%% line each. Standard input says `cut' when the relay is to reset its connection; its end is the end.
-module(upheaval_load).

-export([main/1]).

-define(CALLS, 20).		% ms between two calls of a caller, at least
-define(CASTS, 20).
-define(TIMEOUT, 20000).

%% Host and port of the daemon, callers, casters, and the file for the outcomes.
main([Host, Port, Callers, Casters, File]) ->
    ok = logger:set_primary_config(level, error),
    Relay = relay(Host, Port),
    Clients = list_to_tuple([client(Host, Where) || Where <- [Port, Port, Port, relay_port(Relay)]]),
    Stop = atomics:new(1, []),
    Senders = [{fun call/3, ?CALLS, N} || N <- lists:seq(1, Callers)] ++ [{fun cast/3, ?CASTS, Callers + N} || N <- lists:seq(1, Casters)],
    Workers = [spawn_monitor(fun() -> exit({told, send(Once, element(1 + N rem 4, Clients), N, 0, Pause, Stop, [])}) end)
               || {Once, Pause, N} <- Senders],
    io:format("ready~n"),
    ok = obey(Relay),
    atomics:put(Stop, 1, 1),
    Told = [receive {'DOWN', Monitor, process, Pid, {told, Each}} -> Each end || {Pid, Monitor} <- Workers],
    ok = file:write_file(File, [[[integer_to_list(Number), $\s, Outcome, $\s, integer_to_list(After), $\n]
                                 || {Number, Outcome, After} <- Each] || Each <- Told]),
    [#{in_flight := 0, queued := 0} = gen_driver_tcp:info(Client) || Client <- tuple_to_list(Clients)],
    io:format("connects~s~n", [[[$\s, integer_to_list(maps:get(connects, gen_driver_tcp:info(C)))] || C <- tuple_to_list(Clients)]]),
    [ok = gen_driver_tcp:stop(Client) || Client <- tuple_to_list(Clients)],
    halt(0).

obey(Relay) ->
    case io:get_line("") of
        "cut\n" -> Relay ! cut, obey(Relay);
        eof -> ok
    end.

client(Host, Port) ->
    {ok, Client} = gen_driver_tcp:start_link(#{connect => {tcp, Host, Port}, instance => ledger, backoff => {1, 20}}),
    ok = gen_driver_tcp:await(Client, 30000),
    Client.

send(Once, Client, N, I, Pause, Stop, Told) ->
    receive after rand:uniform(2 * Pause) -> ok end,
    case atomics:get(Stop, 1) of
        1 ->
            Told;
        0 ->
            Number = N bsl 32 bor I,
            Began = now_us(),
            Outcome = Once(Client, N, Number),
            send(Once, Client, N, I + 1, Pause, Stop, [{Number, Outcome, now_us() - Began} | Told])
    end.

%% All the ways there are: with a deadline, with a key, in the original's form, answered later.
call(Client, N, Number) ->
    text(Number, case Number rem 4 of
        0 -> gen_driver_tcp:call(Client, record, Number, #{timeout => ?TIMEOUT, key => N});
        1 -> gen_driver_tcp:call(Client, record, Number, ?TIMEOUT);
        2 -> gen_server:call(Client, {port, 1, Number}, ?TIMEOUT);
        3 -> later(gen_driver_tcp:receive_response(gen_driver_tcp:send_request(Client, record, Number), ?TIMEOUT))
    end).

later({reply, Result}) -> Result.

%% A cast whose sender knows that it left is `sent': it may have been lost with its connection.
cast(Client, N, Number) when Number rem 2 =:= 0 ->
    ok = gen_driver_tcp:cast(Client, record, Number, #{key => N}),
    "cast";
cast(Client, N, Number) ->
    case gen_driver_tcp:cast(Client, record, Number, #{key => N, ack => true}) of
        ok -> "cast";
        Failed -> text(Number, Failed)
    end.

text(Number, {ok, Number}) -> "ok";
text(_, {error, {failed, Reason}}) -> atom_to_list(Reason);
text(_, _) -> "wrong".

%%% One connection after another, passed on; `cut' resets it in both directions

relay(Host, Port) ->
    spawn_link(fun() ->
        {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}, {nodelay, true}]),
        relaying(Listener, Host, Port)
    end).

relay_port(Relay) ->
    Relay ! {port, self()},
    receive {Relay, Port} -> Port end.

relaying(Listener, Host, Port) ->
    receive {port, Pid} -> {ok, Own} = inet:port(Listener), Pid ! {self(), Own} after 0 -> ok end,
    case gen_tcp:accept(Listener, 10) of
        {error, timeout} ->
            relaying(Listener, Host, Port);
        {ok, Client} ->
            case gen_tcp:connect(Host, Port, [binary, {active, false}, {nodelay, true}]) of
                {ok, Service} ->
                    [ok = inet:setopts(Socket, [{active, 10}, {exit_on_close, false}]) || Socket <- [Client, Service]],
                    pass(Client, Service);
                {error, _} ->
                    gen_tcp:close(Client)
            end,
            relaying(Listener, Host, Port)
    end.

pass(Client, Service) ->
    receive
        {tcp, Client, Data} -> _ = gen_tcp:send(Service, Data), pass(Client, Service);
        {tcp, Service, Data} -> _ = gen_tcp:send(Client, Data), pass(Client, Service);
        {tcp_passive, Socket} -> _ = inet:setopts(Socket, [{active, 10}]), pass(Client, Service);
        {tcp_closed, Client} -> _ = gen_tcp:shutdown(Service, write), pass(Client, Service);
        {tcp_closed, Service} -> [ok = gen_tcp:close(Socket) || Socket <- [Client, Service]];
        {tcp_error, _, _} -> pass(Client, Service);
        cut -> [begin _ = inet:setopts(Socket, [{linger, {true, 0}}]), gen_tcp:close(Socket) end || Socket <- [Client, Service]]
    end.

now_us() ->
    erlang:monotonic_time(microsecond).
