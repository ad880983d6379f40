%% SPDX-License-Identifier: MIT
%% The client's promises to its callers, on scripts that are made up: every call gets one outcome, and the outcome is true.
%%
%% For each case (prop_script) a new client calls a real daemon through a relay that breaks links (prop_relay);
%% then what callers were told is compared with what the driver ran (prop_case, prop_books).
-module(prop_client).

-include_lib("proper/include/proper.hrl").

-export([main/1]).

%% A failure may need luck to come again: once there was one, a smaller script has so many chances to fail.
-define(CHANCES, 3).
%% Ms. And it need not wait as long for what does not come.
-define(PATIENCE, 15000).
-define(LESS, 2000).
-define(SHRINKS, 100).

%% Daemon's port, ledger, gate, cases, the file for a counterexample, and one to run again or "".
main([Port, LedgerPath, GatePath, Cases, Found, Again]) ->
    ok = logger:set_primary_config(level, critical),
    World = prop_case:open({"127.0.0.1", Port}, LedgerPath, GatePath),
    ok = found_out(World),
    Holds = case Again of
        "" ->
            proper:quickcheck(holds(World), [{numtests, Cases}, {max_size, 30}, {max_shrinks, ?SHRINKS}, nocolors]);
        _ ->
            {ok, [Script]} = file:consult(Again),
            proper:check(holds(World), [Script], [nocolors])
    end,
    Holds =:= true orelse show(get(smallest), Found),
    halt(case Holds of true -> 0; _ -> 1 end).

holds(World) ->
    ?FORALL(Script, prop_script:script(),
            begin
                {Problems, Told} = case get(smallest) of
                    undefined -> chances(World, Script, ?PATIENCE, 1);
                    _ -> chances(World, Script, ?LESS, ?CHANCES)
                end,
                aggregate(Told, Problems =:= [])
            end).

chances(World, Script, Patience, N) ->
    case prop_case:run(World, Script, Patience) of
        {[], _, _} when N > 1 -> chances(World, Script, Patience, N - 1);
        {[], Told, _} -> {[], Told};
        {Problems, Told, History} -> smallest(Script, Problems, History), {Problems, Told}
    end.

%% Shrinking ends with a run that may have been lucky: the smallest that failed is kept with what became of it then.
smallest({_, Steps} = Script, Problems, History) ->
    case get(smallest) of
        {{_, Fewer}, _, _} when length(Fewer) < length(Steps) -> ok;
        _ -> put(smallest, {Script, Problems, History})
    end.

show({Script, Problems, History}, Found) ->
    ok = filelib:ensure_dir(Found),
    ok = file:write_file(Found, io_lib:format("~0p.~n", [Script])),
    io:format("~nThe smallest script that failed~n~s~nWhat became of its requests~n~s~nWhat does not agree~n~s~n"
              "To run it again: make prop PROP_AGAIN=~s~n",
              [prop_script:text(Script), History, [["  ", Problem, $\n] || Problem <- Problems], Found]).

%% A test that cannot fail tests nothing: a relay that lies must be found out.
found_out(World) ->
    Script = {#{max_in_flight => 4096, max_queued => 10000, connect_wait => 1000, plain_timeout => infinity},
              [{call, own, none, none, free}, {cast, own, none, 1, free}, {cast, own, none, 1, free},
               {call, plain, none, none, free}]},
    lists:foreach(fun({Fault, Said}) ->
                          ok = prop_case:fault(World, Fault),
                          {Problems, _, _} = prop_case:run(World, Script, ?PATIENCE),
                          lists:any(fun(Problem) -> string:find(Problem, Said) =/= nomatch end, Problems)
                              orelse error({not_found_out, Fault, Problems})
                  end, prop_relay:faults()),
    ok = prop_case:fault(World, none),
    {[], _, _} = prop_case:run(World, Script, ?PATIENCE),
    ok.
