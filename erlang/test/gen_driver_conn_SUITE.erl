%% SPDX-License-Identifier: MIT
%% A connection of a process's own, against a service played by hand.
-module(gen_driver_conn_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [accept/1, greet/1, hello/1, welcome/1, welcome/2, refuse/2, half_close/1,
                          recv/1, recv/2, recv_calls/2, send/2, send_raw/2, frame/1, outcome/1]).

%% Time (ms) in which a call certainly leaves, and does not come back.
-define(SOON, 300).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, requests}, {group, answers}, {group, ends}, {group, owners}, {group, many}, {group, streams}].

groups() ->
    [{requests, [parallel],
      [forms_on_the_wire, options_on_the_wire, what_the_host_would_refuse_is_refused_here, wrong_options_are_said,
       a_ping_is_answered, a_cast_waits_for_the_kernel_to_take_it, a_cast_that_is_not_taken_in_time_costs_the_link]},
     {answers, [parallel],
      [words_of_the_driver_and_of_the_service, undecodable_is_one_calls_trouble, driver_atoms_on_request,
       late_answers_are_skipped, a_timeout_in_mid_frame_loses_nothing, dribbled_bytes, the_hosts_last_word_is_waited_for,
       ids_are_taken_until_their_final_frame, a_time_that_has_passed_is_expired,
       a_request_that_never_left_costs_the_link, the_longest_timeout_is_one]},
     {ends, [parallel],
      [a_goodbye_after_a_send_says_what_became_of_it, a_goodbye_while_a_request_leaves_counts, an_end_without_goodbye_is_disconnected, an_end_before_a_send_is_noticed,
       an_end_before_a_send_on_a_unix_socket, too_large_a_frame_ends_the_link, garbage_ends_the_link, nobody_listens_any_more, no_more_than_its_time_to_connect,
       a_drained_host_finishes_and_is_left, a_drain_while_nothing_is_asked, a_key_waits_for_the_host_that_is_left,
       drained_twice]},
     {owners, [parallel],
      [of_no_use_to_others, it_ends_with_its_owner, other_messages_stay_and_keep_their_order,
       a_password_is_in_no_crash_report] ++ with_ssl([it_ends_with_its_owner_over_tls])},
     {many, [parallel],
      [answers_are_in_the_order_of_the_requests, no_more_in_flight_than_allowed, bytes_in_flight_are_bounded, refused_ones_among_many,
       a_peer_that_reads_no_more_before_it_is_read, many_and_too_little_time,
       many_over_a_drain, many_over_an_end, none_at_all] ++ with_ssl([large_ones_over_tls])},
     {streams, [parallel],
      [parts_are_folded_and_credit_given, a_function_that_raises_ends_the_stream, a_stream_that_ends_early]}].

%% Not every runtime has it.
with_ssl(Cases) ->
    case code:which(ssl) of
        non_existing -> [];
        _ -> Cases
    end.

init_per_testcase(_Case, Config) ->
    [{listener, gen_driver_fake:listen()} | Config].

end_per_testcase(_Case, Config) ->
    gen_driver_fake:close(?config(listener, Config)).

listener(Config) ->
    ?config(listener, Config).

%% An owner, which does as it is told, and the service's end of its connection.
connected(Config) ->
    connected(#{}, #{}, Config).

connected(Options, Welcome, Config) ->
    Owner = owner(gen_driver_fake:url(listener(Config)), Options),
    Peer = welcome(listener(Config), Welcome),
    {ok, _} = outcome(Owner),
    {Owner, Peer}.

owner(Url, Options) ->
    Test = self(),
    Ref = make_ref(),
    {Ref, spawn_link(fun() ->
        process_flag(trap_exit, true),
        Connected = gen_driver_conn:connect(maps:merge(#{instance => sum, connect => Url}, Options)),
        Test ! {Ref, Connected},
        {ok, Conn} = Connected,
        told(Conn)
    end)}.

told(Conn) ->
    receive
        {tell, From, Ref, Fun} ->
            From ! {Ref, try Fun(Conn) catch Class:Reason -> {Class, Reason} end},
            told(Conn);
        leave ->
            ok
    end.

tell({_, Pid}, Fun) ->
    Ref = make_ref(),
    Pid ! {tell, self(), Ref, Fun},
    {Ref, Pid}.

call(Owner, Command, Params, Options) ->
    tell(Owner, fun(Conn) -> gen_driver_conn:call(Conn, Command, Params, Options) end).

many(Owner, Calls, Options) ->
    tell(Owner, fun(Conn) -> gen_driver_conn:call_many(Conn, Calls, Options) end).

info(Owner) ->
    outcome(tell(Owner, fun gen_driver_conn:info/1)).

%% The connection works: a call on it is answered.
works(Owner, Peer) ->
    Call = call(Owner, 9, [], infinity),
    {call, Id, 9, []} = recv(Peer),
    send(Peer, {reply, Id, {works, Id}}),
    {works, Id} = outcome(Call).

%% What has come within this millisecond is not looked for before a send.
next_millisecond() ->
    next_millisecond(erlang:monotonic_time(millisecond)).

next_millisecond(Now) ->
    erlang:monotonic_time(millisecond) > Now orelse next_millisecond(Now).

%%% Requests

forms_on_the_wire(Config) ->
    {Owner, Peer} = connected(#{}, #{commands => #{<<"sum">> => 77}}, Config),
    Calls = [{fun(C) -> gen_driver_conn:call(C, 1) end, fun({call, 0, 1, [], #{timeout := T}}) when T > 0, T =< 5000 -> 0 end},
             {fun(C) -> gen_driver_conn:call(C, sum, [1, 2.5, {a, <<"b">>}]) end,
              fun({call, 1, 77, [1, 2.5, {a, <<"b">>}], #{timeout := T}}) when T =< 5000 -> 1 end},
             {fun(C) -> gen_driver_conn:call(C, <<"sum">>, #{x => y}, infinity) end, fun({call, 2, 77, #{x := y}}) -> 2 end}],
    [begin
         Call = tell(Owner, Fun),
         Id = Is(recv(Peer)),
         send(Peer, {reply, Id, {ok, Id}}),
         {ok, Id} = outcome(Call)
     end || {Fun, Is} <- Calls],
    ok = outcome(tell(Owner, fun(C) -> gen_driver_conn:cast(C, 7) end)),
    {cast, 7} = recv(Peer),
    ok = outcome(tell(Owner, fun(C) -> gen_driver_conn:cast(C, sum, 1 bsl 100) end)),
    {cast, 77, 1267650600228229401496703205376} = recv(Peer),
    works(Owner, Peer).

options_on_the_wire(Config) ->
    {Owner, Peer} = connected(Config),
    Call = call(Owner, 1, x, #{timeout => 60000, key => 16#ffffffff, trace => <<"t">>}),
    {call, 0, 1, x, #{timeout := Left, key := 16#ffffffff, trace := <<"t">>}} = recv(Peer),
    ?assert(Left > 50000 andalso Left =< 60000),
    send(Peer, {reply, 0, ok}),
    ok = outcome(Call),
    ok = outcome(tell(Owner, fun(C) -> gen_driver_conn:cast(C, 2, y, [{key, 3}]) end)),
    {cast, 2, y, #{key := 3} = Options} = recv(Peer),
    ?assertEqual([key], maps:keys(Options)).

what_the_host_would_refuse_is_refused_here(Config) ->
    {Owner, Peer} = connected(#{}, #{limits => #{frame => 1000, depth => 4, terms => 40, bignum => 9}}, Config),
    Bad = {error, {failed, bad_request}},
    [?assertEqual(Bad, outcome(call(Owner, Command, Params, infinity)))
     || {Command, Params} <- [{-1, []}, {1 bsl 30, []}, {"sum", []}, {1, <<0:8000>>}, {1, {{{{{}}}}}},
                              {1, lists:seq(256, 300)}, {1, 1 bsl 80}]],
    ?assertEqual(Bad, outcome(tell(Owner, fun(C) -> gen_driver_conn:cast(C, 1, <<0:8000>>) end))),
    ?assertEqual({error, {unknown_command, <<"product">>}}, outcome(call(Owner, product, [], infinity))),
    works(Owner, Peer).

wrong_options_are_said(Config) ->
    ?assertEqual({error, {bad_option, {missing, instance}}}, gen_driver_conn:connect(#{})),
    ?assertEqual({error, {bad_option, {unknown, speed}}}, gen_driver_conn:connect([{instance, sum}, {speed, 1}])),
    {Owner, _} = connected(Config),
    ?assertEqual({error, {bad_option, {key, -1}}}, outcome(call(Owner, 1, [], #{key => -1}))),
    ?assertEqual({error, {bad_option, {missing, fold}}},
                 outcome(tell(Owner, fun(C) -> gen_driver_conn:call_stream(C, 1, [], #{credit => 1}) end))).

a_ping_is_answered(Config) ->
    {Owner, Peer} = connected(Config),
    Ping = tell(Owner, fun(C) -> gen_driver_conn:ping(C, infinity) end),
    {ping, Id} = recv(Peer),
    send(Peer, {pong, Id + 1}),
    send(Peer, {pong, Id}),
    pong = outcome(Ping),
    {error, timeout} = outcome(tell(Owner, fun(C) -> gen_driver_conn:ping(C, ?SOON) end)),
    {ping, _} = recv(Peer),
    Lost = tell(Owner, fun(C) -> gen_driver_conn:ping(C, infinity) end),
    {ping, _} = recv(Peer),
    gen_driver_fake:close(Peer),
    {error, disconnected} = outcome(Lost).

a_cast_waits_for_the_kernel_to_take_it(Config) ->
    {Owner, Peer} = connected(#{}, #{limits => #{}}, Config),
    Large = binary:copy(<<7>>, 20 bsl 20),
    {Ref, _} = Cast = tell(Owner, fun(C) -> gen_driver_conn:cast(C, 1, Large) end),
    %% It cannot have left: nobody reads. Something is in the way already when it is read.
    send(Peer, {note, meanwhile}),
    receive {Ref, Early} -> error({early, Early}) after 0 -> ok end,
    {cast, 1, Large} = recv(Peer),
    ok = outcome(Cast),
    works(Owner, Peer).

a_cast_that_is_not_taken_in_time_costs_the_link(Config) ->
    {Owner, _Peer} = connected(#{}, #{limits => #{}}, Config),
    Large = binary:copy(<<7>>, 20 bsl 20),
    {error, {failed, timeout}} = outcome(tell(Owner, fun(C) -> gen_driver_conn:cast(C, 1, Large, ?SOON) end)),
    #{status := down} = info(Owner),
    again(Owner, Config).

%% The next call connects anew, and is answered.
again(Owner, Config) ->
    Call = call(Owner, 9, [], infinity),
    New = welcome(listener(Config)),
    {call, 0, 9, []} = recv(New),
    send(New, {reply, 0, again}),
    again = outcome(Call),
    New.

%%% Answers

words_of_the_driver_and_of_the_service(Config) ->
    {Owner, Peer} = connected(Config),
    [begin
         Call = call(Owner, 1, [], infinity),
         {call, Id, 1, []} = recv(Peer),
         send(Peer, setelement(2, Said, Id)),
         ?assertEqual(Result, outcome(Call))
     end || {Said, Result} <- [{{reply, id, {error, expired}}, {error, expired}},
                               {{failed, id, overloaded}, {error, {failed, overloaded}}},
                               {{failed, id, crashed}, {error, {failed, crashed}}},
                               {{failed, id, a_word_of_later}, {error, {failed, undecodable}}}]].

undecodable_is_one_calls_trouble(Config) ->
    {Owner, Peer} = connected(Config),
    [begin
         Call = call(Owner, 1, [], infinity),
         {call, Id, 1, []} = recv(Peer),
         send_raw(Peer, binary:replace(frame({reply, Id, Reply}), <<"an_atom_xxx">>, <<"zz_atom_zzx">>)),
         {error, {failed, undecodable}} = outcome(Call),
         works(Owner, Peer)
     end || Reply <- [an_atom_xxx, fun lists:reverse/1]].

driver_atoms_on_request(Config) ->
    {Owner, Peer} = connected(#{driver_atoms => true}, #{atoms => [<<"zz_atom_zzy">>]}, Config),
    Call = call(Owner, 1, [], infinity),
    {call, Id, 1, []} = recv(Peer),
    send_raw(Peer, binary:replace(frame({reply, Id, an_atom_xxx}), <<"an_atom_xxx">>, <<"zz_atom_zzy">>)),
    <<"zz_atom_zzy">> = atom_to_binary(outcome(Call)).

late_answers_are_skipped(Config) ->
    {Owner, Peer} = connected(Config),
    {error, {failed, timeout}} = outcome(call(Owner, 1, [], ?SOON)),
    {call, 0, 1, [], _} = recv(Peer),
    {cancel, 0} = recv(Peer),
    #{in_flight := 1} = info(Owner),
    Call = call(Owner, 2, [], infinity),
    {call, 1, 2, []} = recv(Peer),
    [send(Peer, Late) || Late <- [{part, 0, x}, {note, n}, {pong, 1}, {reply, 7, never_asked}, {reply, 0, late}, {reply, 0, later}]],
    send(Peer, {reply, 1, in_time}),
    in_time = outcome(Call),
    #{in_flight := 0} = info(Owner),
    works(Owner, Peer).

a_timeout_in_mid_frame_loses_nothing(Config) ->
    {Owner, Peer} = connected(Config),
    [begin
         {error, {failed, timeout}} = outcome(call(Owner, 1, [], ?SOON)),
         {call, Id, 1, [], _} = recv(Peer),
         {cancel, Id} = recv(Peer),
         Frame = frame({reply, Id, binary:copy(<<1>>, Size)}),
         <<First:At/binary, Second/binary>> = Frame,
         send_raw(Peer, First),
         {error, {failed, timeout}} = outcome(call(Owner, 2, [], ?SOON)),
         {call, Next, 2, [], _} = recv(Peer),
         {cancel, Next} = recv(Peer),
         <<Some:(byte_size(Second) div 2)/binary, Rest/binary>> = Second,
         send_raw(Peer, Some),
         {error, {failed, timeout}} = outcome(call(Owner, 3, [], ?SOON)),
         {call, Third, 3, [], _} = recv(Peer),
         {cancel, Third} = recv(Peer),
         Call = call(Owner, 4, [], infinity),
         {call, Last, 4, []} = recv(Peer),
         send_raw(Peer, [Rest, frame({reply, Last, whole})]),
         whole = outcome(Call)
     end || {Size, At} <- [{100, 2}, {100, 4}, {100, 50}, {300000, 3}, {300000, 10}, {300000, 200000}]].

dribbled_bytes(Config) ->
    {Owner, Peer} = connected(Config),
    Call = call(Owner, 1, [], infinity),
    {call, Id, 1, []} = recv(Peer),
    [send_raw(Peer, [Byte]) || <<Byte>> <= iolist_to_binary([frame({note, n}), frame({reply, Id, {ok, "dribbled"}})])],
    {ok, "dribbled"} = outcome(Call).

the_hosts_last_word_is_waited_for(Config) ->
    {Owner, Peer} = connected(Config),
    Call = call(Owner, 1, [], ?SOON),
    {call, 0, 1, [], _} = recv(Peer),
    send(Peer, {failed, 0, expired}),
    {error, {failed, expired}} = outcome(Call),
    works(Owner, Peer).

ids_are_taken_until_their_final_frame(Config) ->
    {Owner, Peer} = connected(#{max_in_flight => 1}, #{}, Config),
    {error, {failed, timeout}} = outcome(call(Owner, 1, [], ?SOON)),
    {call, 0, 1, [], _} = recv(Peer),
    {cancel, 0} = recv(Peer),
    {error, {failed, overloaded}} = outcome(call(Owner, 2, [], infinity)),
    [{error, {failed, overloaded}}] = outcome(many(Owner, [{2, []}], infinity)),
    send(Peer, {failed, 0, cancelled}),
    next_millisecond(),
    works(Owner, Peer).

a_time_that_has_passed_is_expired(Config) ->
    {Owner, Peer} = connected(Config),
    {error, {failed, expired}} = outcome(call(Owner, 1, [], 0)),
    [{error, {failed, expired}}] = outcome(many(Owner, [{1, []}], 0)),
    works(Owner, Peer).

a_request_that_never_left_costs_the_link(Config) ->
    {Owner, Peer} = connected(#{}, #{limits => #{}}, Config),
    {error, {failed, timeout}} = outcome(call(Owner, 1, binary:copy(<<7>>, 20 bsl 20), ?SOON)),
    #{status := down} = info(Owner),
    again(Owner, Config),
    gen_driver_fake:close(Peer).

the_longest_timeout_is_one(Config) ->
    {Owner, Peer} = connected(Config),
    Call = call(Owner, 1, [], 16#ffffffff),
    {call, 0, 1, [], #{timeout := Left}} = recv(Peer),
    ?assert(Left > 16#fffffff0 - 60000),
    send(Peer, {reply, 0, ok}),
    ok = outcome(Call).

%%% Ends

%% What a call that was sent is told when the link ends as `End' says; the next one connects anew.
ended(End, Config) ->
    {Owner, Peer} = connected(Config),
    Call = call(Owner, 1, [], infinity),
    {call, 0, 1, []} = recv(Peer),
    End(Peer),
    Outcome = outcome(Call),
    again(Owner, Config),
    Outcome.

a_goodbye_after_a_send_says_what_became_of_it(Config) ->
    [?assertEqual({Reason, {error, {failed, Told}}},
                  {Reason, ended(fun(Peer) -> send(Peer, {goodbye, Reason}) end, Config)})
     || {Told, Reasons} <- [{draining, [stopping]}, {disconnected, [unread, a_goodbye_of_later]},
                            {not_run, [host_died, bad_term, duplicate_id]}],
        Reason <- Reasons].

%% The second one waits until the first, which was given up, has left: both are more than the kernel takes.
a_goodbye_while_a_request_leaves_counts(Config) ->
    [begin
         {Owner, Peer} = connected(#{}, #{limits => #{}}, Config),
         Large = binary:copy(<<7>>, 15 bsl 20),
         ok = outcome(tell(Owner, fun(C) -> gen_driver_conn:cast(C, 1, x) end)),
         {cast, 1, x} = recv(Peer),
         Call = call(Owner, 1, Large, infinity),
         {ok, <<_:80000>>} = raw(Peer, 10000),
         [ok = gen_tcp:send(Peer, frame(Goodbye)) || Goodbye <- Goodbyes],
         half_close(Peer),
         ?assertEqual({error, {failed, Told}}, outcome(Call)),
         again(Owner, Config)
     end || {Goodbyes, Told} <- [{[{note, n}, {goodbye, host_died}], not_run}, {[{note, n}], disconnected}]].

an_end_without_goodbye_is_disconnected(Config) ->
    [?assertEqual({error, {failed, disconnected}}, ended(End, Config))
     || End <- [fun gen_driver_fake:half_close/1, fun gen_driver_fake:close/1, fun gen_driver_fake:reset/1,
                fun(Peer) -> send_raw(Peer, <<100:32, 131>>), gen_driver_fake:close(Peer) end]].

an_end_before_a_send_is_noticed(Config) ->
    [begin
         {Owner, Peer} = connected(Config),
         works(Owner, Peer),
         End(Peer),
         next_millisecond(),
         again(Owner, Config)
     end || End <- [fun gen_driver_fake:half_close/1, fun gen_driver_fake:close/1, fun gen_driver_fake:reset/1,
                    fun(Peer) -> send(Peer, {goodbye, host_died}) end, fun(Peer) -> send(Peer, {goodbye, unread}) end,
                    fun(Peer) -> send(Peer, garbage) end]].

an_end_before_a_send_on_a_unix_socket(Config) ->
    Path = filename:join("/tmp", "gen_driver_conn_" ++ os:getpid() ++ ".sock"),
    Listener = gen_driver_fake:listen_unix(Path),
    try
        Owner = owner("unix:" ++ Path, #{}),
        Peer = welcome(Listener),
        {ok, _} = outcome(Owner),
        works(Owner, Peer),
        gen_driver_fake:close(Peer),
        %% A send notices at once: no matter how soon.
        again(Owner, [{listener, Listener} | Config])
    after
        gen_driver_fake:close(Listener),
        file:delete(Path)
    end.

too_large_a_frame_ends_the_link(Config) ->
    {Owner, Peer} = connected(#{max_frame => 1000}, #{}, Config),
    Most = call(Owner, 1, [], infinity),
    {call, 0, 1, []} = recv(Peer),
    Room = 1000 - byte_size(term_to_binary({reply, 0, <<>>})),
    send(Peer, {reply, 0, binary:copy(<<0>>, Room)}),
    ?assertEqual(Room, byte_size(outcome(Most))),
    Call = call(Owner, 1, [], infinity),
    {call, 1, 1, []} = recv(Peer),
    send(Peer, {reply, 1, binary:copy(<<0>>, Room + 1)}),
    {error, {failed, disconnected}} = outcome(Call),
    closed = recv(Peer),
    again(Owner, Config).

garbage_ends_the_link(Config) ->
    [?assertEqual({Frame, {error, {failed, disconnected}}},
                  {Frame, ended(fun(Peer) -> send_raw(Peer, [<<(byte_size(Frame)):32>>, Frame]) end, Config)})
     || Frame <- [<<>>, <<131>>, <<"garbage">>, term_to_binary({reply, -1, ok}), term_to_binary({call, 0, 1}),
                  term_to_binary({reply, 0, lists:duplicate(1000, 0)}, [compressed])]].

nobody_listens_any_more(Config) ->
    Listener = gen_driver_fake:listen(),
    Owner = owner(gen_driver_fake:url(Listener), #{}),
    Peer = welcome(Listener),
    {ok, _} = outcome(Owner),
    gen_driver_fake:close(Listener),
    gen_driver_fake:close(Peer),
    next_millisecond(),
    {error, {failed, unavailable}} = outcome(call(Owner, 1, [], infinity)),
    [{error, {failed, unavailable}}, {error, {failed, unavailable}}] = outcome(many(Owner, [{1, []}, {2, []}], infinity)),
    {error, {failed, unavailable}} = outcome(tell(Owner, fun(C) -> gen_driver_conn:cast(C, 1) end)),
    {error, unavailable} = outcome(tell(Owner, fun(C) -> gen_driver_conn:ping(C, infinity) end)),
    #{status := down, links := 0, connects := 1} = info(Owner),
    ?assertEqual({error, econnrefused},
                 gen_driver_conn:connect(#{instance => sum, connect => {tcp, "127.0.0.1", unused_port()}})),
    Refused = gen_driver_fake:async(fun() ->
        gen_driver_conn:connect(#{instance => sum, connect => gen_driver_fake:url(listener(Config))})
    end),
    refuse(listener(Config), unknown_instance),
    {error, {refused, unknown_instance}} = outcome(Refused).

unused_port() ->
    Listener = gen_driver_fake:listen(),
    Port = gen_driver_fake:port(Listener),
    gen_driver_fake:close(Listener),
    Port.

no_more_than_its_time_to_connect(Config) ->
    {Owner, Peer} = connected(Config),
    send(Peer, {goodbye, host_died}),
    next_millisecond(),
    Call = call(Owner, 1, [], ?SOON),
    Silent = accept(listener(Config)),
    {error, {failed, unavailable}} = outcome(Call),
    closed = recv(Silent),
    again(Owner, Config).

a_drained_host_finishes_and_is_left(Config) ->
    {Owner, Old} = connected(Config),
    Call = call(Owner, 1, [], infinity),
    {call, 0, 1, []} = recv(Old),
    send(Old, {goodbye, draining}),
    send(Old, {reply, 0, old}),
    old = outcome(Call),
    closed = recv(Old),
    #{status := down, links := 1} = info(Owner),
    New = again(Owner, Config),
    gen_driver_fake:close(Old),
    works(Owner, New),
    #{status := up, links := 1, connects := 2} = info(Owner).

a_drain_while_nothing_is_asked(Config) ->
    {Owner, Old} = connected(Config),
    send(Old, {goodbye, draining}),
    next_millisecond(),
    again(Owner, Config),
    closed = recv(Old).

a_key_waits_for_the_host_that_is_left(Config) ->
    {Owner, Old} = connected(Config),
    {error, {failed, timeout}} = outcome(call(Owner, 1, [], ?SOON)),
    {call, 0, 1, [], _} = recv(Old),
    {cancel, 0} = recv(Old),
    send(Old, {goodbye, draining}),
    next_millisecond(),
    New = again(Owner, Config),
    closed = recv(Old),
    #{links := 2, in_flight := 1} = info(Owner),
    {error, {failed, expired}} = outcome(call(Owner, 2, never, #{key => 7, timeout => 10})),
    Keyed = call(Owner, 2, keyed, #{key => 7, timeout => infinity}),
    send(Old, {reply, 0, late}),
    gen_driver_fake:close(Old),
    {call, 1, 2, keyed, #{key := 7}} = recv(New),
    send(New, {reply, 1, in_order}),
    in_order = outcome(Keyed),
    #{links := 1, in_flight := 0} = info(Owner).

drained_twice(Config) ->
    {Owner, First} = connected(Config),
    send(First, {goodbye, draining}),
    next_millisecond(),
    Second = again(Owner, Config),
    send(Second, {goodbye, draining}),
    next_millisecond(),
    again(Owner, Config),
    [closed, closed] = [recv(Peer) || Peer <- [First, Second]],
    #{links := 2, connects := 3} = info(Owner).

%%% Owners

of_no_use_to_others(Config) ->
    {Owner, Peer} = connected(Config),
    Conn = outcome(tell(Owner, fun(C) -> C end)),
    NotOwner = {error, not_owner},
    [?assertEqual(NotOwner, Fun(Conn)) || Fun <- uses()],
    works(Owner, Peer),
    ok = outcome(tell(Owner, fun gen_driver_conn:close/1)),
    closed = recv(Peer),
    [?assertEqual({error, closed}, outcome(tell(Owner, Fun))) || Fun <- uses()].

uses() ->
    [fun(C) -> gen_driver_conn:call(C, 1) end, fun(C) -> gen_driver_conn:cast(C, 1) end,
     fun(C) -> gen_driver_conn:call_many(C, [{1, []}]) end, fun(C) -> gen_driver_conn:ping(C, 1) end,
     fun gen_driver_conn:info/1, fun gen_driver_conn:close/1,
     fun(C) -> gen_driver_conn:call_stream(C, 1, [], #{fold => {fun(_, A) -> A end, a}}) end].

it_ends_with_its_owner(Config) ->
    {{_, Pid}, Peer} = connected(Config),
    Pid ! leave,
    closed = recv(Peer),
    {{_, Killed}, Other} = connected(Config),
    unlink(Killed),
    exit(Killed, kill),
    closed = recv(Other).

%% Certificates that nobody else trusts, and a listener that has one.
tls() ->
    {ok, _} = application:ensure_all_started(ssl),
    Name = {extensions, [{'Extension', {2, 5, 29, 17}, false, [{dNSName, "localhost"}]}]},
    Own = [{digest, sha256}, {key, {namedCurve, secp256r1}}],
    #{server_config := Server, client_config := Client} =
        public_key:pkix_test_data(#{server_chain => #{root => Own, intermediates => [], peer => [Name | Own]},
                                    client_chain => #{root => Own, intermediates => [], peer => Own}}),
    {ok, Listener} = ssl:listen(0, Server ++ [binary, {packet, 4}, {active, false}, {versions, ['tlsv1.3']}, {ip, {127, 0, 0, 1}}]),
    {ok, {_, Port}} = ssl:sockname(Listener),
    Options = #{tls_options => [proplists:lookup(cacerts, Client), {server_name_indication, "localhost"}]},
    Owner = owner("tls://127.0.0.1:" ++ integer_to_list(Port), Options),
    {ok, Accepted} = ssl:transport_accept(Listener, 10000),
    {ok, Peer} = ssl:handshake(Accepted, 10000),
    say(Peer, {gen_driver, 1, #{auth => none}}),
    {hello, 1, Instance, _} = hear(Peer),
    say(Peer, gen_driver_fake:welcomed(Instance, #{})),
    {ok, _} = outcome(Owner),
    {Owner, Peer}.

say(Peer, Term) -> ok = ssl:send(Peer, term_to_binary(Term)).

hear(Peer) ->
    case ssl:recv(Peer, 0, 10000) of
        {ok, Frame} -> binary_to_term(Frame);
        {error, Reason} -> Reason
    end.

it_ends_with_its_owner_over_tls(_Config) ->
    {{_, Pid} = Owner, Peer} = tls(),
    Call = call(Owner, 1, [], 5000),
    {call, Id, 1, [], _} = hear(Peer),
    say(Peer, {reply, Id, over_tls}),
    over_tls = outcome(Call),
    ok = outcome(tell(Owner, fun(C) -> gen_driver_conn:cast(C, 2) end)),
    {cast, 2} = hear(Peer),
    Pid ! leave,
    closed = hear(Peer).

other_messages_stay_and_keep_their_order(Config) ->
    {{_, Pid} = Owner, Peer} = connected(#{}, #{limits => #{}}, Config),
    Others = [{other, N} || N <- lists:seq(1, 1000)],
    [Pid ! Other || Other <- Others],
    works(Owner, Peer),
    Large = binary:copy(<<7>>, 20 bsl 20),
    Cast = tell(Owner, fun(C) -> gen_driver_conn:cast(C, 1, Large) end),
    {cast, 1, Large} = recv(Peer),
    ok = outcome(Cast),
    gen_driver_fake:reset(Peer),
    next_millisecond(),
    New = again(Owner, Config),
    %% An end in the middle of a wait for the kernel: then the socket is not passive.
    Stuck = tell(Owner, fun(C) -> gen_driver_conn:cast(C, 1, binary:part(Large, 0, 15 bsl 20)) end),
    {ok, <<_:80000>>} = raw(New, 10000),
    gen_driver_fake:reset(New),
    {error, {failed, disconnected}} = outcome(Stuck),
    again(Owner, Config),
    ok = outcome(tell(Owner, fun gen_driver_conn:close/1)),
    ?assertEqual({messages, Others}, process_info(Pid, messages)).

a_password_is_in_no_crash_report(Config) ->
    {{_, Pid}, _} = connected(#{tls_options => [{password, "never shown"}]}, #{}, Config),
    {dictionary, Dictionary} = process_info(Pid, dictionary),
    nomatch = string:find(io_lib:format("~p", [Dictionary]), "never shown").

raw(Peer, Size) ->
    ok = inet:setopts(Peer, [{packet, raw}]),
    gen_tcp:recv(Peer, Size, 10000).

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
    case recv(Peer, 50) of
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
