%% SPDX-License-Identifier: MIT
%% @doc The load generator's VM: reads one Erlang term a line, does it, and answers with one line: "= " and a JSON object.
%%
%% `{open, Name, Module, Args}' · `{check, Name, Words}' · `{run, Workload, Names, X, Warm, Window, Pids}' · `{close, Name}' ·
%% `about'. Whatever else appears on standard output is a log.
-module(bench_main).

-export([main/0]).

-define(SUM, 1).
-define(ECHO, 2).
-define(SPIN, 3).
-define(MIXED, 4).
-define(COUNT, 5).
-define(PARTS, 6).
-define(SMALL, {?SUM, [1, 2, 3, 4], {ok, 10}}).
-define(PART, 262144).

%% @doc Until standard input ends.
-spec main() -> no_return().
main() ->
    process_flag(trap_exit, true),
    loop(#{}).

loop(Clients) ->
    case io:read("") of
        {ok, Request} ->
            {Answer, Next} = answer(Request, Clients),
            io:format("= ~ts~n", [json(Answer)]),
            loop(Next);
        eof ->
            halt(0);
        {error, Reason} ->
            io:format("= ~ts~n", [json(#{error => text(Reason)})]),
            loop(Clients)
    end.

answer(Request, Clients) ->
    try handle(Request, Clients)
    catch
        _:Reason -> {#{error => text(Reason)}, Clients}
    end.

handle(about, Clients) ->
    {#{otp => list_to_binary(erlang:system_info(otp_release)), schedulers => erlang:system_info(schedulers_online),
       pid => list_to_integer(os:getpid())}, Clients};
handle({open, Name, Module, Args}, Clients) ->
    #{pids := Pids} = Opened = Module:open(Args),
    {#{pids => Pids}, Clients#{Name => {Module, Opened}}};
handle({close, Name}, Clients) ->
    {{Module, #{system := System}}, Left} = maps:take(Name, Clients),
    _ = Module:close(System),
    {#{}, Left};
handle({check, Name, Words}, Clients) ->
    {Module, #{system := System}} = maps:get(Name, Clients),
    Caller = Module:caller(System),
    lists:foreach(fun(Word) -> check(Word, Module, Caller) end, Words),
    _ = Module:leave(Caller),
    {#{}, Clients};
handle({run, Workload, Names, X, Warm, Window, Pids}, Clients) ->
    ok = bench_load:serving(tuple_to_list(Pids)),
    {run(Workload, [maps:get(Name, Clients) || Name <- Names], X, Warm, Window), Clients}.

%%% Right answers

check(sum, Module, Caller) ->
    lists:foreach(fun(List) -> same({ok, lists:sum(List)}, Module:call(Caller, ?SUM, List)) end,
                  [[1, 2, 3, 4], [], [1000, -7, 70000], lists:seq(1, 100)]);
check(echo, Module, Caller) ->
    lists:foreach(fun(Term) -> same({ok, Term}, Module:call(Caller, ?ECHO, Term)) end,
                  [<<"bytes">>, rand:bytes(100000), rand:bytes(3000000)]);
check(spin, Module, Caller) ->
    Began = erlang:monotonic_time(microsecond),
    same({ok, 5000}, Module:call(Caller, ?SPIN, 5000)),
    true = erlang:monotonic_time(microsecond) - Began >= 5000.

same(Wanted, Wanted) -> ok;
same(_Wanted, Got) -> error({wrong_answer, Got}).

%%% Workloads

run(latency, [Client], Callers, Warm, Window) ->
    bench_load:latency(Client, ?SMALL, Callers, Warm, Window);
run(calls, [Client], Callers, Warm, Window) ->
    bench_load:calls(Client, ?SMALL, Callers, Warm, Window);
run(casts, [Client], _, _, Window) ->
    bench_load:casts(Client, ?SMALL, {?COUNT, [], none}, Window);
run(payload, [Client], Bytes, _, Window) ->
    Result = bench_load:repeated(Client, echo(Bytes), 3, Window),
    Result#{throughput => maps:get(rate, Result) * Bytes / 1.0e6};
run(cpu, [Client], Micros, Warm, Window) ->
    bench_load:calls(Client, {?SPIN, Micros, {ok, Micros}}, 16, Warm, Window);
run(mixed_sizes, [Client], 0, Warm, Window) ->
    bench_load:beside(Client, ?SMALL, none, 16, Warm, Window);
run(mixed_sizes, [Client], Bytes, Warm, Window) ->
    bench_load:beside(Client, ?SMALL, {Client, echo(Bytes)}, 16, Warm, Window);
run(mixed_times, [Client, Elsewhere], {Brief, Lengthy, Every}, Warm, Window) ->
    bench_load:slowest(Client, Elsewhere, {?MIXED, {Brief, Lengthy, Every}, none}, ?SMALL, Warm, Window);
run(parts, [Client, _], 0, Warm, Window) ->
    bench_load:beside(Client, ?SMALL, none, 1, Warm, Window);
run(parts, [Client, Elsewhere], Bytes, Warm, Window) ->
    Stream = fun(Of) -> bench_gd:parts(Of, ?PARTS, {?PART, Bytes div ?PART}) end,
    #{large := Parts} = Result = bench_load:beside(Client, ?SMALL, {Elsewhere, Stream}, 1, Warm, Window),
    Result#{throughput => Parts * ?PART / 1.0e6}.

echo(Bytes) ->
    {?ECHO, binary:copy(rand:bytes(64), Bytes div 64), {bytes, Bytes}}.

%%% JSON: flat objects of numbers, texts and lists of integers

json(Map) ->
    ["{", lists:join(",", [[quoted(atom_to_list(Key)), ":", value(Value)] || {Key, Value} <- maps:to_list(Map)]), "}"].

value(Value) when is_integer(Value) -> integer_to_list(Value);
value(Value) when is_float(Value) -> io_lib:format("~.6e", [Value]);
value(Value) when is_list(Value) -> ["[", lists:join(",", [integer_to_list(N) || N <- Value]), "]"];
value(Value) when is_binary(Value) -> quoted(unicode:characters_to_list(Value)).

quoted(Text) ->
    [$", [case lists:member(Char, "\"\\") of true -> [$\\, Char]; false -> Char end || Char <- Text, Char >= $ ], $"].

text(Term) ->
    Text = lists:flatten(io_lib:format("~0tP", [Term, 30])),
    unicode:characters_to_binary(lists:sublist(Text, 500)).
