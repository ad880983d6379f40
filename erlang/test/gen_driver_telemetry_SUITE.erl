%% SPDX-License-Identifier: MIT
%% What `telemetry' hears where there is one, and what log lines carry.
-module(gen_driver_telemetry_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [recv/1, send/2, async/1, outcome/1]).
-import(gen_driver_test_client, [connected/3, client/2, until/2]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [nobody_listens, links_are_told, calls_are_told, dropped_casts_are_told, log_lines_say_whose_they_are].

init_per_testcase(nobody_listens, Config) ->
    gen_driver_test_client:init_per_testcase(nobody_listens, Config);
init_per_testcase(Case, Config) ->
    {module, telemetry} = code:load_binary(telemetry, "telemetry.erl", beam()),
    true = register(?MODULE, self()),
    gen_driver_test_client:init_per_testcase(Case, Config).

end_per_testcase(nobody_listens, Config) ->
    gen_driver_test_client:end_per_testcase(nobody_listens, Config);
end_per_testcase(Case, Config) ->
    gen_driver_test_client:end_per_testcase(Case, Config),
    _ = code:purge(telemetry),
    true = code:delete(telemetry).

%% A library of that name which hands on what it is told.
beam() ->
    persistent_term:get({?MODULE, beam}).

init_per_suite(Config) ->
    Form = fun(Text) -> {ok, Tokens, _} = erl_scan:string(Text), {ok, F} = erl_parse:parse_form(Tokens), F end,
    Forms = [Form("-module(telemetry)."), Form("-export([execute/3])."),
             Form("execute(Event, Measurements, Metadata) ->"
                  " catch gen_driver_telemetry_SUITE ! {telemetry, Event, Measurements, Metadata}, ok.")],
    {ok, telemetry, Beam} = compile:forms(Forms),
    persistent_term:put({?MODULE, beam}, Beam),
    Config.

end_per_suite(_Config) ->
    _ = persistent_term:erase({?MODULE, beam}),
    ok.

told(Event) ->
    receive {telemetry, Event, Measurements, Metadata} -> {Measurements, Metadata} after 5000 -> error({not_told, Event}) end.

nobody_listens(Config) ->
    false = gen_driver_telemetry:is_there(),
    {Client, Conn} = connected(#{}, #{}, Config),
    Call = async(fun() -> gen_driver_tcp:call(Client, 1) end),
    {call, 0, 1, [], _} = recv(Conn),
    send(Conn, {reply, 0, ok}),
    ok = outcome(Call).

links_are_told(Config) ->
    {_Client, Conn} = connected(#{}, #{generation => 7}, Config),
    {#{count := 1}, #{instance := <<"sum">>, generation := 7}} = told([gen_driver, link, up]),
    send(Conn, {goodbye, stopping}),
    {#{count := 1}, #{instance := <<"sum">>, reason := {goodbye, <<"stopping">>}}} = told([gen_driver, link, down]).

calls_are_told(Config) ->
    {Client, Conn} = connected(#{}, #{}, Config),
    Told = [begin
                Call = async(fun() -> gen_driver_tcp:call(Client, sum, x) end),
                {call, Id, 1, x, _} = recv(Conn),
                send(Conn, Answer(Id)),
                _ = outcome(Call),
                {#{duration := Duration}, #{client := Client, command := sum, outcome := Outcome}} = told([gen_driver, call, stop]),
                ?assert(Duration > 0),
                Outcome
            end || Answer <- [fun(Id) -> {reply, Id, {error, {failed, crashed}}} end, fun(Id) -> {failed, Id, crashed} end]],
    [reply, crashed] = Told,
    {error, {unknown_command, <<"product">>}} = gen_driver_tcp:call(Client, product),
    {_, #{outcome := unknown_command}} = told([gen_driver, call, stop]).

dropped_casts_are_told(Config) ->
    Client = client(#{}, Config),
    [ok = gen_driver_tcp:cast(Client, N) || N <- [1, 2]],
    [{#{count := 1}, #{instance := <<"sum">>, reason := unavailable}} = told([gen_driver, cast, dropped]) || _ <- [1, 2]].

log_lines_say_whose_they_are(Config) ->
    Client = client(#{instance => whose}, Config),
    {dictionary, Dictionary} = process_info(Client, dictionary),
    #{instance := <<"whose">>, connect := {tcp, {127, 0, 0, 1}, _}} = proplists:get_value('$logger_metadata$', Dictionary).
