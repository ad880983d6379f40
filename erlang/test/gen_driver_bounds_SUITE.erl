%% SPDX-License-Identifier: MIT
%% What is bounded and by how much, and the client as a process among others.
-module(gen_driver_bounds_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-include_lib("gen_driver_tcp/src/gen_driver_request.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [welcome/1, welcome/2, recv/1, recv/2, recv_calls/2, send/2, async/1, outcome/1, drained/1]).
-import(gen_driver_test_client, [connected/1, connected/3, client/2, plain/2, call/4, until/2, client_socket/1]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, bounds}, {group, process}].

groups() ->
    [{bounds, [],
      [places_are_taken_before_sending, plain_requests_beyond_the_bound, bytes_are_bounded_too,
       requests_without_a_place_are_bounded_in_the_queue, in_flight_is_bounded, expired_in_the_queue, peer_that_stops_reading, batch_is_one_send,
       flood_does_not_starve]},
     {process, [],
      [names, under_a_supervisor, stop_answers_everybody, casts_go_out_before_stop,
       casts_in_the_kernel_arrive_after_stop, status_hides_parameters,
       unknown_messages_are_logged, info_tells]}].

init_per_testcase(Case, Config) -> gen_driver_test_client:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_test_client:end_per_testcase(Case, Config).

%%% Bounds

places_are_taken_before_sending(Config) ->
    {Client, Conn} = connected(#{max_queued => 10}, #{}, Config),
    ok = sys:suspend(Client),
    [ok = gen_driver_tcp:cast(Client, 1) || _ <- lists:seq(1, 10)],
    Overloaded = {error, {failed, overloaded}},
    Overloaded = gen_driver_tcp:cast(Client, 1),
    Overloaded = gen_driver_tcp:call(Client, 1),
    {message_queue_len, 10} = process_info(Client, message_queue_len),
    ok = sys:resume(Client),
    recv_calls(Conn, 10),
    drained(Client),
    ok = sys:suspend(Client),
    [ok = gen_driver_tcp:cast(Client, 1) || _ <- lists:seq(1, 10)],
    Overloaded = gen_driver_tcp:cast(Client, 1),
    ok = sys:resume(Client).

plain_requests_beyond_the_bound(Config) ->
    {Client, Conn} = connected(#{max_queued => 2, max_in_flight => 1}, #{}, Config),
    First = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    Second = [plain(Client, {port, 1}) || _ <- [1, 2]],
    until(Client, fun(#{queued := Q}) -> Q =:= 2 end),
    {error, {failed, overloaded}} = gen_server:call(Client, {port, 1}),
    ok = gen_server:cast(Client, {port, 1}),
    #{casts_dropped := 1} = drained(Client),
    send(Conn, {reply, 0, ok}),
    [begin {call, Id, 1} = recv(Conn), send(Conn, {reply, Id, ok}) end || Id <- [1, 2]],
    [ok, ok, ok] = [outcome(C) || C <- [First | Second]].

bytes_are_bounded_too(Config) ->
    {Client, _Conn} = connected(#{max_queued => {100, 10000}}, #{}, Config),
    ok = sys:suspend(Client),
    Params = binary:copy(<<0>>, 4000),
    ok = gen_driver_tcp:cast(Client, 1, Params),
    ok = gen_driver_tcp:cast(Client, 1, Params),
    {error, {failed, overloaded}} = gen_driver_tcp:cast(Client, 1, Params),
    ok = gen_driver_tcp:cast(Client, 1, 0),
    ok = sys:resume(Client).

%% As from another node, where no place can be taken before.
requests_without_a_place_are_bounded_in_the_queue(Config) ->
    {Client, Conn} = connected(#{max_queued => 10}, #{limits => #{in_flight => 1}}, Config),
    First = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    Calls = [gen_server:send_request(Client, #request{style = own, command = 2}) || _ <- lists:seq(1, 50)],
    Full = [gen_server:receive_response(Call, 5000) || Call <- lists:nthtail(10, Calls)],
    [{reply, {said, {error, {failed, overloaded}}}} = Reply || Reply <- Full],
    [ok = gen_server:cast(Client, #request{command = 3}) || _ <- lists:seq(1, 5)],
    #{queued := 10, casts_dropped := 5} = until(Client, fun(#{casts_dropped := Dropped}) -> Dropped =:= 5 end),
    send(Conn, {reply, 0, ok}),
    ok = outcome(First).

in_flight_is_bounded(Config) ->
    {Client, Conn} = connected(#{}, #{limits => #{in_flight => 3}}, Config),
    Calls = [plain(Client, {port, 1}) || _ <- lists:seq(1, 5)],
    recv_calls(Conn, 3),
    #{in_flight := 3, queued := 2} = until(Client, fun(#{queued := Q}) -> Q =:= 2 end),
    timeout = recv(Conn, 0),
    send(Conn, {reply, 0, ok}),
    {call, 3, 1} = recv(Conn),
    [send(Conn, {reply, Id, ok}) || Id <- [1, 2, 3]],
    {call, 4, 1} = recv(Conn),
    send(Conn, {reply, 4, ok}),
    [ok, ok, ok, ok, ok] = [outcome(C) || C <- Calls].

expired_in_the_queue(Config) ->
    {Client, Conn} = connected(#{max_in_flight => 1, plain_timeout => 30}, #{}, Config),
    First = plain(Client, {port, 1}),
    {call, 0, 1, [], _} = recv(Conn),
    {error, {failed, expired}} = gen_server:call(Client, {port, 2}),
    #{queued := 0} = gen_driver_tcp:info(Client),
    send(Conn, {reply, 0, ok}),
    ok = outcome(First),
    timeout = recv(Conn, 0).

%% Every caller's request is larger than what the sockets hold: had the client itself
%% waited to send, nothing would ever move again.
peer_that_stops_reading(Config) ->
    {Client, Conn} = connected(Config),
    Params = binary:copy(<<1>>, 512 * 1024),
    Calls = [plain(Client, {port, 1, Params}) || _ <- lists:seq(1, 32)],
    until(Client, fun(#{in_flight := F, queued := Q}) -> F + Q =:= 32 andalso Q > 0 end),
    send(Conn, {reply, 0, {ok, not_blocked}}),
    until(Client, fun(#{in_flight := F, queued := Q}) -> F + Q =:= 31 end),
    [begin {call, Id, 1, Params} = recv(Conn), send(Conn, {reply, Id, {ok, not_blocked}}) end
     || _ <- lists:seq(1, 32)],
    ?assertEqual([{ok, not_blocked}], lists:usort([outcome(C) || C <- Calls])).

batch_is_one_send(Config) ->
    {Client, Conn} = connected(Config),
    ok = sys:suspend(Client),
    [ok = gen_server:cast(Client, {port, 1, N}) || N <- lists:seq(1, 60)],
    {ok, [{send_cnt, Before}]} = inet:getstat(client_socket(Client), [send_cnt]),
    ok = sys:resume(Client),
    [{cast, 1, N} = recv(Conn) || N <- lists:seq(1, 60)],
    {ok, [{send_cnt, After}]} = inet:getstat(client_socket(Client), [send_cnt]),
    ?assertEqual(1, After - Before).

flood_does_not_starve(Config) ->
    {Client, Conn} = connected(Config),
    ok = sys:suspend(Client),
    ok = gen_server:cast(Client, {port, 1}),
    Stranger = spawn(fun() -> ok end),
    [Client ! {'EXIT', Stranger, normal} || _ <- lists:seq(1, 1000000)],
    ok = sys:resume(Client),
    {cast, 1} = recv(Conn),
    {message_queue_len, Waiting} = process_info(Client, message_queue_len),
    ?assert(Waiting > 0),
    %% gen_tcp:send looks through the mailbox for its answer: with so much in it, the writer sends.
    {links, Links} = process_info(Client, links),
    ?assertMatch([_Writer], [Pid || Pid <- Links, is_pid(Pid), Pid =/= self()]).

%%% The process

names(Config) ->
    Options = #{instance => "sum", connect => gen_driver_fake:url(?config(listener, Config))},
    {ok, _} = gen_driver_tcp:start_link({local, names_test}, Options),
    {ok, _} = gen_driver_tcp:start_link({global, names_test}, Options),
    {ok, _} = gen_driver_tcp:start_link({via, global, names_test_via}, Options),
    {error, {already_started, _}} = gen_driver_tcp:start_link({local, names_test}, Options),
    Conns = [welcome(?config(listener, Config)) || _ <- [1, 2, 3]],
    Names = [names_test, {names_test, node()}, {global, names_test}, {via, global, names_test_via}],
    [ok = gen_driver_tcp:await(Name, 5000) || Name <- Names],
    [ok = gen_driver_tcp:cast(Name, 5) || Name <- Names],
    [{cast, 5} = recv(Conn) || Conn <- Conns],
    [ok = gen_driver_tcp:stop(Name) || Name <- tl(Names)].

under_a_supervisor(Config) ->
    Options = [{instance, <<"sum">>}, {connect, gen_driver_fake:url(?config(listener, Config))}],
    Specs = [gen_driver_tcp:child_spec(Options), gen_driver_tcp:child_spec({{local, supervised}, Options})],
    ok = supervisor:check_childspecs(Specs),
    {ok, Supervisor} = gen_driver_test_sup:start_link(Specs),
    Conns = [welcome(?config(listener, Config)) || _ <- [1, 2]],
    Calls = [plain(supervised, {port, 1}) || _ <- [1, 2, 3]],
    [Conn] = [Conn || Conn <- Conns, {call, 0, 1} <- [recv(Conn, 1000)]],
    recv_calls(Conn, 2),
    ok = gen_driver_test_sup:stop(Supervisor),
    [{error, {failed, disconnected}} = outcome(C) || C <- Calls],
    [closed, closed] = [recv(C) || C <- Conns].

stop_answers_everybody(Config) ->
    {Client, Conn} = connected(#{max_in_flight => 1}, #{}, Config),
    Sent = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    Waiting = [plain(Client, {port, 2}), call(Client, 2, [], infinity)],
    until(Client, fun(#{queued := Q, in_flight := F}) -> Q =:= 2 andalso F =:= 1 end),
    ok = gen_driver_tcp:stop(Client),
    {error, {failed, disconnected}} = outcome(Sent),
    [{error, {failed, unavailable}} = outcome(W) || W <- Waiting],
    closed = recv(Conn).

casts_go_out_before_stop(Config) ->
    {Client, Conn} = connected(Config),
    ok = sys:suspend(Client),
    [ok = gen_driver_tcp:cast(Client, 1, N) || N <- lists:seq(1, 1000)],
    ok = gen_server:cast(Client, stop),
    ok = sys:resume(Client),
    [{cast, 1, N} = recv(Conn) || N <- lists:seq(1, 1000)],
    closed = recv(Conn).

%% The peer's buffer is small and ours is large: most is on its way when the client ends.
casts_in_the_kernel_arrive_after_stop(_Config) ->
    Listener = gen_driver_fake:listen([{recbuf, 4096}]),
    {Client, Conn} = connected(#{tcp_options => [{sndbuf, 1 bsl 20}]}, #{}, [{listener, Listener}]),
    Params = binary:copy(<<0>>, 10000),
    [ok = gen_driver_tcp:cast(Client, N, Params) || N <- lists:seq(1, 15)],
    ok = gen_driver_tcp:stop(Client),
    [{cast, N, Params} = recv(Conn) || N <- lists:seq(1, 15)],
    closed = recv(Conn),
    gen_driver_fake:close(Listener).

status_hides_parameters(Config) ->
    {Client, Conn} = connected(#{max_in_flight => 1}, #{}, Config),
    First = plain(Client, {port, 1}),
    {call, 0, 1} = recv(Conn),
    Secret = call(Client, 1, <<"a secret parameter">>, infinity),
    until(Client, fun(#{queued := Q}) -> Q =:= 1 end),
    Status = lists:flatten(io_lib:format("~tp", [sys:get_status(Client)])),
    nomatch = string:find(Status, "secret"),
    nomatch = string:find(Status, "115,101,99,114,101,116"),
    [begin send(Conn, {reply, Id, ok}), ok = outcome(Call) end || {Id, Call} <- [{0, First}, {1, Secret}]].

unknown_messages_are_logged(Config) ->
    {Client, _Conn} = connected(Config),
    gen_driver_test_log:start(?FUNCTION_NAME),
    {error, {failed, bad_request}} = gen_server:call(Client, what),
    gen_driver_test_log:warning("unknown call"),
    ok = gen_server:cast(Client, what),
    gen_driver_test_log:warning("unknown cast"),
    Client ! what,
    gen_driver_test_log:warning("unknown message"),
    gen_driver_test_log:stop(?FUNCTION_NAME).

info_tells(Config) ->
    Client = client(#{}, Config),
    #{instance := <<"sum">>, status := connecting, links := 0, connects := 0} = gen_driver_tcp:info(Client),
    _Conn = welcome(?config(listener, Config), #{generation => 5}),
    ok = gen_driver_tcp:await(Client, 5000),
    #{status := up, links := 1, connects := 1, in_flight := 0, queued := 0, queued_bytes := 0,
      welcome := #{generation := 5}} = gen_driver_tcp:info(Client).
