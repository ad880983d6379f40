%% SPDX-License-Identifier: MIT
%% The client's promises to its callers, on scripts that are made up: every call gets one outcome, and the outcome is true.
%%
%% For each case (prop_script) a new client calls a real daemon through a relay that breaks links (prop_relay);
%% then what callers were told is compared with what the driver ran (prop_case, prop_books).
-module(prop_client).

-include_lib("proper/include/proper.hrl").

-export([main/1]).

%% A failure may need luck to come again: once there was one, a smaller script has so many chances to fail.
-define(CHANCES, 4).

%% Daemon's port, ledger, gate, cases, the file for a counterexample, and one to run again or "".
main([Port, LedgerPath, GatePath, Cases, Found, Again]) ->
    ok = logger:set_primary_config(level, critical),
    World = prop_case:open({"127.0.0.1", Port}, LedgerPath, GatePath),
    ok = found_out(World),
    Result = case Again of
        "" -> proper:quickcheck(holds(World, Found), [{numtests, Cases}, {max_size, 30}, nocolors]);
        _ ->
            {ok, [Script]} = file:consult(Again),
            proper:check(holds(World, Found), [Script], [nocolors])
    end,
    halt(case Result of true -> 0; _ -> 1 end).

holds(World, Found) ->
    ?FORALL(Script, prop_script:script(),
            begin
                {Problems, Told, History} = chances(World, Script, case get(failed) of true -> ?CHANCES; _ -> 1 end),
                ?WHENFAIL(show(Script, Problems, History, Found),
                          aggregate(Told, Problems =:= []))
            end).

chances(World, Script, N) ->
    case prop_case:run(World, Script) of
        {[], _, _} when N > 1 -> chances(World, Script, N - 1);
        {[], _, _} = Result -> Result;
        Result -> put(failed, true), Result
    end.

show(Script, Problems, History, Found) ->
    io:format("~nThe script~n~s~nWhat became of its requests~n~s~nWhat does not agree~n~s~n",
              [prop_script:text(Script), History, [["  ", Problem, $\n] || Problem <- Problems]]),
    ok = filelib:ensure_dir(Found),
    ok = file:write_file(Found, io_lib:format("~0p.~n", [Script])),
    io:format("Again: make prop PROP_AGAIN=~s~n", [Found]).

%% A test that cannot fail tests nothing: a relay that lies must be found out.
found_out(World) ->
    Script = {#{max_in_flight => 4096, max_queued => 10000, connect_wait => 1000, plain_timeout => infinity},
              [{call, own, none, none, free}, {cast, own, none, 1, free}, {cast, own, none, 1, free}, {call, plain, none, none, free}]},
    lists:foreach(fun({Fault, Said}) ->
                          ok = prop_case:fault(World, Fault),
                          {Problems, _, _} = prop_case:run(World, Script),
                          lists:any(fun(Problem) -> string:find(Problem, Said) =/= nomatch end, Problems)
                              orelse error({not_found_out, Fault, Problems})
                  end, prop_relay:faults()),
    ok = prop_case:fault(World, none),
    {[], _, _} = prop_case:run(World, Script),
    ok.
