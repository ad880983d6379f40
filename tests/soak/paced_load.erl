%% SPDX-License-Identifier: MIT
%% Calls at a steady rate from many processes over several connections, until standard input ends. Each
%% call carries a number of its own; what its caller was told, and after how long, is written down: number,
%% outcome, microseconds, a line each. Every eighth is a cast with its caller's key, and of what follows
%% one in two has that key too, so that the order can be looked at afterwards.
-module(paced_load).

-export([main/1]).

-define(TIMEOUT, 20000).

%% Url, instance, calls a second in sum, connections, callers, and the file for the outcomes.
main([Url, Instance, Rate, Connections, Callers, File]) ->
    ok = logger:set_primary_config(level, error),
    Clients = list_to_tuple([client(Url, Instance) || _ <- lists:seq(1, Connections)]),
    Stop = atomics:new(1, []),
    Every = Callers * 1000000 div Rate,
    Workers = [spawn_monitor(fun() -> exit({told, calls(element(1 + N rem Connections, Clients), N, Every, Stop)}) end)
               || N <- lists:seq(1, Callers)],
    io:format("ready~n"),
    eof = io:get_line(""),
    atomics:put(Stop, 1, 1),
    Told = [receive {'DOWN', Monitor, process, Pid, {told, Each}} -> Each end || {Pid, Monitor} <- Workers],
    ok = file:write_file(File, [[[integer_to_list(Number), $\s, Outcome, $\s, integer_to_list(After), $\n]
                                 || {Number, Outcome, After} <- Each] || Each <- Told]),
    [ok = gen_driver_tcp:stop(Client) || Client <- tuple_to_list(Clients)],
    halt(0).

client(Url, Instance) ->
    {ok, Client} = gen_driver_tcp:start_link(#{connect => Url, instance => Instance, backoff => {1, 20}}),
    ok = gen_driver_tcp:await(Client, 30000),
    Client.

calls(Client, N, Every, Stop) ->
    calls(Client, N, 0, now_us() + rand:uniform(Every), Every, Stop, []).

calls(Client, N, I, At, Every, Stop, Told) ->
    sleep_until(At),
    case atomics:get(Stop, 1) of
        1 ->
            Told;
        0 ->
            Number = N bsl 32 bor I,
            Began = now_us(),
            Outcome = once(Client, N, I, Number),
            calls(Client, N, I + 1, max(At + Every, Began), Every, Stop, [{Number, Outcome, now_us() - Began} | Told])
    end.

once(Client, N, I, Number) when I rem 8 =:= 0 ->
    ok = gen_driver_tcp:cast(Client, record, Number, #{key => N}),
    "cast";
once(Client, N, I, Number) when I rem 2 =:= 0 ->
    text(Number, gen_driver_tcp:call(Client, record, Number, #{key => N, timeout => ?TIMEOUT}));
once(Client, _, _, Number) ->
    text(Number, gen_driver_tcp:call(Client, record, Number, ?TIMEOUT)).

text(Number, {ok, Number}) -> "ok";
text(_, {error, {failed, Reason}}) -> atom_to_list(Reason).

sleep_until(At) ->
    receive after max(0, (At - now_us()) div 1000) -> ok end.

now_us() ->
    erlang:monotonic_time(microsecond).
