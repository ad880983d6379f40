%% SPDX-License-Identifier: MIT
%% Notes: who gets them, how much of them a client holds, and what is said where some were missed; against a service
%% played by hand.
-module(gen_driver_notes_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [welcome/1, recv/1, send/2, send_raw/2, frame/1, async/1, outcome/1, drained/1]).
-import(gen_driver_test_client, [connected/1, connected/3, client/2]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, notes}].

groups() ->
    [{notes, [parallel],
      [notes_reach_their_subscribers, last_words_reach_them_too, a_strangers_reference_is_no_harm, the_last_unsubscribes, a_dead_subscriber_is_forgotten,
       a_new_link_is_asked_and_the_gap_is_said,
       notes_that_are_not_decoded_in_time_are_a_gap, a_subscriber_that_does_not_read_gets_a_gap, notes_unasked_are_ignored, an_undecodable_note_is_dropped,
       the_notes_process_ends_with_its_client]}].

init_per_testcase(Case, Config) -> gen_driver_test_client:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_test_client:end_per_testcase(Case, Config).

notes_reach_their_subscribers(Config) ->
    {Client, Conn} = connected(Config),
    {ok, Ref} = gen_driver_tcp:subscribe(Client, self()),
    {notes, true} = recv(Conn),
    {ok, Other} = gen_driver_tcp:subscribe(Client, self()),
    [send(Conn, {note, N}) || N <- [1, {two}]],
    [receive {gen_driver_note, R, Note} -> Note after 5000 -> error(no_note) end || R <- [Ref, Other], Note <- [1, {two}]],
    ok = heard(Client, Conn).                   % the second subscriber asked for nothing

%% The client has handled all that was sent before, and sends nothing else.
heard(Client, Conn) ->
    Ping = async(fun() -> gen_driver_tcp:ping(Client, 5000) end),
    {ping, Id} = recv(Conn),
    send(Conn, {pong, Id}),
    pong = outcome(Ping),
    ok.

%% In one segment with the goodbye.
last_words_reach_them_too(Config) ->
    {Client, Conn} = connected(Config),
    {ok, Ref} = gen_driver_tcp:subscribe(Client, self()),
    {notes, true} = recv(Conn),
    send_raw(Conn, [frame({note, last}), frame({note, words}), frame({goodbye, host_died})]),
    [receive {gen_driver_note, Ref, Note} -> ok after 5000 -> error(no_note) end || Note <- [last, words]].

a_strangers_reference_is_no_harm(Config) ->
    {Client, Conn} = connected(Config),
    {ok, Ref} = gen_driver_tcp:subscribe(Client, self()),
    {notes, true} = recv(Conn),
    Elsewhere = binary_to_term(<<131, 90, 3:16, 119, 3, "a@b", 0:32, 1:32, 2:32, 3:32>>),
    [ok = gen_driver_tcp:unsubscribe(Client, Other) || Other <- [Elsewhere, make_ref()]],
    send(Conn, {note, x}),
    receive {gen_driver_note, Ref, x} -> ok end.

the_last_unsubscribes(Config) ->
    {Client, Conn} = connected(Config),
    {ok, One} = gen_driver_tcp:subscribe(Client, self()),
    {ok, Two} = gen_driver_tcp:subscribe(Client, self()),
    {notes, true} = recv(Conn),
    ok = gen_driver_tcp:unsubscribe(Client, One),
    send(Conn, {note, x}),
    receive {gen_driver_note, Two, x} -> ok end,
    ok = gen_driver_tcp:unsubscribe(Client, Two),
    {notes, false} = recv(Conn),
    send(Conn, {note, y}),
    ok = heard(Client, Conn),
    ok = gen_driver_tcp:unsubscribe(Client, make_ref()),
    {ok, Three} = gen_driver_tcp:subscribe(Client, self()),
    {notes, true} = recv(Conn),
    send(Conn, {note, z}),
    receive {gen_driver_note, Three, z} -> ok end,
    {messages, []} = process_info(self(), messages).

a_dead_subscriber_is_forgotten(Config) ->
    {Client, Conn} = connected(Config),
    {_, Pid} = async(fun() -> receive never -> ok end end),
    {ok, _} = gen_driver_tcp:subscribe(Client, Pid),
    {notes, true} = recv(Conn),
    exit(Pid, kill),
    {notes, false} = recv(Conn).

a_new_link_is_asked_and_the_gap_is_said(Config) ->
    Client = client(#{backoff => {1, 2}}, Config),
    {ok, Ref} = gen_driver_tcp:subscribe(Client, self()),
    First = welcome(?config(listener, Config)),
    {notes, true} = recv(First),
    receive {gen_driver_gap, Ref} -> ok end,
    gen_driver_fake:close(First),
    Second = welcome(?config(listener, Config)),
    {notes, true} = recv(Second),
    receive {gen_driver_gap, Ref} -> ok end,
    send(Second, {note, x}),
    receive {gen_driver_note, Ref, x} -> ok end.

%% All that wait for the process that decodes them are no more than the bound; the gap stands where some were dropped.
notes_that_are_not_decoded_in_time_are_a_gap(Config) ->
    {Client, Conn} = connected(#{max_notes => 10000}, #{}, Config),
    {ok, Ref} = gen_driver_tcp:subscribe(Client, self()),
    {notes, true} = recv(Conn),
    Notes = notes_process(Client),
    true = erlang:suspend_process(Notes),
    [begin send_raw(Conn, [a_note(N + I) || I <- lists:seq(1, 10)]), ok = heard(Client, Conn) end || N <- lists:seq(0, 990, 10)],
    {messages, Waiting} = process_info(Notes, messages),
    ?assert(iolist_size([Frame || {noted, Frames, _} <- Waiting, {_, Frame} <- Frames]) =< 10000),
    1 = length([gap || gap <- Waiting]),
    true = erlang:resume_process(Notes),
    {ok, _} = gen_driver_tcp:subscribe(Client, dead()),         % it has handled all before
    send_raw(Conn, a_note(1001)),
    {Heard, 1} = until_note(1001, Ref, 0, 0),
    ?assert(Heard > 10).

%% Its dialer may be about to end.
notes_process(Client) ->
    ok = gen_driver_fake_host:until(fun() -> length(linked(Client)) =:= 1 end),
    hd(linked(Client)).

linked(Client) ->
    {links, Links} = process_info(Client, links),
    [Pid || Pid <- Links, is_pid(Pid), Pid =/= self()].

dead() ->
    {Pid, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Pid, _} -> Pid end.

a_note(N) ->
    frame({note, {N, binary:copy(<<"x">>, 100)}}).

%% How many notes came, and how many gaps; none is missed without one.
until_note(Last, Ref, Before, Gaps) ->
    receive
        {gen_driver_note, Ref, {Last, _}} when Last =:= Before + 1; Gaps > 0 -> {Before + 1, Gaps};
        {gen_driver_note, Ref, {N, _}} when N =:= Before + 1 -> until_note(Last, Ref, N, Gaps);
        {gen_driver_gap, Ref} -> until_note(Last, Ref, Before, Gaps + 1)
    after 5000 ->
        error({no_note, Before + 1, process_info(self(), messages)})
    end.

%% It costs itself the notes, and nobody else.
a_subscriber_that_does_not_read_gets_a_gap(Config) ->
    {Client, Conn} = connected(#{max_notes => 10000}, #{}, Config),
    {ok, Ref} = gen_driver_tcp:subscribe(Client, self()),
    {notes, true} = recv(Conn),
    Test = self(),
    Slow = spawn_link(fun() ->
        receive {read, SlowRef} -> Test ! {read, until_note(201, SlowRef, 0, 0)} end
    end),
    {ok, Other} = gen_driver_tcp:subscribe(Client, Slow),
    [begin
         send_raw(Conn, a_note(N)),
         receive {gen_driver_note, Ref, {N, _}} -> ok end
     end || N <- lists:seq(1, 200)],
    {messages, Unread} = process_info(Slow, messages),
    {gen_driver_gap, Other} = lists:last(Unread),
    ?assert(length(Unread) > 20),
    ?assert(length(Unread) < 100),
    Slow ! {read, Other},
    read_up(Slow),
    send_raw(Conn, a_note(201)),
    {Heard, 1} = receive {read, Read} -> Read end,
    ?assertEqual(length(Unread), Heard),        % those before the gap, and the one behind
    receive {gen_driver_note, Ref, {201, _}} -> ok end.

read_up(Pid) ->
    gen_driver_fake_host:until(fun() -> process_info(Pid, message_queue_len) =:= {message_queue_len, 0} end).

notes_unasked_are_ignored(Config) ->
    {Client, Conn} = connected(Config),
    send(Conn, {note, x}),
    ok = heard(Client, Conn),
    #{connects := 1, status := up} = drained(Client),
    {messages, []} = process_info(self(), messages).

an_undecodable_note_is_dropped(Config) ->
    {Client, Conn} = connected(Config),
    {ok, Ref} = gen_driver_tcp:subscribe(Client, self()),
    {notes, true} = recv(Conn),
    Unknown = <<131, 104, 2, 119, 4, "note", 119, 20, "a_note_of_nobody_her">>,
    send_raw(Conn, <<(byte_size(Unknown)):32, Unknown/binary>>),
    send_raw(Conn, frame({note, known})),
    receive {gen_driver_note, Ref, Note} -> known = Note end.

the_notes_process_ends_with_its_client(Config) ->
    {Client, Conn} = connected(Config),
    {ok, _} = gen_driver_tcp:subscribe(Client, self()),
    {notes, true} = recv(Conn),
    Notes = notes_process(Client),
    Monitor = monitor(process, Notes),
    ok = gen_driver_tcp:stop(Client),
    receive {'DOWN', Monitor, process, Notes, _} -> ok end.
