%% SPDX-License-Identifier: MIT
%% Calls that each carry a number of their own, from many processes over several connections, while
%% one process kills the host again and again, and another calls a neighbour. What each caller was
%% told is written down: number, outcome, a line each. tests/soak/soak.py holds it against the books
%% that the driver kept.
-module(ledger_load).

-export([main/1]).

-define(DEADLY, 13).	% ways to die that tests/drivers/ledger.c knows
-define(PAUSE, 100).	% ms from one crash until the next

%% Url, seconds, connections, callers, and the file for the outcomes.
main([Url, Seconds, Connections, Callers, File]) ->
    ok = logger:set_primary_config(level, error),
    Clients = list_to_tuple([client(Url, ledger) || _ <- lists:seq(1, Connections)]),
    Neighbour = client(Url, echo),
    End = now_us() + Seconds * 1000000,
    Crash = atomics:new(1, []),
    Workers = [spawn_monitor(fun() -> exit({told, calls(Clients, N, Crash, End)}) end) || N <- lists:seq(1, Callers)],
    Killer = spawn_monitor(fun() -> exit({killed, kills(Clients, Crash, End)}) end),
    Other = spawn_monitor(fun() -> exit({neighbour, neighbour(Neighbour, End, 0)}) end),
    Told = [ended(told, Worker) || Worker <- Workers],
    Kills = ended(killed, Killer),
    Calls = ended(neighbour, Other),
    Lines = [[[integer_to_list(Number), $\s, text(Outcome), $\s, integer_to_list(After), $\n]
              || {Number, Outcome, After} <- Each] || Each <- [Kills | Told]],
    ok = file:write_file(File, Lines),
    io:format("neighbour ~b~n", [Calls]),
    halt(0).

client(Url, Instance) ->
    {ok, Client} = gen_driver_tcp:start_link(#{connect => Url, instance => Instance, backoff => {1, 20}}),
    ok = gen_driver_tcp:await(Client, 30000),
    Client.

ended(Tag, {Pid, Monitor}) ->
    receive {'DOWN', Monitor, process, Pid, {Tag, Result}} -> Result end.

%% Some with a deadline, some with a key, some in the plain form.
calls(Clients, N, Crash, End) ->
    calls(Clients, N, 0, Crash, End, []).

calls(Clients, N, I, Crash, End, Told) ->
    case now_us() >= End of
        true ->
            Told;
        false ->
            Number = N bsl 32 bor I,
            Client = element(1 + (N + I) rem tuple_size(Clients), Clients),
            Outcome = case I rem 4 of
                0 -> gen_server:call(Client, {port, 1, Number}, infinity);
                1 -> gen_driver_tcp:call(Client, record, Number, #{timeout => 60000, key => N});
                2 -> gen_driver_tcp:call(Client, record, Number, 60000);
                3 -> gen_driver_tcp:call(Client, record, Number, #{timeout => infinity})
            end,
            calls(Clients, N, I + 1, Crash, End, [{Number, Outcome, since(Outcome, Crash)} | Told])
    end.

%% Microseconds since the last deadly call was sent, for those whom it hit.
since({error, {failed, Reason}}, Crash) when Reason =:= interrupted; Reason =:= not_run; Reason =:= disconnected ->
    now_us() - atomics:get(Crash, 1);
since(_, _) ->
    0.

kills(Clients, Crash, End) ->
    kills(Clients, 0, Crash, End, []).

kills(Clients, I, Crash, End, Told) ->
    case now_us() >= End of
        true ->
            Told;
        false ->
            Client = element(1 + I rem tuple_size(Clients), Clients),
            Began = now_us(),
            atomics:put(Crash, 1, Began),
            Deadly = gen_driver_tcp:call(Client, die, {I, I rem ?DEADLY}, 60000),
            After = now_us() - Began,
            Again = again(Client, 1 bsl 40 bor (2 * I), Began),
            receive after ?PAUSE -> ok end,
            kills(Clients, I + 1, Crash, End, [{I, {deadly, Deadly}, After} | Again ++ Told])
    end.

%% Until it serves again; the numbers of what was tried meanwhile.
again(Client, Number, Began) ->
    case gen_driver_tcp:call(Client, record, Number, 60000) of
        {ok, Number} -> [{Number, {served, {ok, Number}}, now_us() - Began}];
        Outcome -> [{Number, Outcome, 0} | again(Client, Number + (1 bsl 41), Began)]
    end.

neighbour(Client, End, N) ->
    case now_us() >= End of
        true -> N;
        false ->
            {ok, N} = gen_driver_tcp:call(Client, echo, N),
            neighbour(Client, End, N + 1)
    end.

text({deadly, Outcome}) -> ["deadly_" | text(Outcome)];
text({served, Outcome}) -> ["served_" | text(Outcome)];
text({ok, Number}) when is_integer(Number) -> "ok";
text({error, {failed, Reason}}) -> atom_to_list(Reason).

now_us() ->
    erlang:monotonic_time(microsecond).
