%% SPDX-License-Identifier: MIT
%% @doc Who wants a client's notes, and what they get: the process that decodes them, once for all.
%%
%% A subscriber gets `{gen_driver_note, Ref, Term}' for each, in order, and `{gen_driver_gap, Ref}'
%% when the client has a new link: what the driver said meanwhile it has not heard. Its client is
%% told how many subscribers there are, and tells the host.
%%
%% No driver is asked to wait with its notes: those that come faster than they are decoded here, or
%% than a subscriber of this node reads them, are dropped, by the bytes that they have as frames, and
%% in their place there is a gap.
-module(gen_driver_notes).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, subscribe/3, unsubscribe/3, noted/3, gap/1, stop/1]).
-export([loop/1]).
-export_type([notes/0, change/0, frame/0]).

-type frame() :: {BodyAt :: pos_integer(), binary()}.

%% The word is for whoever asked; and so many subscribers are there now.
-type change() :: {gen_server:from() | none, ok | {ok, reference()}, Subscribers :: non_neg_integer()}.
-record(notes, {
    pid :: pid(),
    account :: atomics:atomics_ref(),
    max :: pos_integer()
}).
-opaque notes() :: #notes{}.
-record(subscriber, {
    pid :: pid(),
    unread = gen_driver_unread:new() :: gen_driver_unread:unread(),
    is_full = false :: boolean()                % it has read too little, and the last that it was sent is a gap
}).
-record(state, {
    client :: pid(),
    notes :: notes(),
    subscribers = #{} :: #{reference() => #subscriber{}},
    behind = #{} :: #{reference() => true},     % on other nodes: they missed something
    undecodable = 0 :: non_neg_integer()
}).

%% Of the account: bytes that were handed over and not yet decoded; whether the last were dropped instead.
-define(OUT, 1).
-define(DROPPED, 2).
%% What a note costs beside its bytes.
-define(NOTE, 128).

%% @doc For the calling process, a client, which hears `{gen_driver_notes, notes(), change()}'. `Max': bytes of notes that
%% wait here, and for each subscriber.
-spec start_link(Max :: pos_integer()) -> notes().
start_link(Max) ->
    Client = self(),
    Account = atomics:new(2, []),
    Pid = spawn_link(fun() ->
        loop(#state{client = Client, notes = #notes{pid = self(), account = Account, max = Max}})
    end),
    #notes{pid = Pid, account = Account, max = Max}.

%% @doc `Pid' gets notes until it ends or unsubscribes.
-spec subscribe(notes(), pid(), gen_server:from()) -> ok.
subscribe(#notes{pid = Notes}, Pid, From) ->
    Notes ! {subscribe, Pid, From},
    ok.

%% @doc No more under that reference.
-spec unsubscribe(notes(), reference(), gen_server:from()) -> ok.
unsubscribe(#notes{pid = Notes}, Ref, From) ->
    Notes ! {unsubscribe, Ref, From},
    ok.

%% @doc Frames of notes, as they came, out of so many bytes that were read. Its client alone says so.
-spec noted(notes(), [frame(), ...], Read :: non_neg_integer()) -> ok.
noted(Notes = #notes{pid = Pid, account = Account, max = Max}, Frames, Read) ->
    Size = ?NOTE * length(Frames) + max(Read, bytes(Frames)),
    Out = atomics:get(Account, ?OUT),
    case Out =:= 0 orelse Out + Size =< Max of
        true ->
            ok = atomics:add(Account, ?OUT, Size),
            ok = atomics:put(Account, ?DROPPED, 0),
            Pid ! {noted, Frames, Size},
            ok;
        false ->
            case atomics:exchange(Account, ?DROPPED, 1) of
                0 -> gap(Notes);
                1 -> ok
            end
    end.

bytes(Frames) ->
    lists:sum([byte_size(Frame) || {_, Frame} <- Frames]).

%% @doc Notes may have been missed.
-spec gap(notes()) -> ok.
gap(#notes{pid = Notes}) ->
    Notes ! gap,
    ok.

%% @doc The client ends.
-spec stop(none | notes()) -> ok.
stop(none) ->
    ok;
stop(#notes{pid = Notes}) ->
    unlink(Notes),
    exit(Notes, kill),
    ok.

%% @private By its module's name, so that it goes on in new code.
-spec loop(#state{}) -> no_return().
loop(State = #state{subscribers = Subscribers}) ->
    receive
        {subscribe, Pid, From} ->
            Ref = monitor(process, Pid),
            ?MODULE:loop(changed(From, {ok, Ref}, Subscribers#{Ref => #subscriber{pid = Pid}}, State));
        {unsubscribe, Ref, From} when is_map_key(Ref, Subscribers) ->
            true = demonitor(Ref, [flush]),
            ?MODULE:loop(changed(From, ok, maps:remove(Ref, Subscribers), State));
        {unsubscribe, _Unknown, From} ->
            ?MODULE:loop(changed(From, ok, Subscribers, State));
        {'DOWN', Ref, process, _, _} ->
            ?MODULE:loop(changed(none, ok, maps:remove(Ref, Subscribers), State));
        {noted, Frames, Size} ->
            Told = tell(Frames, looked(State)),
            ok = atomics:sub((State#state.notes)#notes.account, ?OUT, Size),
            ?MODULE:loop(Told);
        gap ->
            Told = lists:foldl(fun({Ref, Pid}, Acc) -> gap(Ref, Pid, Acc) end, State, open(Subscribers)),
            ?MODULE:loop(unread(1, ?NOTE, Told))
    end.

changed(From, Word, Subscribers, State = #state{client = Client, notes = Notes}) ->
    Client ! {?MODULE, Notes, {From, Word, map_size(Subscribers)}},
    Behind = maps:with(maps:keys(Subscribers), State#state.behind),
    State#state{subscribers = Subscribers, behind = Behind}.

%% Who of this node has read how much meanwhile: asked when that may be too little. Of others nothing is known.
looked(State = #state{subscribers = Subscribers, notes = #notes{max = Max}}) ->
    State#state{subscribers = maps:map(fun(Ref, Subscriber) -> looked(Ref, Subscriber, Max) end, Subscribers)}.

looked(Ref, Subscriber = #subscriber{pid = Pid, unread = Before, is_full = IsFull}, Max) ->
    case IsFull orelse gen_driver_unread:bytes(Before) >= Max of
        true ->
            {message_queue_len, Waiting} = message_queue(Pid),
            Unread = gen_driver_unread:waiting(Waiting, Before),
            full(gen_driver_unread:bytes(Unread), Max, Ref, Subscriber#subscriber{unread = Unread});
        false ->
            Subscriber
    end.

%% Of one that has ended we shall hear.
message_queue(Pid) ->
    case process_info(Pid, message_queue_len) of
        undefined -> {message_queue_len, 0};
        Length -> Length
    end.

full(Bytes, Max, Ref, Subscriber = #subscriber{pid = Pid, is_full = false}) when Bytes >= Max ->
    Pid ! {gen_driver_gap, Ref},
    Subscriber#subscriber{is_full = true};
full(Bytes, Max, _Ref, Subscriber = #subscriber{is_full = true}) when 2 * Bytes < Max ->
    Subscriber#subscriber{is_full = false};
full(_Bytes, _Max, _Ref, Subscriber) ->
    Subscriber.

open(Subscribers) ->
    [{Ref, Pid} || {Ref, #subscriber{pid = Pid, is_full = false}} <- maps:to_list(Subscribers)].

tell(Frames, State = #state{subscribers = Subscribers}) ->
    Open = open(Subscribers),
    {Told, Messages, Bytes} = lists:foldl(fun(Frame, Acc) -> note(Frame, Open, Acc) end, {State, 0, 0}, Frames),
    unread(Messages, Bytes, Told).

unread(Messages, Bytes, State = #state{subscribers = Subscribers}) ->
    State#state{subscribers = maps:map(fun(_, Subscriber) -> more(Messages, Bytes, Subscriber) end, Subscribers)}.

more(Messages, Bytes, Subscriber = #subscriber{pid = Pid, is_full = false, unread = Unread}) when node(Pid) =:= node() ->
    Subscriber#subscriber{unread = gen_driver_unread:sent(Messages, Bytes, Unread)};
more(_Messages, _Bytes, Subscriber) ->
    Subscriber.

note(_Frame, [], Told) ->
    Told;
note({BodyAt, Frame}, Open, {State, Messages, Bytes}) ->
    case gen_driver_proto:term(Frame, BodyAt) of
        {ok, Note} ->
            Told = lists:foldl(fun({Ref, Pid}, Acc) -> note(Ref, Pid, Note, Acc) end, State, Open),
            {Told, Messages + 1, Bytes + ?NOTE + byte_size(Frame)};
        undecodable ->
            {undecodable(State), Messages, Bytes}
    end.

note(Ref, Pid, Note, State = #state{behind = Behind}) when is_map_key(Ref, Behind) ->
    case gap(Ref, Pid, State) of
        #state{behind = #{Ref := true}} = Still -> Still;
        Caught -> note(Ref, Pid, Note, Caught)
    end;
note(Ref, Pid, Note, State) ->
    sent(erlang:send(Pid, {gen_driver_note, Ref, Note}, [nosuspend]), Ref, State).

gap(Ref, Pid, State) ->
    sent(erlang:send(Pid, {gen_driver_gap, Ref}, [nosuspend]), Ref, State).

%% Nobody waits for a subscriber on a node that does not listen.
sent(ok, Ref, State = #state{behind = Behind}) -> State#state{behind = maps:remove(Ref, Behind)};
sent(nosuspend, Ref, State = #state{behind = Behind}) -> State#state{behind = Behind#{Ref => true}}.

%% Said once: it is the driver's doing, and it may do it often.
undecodable(State = #state{undecodable = 0}) ->
    ?LOG_WARNING("a note that this node does not take is dropped: it holds an unknown atom, NaN or a fun"),
    State#state{undecodable = 1};
undecodable(State = #state{undecodable = N}) ->
    State#state{undecodable = N + 1}.
