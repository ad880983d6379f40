%% SPDX-License-Identifier: MIT
%% A service that answers by itself, for tests that have several: real loopback sockets, and behaviour that a test can
%% change at any time.
-module(gen_driver_fake_host).

-export([start/0, start/1, stop/1, url/1, address/1, behave/2, pings/2, calls/1, seen/1, await_calls/2, drop/1, until/1]).

-define(WAIT, 30000).

%% It answers every call `{ok, Port}' until told otherwise.
start() ->
    start(0).

start(Port) ->
    Test = self(),
    Pid = spawn(fun() -> begin_(Port, Test) end),
    receive {started, Pid, Host} -> Host after ?WAIT -> error(no_host) end.

begin_(Port, Test) ->
    Monitor = monitor(process, Test),
    {ok, Listener} = gen_tcp:listen(Port, [binary, {packet, 4}, {active, false}, {reuseaddr, true}, {nodelay, true},
                                           {backlog, 1024}, {ip, {127, 0, 0, 1}}]),
    Actual = gen_driver_fake:port(Listener),
    Table = ets:new(?MODULE, [public, ordered_set]),
    true = ets:insert(Table, [{calls, 0}, {behaviour, fun(_) -> {reply, {ok, Actual}} end}, {pings, true}]),
    Host = #{pid => self(), port => Actual, table => Table},
    _ = spawn_link(fun() -> accept(Listener, Host) end),
    Test ! {started, self(), Host},
    receive
        {'DOWN', Monitor, _, _, _} -> ok;
        stop -> ok
    end,
    gen_driver_fake:close(Listener).

%% All its sockets with it.
stop(#{pid := Pid, table := Table}) ->
    Conns = [{Conn, monitor(process, Conn)} || [Conn] <- ets:match(Table, {{conn, '$1'}, '_'})],
    Monitor = monitor(process, Pid),
    Pid ! stop,
    [receive {'DOWN', M, process, P, _} -> ok after ?WAIT -> error(still_there) end || {P, M} <- [{Pid, Monitor} | Conns]],
    ok.

url(#{port := Port}) -> "tcp://127.0.0.1:" ++ integer_to_list(Port).

address(#{port := Port}) -> {tcp, {127, 0, 0, 1}, Port}.

%% A function of `{Command, Params, Options}': `{reply, Term}', `{failed, Reason}', `{parts, Terms}', `{goodbye, Reason}',
%% `silent' or `close'.
behave(#{table := Table}, Behaviour) ->
    true = ets:insert(Table, {behaviour, Behaviour}),
    ok.

%% Whether it answers those.
pings(#{table := Table}, Whether) ->
    true = ets:insert(Table, {pings, Whether}),
    ok.

%% How many calls have come; and all frames but pings, in order.
calls(#{table := Table}) ->
    ets:lookup_element(Table, calls, 2).

seen(#{table := Table}) ->
    [Frame || {{seen, _}, Frame} <- ets:tab2list(Table)].

await_calls(Host, N) ->
    until(fun() -> calls(Host) >= N end).

%% End all connections; it goes on listening.
drop(#{table := Table}) ->
    [exit(Pid, kill) || [Pid] <- ets:match(Table, {{conn, '$1'}, '_'})],
    true = ets:match_delete(Table, {{conn, '_'}, '_'}),
    ok.

%% Polls, where no event tells.
until(Is) ->
    until(Is, erlang:monotonic_time(millisecond) + ?WAIT).

until(Is, Deadline) ->
    case Is() of
        true ->
            ok;
        Not ->
            erlang:monotonic_time(millisecond) < Deadline orelse error({still, Not}),
            receive after 1 -> ok end,
            until(Is, Deadline)
    end.

%%% Connections

accept(Listener, Host) ->
    case gen_tcp:accept(Listener) of
        {ok, Conn} ->
            Pid = spawn(fun() -> receive go -> connection(Conn, Host) end end),
            ok = gen_tcp:controlling_process(Conn, Pid),
            Pid ! go,
            accept(Listener, Host);
        {error, _Closed} ->
            ok
    end.

%% It ends with its peer, or its host.
connection(Conn, Host = #{pid := Owner, table := Table}) ->
    _ = monitor(process, Owner),
    true = ets:insert(Table, {{conn, self()}, x}),
    send(Conn, {gen_driver, 1, #{server => <<"fake">>, auth => none, nonce => <<0:256>>}}),
    case gen_tcp:recv(Conn, 0, ?WAIT) of
        {ok, Hello} ->
            {hello, 1, Instance, _} = binary_to_term(Hello),
            send(Conn, gen_driver_fake:welcomed(Instance, #{})),
            _ = inet:setopts(Conn, [{active, true}]),
            serve(Conn, Host);
        {error, _} ->
            ok
    end.

serve(Conn, Host = #{table := Table}) ->
    receive
        {tcp, Conn, Frame} ->
            handle(binary_to_term(Frame), Conn, Table),
            serve(Conn, Host);
        {tcp_error, Conn, _} ->
            serve(Conn, Host);
        {tcp_closed, Conn} ->
            ok;
        {'DOWN', _, process, _, _} ->
            ok
    end.

handle({ping, Id}, Conn, Table) ->
    case ets:lookup_element(Table, pings, 2) of
        true -> send(Conn, {pong, Id});
        false -> ok
    end;
handle(Frame, Conn, Table) ->
    true = ets:insert(Table, {{seen, erlang:unique_integer([monotonic])}, Frame}),
    case Frame of
        {call, Id, Command} -> call(Id, {Command, [], #{}}, Conn, Table);
        {call, Id, Command, Params} -> call(Id, {Command, Params, #{}}, Conn, Table);
        {call, Id, Command, Params, Options} -> call(Id, {Command, Params, Options}, Conn, Table);
        _ -> ok
    end.

call(Id, Request, Conn, Table) ->
    _ = ets:update_counter(Table, calls, 1),
    case (ets:lookup_element(Table, behaviour, 2))(Request) of
        {reply, Term} -> send(Conn, {reply, Id, Term});
        {failed, Reason} -> send(Conn, {failed, Id, Reason});
        {parts, Parts} -> [send(Conn, {part, Id, Part}) || Part <- Parts], send(Conn, {reply, Id, done});
        {goodbye, Reason} -> send(Conn, {goodbye, Reason}), exit(normal);
        close -> exit(normal);
        silent -> ok
    end.

%% Whoever has gone is told nothing.
send(Conn, Term) ->
    _ = gen_tcp:send(Conn, term_to_binary(Term)),
    ok.
