%% SPDX-License-Identifier: MIT
%% @doc Who wants a client's notes, and what they get: the process that decodes them, once for all.
%%
%% A subscriber gets `{gen_driver_note, Ref, Term}' for each, in order, and `{gen_driver_gap, Ref}'
%% when the client has a new link: what the driver said meanwhile it has not heard. Its client is
%% told how many subscribers there are, and tells the host.
-module(gen_driver_notes).

-include_lib("kernel/include/logger.hrl").

-export([start_link/0, subscribe/3, unsubscribe/3, noted/2, gap/1, stop/1]).
-export_type([change/0, frame/0]).

-type frame() :: {BodyAt :: pos_integer(), binary()}.

%% The word is for whoever asked; and so many subscribers are there now.
-type change() :: {gen_server:from() | none, ok | {ok, reference()}, Subscribers :: non_neg_integer()}.
-record(state, {
    client :: pid(),
    subscribers = #{} :: #{reference() => pid()},
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

loop(State = #state{subscribers = Subscribers}) ->
    receive
        {subscribe, Pid, From} ->
            Ref = monitor(process, Pid),
            loop(changed(From, {ok, Ref}, Subscribers#{Ref => Pid}, State));
        {unsubscribe, Ref, From} ->
            true = demonitor(Ref, [flush]),
            loop(changed(From, ok, maps:remove(Ref, Subscribers), State));
        {'DOWN', Ref, process, _, _} ->
            loop(changed(none, ok, maps:remove(Ref, Subscribers), State));
        {noted, Frames} ->
            loop(lists:foldl(fun note/2, State, Frames));
        gap ->
            maps:foreach(fun(Ref, Pid) -> Pid ! {gen_driver_gap, Ref} end, Subscribers),
            loop(State)
    end.

changed(From, Word, Subscribers, State = #state{client = Client}) ->
    Client ! {?MODULE, self(), {From, Word, map_size(Subscribers)}},
    State#state{subscribers = Subscribers}.

note({BodyAt, Frame}, State = #state{subscribers = Subscribers}) ->
    case gen_driver_proto:term(Frame, BodyAt) of
        {ok, Note} ->
            maps:foreach(fun(Ref, Pid) -> Pid ! {gen_driver_note, Ref, Note} end, Subscribers),
            State;
        undecodable ->
            undecodable(State)
    end.

%% Said once: it is the driver's doing, and it may do it often.
undecodable(State = #state{undecodable = 0}) ->
    ?LOG_WARNING("a note that this node does not take is dropped: it holds an unknown atom, NaN or a fun"),
    State#state{undecodable = 1};
undecodable(State = #state{undecodable = N}) ->
    State#state{undecodable = N + 1}.
