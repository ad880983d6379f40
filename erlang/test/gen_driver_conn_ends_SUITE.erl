%% SPDX-License-Identifier: MIT
%% How a connection of a process's own ends, and what its owner is told: by the service, by a drain, with its owner.
-module(gen_driver_conn_ends_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [accept/1, welcome/1, refuse/2, half_close/1, recv/1, send/2, send_raw/2, frame/1, outcome/1]).
-import(gen_driver_conn_owner, [with_ssl/1, listener/1, connected/1, connected/3, owner/2, tell/2, call/4, many/3,
                                info/1, works/2, again/2, next_millisecond/0, tls/0, say/2, hear/1, raw/2]).

%% Time (ms) in which a call certainly leaves, and does not come back.
-define(SOON, 300).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, ends}, {group, owners}].

groups() ->
    [{ends, [parallel],
      [a_goodbye_after_a_send_says_what_became_of_it, a_goodbye_while_a_request_leaves_counts, an_end_without_goodbye_is_disconnected, an_end_before_a_send_is_noticed,
       an_end_before_a_send_on_a_unix_socket, too_large_a_frame_ends_the_link, garbage_ends_the_link, nobody_listens_any_more, no_more_than_its_time_to_connect,
       a_drained_host_finishes_and_is_left, a_drain_while_nothing_is_asked, a_key_waits_for_the_host_that_is_left,
       drained_twice]},
     {owners, [parallel],
      [of_no_use_to_others, it_ends_with_its_owner, other_messages_stay_and_keep_their_order,
       a_password_is_in_no_crash_report] ++ with_ssl([it_ends_with_its_owner_over_tls])}].

init_per_testcase(Case, Config) -> gen_driver_conn_owner:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_conn_owner:end_per_testcase(Case, Config).

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
                            {not_run, [host_died, bad_term, duplicate_id, slow_frame]}],
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
    %% An end in the middle of a wait for the kernel: then the socket is not passive. Some kernels would take all of it.
    ok = inet:setopts(New, [{recbuf, 65536}]),
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
