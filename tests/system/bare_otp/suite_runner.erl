%% SPDX-License-Identifier: MIT
%% Runs Common Test's suites on a runtime that has no Common Test, in the way that does: each case and each init or end
%% of a suite or group in a process of its own, under the suite's time trap. Groups that are parallel run in order.
%% And EUnit's modules, as far as they hold functions, generators, lists and titles.
%%   erl -noshell -run suite_runner main Suite..        halts with 1 when one failed
-module(suite_runner).

-export([main/1]).

-define(TRAP, {seconds, 60}).

main(Names) ->
    Outcomes = lists:append([suite(list_to_atom(Name)) || Name <- Names]),
    Count = fun(Kind) -> length([Outcome || {_Place, Outcome} <- Outcomes, element(1, Outcome) =:= Kind]) end,
    io:format("~nTEST COMPLETE, ~b ok, ~b failed, ~b skipped of ~b test cases, on OTP ~s~n",
              [Count(ok), Count(failed), Count(skip), length(Outcomes), erlang:system_info(otp_release)]),
    halt(min(1, Count(failed))).

suite(Suite) ->
    {module, Suite} = code:ensure_loaded(Suite),
    case erlang:function_exported(Suite, all, 0) of
        true -> common(Suite);
        false -> eunit(Suite)
    end.

eunit(Module) ->
    lists:append([by_suffix(Module, Function, atom_to_list(Function)) || {Function, 0} <- Module:module_info(exports)]).

by_suffix(Module, Function, Name) ->
    case {lists:suffix("_test", Name), lists:suffix("_test_", Name)} of
        {true, _} -> test([Function, Module], fun Module:Function/0);
        {_, true} -> test([Function, Module], Module:Function());
        {_, _} -> []
    end.

test(Place, Tests) when is_list(Tests) -> lists:append([test(Place, Test) || Test <- Tests]);
test(Place, {Title, Tests}) -> test([Title | Place], Tests);
test(Place, Fun) -> [said(Place, outcome(guarded(fun() -> Fun(), ok end, milliseconds(?TRAP))))].

common(Suite) ->
    Trap = proplists:get_value(timetrap, optional(Suite, suite, [], []), ?TRAP),
    within(Suite, [Suite], {init_per_suite, []}, {end_per_suite, []}, Suite:all(), milliseconds(Trap), []).

%% The cases of a suite or a group, between its init and its end: [{Place, {ok} | {failed, Why} | {skip, Why}}].
within(Suite, Place, {Init, InitArgs}, {End, EndArgs}, Members, Trap, Config) ->
    case guarded(fun() -> optional(Suite, Init, InitArgs ++ [Config], Config) end, Trap) of
        {ok, Inner} when is_list(Inner) ->
            Outcomes = lists:append([member(Suite, Place, Member, Trap, Inner) || Member <- Members]),
            case guarded(fun() -> optional(Suite, End, EndArgs ++ [Inner], ok) end, Trap) of
                {ok, _} -> Outcomes;
                {failed, Why} -> [said([End | Place], {failed, Why}) | Outcomes]
            end;
        {ok, {skip, Why}} ->
            [said([Init | Place], {skip, Why})];
        {ok, Other} ->
            [said([Init | Place], {failed, {bad_return, Other}})];
        {failed, Why} ->
            [said([Init | Place], {failed, Why})]
    end.

member(Suite, Place, {group, Name}, Trap, Config) ->
    {Name, _Properties, Members} = lists:keyfind(Name, 1, Suite:groups()),
    within(Suite, [Name | Place], {init_per_group, [Name]}, {end_per_group, [Name]}, Members, Trap, Config);
member(Suite, Place, Case, Trap, Config) ->
    [said([Case | Place], outcome(guarded(fun() -> a_case(Suite, Case, Config) end, Trap)))].

%% In one process, so that what the init links to lives as long as the case.
a_case(Suite, Case, Config) ->
    case optional(Suite, init_per_testcase, [Case, Config], Config) of
        {skip, Why} ->
            {skip, Why};
        Inner when is_list(Inner) ->
            try Suite:Case(Inner) after optional(Suite, end_per_testcase, [Case, Inner], ok) end
    end.

outcome({ok, {skip, Why}}) -> {skip, Why};
outcome({ok, _}) -> {ok};
outcome({failed, Why}) -> {failed, Why}.

%% Ends abnormally, so that what is linked to it goes too, and quietly.
guarded(Fun, Trap) ->
    Ref = make_ref(),
    {Pid, Monitor} = spawn_monitor(fun() -> exit({shutdown, {Ref, Fun()}}) end),
    receive
        {'DOWN', Monitor, process, Pid, {shutdown, {Ref, Value}}} -> {ok, Value};
        {'DOWN', Monitor, process, Pid, Why} -> {failed, Why}
    after Trap ->
        Where = process_info(Pid, current_stacktrace),
        exit(Pid, kill),
        receive {'DOWN', Monitor, process, Pid, _} -> {failed, {timetrap, Trap, Where}} end
    end.

optional(Suite, Function, Args, Otherwise) ->
    case erlang:function_exported(Suite, Function, length(Args)) of
        true -> apply(Suite, Function, Args);
        false -> Otherwise
    end.

milliseconds({seconds, N}) -> N * 1000;
milliseconds({minutes, N}) -> N * 60000.

said(Place, Outcome) ->
    Path = lists:join(".", [io_lib:format(if is_list(Name) -> "~ts"; true -> "~tp" end, [Name])
                            || Name <- lists:reverse(Place)]),
    case Outcome of
        {ok} -> io:format("~ts: ok~n", [Path]);
        {Kind, Why} -> io:format("~ts: ~s~n    ~tp~n", [Path, Kind, Why])
    end,
    {Path, Outcome}.
