%% SPDX-License-Identifier: MIT
%% @doc Callers in closed loops, and what is counted while they call: the same for every system.
%%
%% Rates are counted over a window behind a warm-up, by a process of high priority; the callers go on until after it.
%% CPU time is that of the VM and of all that serves, over the same window. Every answer is looked at: a wrong one ends
%% the run.
-module(bench_load).

-export([serving/1, calls/5, latency/5, repeated/4, casts/4, beside/6, slowest/6]).
-export_type([client/0, work/0, result/0]).

-type client() :: {module(), bench_client:opened()}.
-type work() :: {Command :: pos_integer(), Params :: term(), Wanted :: term()}.
-type result() :: #{atom() => number()}.
-record(moment, {at :: integer(), cpu :: number()}).

-define(START, 60000).
-define(STOP, 120000).
-define(CASTS, 5000).           % ahead of one barrier: fewer than a client of ours lets wait

%% @doc The processes of the operating system whose CPU time counts from here on, in runs of this process.
-spec serving([non_neg_integer()]) -> ok.
serving(Pids) ->
    _ = put(?MODULE, Pids),
    ok.

%% @doc `Callers' of them: rate, and how many calls there were in all, with those outside the window.
-spec calls(client(), work(), Callers :: pos_integer(), Warm :: pos_integer(), Window :: pos_integer()) -> result().
calls(Client = {_, #{each := Each}}, Work, Callers, Warm, Window) ->
    Counter = counters:new(1, [write_concurrency]),
    Loop = fun(Module, Caller, Stop) -> count(Module, Caller, Work, Counter, Stop) end,
    Seen = with_callers([{Client, Loop} || _ <- lists:seq(1, Callers)], fun() -> rate(Counter, Warm, Window, Each) end),
    Seen#{count => counters:get(Counter, 1) * Each}.

%% @doc The same, and how long calls took.
-spec latency(client(), work(), pos_integer(), pos_integer(), pos_integer()) -> result().
latency(Client, Work, Callers, Warm, Window) ->
    {Hist, Counter} = {bench_hist:new(), counters:new(1, [write_concurrency])},
    Open = atomics:new(1, []),
    Loop = timed(Work, Hist, Counter, Open),
    Seen = with_callers([{Client, Loop} || _ <- lists:seq(1, Callers)],
                        fun() -> opened(Open, Warm, fun() -> rate(Counter, 0, Window, 1) end) end),
    maps:merge(Seen, percentiles(Hist)).

percentiles(Hist) ->
    [P50, P99, P999] = bench_hist:quantiles(Hist, [0.5, 0.99, 0.999]),
    #{p50 => P50, p99 => P99, p999 => P999}.

%% @doc One caller, whole calls for at least `Window', and `Least' of them: for those that take long.
-spec repeated(client(), work(), Least :: pos_integer(), Window :: pos_integer()) -> result().
repeated(Client, Work, Least, Window) ->
    alone(Client, fun(Module, Caller, Pids) ->
        ok = called(Module, Caller, Work),
        Began = moment(Pids),
        since(Began, repeat(Module, Caller, Work, Least, Began#moment.at + Window * 1000000, 0), Pids)
    end).

repeat(Module, Caller, Work, Least, End, Count) ->
    case Count >= Least andalso now_ns() >= End of
        true -> Count;
        false ->
            ok = called(Module, Caller, Work),
            repeat(Module, Caller, Work, Least, End, Count + 1)
    end.

%% @doc One process casts; a call that counts what has run tells when all of them have.
-spec casts(client(), work(), Count :: work(), Window :: pos_integer()) -> result().
casts(Client, Work, {Command, Params, _}, Window) ->
    alone(Client, fun(Module, Caller, Pids) ->
        {ok, Before} = Module:call(Caller, Command, Params),
        Began = moment(Pids),
        Ask = fun() -> {ok, Ran} = Module:call(Caller, Command, Params), Ran - Before end,
        since(Began, cast_until(Module, Caller, Work, Ask, Began#moment.at + Window * 1000000, 0), Pids)
    end).

cast_until(Module, Caller, Work = {Command, Params, _}, Ask, End, Sent) ->
    lists:foreach(fun(_) -> Module:cast(Caller, Command, Params) end, lists:seq(1, ?CASTS)),
    ok = all_ran(Ask, Sent + ?CASTS, now_ns() + ?START * 1000000),
    case now_ns() >= End of
        true -> Sent + ?CASTS;
        false -> cast_until(Module, Caller, Work, Ask, End, Sent + ?CASTS)
    end.

all_ran(Ask, Wanted, Deadline) ->
    case {Ask(), now_ns() < Deadline} of
        {Wanted, _} -> ok;
        {Ran, true} when Ran < Wanted -> all_ran(Ask, Wanted, Deadline);
        {Ran, _} -> error({casts_lost, Wanted - Ran})
    end.

%% @doc Small calls by 16 callers while one other caller does `Large' all the time, on the same client or on another one:
%% percentiles of the small, rate of the large. `none': nothing beside them.
-spec beside(client(), work(), {client(), work() | fun((term()) -> term())} | none, pos_integer(), pos_integer(),
             pos_integer()) -> result().
beside(Client, Small, Large, Callers, Warm, Window) ->
    {Hist, Counter, Big} = {bench_hist:new(), counters:new(1, [write_concurrency]), counters:new(1, [atomics])},
    Open = atomics:new(1, []),
    Loop = timed(Small, Hist, Counter, Open),
    Others = other(Large, Big),
    #{rate := Rate} = with_callers(Others ++ [{Client, Loop} || _ <- lists:seq(1, Callers)],
                                   fun() -> opened(Open, Warm, fun() -> rate(Big, 0, Window, 1) end) end),
    maps:merge(case Large of none -> #{}; _ -> #{large => Rate} end, percentiles(Hist)).

other(none, _Counter) -> [];
other({Client, Fun}, Counter) when is_function(Fun) ->
    [{Client, fun(_, Caller, Stop) -> stream(Fun, Caller, Counter, Stop) end}];
other({Client, Work}, Counter) ->
    [{Client, fun(Module, Caller, Stop) -> count(Module, Caller, Work, Counter, Stop) end}].

stream(Fun, Caller, Counter, Stop) ->
    case is_stopped(Stop) of
        true -> ok;
        false ->
            _ = Fun({Caller, Counter, Stop}),
            stream(Fun, Caller, Counter, Stop)
    end.

%% @doc One caller does `Work', which now and then takes long; one other calls on the same client, one on another. How long
%% each of the two waited at most, in ms.
-spec slowest(client(), client(), work(), work(), pos_integer(), pos_integer()) -> result().
slowest(Client, Elsewhere, Work, Small, Warm, Window) ->
    {Same, Other, Counter} = {bench_hist:new(), bench_hist:new(), counters:new(1, [write_concurrency])},
    Open = atomics:new(1, []),
    Slow = fun(Module, Caller, Stop) -> unlooked(Module, Caller, Work, Stop) end,
    %% It is not closed: whoever waits when the window ends is the one to look at.
    Watch = fun() -> wait(Warm), ok = atomics:put(Open, 1, 1), wait(Window) end,
    ok = with_callers([{Client, Slow}, {Client, timed(Small, Same, Counter, Open)},
                       {Elsewhere, timed(Small, Other, Counter, Open)}], Watch),
    #{same => bench_hist:max(Same) / 1000, other => bench_hist:max(Other) / 1000}.

unlooked(Module, Caller, Work = {Command, Params, _}, Stop) ->
    case is_stopped(Stop) of
        true -> ok;
        false ->
            {ok, _} = Module:call(Caller, Command, Params),
            unlooked(Module, Caller, Work, Stop)
    end.

%%% Loops

count(Module, Caller, Work, Counter, Stop) ->
    case is_stopped(Stop) of
        true -> ok;
        false ->
            ok = called(Module, Caller, Work),
            counters:add(Counter, 1, 1),
            count(Module, Caller, Work, Counter, Stop)
    end.

timed(Work, Hist, Counter, Open) ->
    fun(Module, Caller, Stop) -> time(Module, Caller, Work, Hist, Counter, Open, Stop) end.

time(Module, Caller, Work, Hist, Counter, Open, Stop) ->
    case is_stopped(Stop) of
        true -> ok;
        false ->
            Began = now_ns(),
            ok = called(Module, Caller, Work),
            Took = now_ns() - Began,
            counters:add(Counter, 1, 1),
            atomics:get(Open, 1) =:= 1 andalso bench_hist:add(Hist, Took),
            time(Module, Caller, Work, Hist, Counter, Open, Stop)
    end.

called(Module, Caller, {Command, Params, Wanted}) ->
    is_right(Module:call(Caller, Command, Params), Wanted).

is_right({ok, Binary}, {bytes, Size}) when byte_size(Binary) =:= Size -> ok;
is_right(Wanted, Wanted) -> ok;
is_right(Reply, _Wanted) -> error({wrong_answer, Reply}).

is_stopped(Stop) ->
    atomics:get(Stop, 1) =:= 1.

%%% Windows

rate(Counter, Warm, Window, Each) ->
    wait(Warm),
    Pids = get(?MODULE),
    {Count, Began} = {counters:get(Counter, 1), moment(Pids)},
    wait(Window),
    since(Began, (counters:get(Counter, 1) - Count) * Each, Pids).

moment(Pids) ->
    Cpu = lists:sum([bench_cpu:micros(Pid) || Pid <- Pids]),
    #moment{at = now_ns(), cpu = Cpu}.

%% A second, and of CPU a request.
since(#moment{at = Began, cpu = Before}, Count, Pids) ->
    Ended = now_ns(),
    Spent = (moment(Pids))#moment.cpu - Before,
    maps:merge(#{rate => Count * 1.0e9 / (Ended - Began)},
               case Count of 0 -> #{}; _ -> #{cpu => Spent / Count} end).

opened(Open, Warm, Fun) ->
    wait(Warm),
    ok = atomics:put(Open, 1, 1),
    Result = Fun(),
    ok = atomics:put(Open, 1, 0),
    Result.

%% A caller that dies ends the wait.
wait(Milliseconds) ->
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> died(Monitor, Pid, Reason)
    after Milliseconds ->
        ok
    end.

%%% Callers

%% All are there before the first calls; all are gone when this returns.
with_callers(Loops, Fun) ->
    Stop = atomics:new(1, []),
    Runner = self(),
    Callers = [spawn_opt(fun() -> caller(Runner, Client, Loop, Stop) end, [monitor]) || {Client, Loop} <- Loops],
    Before = process_flag(priority, high),
    try
        lists:foreach(fun ready/1, Callers),
        lists:foreach(fun({Pid, _}) -> Pid ! go end, Callers),
        Fun()
    of
        Result ->
            [] = ended(Callers, Stop),
            Result
    catch
        throw:{caller, Reason} ->
            _ = ended(Callers, Stop),
            error({caller, Reason})
    after
        process_flag(priority, Before)
    end.

%% Why any of them died.
ended(Callers, Stop) ->
    ok = atomics:put(Stop, 1, 1),
    [Reason || Caller <- Callers, Reason <- [gone(Caller)], Reason =/= normal].

caller(Runner, {Module, #{system := System}}, Loop, Stop) ->
    Caller = Module:caller(System),
    Runner ! {ready, self()},
    receive go -> ok after ?START -> exit(nobody_said_go) end,
    Loop(Module, Caller, Stop),
    Module:leave(Caller).

ready({Pid, Monitor}) ->
    receive
        {ready, Pid} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> died(Monitor, Pid, Reason)
    after ?START -> throw({caller, not_ready})
    end.

%% It is still to be seen by `gone/1'.
-spec died(reference(), pid(), term()) -> no_return().
died(Monitor, Pid, Reason) ->
    self() ! {'DOWN', Monitor, process, Pid, Reason},
    throw({caller, Reason}).

gone({Pid, Monitor}) ->
    Pid ! go,                           % where some never began
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> Reason
    after ?STOP ->
        exit(Pid, kill),
        hangs
    end.

%% One caller, in a process of its own, which measures itself.
alone({Module, #{system := System}}, Fun) ->
    {Runner, Pids} = {self(), get(?MODULE)},
    {Pid, Monitor} = spawn_monitor(fun() ->
        Caller = Module:caller(System),
        Runner ! {result, self(), Fun(Module, Caller, Pids)},
        Module:leave(Caller)
    end),
    receive
        {result, Pid, Result} ->
            normal = gone({Pid, Monitor}),
            Result;
        {'DOWN', Monitor, process, Pid, Reason} ->
            error({caller, Reason})
    after ?STOP ->
        exit(Pid, kill),
        error(caller_hangs)
    end.

now_ns() ->
    erlang:monotonic_time(nanosecond).
