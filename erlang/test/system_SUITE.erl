%% SPDX-License-Identifier: MIT
%% The client against a real daemon, just started: $GENDRIVERD_URL (and $GENDRIVERD_UNIX_URL) with the
%% instances `sum' and `echo', and the driver sum.so as `test' (1 thread) and `test4' (4 threads).
%% Without the variable everything is skipped.
-module(system_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-define(ECHO, 1).
-define(CALLERS, 1000).
-define(CALLS, 100).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [transcript, four_threads, commands_by_name, driver_word, unknown_instance, deadline_that_has_passed,
     many_callers_tcp, many_callers_unix, large_terms, casts_go_out_before_stop].

init_per_suite(Config) ->
    case os:getenv("GENDRIVERD_URL", "") of
        "" ->
            {skip, "GENDRIVERD_URL is not set"};
        Url ->
            gen_driver_test = gen_driver_fake:load("examples/sum/gen_driver_test.erl"),
            ok = application:load(gen_driver_compat),
            ok = application:set_env(gen_driver_compat, connect, Url),
            [{url, Url} | Config]
    end.

end_per_suite(_Config) ->
    application:unload(gen_driver_compat).

client(Url, Instance) ->
    {ok, Client} = gen_driver_tcp:start_link(#{connect => Url, instance => Instance}),
    ok = gen_driver_tcp:await(Client, 10000),
    Client.

%% The original's README, line by line.
transcript(_Config) ->
    {ok, Pid} = gen_driver_test:start_link(),
    {ok, 10.0} = gen_driver_test:sum(Pid, [1, 2, 3, 4]),
    ok = gen_driver_test:ping(Pid),
    {ok, [{driver, 2}, {thread, 2}]} = gen_driver_test:stats(Pid),
    ok = gen_driver_test:stop(Pid).

%% "You will begin to see a difference."
four_threads(Config) ->
    Client = client(?config(url, Config), test4),
    Calls = [gen_driver_fake:async(fun() -> gen_driver_test:sum(Client, [N, 0.5]) end) || N <- lists:seq(1, 40)],
    ?assertEqual([{ok, N + 0.5} || N <- lists:seq(1, 40)], [gen_driver_fake:outcome(Call) || Call <- Calls]),
    {ok, [{driver, Driver}, {thread, Thread}]} = gen_driver_test:stats(Client),
    ?assert(Driver >= 40),
    ?assert(Thread < Driver).

commands_by_name(Config) ->
    Client = client(?config(url, Config), "sum"),
    {ok, 6.0} = gen_driver_tcp:call(Client, sum, [1, 2, 3]),
    {ok, 6.0} = gen_driver_tcp:call(Client, <<"sum">>, [1, 2.0, 3], #{timeout => 5000, key => 1, trace => <<"t">>}),
    {error, {unknown_command, <<"product">>}} = gen_driver_tcp:call(Client, product).

driver_word(Config) ->
    Client = client(?config(url, Config), sum),
    {error, type} = gen_driver_tcp:call(Client, sum, not_a_list),
    {error, command} = gen_driver_tcp:call(Client, 99).

unknown_instance(Config) ->
    {ok, Client} = gen_driver_tcp:start_link(#{connect => ?config(url, Config), instance => nobody}),
    {error, {refused, unknown_instance}} = gen_driver_tcp:await(Client, 10000),
    {error, {failed, unavailable}} = gen_driver_tcp:call(Client, 1).

deadline_that_has_passed(Config) ->
    Client = client(?config(url, Config), sum),
    {error, {failed, expired}} = gen_driver_tcp:call(Client, sum, [1], 0).

many_callers_tcp(Config) ->
    many_callers(?config(url, Config)).

many_callers_unix(_Config) ->
    case os:getenv("GENDRIVERD_UNIX_URL", "") of
        "" -> {skip, "GENDRIVERD_UNIX_URL is not set"};
        Url -> many_callers(Url)
    end.

%% 100,000 answers on one connection, each to its own caller; both forms of a call.
many_callers(Url) ->
    Client = client(Url, echo),
    Callers = [gen_driver_fake:async(fun() -> calls(Client, Caller, ?CALLS, 0) end) || Caller <- lists:seq(1, ?CALLERS)],
    ?assertEqual(?CALLERS * ?CALLS, lists:sum([right_answers(Caller) || Caller <- Callers])),
    #{in_flight := 0, queued := 0, connects := 1} = gen_driver_tcp:info(Client),
    ok = gen_driver_tcp:stop(Client).

right_answers({Ref, _}) ->
    receive {Ref, Right} -> Right end.

calls(_Client, _Caller, 0, Right) ->
    Right;
calls(Client, Caller, N, Right) ->
    Params = {Caller, N, integer_to_binary(Caller * N)},
    {ok, Params} = case N rem 2 of
        0 -> gen_driver_tcp:call(Client, ?ECHO, Params, 60000);
        1 -> gen_server:call(Client, {port, ?ECHO, Params}, 60000)
    end,
    calls(Client, Caller, N - 1, Right + 1).

large_terms(Config) ->
    Client = client(?config(url, Config), echo),
    [begin
         {ok, Term} = gen_driver_tcp:call(Client, ?ECHO, Term, 30000),
         {ok, Term} = gen_server:call(Client, {port, ?ECHO, Term}, 30000)
     end || Term <- [lists:seq(1, 200000), binary:copy(<<"pq">>, 2 bsl 20), #{a => [1.5, -0.0, 1 bsl 200]}]].

casts_go_out_before_stop(Config) ->
    Url = ?config(url, Config),
    Watching = client(Url, test4),
    {ok, [{driver, Before}, _]} = gen_driver_test:stats(Watching),
    Client = client(Url, test4),
    [ok = gen_driver_test:ping(Client) || _ <- lists:seq(1, 1000)],
    ok = gen_driver_test:stop(Client),
    counted(Watching, Before + 1000, erlang:monotonic_time(millisecond) + 10000).

%% Another connection's requests run when they run: no event tells.
counted(Client, Least, Deadline) ->
    {ok, [{driver, Count}, _]} = gen_driver_test:stats(Client),
    ?assert(erlang:monotonic_time(millisecond) < Deadline),
    case Count >= Least of
        true -> ok;
        false -> counted(Client, Least, Deadline)
    end.
