%% SPDX-License-Identifier: MIT
%% @doc Who wants a client's notes, and what they get: the process that decodes them, once for all.
%%
%% A subscriber gets `{gen_driver_note, Ref, Term}' for each, in order, and `{gen_driver_gap, Ref}'
%% when the client has a new link: what the driver said meanwhile it has not heard. Its client is
%% told how many subscribers there are, and tells the host.
-module(gen_driver_notes).

-include_lib("kernel/include/logger.hrl").

-export([start_link/0, subscribe/3, unsubscribe/3, noted/2, gap/1, stop/1]).
-export([loop/1]).
-export_type([change/0, frame/0]).

-type frame() :: {BodyAt :: pos_integer(), binary()}.

%% The word is for whoever asked; and so many subscribers are there now.
-type change() :: {gen_server:from() | none, ok | {ok, reference()}, Subscribers :: non_neg_integer()}.
-record(state, {
    client :: pid(),
    subscribers = #{} :: #{reference() => pid()},
    behind = #{} :: #{reference() => true},     % on other nodes: they missed something
    undecodable = 0 :: non_neg_integer()
}).

%% @doc For the calling process, a client, which hears `{gen_driver_notes, Pid, change()}'.
-spec start_link() -> pid().
start_link() ->
    Client = self(),
    spawn_link(fun() -> loop(#state{client = Client}) end).

%% @doc `Pid' gets notes until it ends or unsubscribes.
-spec subscribe(Notes :: pid(), pid(), gen_server:from()) -> ok.
subscribe(Notes, Pid, From) ->
    Notes ! {subscribe, Pid, From},
    ok.

%% @doc No more under that reference.
-spec unsubscribe(Notes :: pid(), reference(), gen_server:from()) -> ok.
unsubscribe(Notes, Ref, From) ->
    Notes ! {unsubscribe, Ref, From},
    ok.

%% @doc Frames of notes, as they came.
-spec noted(Notes :: pid(), [frame()]) -> ok.
noted(Notes, Frames) ->
    Notes ! {noted, Frames},
    ok.

%% @doc Notes may have been missed.
-spec gap(Notes :: pid()) -> ok.
gap(Notes) ->
    Notes ! gap,
    ok.

%% @doc The client ends.
-spec stop(Notes :: none | pid()) -> ok.
stop(none) ->
    ok;
stop(Notes) ->
    unlink(Notes),
    exit(Notes, kill),
    ok.

%% @private By its module's name, so that it goes on in new code.
-spec loop(#state{}) -> no_return().
loop(State = #state{subscribers = Subscribers}) ->
    receive
        {subscribe, Pid, From} ->
            Ref = monitor(process, Pid),
            ?MODULE:loop(changed(From, {ok, Ref}, Subscribers#{Ref => Pid}, State));
        {unsubscribe, Ref, From} when is_map_key(Ref, Subscribers) ->
            true = demonitor(Ref, [flush]),
            ?MODULE:loop(changed(From, ok, maps:remove(Ref, Subscribers), State));
        {unsubscribe, _Unknown, From} ->
            ?MODULE:loop(changed(From, ok, Subscribers, State));
        {'DOWN', Ref, process, _, _} ->
            ?MODULE:loop(changed(none, ok, maps:remove(Ref, Subscribers), State));
        {noted, Frames} ->
            ?MODULE:loop(lists:foldl(fun note/2, State, Frames));
        gap ->
            ?MODULE:loop(lists:foldl(fun({Ref, Pid}, Acc) -> gap(Ref, Pid, Acc) end, State, maps:to_list(Subscribers)))
    end.

changed(From, Word, Subscribers, State = #state{client = Client}) ->
    Client ! {?MODULE, self(), {From, Word, map_size(Subscribers)}},
    Behind = maps:with(maps:keys(Subscribers), State#state.behind),
    State#state{subscribers = Subscribers, behind = Behind}.

note({BodyAt, Frame}, State = #state{subscribers = Subscribers}) ->
    case gen_driver_proto:term(Frame, BodyAt) of
        {ok, Note} ->
            lists:foldl(fun({Ref, Pid}, Acc) -> note(Ref, Pid, Note, Acc) end, State, maps:to_list(Subscribers));
        undecodable ->
            undecodable(State)
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
