%% SPDX-License-Identifier: MIT
%% Streams and notes, from a real host to the Erlang client. Needs a daemon at $GENDRIVERD_URL with the instances streams
%% (tests/drivers/streams.c, eight threads) and ticks (the same, with the setting ticks), and $GENDRIVERD_RELOAD, a command that
%% gives streams a new host.
-module(streams_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([parts_are_folded/1, large_parts_come_back/1, a_slow_reader_is_waited_for/1, a_reader_that_has_enough_ends_it/1,
         a_reader_that_dies_ends_it/1, a_crash_in_the_middle_is_told/1, streams_and_calls_go_side_by_side/1,
         a_drain_lets_a_stream_end/1, an_owned_connection_folds_too/1, a_driver_that_gives_no_parts_replies/1,
         notes_come_to_their_client/1, notes_come_in_order/1]).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [parts_are_folded, large_parts_come_back, a_slow_reader_is_waited_for, a_reader_that_has_enough_ends_it,
     a_reader_that_dies_ends_it, a_crash_in_the_middle_is_told, streams_and_calls_go_side_by_side,
     a_drain_lets_a_stream_end, an_owned_connection_folds_too, a_driver_that_gives_no_parts_replies,
     notes_come_to_their_client, notes_come_in_order].

init_per_suite(Config) ->
    case {os:getenv("GENDRIVERD_URL"), os:getenv("GENDRIVERD_RELOAD")} of
        {Url, Reload} when is_list(Url), is_list(Reload) -> [{url, Url}, {reload, Reload} | Config];
        _ -> {skip, "GENDRIVERD_URL or GENDRIVERD_RELOAD is not set"}
    end.

end_per_suite(_Config) -> ok.

options(Instance, Config) ->
    #{connect => proplists:get_value(url, Config), instance => Instance, driver_atoms => true}.

connect(Instance, Config) ->
    {ok, Client} = gen_driver_tcp:start_link(options(Instance, Config)),
    ok = gen_driver_tcp:await(Client, 15000),
    true = unlink(Client),
    Client.

reload(Config) ->
    os:cmd(proplists:get_value(reload, Config)).

sum() -> {fun(N, Sum) -> N + Sum end, 0}.

parts_are_folded(Config) ->
    Client = connect(streams, Config),
    [?assertEqual({{ok, 1.5}, 49995000}, gen_driver_tcp:call_stream(Client, run, [{parts, 10000}, {reply, {ok, 1.5}}], Options))
     || Options <- [#{fold => sum()}, #{fold => sum(), credit => 1000}, #{fold => sum(), credit => 3, key => 7}]],
    ?assertEqual({ok, 45}, gen_driver_tcp:call_stream(Client, run, [{parts, 10}], #{fold => sum(), credit => 1})),
    {messages, []} = process_info(self(), messages).

large_parts_come_back(Config) ->
    Client = connect(streams, Config),
    Size = fun(Part, Sizes) -> [byte_size(Part) | Sizes] end,
    ?assertEqual({ok, lists:duplicate(40, 1 bsl 20)},
                 gen_driver_tcp:call_stream(Client, run, [{parts, 40, 1 bsl 20}], #{fold => {Size, []}, credit => 4})).

%% What is not read is not sent: the mailbox holds no more than the credit.
a_slow_reader_is_waited_for(Config) ->
    Client = connect(streams, Config),
    {ok, First} = gen_driver_tcp:call_stream(Client, run, [{parts, 1000}], #{credit => 8}),
    {part, 0, Stream} = gen_driver_tcp:next_part(First, 30000),
    pong = gen_driver_tcp:ping(Client, 30000),
    {message_queue_len, Waiting} = process_info(self(), message_queue_len),
    ?assert(Waiting < 8),
    ?assertEqual({ok, lists:seq(1, 999)}, rest(Stream, [])).

rest(Stream, Got) ->
    case gen_driver_tcp:next_part(Stream, 30000) of
        {part, Part, Next} -> rest(Next, [Part | Got]);
        {done, Result} -> {Result, lists:reverse(Got)}
    end.

a_reader_that_has_enough_ends_it(Config) ->
    Client = connect(streams, Config),
    {ok, S0} = gen_driver_tcp:call_stream(Client, run, [{parts, 1000000000}], #{}),
    {part, 0, S1} = gen_driver_tcp:next_part(S0, 30000),
    ok = gen_driver_tcp:cancel_stream(S1),
    none_in_flight(Client).

a_reader_that_dies_ends_it(Config) ->
    Client = connect(streams, Config),
    {Pid, Monitor} = spawn_monitor(fun() ->
        {ok, S0} = gen_driver_tcp:call_stream(Client, run, [{parts, 1000000000}], #{}),
        {part, 0, _} = gen_driver_tcp:next_part(S0, 30000),
        exit(enough)
    end),
    receive {'DOWN', Monitor, process, Pid, enough} -> ok end,
    none_in_flight(Client).

none_in_flight(Client) ->
    case gen_driver_tcp:info(Client) of
        #{in_flight := 0, connects := 1} -> ok;
        #{connects := 1} -> receive after 1 -> ok end, none_in_flight(Client)
    end.

a_crash_in_the_middle_is_told(Config) ->
    Client = connect(streams, Config),
    ?assertEqual({{error, {failed, crashed}}, 45},
                 gen_driver_tcp:call_stream(Client, run, [{parts, 10}, segv], #{fold => sum()})),
    ?assertEqual({ok, 45}, gen_driver_tcp:call_stream(Client, run, [{parts, 10}], #{fold => sum(), timeout => 30000})).

streams_and_calls_go_side_by_side(Config) ->
    Client = connect(streams, Config),
    Self = self(),
    Stream = fun() -> gen_driver_tcp:call_stream(Client, run, [{parts, 2000}], #{fold => sum(), timeout => 60000}) end,
    Call = fun() -> lists:usort([gen_driver_tcp:call(Client, run, [{reply, N}], 60000) - N || N <- lists:seq(1, 200)]) end,
    Pids = [{spawn_link(fun() -> Self ! {self(), Do()} end), Expected}
            || _ <- lists:seq(1, 20), {Do, Expected} <- [{Stream, {ok, 1999000}}, {Call, [0]}]],
    [?assertEqual(Expected, receive {Pid, Got} -> Got end) || {Pid, Expected} <- Pids].

%% Its credit goes to the host that drains; what is asked meanwhile goes to the new one.
a_drain_lets_a_stream_end(Config) ->
    Client = connect(streams, Config),
    {ok, S0} = gen_driver_tcp:call_stream(Client, run, [{parts, 1000}], #{credit => 2}),
    {part, 0, S1} = gen_driver_tcp:next_part(S0, 30000),
    #{welcome := #{generation := Before}} = gen_driver_tcp:info(Client),
    Reloaded = reload(Config),
    new_generation(Client, Before, Reloaded),
    ?assertEqual(new, gen_driver_tcp:call(Client, run, [{reply, new}], 30000)),
    ?assertEqual({ok, lists:seq(1, 999)}, rest(S1, [])).

new_generation(Client, Before, Reloaded) ->
    case gen_driver_tcp:info(Client) of
        #{welcome := #{generation := Now}} when Now > Before -> ok;
        #{status := up} -> receive after 1 -> ok end, new_generation(Client, Before, Reloaded);
        Other -> error({Reloaded, Other})
    end.

an_owned_connection_folds_too(Config) ->
    {ok, Conn} = gen_driver_conn:connect(options(streams, Config)),
    ?assertEqual({{ok, done}, 499500}, gen_driver_conn:call_stream(Conn, run, [{parts, 1000}, {reply, {ok, done}}], #{fold => sum()})),
    ?assertEqual({{ok, done}, 0}, gen_driver_conn:call_stream(Conn, run, [{reply, {ok, done}}], #{fold => sum()})),
    ok = gen_driver_conn:close(Conn).

a_driver_that_gives_no_parts_replies(Config) ->
    Client = connect(streams, Config),
    ?assertEqual({true, 0}, gen_driver_tcp:call_stream(Client, takes, [], #{fold => sum()})),
    ?assertEqual(false, gen_driver_tcp:call(Client, takes, [])).

notes_come_to_their_client(Config) ->
    [Client, Other] = [connect(streams, Config) || _ <- [1, 2]],
    {ok, Ref} = gen_driver_tcp:subscribe(Client, self()),
    {ok, _} = gen_driver_tcp:subscribe(Other, self()),
    ?assertEqual(1, gen_driver_tcp:call(Client, note, {for, <<"you">>})),
    receive {gen_driver_note, R, Note} -> ?assertEqual({Ref, {for, <<"you">>}}, {R, Note}) end,
    ok = gen_driver_tcp:unsubscribe(Client, Ref),
    ?assertEqual(0, gen_driver_tcp:call(Client, note, nobody)),
    {messages, []} = process_info(self(), messages).

notes_come_in_order(Config) ->
    Client = connect(ticks, Config),
    {ok, Ref} = gen_driver_tcp:subscribe(Client, self()),
    First = ticks(Ref, 1000),
    ?assertEqual(First, lists:sort(First)),
    ok = gen_driver_tcp:unsubscribe(Client, Ref).

ticks(_Ref, 0) -> [];
ticks(Ref, N) -> receive {gen_driver_note, Ref, {tick, Tick}} -> [Tick | ticks(Ref, N - 1)] end.
