%% SPDX-License-Identifier: MIT
%% A connection of a process's own, against a service played by hand: what is asked on it, and what is answered.
-module(gen_driver_conn_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [recv/1, send/2, send_raw/2, frame/1, outcome/1]).
-import(gen_driver_conn_owner, [connected/1, connected/3, tell/2, call/4, many/3, info/1, works/2, again/2,
                                next_millisecond/0]).

%% Time (ms) in which a call certainly leaves, and does not come back.
-define(SOON, 300).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, requests}, {group, answers}].

groups() ->
    [{requests, [parallel],
      [forms_on_the_wire, options_on_the_wire, what_the_host_would_refuse_is_refused_here, wrong_options_are_said,
       a_ping_is_answered, a_cast_waits_for_the_kernel_to_take_it, a_cast_that_is_not_taken_in_time_costs_the_link]},
     {answers, [parallel],
      [words_of_the_driver_and_of_the_service, undecodable_is_one_calls_trouble, driver_atoms_on_request,
       late_answers_are_skipped, a_timeout_in_mid_frame_loses_nothing, dribbled_bytes, the_hosts_last_word_is_waited_for,
       ids_are_taken_until_their_final_frame, a_time_that_has_passed_is_expired,
       a_request_that_never_left_costs_the_link, the_longest_timeout_is_one]}].

init_per_testcase(Case, Config) -> gen_driver_conn_owner:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_conn_owner:end_per_testcase(Case, Config).

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
