%% SPDX-License-Identifier: MIT
%% Code written for the original: gen_driver and its example, unchanged, against a service played by hand.
-module(gen_driver_compat_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [refuse/2, recv/1, send/2, send_raw/2, async/1, outcome/1]).

suite() ->
    [{timetrap, {seconds, 30}}].

all() ->
    [example, start_fails, stop_is_a_cast, eparse, default_address].

init_per_suite(Config) ->
    gen_driver_test = gen_driver_fake:load("examples/sum/gen_driver_test.erl"),
    ok = application:load(gen_driver_compat),
    Config.

end_per_suite(_Config) ->
    ok = application:unload(gen_driver_compat).

init_per_testcase(_Case, Config) ->
    Listener = gen_driver_fake:listen(),
    ok = application:set_env(gen_driver_compat, connect, gen_driver_fake:url(Listener)),
    [{listener, Listener} | Config].

end_per_testcase(_Case, Config) ->
    gen_driver_fake:close(?config(listener, Config)).

%% The test process is the client's parent; the service is played beside it.
started(Config) ->
    Service = service(fun gen_driver_fake:welcome/1, Config),
    {ok, Pid} = gen_driver_test:start_link(),
    {Pid, outcome(Service)}.

service(Play, Config) ->
    Listener = ?config(listener, Config),
    Test = self(),
    async(fun() ->
        Conn = Play(Listener),
        ok = gen_tcp:controlling_process(Conn, Test),
        Conn
    end).

example(Config) ->
    {Pid, Conn} = started(Config),
    Sum = async(fun() -> gen_driver_test:sum(Pid, [1, 2, 3, 4]) end),
    {call, 0, 1, [1, 2, 3, 4]} = recv(Conn),
    send(Conn, {reply, 0, {ok, 10.0}}),
    {ok, 10.0} = outcome(Sum),
    ok = gen_driver_test:ping(Pid),
    {cast, 2} = recv(Conn),
    Stats = async(fun() -> gen_driver_test:stats(Pid) end),
    {call, 1, 3} = recv(Conn),
    send(Conn, {reply, 1, {ok, [{driver, 2}, {thread, 2}]}}),
    {ok, [{driver, 2}, {thread, 2}]} = outcome(Stats),
    ok = gen_driver_test:stop(Pid),
    closed = recv(Conn).

%% Nobody is linked to anything afterwards, and no message is left.
start_fails(Config) ->
    process_flag(trap_exit, true),
    Service = async(fun() -> refuse(?config(listener, Config), unknown_instance) end),
    {error, {refused, unknown_instance}} = gen_driver:start_link("../priv", "nobody"),
    ok = outcome(Service),
    ok = application:set_env(gen_driver_compat, connect, "nonsense"),
    {error, {bad_option, {connect, "nonsense"}}} = gen_driver:start_link("../priv", "test"),
    ?assertEqual({messages, []}, process_info(self(), messages)).

stop_is_a_cast(Config) ->
    {Pid, Conn} = started(Config),
    Monitor = monitor(process, Pid),
    ok = gen_server:cast(Pid, stop),
    receive {'DOWN', Monitor, process, Pid, normal} -> ok end,
    closed = recv(Conn).

eparse(Config) ->
    {Pid, Conn} = started(Config),
    Call = async(fun() -> gen_server:call(Pid, {port, 1}) end),
    {call, 0, 1} = recv(Conn),
    send_raw(Conn, <<14:32, 131, 104, 3, 119, 5, "reply", 97, 0, 70, 0>>),
    {error, eparse} = outcome(Call).

default_address(_Config) ->
    ok = application:unload(gen_driver_compat),
    ok = application:load(gen_driver_compat),
    ?assertEqual({ok, "tcp://127.0.0.1:9900"}, application:get_env(gen_driver_compat, connect)).
