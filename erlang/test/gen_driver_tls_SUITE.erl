%% SPDX-License-Identifier: MIT
%% TLS: who is let in and who is not, and that a peer that does not read blocks nobody.
-module(gen_driver_tls_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [welcome/1, recv/1, recv_calls/2, send/2, async/1, outcome/1]).
-import(gen_driver_test_client, [until/2]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, tls}].

groups() ->
    [{tls, [parallel],
      [calls_and_casts, large_both_ways, a_peer_of_another_authority_is_refused, a_peer_of_another_name_is_refused,
       an_older_version_is_refused, a_plain_peer_is_refused, a_peer_that_stops_reading_blocks_nobody,
       an_end_is_noticed, casts_arrive_when_the_client_stops, requests_pipelined_behind_the_handshake]}].

init_per_testcase(_Case, Config) ->
    Listener = gen_driver_fake:listen(),
    [{listener, Listener} | Config].

end_per_testcase(_Case, Config) ->
    gen_driver_fake:close(?config(listener, Config)).

here() ->
    [{dNSName, "localhost"}, {iPAddress, <<127, 0, 0, 1>>}].

%% A client that dials a front before the listener of this test.
client(Names, Server, Options, Config) ->
    {Certified, Trust} = gen_driver_tls_front:certificates(Names),
    Front = gen_driver_tls_front:start(Certified, Server, gen_driver_fake:port(?config(listener, Config))),
    {ok, Client} = gen_driver_tcp:start_link(
                     maps:merge(#{instance => sum, connect => gen_driver_tls_front:url(Front), tls_options => Trust}, Options)),
    Client.

connected(Config) ->
    connected(#{}, Config).

connected(Options, Config) ->
    Client = client(here(), [], Options, Config),
    Conn = welcome(?config(listener, Config)),
    ok = gen_driver_tcp:await(Client, 10000),
    {Client, Conn}.

refused(Client) ->
    {error, Reason} = gen_driver_tcp:await(Client, 10000),
    #{status := connecting} = gen_driver_tcp:info(Client),
    Reason.

calls_and_casts(Config) ->
    {Client, Conn} = connected(Config),
    Call = async(fun() -> gen_driver_tcp:call(Client, 1, [1, 2]) end),
    {call, 0, 1, [1, 2], _} = recv(Conn),
    send(Conn, {reply, 0, {ok, 3}}),
    {ok, 3} = outcome(Call),
    Plain = async(fun() -> gen_server:call(Client, {port, 2}) end),
    {call, 1, 2} = recv(Conn),
    send(Conn, {reply, 1, ok}),
    ok = outcome(Plain),
    ok = gen_driver_tcp:cast(Client, 3),
    {cast, 3} = recv(Conn),
    #{connect := {tls, _, _}, status := up} = gen_driver_tcp:info(Client).

large_both_ways(Config) ->
    {Client, Conn} = connected(Config),
    Large = crypto:strong_rand_bytes(5 bsl 20),
    Calls = [async(fun() -> gen_driver_tcp:call(Client, N, Large, 30000) end) || N <- [1, 2, 3]],
    Got = recv_calls(Conn, 3),
    [Large, Large, Large] = [element(4, Call) || Call <- Got],
    [send(Conn, {reply, element(2, Call), element(4, Call)}) || Call <- Got],
    [Large, Large, Large] = [outcome(Call) || Call <- Calls],
    ok.

a_peer_of_another_authority_is_refused(Config) ->
    {_, Trust} = gen_driver_tls_front:certificates(here()),
    Client = client(here(), [], #{tls_options => Trust}, Config),
    {tls_alert, {unknown_ca, _}} = refused(Client).

a_peer_of_another_name_is_refused(Config) ->
    Client = client([{dNSName, "elsewhere"}, {iPAddress, <<127, 0, 0, 2>>}], [], #{}, Config),
    {tls_alert, {handshake_failure, _}} = refused(Client).

an_older_version_is_refused(Config) ->
    Client = client(here(), [{versions, ['tlsv1.2']}], #{}, Config),
    {tls_alert, {protocol_version, _}} = refused(Client).

a_plain_peer_is_refused(Config) ->
    Url = "tls" ++ string:prefix(gen_driver_fake:url(?config(listener, Config)), "tcp"),
    {_, Trust} = gen_driver_tls_front:certificates(here()),
    {ok, Client} = gen_driver_tcp:start_link(#{instance => sum, connect => Url, tls_options => Trust}),
    Conn = gen_driver_fake:accept(?config(listener, Config)),
    ok = gen_driver_fake:greet(Conn),
    _ = refused(Client).

%% A socket of TLS does not say whether it is full: the writer finds out, and the process goes on.
a_peer_that_stops_reading_blocks_nobody(Config) ->
    {Client, Conn} = connected(#{max_in_flight => 64}, Config),
    Large = binary:copy(<<1>>, 1 bsl 20),
    Calls = [async(fun() -> gen_driver_tcp:call(Client, 1, Large, 30000) end) || _ <- lists:seq(1, 30)],
    until(Client, fun(#{in_flight := InFlight, queued := Queued}) -> InFlight + Queued =:= 30 end),
    {status, _, _, _} = sys:get_status(Client, 1000),
    Got = recv_calls(Conn, 30),
    [send(Conn, {reply, element(2, Call), ok}) || Call <- Got],
    30 = length([ok || Call <- Calls, outcome(Call) =:= ok]),
    ok.

an_end_is_noticed(Config) ->
    {Client, Conn} = connected(#{backoff => {1, 2}}, Config),
    Call = async(fun() -> gen_driver_tcp:call(Client, 1) end),
    {call, 0, 1, [], _} = recv(Conn),
    gen_driver_fake:close(Conn),
    {error, {failed, disconnected}} = outcome(Call),
    Again = welcome(?config(listener, Config)),
    Next = async(fun() -> gen_driver_tcp:call(Client, 2) end),
    {call, 0, 2, [], _} = recv(Again),
    send(Again, {reply, 0, ok}),
    ok = outcome(Next).

casts_arrive_when_the_client_stops(Config) ->
    {Client, Conn} = connected(Config),
    [ok = gen_driver_tcp:cast(Client, 1, binary:copy(<<N>>, 100000)) || N <- lists:seq(1, 20)],
    Stopped = async(fun() -> gen_driver_tcp:stop(Client) end),
    Casts = recv_calls(Conn, 20),
    [{cast, 1, _} = Cast || Cast <- Casts],
    ok = outcome(Stopped).

%% What comes in one record with the welcome is not lost on the way from the dialer to the client.
requests_pipelined_behind_the_handshake(Config) ->
    Client = client(here(), [], #{}, Config),
    Conn = gen_driver_fake:accept(?config(listener, Config)),
    ok = gen_driver_fake:greet(Conn),
    Instance = gen_driver_fake:hello(Conn),
    Frames = [gen_driver_fake:welcomed(Instance, #{}), {note, x}, {pong, 5}, {goodbye, stopping}],
    gen_driver_fake:send_raw(Conn, [gen_driver_fake:frame(Frame) || Frame <- Frames]),
    ok = gen_driver_tcp:await(Client, 10000),
    until(Client, fun(#{trouble := Trouble}) -> Trouble =:= {lost, {goodbye, <<"stopping">>}} end).
