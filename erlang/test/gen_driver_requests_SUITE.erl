%% SPDX-License-Identifier: MIT
%% Calls that are answered later, casts that are acknowledged or dropped, and signs of life, against a
%% service played by hand.
-module(gen_driver_requests_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [welcome/1, recv/1, recv/2, send/2, async/1, outcome/1, drained/1]).
-import(gen_driver_test_client, [connected/1, connected/3, client/2, until/2]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, later}, {group, casts}, {group, signs}].

groups() ->
    [{later, [parallel],
      [answer_comes_later, giving_up_cancels, waiting_goes_on_after_a_timeout, message_is_checked,
       a_deadline_goes_along, places_of_callers_that_died_come_back, what_cannot_be_sent_is_answered_too, a_client_that_ends_is_an_error,
       first_of_a_collection, a_collection_given_up_is_cancelled, collection_checks_messages]},
     {casts, [parallel],
      [acknowledged_once_it_left, acknowledged_without_a_link, acknowledged_where_the_client_ends,
       acknowledged_with_an_unknown_name, dropped_casts_are_logged_together]},
     {signs, [parallel],
      [ping_is_answered_by_the_host, ping_without_a_link, ping_dies_with_its_link, quiet_link_is_asked,
       silent_link_is_given_up, drained_link_may_be_silent, but_not_for_ever, busy_link_is_not_asked, idle_client_gets_no_messages]}].

init_per_testcase(Case, Config) -> gen_driver_test_client:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_test_client:end_per_testcase(Case, Config).

%%% Answered later

answer_comes_later(Config) ->
    {Client, Conn} = connected(Config),
    Id = gen_driver_tcp:send_request(Client, 1, params),
    {call, 0, 1, params} = recv(Conn),
    send(Conn, {reply, 0, {ok, later}}),
    {reply, {ok, later}} = gen_driver_tcp:receive_response(Id, 5000),
    Failing = gen_driver_tcp:send_request(Client, sum),
    {call, 1, 1, []} = recv(Conn),
    send(Conn, {failed, 1, crashed}),
    {reply, {error, {failed, crashed}}} = gen_driver_tcp:receive_response(Failing, 5000).

giving_up_cancels(Config) ->
    {Client, Conn} = connected(Config),
    Id = gen_driver_tcp:send_request(Client, 1),
    {call, 0, 1, []} = recv(Conn),
    timeout = gen_driver_tcp:receive_response(Id, 1),
    {cancel, 0} = recv(Conn),
    send(Conn, {reply, 0, late}),
    until(Client, fun(#{in_flight := InFlight}) -> InFlight =:= 0 end),
    nothing_waits().

waiting_goes_on_after_a_timeout(Config) ->
    {Client, Conn} = connected(Config),
    Id = gen_driver_tcp:send_request(Client, 1),
    {call, 0, 1, []} = recv(Conn),
    timeout = gen_driver_tcp:wait_response(Id, 1),
    send(Conn, {reply, 0, ok}),
    {reply, ok} = gen_driver_tcp:wait_response(Id, 5000),
    nothing_waits().

message_is_checked(Config) ->
    {Client, Conn} = connected(Config),
    Id = gen_driver_tcp:send_request(Client, 1),
    no_reply = gen_driver_tcp:check_response({some, message}, Id),
    {call, 0, 1, []} = recv(Conn),
    send(Conn, {reply, 0, {error, {failed, overloaded}}}),
    receive Message -> {reply, {error, {failed, overloaded}}} = gen_driver_tcp:check_response(Message, Id) end.

a_deadline_goes_along(Config) ->
    {Client, Conn} = connected(Config),
    Id = gen_driver_tcp:send_request(Client, 1, x, #{timeout => 60000, key => 3}),
    {call, 0, 1, x, #{timeout := Left, key := 3}} = recv(Conn),
    ?assert(Left > 30000),
    send(Conn, {failed, 0, expired}),
    {reply, {error, {failed, expired}}} = gen_driver_tcp:receive_response(Id, infinity).

%% As if one had been killed between taking its place and sending.
places_of_callers_that_died_come_back(Config) ->
    {Client, Conn} = connected(#{max_queued => {2, 1000}}, #{}, Config),
    [taken = gen_driver_places:take(Client, 100) || _ <- [1, 2]],
    {error, {failed, overloaded}} = gen_driver_tcp:call(Client, 1),
    Plain = async(fun() -> gen_server:call(Client, {port, 1}) end),
    {call, 0, 1} = recv(Conn),
    send(Conn, {reply, 0, ok}),
    ok = outcome(Plain),
    answered(Client, Conn, erlang:monotonic_time(millisecond) + 20000).

answered(Client, Conn, Deadline) ->
    case gen_driver_tcp:cast(Client, 7) of
        ok ->
            {cast, 7} = recv(Conn);
        {error, {failed, overloaded}} ->
            ?assert(erlang:monotonic_time(millisecond) < Deadline),
            erlang:yield(),
            answered(Client, Conn, Deadline)
    end.

what_cannot_be_sent_is_answered_too(Config) ->
    {Client, Conn} = connected(#{max_queued => 1, max_in_flight => 1}, #{}, Config),
    Bad = gen_driver_tcp:send_request(Client, -1),
    {reply, {error, {failed, bad_request}}} = gen_driver_tcp:receive_response(Bad, 5000),
    First = gen_driver_tcp:send_request(Client, 1),
    {call, 0, 1, []} = recv(Conn),
    _ = drained(Client),                        % its place is free
    Second = gen_driver_tcp:send_request(Client, 2),
    until(Client, fun(#{queued := Queued}) -> Queued =:= 1 end),
    Third = gen_driver_tcp:send_request(Client, 3),
    {reply, {error, {failed, overloaded}}} = gen_driver_tcp:receive_response(Third, 5000),
    send(Conn, {reply, 0, one}),
    {reply, one} = gen_driver_tcp:receive_response(First, 5000),
    {call, _, 2, []} = Call = recv(Conn),
    send(Conn, {reply, element(2, Call), two}),
    {reply, two} = gen_driver_tcp:receive_response(Second, 5000),
    nothing_waits().

a_client_that_ends_is_an_error(Config) ->
    {Client, Conn} = connected(Config),
    Id = gen_driver_tcp:send_request(Client, 1),
    {call, 0, 1, []} = recv(Conn),
    true = unlink(Client),
    exit(Client, kill),
    {error, {killed, Client}} = gen_driver_tcp:receive_response(Id, 5000),
    {error, {noproc, nobody_here}} =
        gen_driver_tcp:receive_response(gen_driver_tcp:send_request(nobody_here, 1), 5000).

first_of_a_collection(Config) ->
    {Client, Conn} = connected(Config),
    C1 = gen_driver_tcp:reqids_add(gen_driver_tcp:send_request(Client, 1), one, gen_driver_tcp:reqids_new()),
    C2 = gen_driver_tcp:send_request(Client, 2, [], infinity, two, C1),
    2 = gen_driver_tcp:reqids_size(C2),
    [one, two] = lists:sort([Label || {_, Label} <- gen_driver_tcp:reqids_to_list(C2)]),
    [{call, 0, 1, []}, {call, 1, 2, []}] = [recv(Conn), recv(Conn)],
    send(Conn, {reply, 1, second}),
    {{reply, second}, two, C3} = gen_driver_tcp:receive_response(C2, 5000, true),
    timeout = gen_driver_tcp:wait_response(C3, 1, true),
    send(Conn, {reply, 0, first}),
    {{reply, first}, one, C4} = gen_driver_tcp:wait_response(C3, 5000, true),
    0 = gen_driver_tcp:reqids_size(C4),
    no_request = gen_driver_tcp:receive_response(C4, 5000, true),
    no_request = gen_driver_tcp:wait_response(C4, 5000, true).

a_collection_given_up_is_cancelled(Config) ->
    {Client, Conn} = connected(Config),
    Collection = lists:foldl(fun(N, C) -> gen_driver_tcp:send_request(Client, N, [], infinity, N, C) end,
                             gen_driver_tcp:reqids_new(), [1, 2]),
    [{call, 0, 1, []}, {call, 1, 2, []}] = [recv(Conn), recv(Conn)],
    timeout = gen_driver_tcp:receive_response(Collection, 1, true),
    [{cancel, 0}, {cancel, 1}] = lists:sort([recv(Conn), recv(Conn)]),
    [send(Conn, {failed, Id, cancelled}) || Id <- [0, 1]],
    until(Client, fun(#{in_flight := InFlight}) -> InFlight =:= 0 end),
    nothing_waits().

collection_checks_messages(Config) ->
    {Client, Conn} = connected(Config),
    Collection = gen_driver_tcp:send_request(Client, 1, [], infinity, label, gen_driver_tcp:reqids_new()),
    no_reply = gen_driver_tcp:check_response(other, Collection, true),
    {call, 0, 1, []} = recv(Conn),
    send(Conn, {reply, 0, ok}),
    receive Message -> {{reply, ok}, label, Empty} = gen_driver_tcp:check_response(Message, Collection, true) end,
    no_request = gen_driver_tcp:check_response(other, Empty, true).

nothing_waits() ->
    {messages, []} = process_info(self(), messages).

%%% Casts

acknowledged_once_it_left(Config) ->
    {Client, Conn} = connected(Config),
    ok = gen_driver_tcp:cast(Client, 1, x, #{ack => true, key => 5}),
    {cast, 1, x, #{key := 5} = Options} = recv(Conn),
    [key] = maps:keys(Options),
    ok = gen_driver_tcp:cast(Client, 2, y, [{ack, false}]),
    {cast, 2, y} = recv(Conn),
    {error, {failed, bad_request}} = gen_driver_tcp:cast(Client, -1, y, #{ack => true}),
    ?assertError({bad_option, {ack, yes}}, gen_driver_tcp:cast(Client, 1, y, #{ack => yes})).

acknowledged_without_a_link(Config) ->
    {Client, Conn} = connected(#{connect_wait => 50}, #{}, Config),
    gen_driver_fake:close(Conn),
    until(Client, fun(#{status := Status}) -> Status =:= connecting end),
    {error, {failed, unavailable}} = gen_driver_tcp:cast(Client, 1, x, #{ack => true}),
    Waits = async(fun() -> gen_driver_tcp:cast(Client, 1, y, #{ack => true}) end),
    Again = welcome(?config(listener, Config)),
    case outcome(Waits) of
        ok -> {cast, 1, y} = recv(Again);
        {error, {failed, unavailable}} -> ok       % its patience was shorter
    end,
    ?assert(maps:get(casts_dropped, gen_driver_tcp:info(Client)) >= 1).

acknowledged_where_the_client_ends(Config) ->
    Client = client(#{}, Config),
    Waits = async(fun() -> gen_driver_tcp:cast(Client, 1, x, #{ack => true}) end),
    until(Client, fun(#{queued := Queued}) -> Queued =:= 1 end),
    ok = gen_driver_tcp:stop(Client),
    {error, {failed, unavailable}} = outcome(Waits),
    {error, {failed, unavailable}} = gen_driver_tcp:cast(Client, 1, x, #{ack => true}).

acknowledged_with_an_unknown_name(Config) ->
    {Client, _Conn} = connected(Config),
    {error, {unknown_command, <<"product">>}} = gen_driver_tcp:cast(Client, product, x, #{ack => true}),
    #{casts_dropped := 1} = gen_driver_tcp:info(Client).

dropped_casts_are_logged_together(Config) ->
    Client = client(#{instance => dropper}, Config),
    ok = gen_driver_test_log:start(?FUNCTION_NAME),
    [ok = gen_driver_tcp:cast(Client, N) || N <- lists:seq(1, 100)],
    #{casts_dropped := 100} = gen_driver_tcp:info(Client),
    ok = gen_driver_test_log:stop(?FUNCTION_NAME),
    Lines = [Line || Line <- gen_driver_test_log:warnings(), string:find(Line, "dropper dropped") =/= nomatch],
    ["cast to dropper dropped: unavailable" ++ _] = Lines.

%%% Signs of life

ping_is_answered_by_the_host(Config) ->
    {Client, Conn} = connected(Config),
    Pings = [async(fun() -> gen_driver_tcp:ping(Client, 5000) end) || _ <- [1, 2]],
    Ids = [Id || {ping, Id} <- [recv(Conn), recv(Conn)]],
    2 = length(lists:usort(Ids)),
    [send(Conn, {pong, Id}) || Id <- [77 | Ids] ++ Ids],
    [pong, pong] = [outcome(Ping) || Ping <- Pings],
    {error, timeout} = gen_driver_tcp:ping(Client, 1).

ping_without_a_link(Config) ->
    {error, unavailable} = gen_driver_tcp:ping(client(#{}, Config), 5000),
    {error, noproc} = gen_driver_tcp:ping(nobody_here, 5000).

ping_dies_with_its_link(Config) ->
    {Client, Conn} = connected(Config),
    Ping = async(fun() -> gen_driver_tcp:ping(Client, 5000) end),
    {ping, _} = recv(Conn),
    gen_driver_fake:close(Conn),
    {error, disconnected} = outcome(Ping).

quiet_link_is_asked(Config) ->
    {Client, Conn} = connected(#{ping => 20}, #{}, Config),
    {ping, 0} = recv(Conn),
    send(Conn, {pong, 0}),
    {ping, 0} = recv(Conn),
    #{connects := 1} = gen_driver_tcp:info(Client).

silent_link_is_given_up(Config) ->
    {Client, Conn} = connected(#{ping => 20, ping_timeout => 500, backoff => {1, 2}}, #{}, Config),
    Call = async(fun() -> gen_driver_tcp:call(Client, 1) end),
    {call, 0, 1, [], _} = recv(Conn),
    {error, {failed, disconnected}} = outcome(Call),
    Again = welcome(?config(listener, Config)),
    {ping, 0} = recv(Again),
    send(Again, {pong, 0}),
    until(Client, fun(#{connects := Connects}) -> Connects =:= 2 end).

%% It was half-closed and cannot be asked: the call that it still runs may take long.
drained_link_may_be_silent(Config) ->
    {Client, Old} = connected(#{ping => 100, ping_timeout => 1000}, #{}, Config),
    Call = async(fun() -> gen_driver_tcp:call(Client, 1, x, infinity) end),
    {call, 0, 1, x} = answering(Old),
    send(Old, {goodbye, draining}),
    New = welcome(?config(listener, Config)),
    closed = answering(Old),
    [begin {ping, 0} = recv(New), send(New, {pong, 0}) end || _ <- lists:seq(1, 8)],       % twice the pulses, and more than the timeout
    send(Old, {reply, 0, late}),
    late = outcome(Call).

but_not_for_ever(Config) ->
    {Client, Old} = connected(#{ping => 50, leave_timeout => 500}, #{}, Config),
    Call = async(fun() -> gen_driver_tcp:call(Client, 1, x, infinity) end),
    {call, 0, 1, x} = answering(Old),
    send(Old, {goodbye, draining}),
    New = welcome(?config(listener, Config)),
    closed = answering(Old),
    Keyed = async(fun() -> gen_driver_tcp:call(Client, 2, y, #{key => 1, timeout => infinity}) end),
    {call, 0, 2, y, #{key := 1}} = answering(New),
    {error, {failed, disconnected}} = outcome(Call),
    send(New, {reply, 0, ok}),
    ok = outcome(Keyed).

%% What comes that is no ping.
answering(Conn) ->
    case recv(Conn) of
        {ping, Id} -> send(Conn, {pong, Id}), answering(Conn);
        Other -> Other
    end.

%% Whatever comes is a sign: here answers that nobody waits for.
busy_link_is_not_asked(Config) ->
    {Client, Conn} = connected(#{ping => 200}, #{}, Config),
    Feeder = spawn_link(fun Feed() -> send(Conn, {reply, 99, x}), receive stop -> ok after 20 -> Feed() end end),
    timeout = recv(Conn, 700),
    Feeder ! stop,
    {ping, 0} = recv(Conn),
    #{connects := 1} = gen_driver_tcp:info(Client).

%% Counted by the scheduler's own tracing: between two pings nothing wakes the client.
idle_client_gets_no_messages(Config) ->
    {Client, Conn} = connected(#{ping => 300}, #{}, Config),
    Call = async(fun() -> gen_driver_tcp:call(Client, 1) end),
    {call, 0, 1, [], _} = recv(Conn),
    send(Conn, {reply, 0, ok}),
    ok = outcome(Call),
    {ping, 0} = recv(Conn),                     % the sweep of that call has ended by now
    1 = erlang:trace(Client, true, ['receive']),
    send(Conn, {pong, 0}),
    {ping, 0} = recv(Conn),
    send(Conn, {pong, 0}),
    {ping, 0} = recv(Conn),
    1 = erlang:trace(Client, false, ['receive']),
    Got = traced(Client),
    [] = [Message || Message <- Got, not is_pulse(Message)],
    ?assertMatch([_ | _], Got).

is_pulse({timeout, _, pulse}) -> true;
is_pulse({tcp, _, _}) -> true;                  % the pong
is_pulse(timeout) -> true;                      % the mailbox is empty: the ping is sent
is_pulse(Message) -> element(1, Message) =:= inet_reply.    % and this is gen_tcp's word for it

traced(Client) ->
    receive {trace, Client, 'receive', Message} -> [Message | traced(Client)] after 0 -> [] end.
