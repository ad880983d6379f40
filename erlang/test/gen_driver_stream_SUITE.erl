%% SPDX-License-Identifier: MIT
%% Streams with their credit, against a service played by hand.
-module(gen_driver_stream_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [welcome/1, welcome/2, recv/1, recv/2, send/2, send_raw/2, frame/1, async/1, outcome/1, drained/1]).
-import(gen_driver_test_client, [connected/1, connected/3, client/2, until/2]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, streams}].

groups() ->
    [{streams, [parallel],
      [parts_come_in_order_before_the_reply, credit_follows_what_is_taken, folds, a_fold_that_raises_cancels,
       parts_as_messages, failed_streams, a_stream_has_a_deadline, a_stream_that_never_pauses_has_one_too, a_cancelled_stream_is_silent,
       a_stream_that_waits_is_cancelled, dead_consumer_is_cancelled, a_stream_dies_with_its_link,
       a_stream_dies_with_its_client, an_undecodable_part_ends_its_stream, parts_unasked_are_ignored, parts_beyond_their_credit_end_the_link,
       two_streams_and_calls_share_a_link, a_drained_link_is_left_when_its_stream_ends, wrong_options_are_a_crash]}].

init_per_testcase(Case, Config) -> gen_driver_test_client:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_test_client:end_per_testcase(Case, Config).

started(Client, Options) ->
    {ok, Stream} = gen_driver_tcp:call_stream(Client, 1, params, Options),
    Stream.

%%% Streams

parts_come_in_order_before_the_reply(Config) ->
    {Client, Conn} = connected(Config),
    S0 = started(Client, #{key => 4}),
    {call, 0, 1, params, #{parts := 16, key := 4} = Options} = recv(Conn),
    [key, parts] = lists:sort(maps:keys(Options)),
    [send(Conn, Frame) || Frame <- [{part, 0, one}, {part, 0, [two]}, {reply, 0, {ok, done}}]],
    {part, one, S1} = gen_driver_tcp:next_part(S0, 5000),
    {part, [two], S2} = gen_driver_tcp:next_part(S1, 5000),
    {done, {ok, done}} = gen_driver_tcp:next_part(S2, 5000),
    {messages, []} = process_info(self(), messages),
    #{in_flight := 0} = drained(Client).

credit_follows_what_is_taken(Config) ->
    {Client, Conn} = connected(Config),
    S0 = started(Client, #{credit => 4}),
    {call, 0, 1, params, #{parts := 4}} = recv(Conn),
    [send(Conn, {part, 0, N}) || N <- lists:seq(1, 4)],
    {part, 1, S1} = gen_driver_tcp:next_part(S0, 5000),
    timeout = recv(Conn, 50),                   % half of the window at a time
    {part, 2, S2} = gen_driver_tcp:next_part(S1, 5000),
    {credit, 0, 2} = recv(Conn),
    {part, 3, S3} = gen_driver_tcp:next_part(S2, 5000),
    {part, 4, S4} = gen_driver_tcp:next_part(S3, 5000),
    {credit, 0, 2} = recv(Conn),
    timeout = gen_driver_tcp:next_part(S4, 1),
    send(Conn, {reply, 0, ok}),
    {done, ok} = gen_driver_tcp:next_part(S4, 5000),
    One = started(Client, #{credit => 1}),
    {call, 1, 1, params, #{parts := 1}} = recv(Conn),
    send(Conn, {part, 1, x}),
    {part, x, _} = gen_driver_tcp:next_part(One, 5000),
    {credit, 1, 1} = recv(Conn).

folds(Config) ->
    {Client, Conn} = connected(Config),
    Fold = async(fun() -> gen_driver_tcp:call_stream(Client, 1, x, [{fold, {fun(N, Sum) -> N + Sum end, 0}}, {credit, 2}]) end),
    {call, 0, 1, x, #{parts := 2}} = recv(Conn),
    [begin send(Conn, {part, 0, N}), {credit, 0, 1} = recv(Conn) end || N <- lists:seq(1, 100)],
    send(Conn, {reply, 0, ok}),
    {ok, 5050} = outcome(Fold).

a_fold_that_raises_cancels(Config) ->
    {Client, Conn} = connected(Config),
    Fold = async(fun() -> gen_driver_tcp:call_stream(Client, 1, x, #{fold => {fun(_, _) -> error(enough) end, 0}}) end),
    {call, 0, 1, x, _} = recv(Conn),
    send(Conn, {part, 0, y}),
    {cancel, 0} = recv(Conn),
    {error, enough} = outcome(Fold).

parts_as_messages(Config) ->
    {Client, Conn} = connected(Config),
    S0 = started(Client, #{}),
    no_part = gen_driver_tcp:check_part({some, message}, S0),
    {call, 0, 1, params, _} = recv(Conn),
    [send(Conn, Frame) || Frame <- [{part, 0, one}, {failed, 0, interrupted}]],
    receive First -> {part, one, S1} = gen_driver_tcp:check_part(First, S0) end,
    receive Second -> {done, {error, {failed, interrupted}}} = gen_driver_tcp:check_part(Second, S1) end.

failed_streams(Config) ->
    {Client, Conn} = connected(#{max_queued => 1, max_in_flight => 1}, #{}, Config),
    {error, {failed, bad_request}} = gen_driver_tcp:call_stream(Client, -1, x, #{}),
    {{error, {failed, bad_request}}, acc} = gen_driver_tcp:call_stream(Client, -1, x, #{fold => {fun(_, A) -> A end, acc}}),
    _ = started(Client, #{}),
    {call, 0, 1, params, _} = recv(Conn),
    _ = drained(Client),                        % its place is free
    _ = started(Client, #{}),
    until(Client, fun(#{queued := Queued}) -> Queued =:= 1 end),
    {error, {failed, overloaded}} = gen_driver_tcp:call_stream(Client, 1, x, #{}),
    ?assertExit({noproc, _}, gen_driver_tcp:call_stream(nobody_here, 1, x, #{})),
    {ok, Unknown} = gen_driver_tcp:call_stream(client(#{connect_wait => 1}, Config), product, x, #{}),
    {done, {error, {failed, unavailable}}} = gen_driver_tcp:next_part(Unknown, 5000).

a_stream_has_a_deadline(Config) ->
    {Client, Conn} = connected(Config),
    S0 = started(Client, #{timeout => 300}),
    {call, 0, 1, params, #{timeout := _, parts := 16}} = recv(Conn),
    send(Conn, {part, 0, one}),
    {part, one, S1} = gen_driver_tcp:next_part(S0, infinity),
    {done, {error, {failed, timeout}}} = gen_driver_tcp:next_part(S1, infinity),
    {cancel, 0} = recv(Conn).

a_stream_that_never_pauses_has_one_too(Config) ->
    {Client, Conn} = connected(Config),
    Fold = async(fun() -> gen_driver_tcp:call_stream(Client, 1, x, #{timeout => 300, fold => {fun(_, N) -> N + 1 end, 0}}) end),
    {call, 0, 1, x, #{parts := 16}} = recv(Conn),
    [send(Conn, {part, 0, N}) || N <- lists:seq(1, 16)],
    cancelled = fed(Conn),
    {{error, {failed, timeout}}, Parts} = outcome(Fold),
    ?assert(Parts >= 16).

%% As much as it takes, until it takes no more.
fed(Conn) ->
    case recv(Conn) of
        {credit, 0, N} -> [send(Conn, {part, 0, x}) || _ <- lists:seq(1, N)], fed(Conn);
        {cancel, 0} -> cancelled
    end.

a_cancelled_stream_is_silent(Config) ->
    {Client, Conn} = connected(Config),
    S0 = started(Client, #{}),
    {call, 0, 1, params, _} = recv(Conn),
    [send(Conn, {part, 0, N}) || N <- lists:seq(1, 10)],
    {part, 1, S1} = gen_driver_tcp:next_part(S0, 5000),
    ok = gen_driver_tcp:cancel_stream(S1),
    {cancel, 0} = recv(Conn),
    [send(Conn, {part, 0, N}) || N <- lists:seq(11, 20)],
    send(Conn, {reply, 0, ok}),
    until(Client, fun(#{in_flight := InFlight}) -> InFlight =:= 0 end),
    {messages, []} = process_info(self(), messages).

a_stream_that_waits_is_cancelled(Config) ->
    {Client, Conn} = connected(#{max_in_flight => 1}, #{}, Config),
    _ = started(Client, #{}),
    {call, 0, 1, params, _} = recv(Conn),
    Waits = started(Client, #{}),
    until(Client, fun(#{queued := Queued}) -> Queued =:= 1 end),
    ok = gen_driver_tcp:cancel_stream(Waits),
    until(Client, fun(#{queued := Queued}) -> Queued =:= 0 end),
    {messages, []} = process_info(self(), messages).

dead_consumer_is_cancelled(Config) ->
    {Client, Conn} = connected(Config),
    {_, Pid} = async(fun() -> _ = started(Client, #{}), receive never -> ok end end),
    {call, 0, 1, params, _} = recv(Conn),
    send(Conn, {part, 0, one}),
    exit(Pid, kill),
    {cancel, 0} = recv(Conn).

a_stream_dies_with_its_link(Config) ->
    {Client, Conn} = connected(Config),
    S0 = started(Client, #{}),
    {call, 0, 1, params, _} = recv(Conn),
    send(Conn, {part, 0, one}),
    send(Conn, {goodbye, host_died}),
    {part, one, S1} = gen_driver_tcp:next_part(S0, 5000),
    {done, {error, {failed, not_run}}} = gen_driver_tcp:next_part(S1, 5000).

a_stream_dies_with_its_client(Config) ->
    {Client, Conn} = connected(Config),
    S0 = started(Client, #{}),
    {call, 0, 1, params, _} = recv(Conn),
    true = unlink(Client),
    exit(Client, kill),
    {done, {error, {failed, disconnected}}} = gen_driver_tcp:next_part(S0, 5000).

an_undecodable_part_ends_its_stream(Config) ->
    {Client, Conn} = connected(Config),
    S0 = started(Client, #{}),
    {call, 0, 1, params, _} = recv(Conn),
    Unknown = <<131, 104, 3, 119, 4, "part", 97, 0, 119, 22, "an_atom_of_nobody_here">>,
    send_raw(Conn, <<(byte_size(Unknown)):32, Unknown/binary>>),
    {done, {error, {failed, undecodable}}} = gen_driver_tcp:next_part(S0, 5000),
    {cancel, 0} = recv(Conn),
    send(Conn, {failed, 0, cancelled}),
    #{connects := 1, status := up} = gen_driver_tcp:info(Client).

parts_unasked_are_ignored(Config) ->
    {Client, Conn} = connected(Config),
    Call = async(fun() -> gen_driver_tcp:call(Client, 1) end),
    {call, 0, 1, [], _} = recv(Conn),
    [send(Conn, Frame) || Frame <- [{part, 0, x}, {part, 5, x}, {reply, 0, ok}, {part, 0, late}]],
    ok = outcome(Call),
    #{connects := 1, status := up} = gen_driver_tcp:info(Client).

%% As many as were asked for are there, and no more get into the caller's mailbox.
parts_beyond_their_credit_end_the_link(Config) ->
    {Client, First} = connected(#{backoff => {1, 2}}, #{}, Config),
    S0 = started(Client, #{credit => 2}),
    {call, 0, 1, params, #{parts := 2}} = recv(First),
    send_raw(First, [frame({part, 0, N}) || N <- lists:seq(1, 1000)]),
    Second = welcome(?config(listener, Config)),
    {messages, Parts} = process_info(self(), messages),
    3 = length(Parts),                          % and what became of it
    {part, 1, S1} = gen_driver_tcp:next_part(S0, 5000),
    {part, 2, S2} = gen_driver_tcp:next_part(S1, 5000),
    {done, {error, {failed, disconnected}}} = gen_driver_tcp:next_part(S2, 5000),
    S3 = started(Client, #{credit => 2}),
    {call, 0, 1, params, #{parts := 2}} = recv(Second),
    [send(Second, {part, 0, N}) || N <- [1, 2]],
    {part, 1, S4} = gen_driver_tcp:next_part(S3, 5000),
    {credit, 0, 1} = recv(Second),
    send_raw(Second, [frame({part, 0, N}) || N <- [3, 4]]),
    welcome(?config(listener, Config)),
    {part, 2, S5} = gen_driver_tcp:next_part(S4, 5000),
    {part, 3, S6} = gen_driver_tcp:next_part(S5, 5000),
    {done, {error, {failed, disconnected}}} = gen_driver_tcp:next_part(S6, 5000).

two_streams_and_calls_share_a_link(Config) ->
    {Client, Conn} = connected(Config),
    Sum = fun() -> gen_driver_tcp:call_stream(Client, 1, x, #{fold => {fun(N, Acc) -> N + Acc end, 0}}) end,
    A = async(Sum), {call, 0, 1, x, _} = recv(Conn),
    B = async(Sum), {call, 1, 1, x, _} = recv(Conn),
    C = async(fun() -> gen_driver_tcp:call(Client, 2) end), {call, 2, 2, [], _} = recv(Conn),
    [begin send(Conn, {part, 0, N}), send(Conn, {part, 1, 2 * N}) end || N <- [1, 2, 3]],
    send(Conn, {reply, 2, between}),
    between = outcome(C),
    send(Conn, {reply, 1, b}),
    send(Conn, {part, 0, 4}),
    send(Conn, {reply, 0, a}),
    {a, 10} = outcome(A),
    {b, 12} = outcome(B).

%% Credit could not be given any more after the half-close.
a_drained_link_is_left_when_its_stream_ends(Config) ->
    {Client, Old} = connected(Config),
    S0 = started(Client, #{credit => 1}),
    {call, 0, 1, params, _} = recv(Old),
    send(Old, {goodbye, draining}),
    New = welcome(?config(listener, Config), #{generation => 2}),
    until(Client, fun(#{links := Links}) -> Links =:= 2 end),
    timeout = recv(Old, 50),
    send(Old, {part, 0, one}),
    {part, one, S1} = gen_driver_tcp:next_part(S0, 5000),
    {credit, 0, 1} = recv(Old),
    Call = async(fun() -> gen_driver_tcp:call(Client, 2) end),
    {call, 0, 2, [], _} = recv(New),
    send(Old, {reply, 0, last}),
    {done, last} = gen_driver_tcp:next_part(S1, 5000),
    closed = recv(Old),
    gen_driver_fake:close(Old),
    send(New, {reply, 0, new}),
    new = outcome(Call).

wrong_options_are_a_crash(Config) ->
    {Client, _} = connected(Config),
    [?assertError({bad_option, {Key, _}}, gen_driver_tcp:call_stream(Client, 1, x, #{Key => Value}))
     || {Key, Value} <- [{credit, 0}, {credit, many}, {fold, x}, {fold, {fun(A) -> A end, 1}}, {timeout, -1}, {tmeout, 1}]].
