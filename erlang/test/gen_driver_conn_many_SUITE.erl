%% SPDX-License-Identifier: MIT
%% Many requests at once, and streams, on a connection of a process's own.
-module(gen_driver_conn_many_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [welcome/1, recv/1, recv/2, recv_calls/2, send/2, send_raw/2, frame/1, outcome/1]).
-import(gen_driver_conn_owner, [with_ssl/1, listener/1, connected/1, connected/3, tell/2, call/4, many/3, info/1,
                                works/2, again/2, tls/0, say/2, hear/1, raw/2]).

%% Time (ms) in which a call certainly leaves, and does not come back.
-define(SOON, 300).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, many}, {group, streams}].

groups() ->
    [{many, [parallel],
      [answers_are_in_the_order_of_the_requests, no_more_in_flight_than_allowed, bytes_in_flight_are_bounded, refused_ones_among_many,
       a_peer_that_reads_no_more_before_it_is_read, what_nobody_asked_for_is_not_kept_while_a_request_leaves, many_and_too_little_time,
       many_over_a_drain, many_over_an_end, none_at_all] ++ with_ssl([large_ones_over_tls])},
     {streams, [parallel],
      [parts_are_folded_and_credit_given, a_function_that_raises_ends_the_stream, a_stream_that_ends_early]}].

init_per_testcase(Case, Config) -> gen_driver_conn_owner:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_conn_owner:end_per_testcase(Case, Config).

%%% Many

answers_are_in_the_order_of_the_requests(Config) ->
    {Owner, Peer} = connected(Config),
    Many = many(Owner, [{1, {N}} || N <- lists:seq(1, 300)], infinity),
    Calls = recv_calls(Peer, 300),
    ?assertEqual([{N} || N <- lists:seq(1, 300)], [Params || {call, _, 1, Params} <- Calls]),
    [send(Peer, {reply, Id, {ok, N}}) || {call, Id, 1, {N}} <- lists:reverse(Calls)],
    ?assertEqual([{ok, N} || N <- lists:seq(1, 300)], outcome(Many)),
    works(Owner, Peer).

no_more_in_flight_than_allowed(Config) ->
    {Owner, Peer} = connected(#{max_in_flight => 10}, #{limits => #{in_flight => 4}}, Config),
    Many = many(Owner, [{1, {N}} || N <- lists:seq(1, 20)], infinity),
    four_at_most(Peer, 0, 0),
    ?assertEqual([{ok, N} || N <- lists:seq(1, 20)], outcome(Many)).

%% Answers one only when no more come.
four_at_most(_Peer, 20, _) -> ok;
four_at_most(Peer, Answered, Asked) when Asked - Answered < 4, Asked < 20 ->
    case recv(Peer, case Asked of Answered -> 10000; _ -> 50 end) of
        timeout -> answered_one(Peer, Answered, Asked);
        {call, Id, 1, {N}} ->
            self() ! {asked, Id, N},
            four_at_most(Peer, Answered, Asked + 1)
    end;
four_at_most(Peer, Answered, Asked) ->
    timeout = recv(Peer, 20),
    answered_one(Peer, Answered, Asked).

answered_one(Peer, Answered, Asked) ->
    receive {asked, Id, N} -> send(Peer, {reply, Id, {ok, N}}) end,
    four_at_most(Peer, Answered + 1, Asked).

bytes_in_flight_are_bounded(Config) ->
    {Owner, Peer} = connected(#{}, #{limits => #{in_flight_bytes => 1000}}, Config),
    Many = many(Owner, [{1, <<N:4000>>} || N <- [1, 2, 3]], infinity),
    [begin
         {call, Id, 1, <<N:4000>>} = recv(Peer),
         timeout = recv(Peer, 20),
         send(Peer, {reply, Id, N})
     end || N <- [1, 2, 3]],
    [1, 2, 3] = outcome(Many).

refused_ones_among_many(Config) ->
    {Owner, Peer} = connected(#{}, #{limits => #{frame => 1000}}, Config),
    Many = many(Owner, [{-1, a}, {1, b}, {1, <<0:8000>>}, {product, c}, {1, d}], infinity),
    [{call, B, 1, b}, {call, D, 1, d}] = recv_calls(Peer, 2),
    send(Peer, {failed, D, expired}),
    send(Peer, {reply, B, b}),
    ?assertEqual([{error, {failed, bad_request}}, b, {error, {failed, bad_request}}, {error, {unknown_command, <<"product">>}},
                  {error, {failed, expired}}], outcome(Many)).

%% It writes each answer before it reads on, and blocks where it is not read.
a_peer_that_reads_no_more_before_it_is_read(Config) ->
    {Owner, Peer} = connected(#{}, #{limits => #{}}, Config),
    Large = binary:copy(<<"0123456789abcdef">>, 1 bsl 14),
    Many = many(Owner, [{N, Large} || N <- lists:seq(1, 200)], infinity),
    [begin {call, Id, N, Large} = recv(Peer), send(Peer, {reply, Id, {N, Large}}) end || N <- lists:seq(1, 200)],
    ?assert([{N, Large} || N <- lists:seq(1, 200)] =:= outcome(Many)),
    works(Owner, Peer).

%% The request is more than the kernel takes. Meanwhile the peer says much that is nobody's.
what_nobody_asked_for_is_not_kept_while_a_request_leaves(Config) ->
    {{_, Pid} = Owner, Peer} = connected(#{}, #{limits => #{}}, Config),
    works(Owner, Peer),
    Large = binary:copy(<<7>>, 15 bsl 20),
    Cast = tell(Owner, fun(C) -> gen_driver_conn:cast(C, 1, Large) end),
    {ok, <<Size:32>>} = raw(Peer, 4),
    Much = binary:copy(<<9>>, 1 bsl 20),
    [[ok = gen_tcp:send(Peer, frame(Said)) || _ <- lists:seq(1, 30)]
     || Said <- [{note, Much}, {reply, 0, Much}, {reply, 7, Much}, {part, 0, Much}, {failed, 7, crashed}, {pong, 9}]],
    true = erlang:garbage_collect(Pid),
    {binary, Kept} = process_info(Pid, binary),
    ?assert(lists:sum([Held || {_, Held, _} <- lists:usort(Kept)]) < 40 bsl 20),
    {ok, Asked} = raw(Peer, Size),
    {cast, 1, Large} = binary_to_term(Asked),
    ok = outcome(Cast),
    ok = inet:setopts(Peer, [{packet, 4}]),
    works(Owner, Peer).

large_ones_over_tls(_Config) ->
    {Owner, Peer} = tls(),
    Large = binary:copy(<<"0123456789abcdef">>, 1 bsl 16),
    Many = many(Owner, [{N, Large} || N <- lists:seq(1, 20)], infinity),
    [begin {call, Id, N, Large} = hear(Peer), say(Peer, {reply, Id, {N, Large}}) end || N <- lists:seq(1, 20)],
    ?assert([{N, Large} || N <- lists:seq(1, 20)] =:= outcome(Many)),
    {error, {failed, timeout}} = outcome(call(Owner, 1, binary:copy(Large, 12), ?SOON)),
    #{status := down} = info(Owner).

many_and_too_little_time(Config) ->
    {Owner, Peer} = connected(#{max_in_flight => 2}, #{}, Config),
    Many = many(Owner, [{1, {N}} || N <- lists:seq(1, 4)], 1000),
    [{call, A, 1, {1}, #{timeout := _}}, {call, B, 1, {2}, _}] = recv_calls(Peer, 2),
    send(Peer, {reply, A, one}),
    {call, C, 1, {3}, _} = recv(Peer),
    ?assertEqual(lists:sort([{cancel, B}, {cancel, C}]), lists:sort(recv_calls(Peer, 2))),
    ?assertEqual([one, {error, {failed, timeout}}, {error, {failed, timeout}}, {error, {failed, expired}}], outcome(Many)).

many_over_a_drain(Config) ->
    {Owner, Old} = connected(#{max_in_flight => 2}, #{}, Config),
    Many = many(Owner, [{1, {N}} || N <- lists:seq(1, 4)], infinity),
    [{call, A, 1, {1}}, {call, B, 1, {2}}] = recv_calls(Old, 2),
    send(Old, {goodbye, draining}),
    [send(Old, {reply, Id, old}) || Id <- [A, B]],
    closed = recv(Old),
    New = welcome(listener(Config)),
    [{call, C, 1, {3}}, {call, D, 1, {4}}] = recv_calls(New, 2),
    [send(New, {reply, Id, new}) || Id <- [C, D]],
    [old, old, new, new] = outcome(Many).

many_over_an_end(Config) ->
    {Owner, Old} = connected(#{max_in_flight => 2}, #{}, Config),
    Many = many(Owner, [{1, {N}} || N <- lists:seq(1, 4)], infinity),
    [{call, A, 1, {1}}, {call, _, 1, {2}}] = recv_calls(Old, 2),
    send_raw(Old, [frame({reply, A, one}), frame({goodbye, host_died})]),
    New = welcome(listener(Config)),
    case recv_calls(New, 2) of
        [{call, C, 1, {3}}, {call, D, 1, {4}}] ->
            [send(New, {reply, Id, new}) || Id <- [C, D]],
            ?assertEqual([one, {error, {failed, not_run}}, new, new], outcome(Many))
    end.

none_at_all(Config) ->
    {Owner, Peer} = connected(Config),
    [] = outcome(many(Owner, [], infinity)),
    works(Owner, Peer).

%%% Streams

stream(Owner, Fun, Credit) ->
    tell(Owner, fun(C) -> gen_driver_conn:call_stream(C, 1, x, #{credit => Credit, fold => {fun(P, A) -> Fun(C, P, A) end, []}}) end).

parts_are_folded_and_credit_given(Config) ->
    {Owner, Peer} = connected(Config),
    Stream = stream(Owner, fun(C, Part, Acc) -> [{Part, gen_driver_conn:call(C, 1)} | Acc] end, 4),
    {call, Id, 1, x, #{parts := 4}} = recv(Peer),
    [send(Peer, {part, Id, N}) || N <- [1, 2]],
    {credit, Id, 2} = recv(Peer),
    [send(Peer, {part, Id, N}) || N <- [3, 4]],
    {credit, Id, 2} = recv(Peer),
    send(Peer, {part, Id, 5}),
    send(Peer, {reply, Id, done}),
    ?assertEqual({done, [{N, {error, busy}} || N <- [5, 4, 3, 2, 1]]}, outcome(Stream)),
    works(Owner, Peer).

a_function_that_raises_ends_the_stream(Config) ->
    {Owner, Peer} = connected(Config),
    Stream = stream(Owner, fun(_, Part, _) -> throw(Part) end, 1),
    {call, Id, 1, x, _} = recv(Peer),
    send(Peer, {part, Id, thrown}),
    {cancel, Id} = recv(Peer),
    {throw, thrown} = outcome(Stream),
    send(Peer, {part, Id, late}),
    send(Peer, {reply, Id, late}),
    works(Owner, Peer).

a_stream_that_ends_early(Config) ->
    {Owner, Peer} = connected(Config),
    Stream = stream(Owner, fun(_, Part, Acc) -> [Part | Acc] end, 4),
    {call, Id, 1, x, _} = recv(Peer),
    send(Peer, {part, Id, 1}),
    send(Peer, {goodbye, host_died}),
    ?assertEqual({{error, {failed, not_run}}, [1]}, outcome(Stream)),
    {{error, {failed, bad_request}}, []} =
        outcome(tell(Owner, fun(C) -> gen_driver_conn:call_stream(C, -1, x, #{fold => {fun(P, A) -> [P | A] end, []}}) end)),
    again(Owner, Config).
