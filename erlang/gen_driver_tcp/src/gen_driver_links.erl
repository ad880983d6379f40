%% SPDX-License-Identifier: MIT
%% @doc The links of a client: dialled, in use, left while they drain, lost; and what is asked of the host itself.
%%
%% A part of `gen_driver_client', on its state; its process alone. When a link
%% dies, everybody on it hears, once, and a new one is dialled: at once after one
%% that had given answers, after a growing pause otherwise.
-module(gen_driver_links).

-include_lib("kernel/include/logger.hrl").
-include("gen_driver_client.hrl").

-export([dial/1, dialed/2, data/3, activate/2, written/3, closed/2, lost/4, leave/1, down/2]).
-export([await/2, told/2, ping/2, pulse/1, subscribe/3, unsubscribe/3, notes/2]).

%% Time (ms) on a link that asked to be left, while there is no other: its daemon may be waiting
%% for that before it makes room for the next one.
-define(LEAVE, 1000).

%%% Connecting

%% @doc Begin an attempt.
-spec dial(#state{}) -> #state{}.
dial(State = #state{options = Options}) ->
    State#state{dialer = gen_driver_dialer:start_link(Options)}.

%% @doc The attempt has ended.
-spec dialed(gen_driver_dialer:outcome(), #state{}) -> #state{}.
dialed({ok, Socket, Welcome}, State = #state{options = Options}) ->
    Link = gen_driver_link:new(Socket, Welcome, Options),
    case gen_driver_link:activate(Link) of
        ok -> linked(Socket, Link, Welcome, State);
        {error, Reason} -> dialed({error, Reason}, State)
    end;
%% That daemon stops: another may come in its place.
dialed({refused, draining}, State) ->
    redial(trouble({refused, draining}, State#state{refused = no}));
dialed({refused, Reason}, State = #state{current = none}) ->
    redial(gen_driver_flow:unavailable(trouble({refused, Reason}, State#state{refused = Reason})));
dialed({refused, Reason}, State) ->
    redial(trouble({refused, Reason}, State));
dialed({error, Reason}, State) ->
    redial(trouble(Reason, State#state{refused = no})).

%% What the old one has taken goes out there, before it is left.
linked(Socket, Link, Welcome, Before) ->
    State = #state{links = Links, current = Current, connects = Connects} = gen_driver_flow:flush(Before),
    ?LOG_INFO("connected to generation ~b of ~ts", [maps:get(generation, Welcome), maps:get(instance, Welcome)]),
    gen_driver_telemetry:link_up(Welcome),
    Old = case Current of
        none -> Links;
        _ -> maps:update_with(Current, fun gen_driver_link:finish/1, Links)
    end,
    Up = State#state{links = Old#{Socket => wanting(State, Link)}, current = Socket, refused = no, trouble = none,
                     leave = none, connects = Connects + 1},
    gen_driver_flow:load(pulsed(told(ok, Up))).

wanting(#state{noting = false}, Link) ->
    Link;
wanting(#state{notes = Notes}, Link) ->
    ok = gen_driver_notes:gap(Notes),
    gen_driver_link:notes(true, Link).

trouble(Trouble, State = #state{trouble = Trouble}) ->
    told({error, Trouble}, State);
trouble(Trouble, State = #state{options = #{instance := Instance, connect := Connect}}) ->
    ?LOG_WARNING("no link to ~ts at ~tp: ~tP", [Instance, Connect, Trouble, 10]),
    told({error, Trouble}, State#state{trouble = Trouble}).

redial(State = #state{dialer = none, backoff = Backoff}) ->
    {Delay, Next} = gen_driver_backoff:next(rand:uniform(), Backoff),
    State#state{dialer = {pause, erlang:start_timer(Delay, self(), dial)}, backoff = Next};
redial(State) ->
    State.

%% @doc Somebody waits until there is a link, or the attempt has failed.
-spec await(gen_server:from(), #state{}) -> #state{}.
await(From, State = #state{current = none, waiters = Waiters}) ->
    State#state{waiters = [From | Waiters]};
await(From, State) ->
    gen_server:reply(From, ok),
    State.

%% @doc What those hear who wait for that.
-spec told(ok | {error, term()}, #state{}) -> #state{}.
told(Outcome, State = #state{waiters = Waiters}) ->
    lists:foreach(fun(From) -> gen_server:reply(From, Outcome) end, Waiters),
    State#state{waiters = []}.

%%% In use

%% @doc Bytes came.
-spec data(gen_driver_link:socket(), binary(), #state{}) -> #state{}.
data(Socket, Data, State = #state{links = Links}) ->
    case gen_driver_link:data(Data, maps:get(Socket, Links)) of
        {ok, Notes, Link} ->
            ok = noted(Notes, Data, State),
            gen_driver_flow:load(leave_if_asked(Socket, Link, State#state{links = Links#{Socket := Link}}));
        {goodbye, Reason, Notes, Link} ->
            ok = noted(Notes, Data, State),
            lost(Socket, {goodbye, Reason}, gen_driver_proto:unanswered(Reason), State#state{links = Links#{Socket := Link}});
        {lost, Reason, Notes, Link} ->
            ok = noted(Notes, Data, State),
            lost(Socket, Reason, disconnected, State#state{links = Links#{Socket := Link}})
    end.

%% @doc The socket waits to be asked for more.
-spec activate(gen_driver_link:socket(), #state{}) -> #state{}.
activate(Socket, State = #state{links = Links}) ->
    case gen_driver_link:activate(maps:get(Socket, Links)) of
        ok -> State;
        {error, Reason} -> lost(Socket, Reason, disconnected, State)
    end.

%% @doc The writer is done, or nothing can be sent any more.
-spec written(gen_driver_link:socket(), ok | half_closed | {error, term()}, #state{}) -> #state{}.
written(Socket, half_closed, State = #state{links = Links}) ->
    State#state{links = maps:update_with(Socket, fun gen_driver_link:left/1, Links)};
written(Socket, ok, State = #state{links = Links}) ->
    State#state{links = maps:update_with(Socket, fun gen_driver_link:sent/1, Links)};
written(Socket, {error, Reason}, State) ->
    lost(Socket, {send, Reason}, disconnected, State).

%% @doc End of file.
-spec closed(gen_driver_link:socket(), #state{}) -> #state{}.
closed(Socket, State = #state{links = Links}) ->
    Reason = case gen_driver_link:mid_frame(maps:get(Socket, Links)) of
        true -> closed_in_mid_frame;
        false -> closed
    end,
    lost(Socket, Reason, disconnected, State).

%%% Left, and lost

%% The old link takes requests until the new one is there, or has not come for a while.
leave_if_asked(Socket, Link, State = #state{current = Socket, dialer = none}) ->
    case {gen_driver_link:is_draining(Link), gen_driver_link:has_answered(Link)} of
        {true, true} -> dial(not_for_long(State));
        {true, false} -> redial(not_for_long(State));       % not at once for one that never answers
        {false, _} -> State
    end;
leave_if_asked(_Socket, _Link, State) ->
    State.

not_for_long(State = #state{leave = none}) ->
    State#state{leave = erlang:start_timer(?LEAVE, self(), leave)};
not_for_long(State) ->
    State.

%% @doc No other has come: what comes from now on waits for the next link.
-spec leave(#state{}) -> #state{}.
leave(Before = #state{current = Current, links = Now}) when is_map_key(Current, Now) ->
    State = #state{current = Socket, links = Links, queue = Queue} = gen_driver_flow:flush(Before),
    case gen_driver_link:is_draining(maps:get(Socket, Links)) of
        true ->
            #state{options = #{connect_wait := Wait}} = State,
            Until = erlang:monotonic_time(millisecond) + Wait,
            gen_driver_flow:load(
              State#state{current = none, links = maps:update_with(Socket, fun gen_driver_link:finish/1, Links),
                          queue = gen_driver_queue:impatient(Until, Queue)});
        false ->
            State
    end;
leave(State) ->
    State.

%% @doc A socket is of no use any more; calls without an answer hear `Outcome'.
-spec lost(gen_driver_link:socket(), Reason :: term(), gen_driver_proto:failed_reason(), #state{}) -> #state{}.
lost(Socket, Reason, Outcome, State = #state{links = Links, current = Current}) ->
    {Link, Others} = maps:take(Socket, Links),
    Unsent = gen_driver_link:give_up(Outcome, manner(Reason), Link),
    gen_driver_telemetry:link_down(gen_driver_link:welcome(Link), Reason),
    Without = gen_driver_flow:unsent(Unsent, State#state{links = Others}),
    case Socket of
        Current ->
            Alone = gen_driver_flow:unavailable(trouble({lost, Reason}, Without#state{current = none})),
            gen_driver_flow:load(dial_again(gen_driver_link:has_answered(Link), Alone));
        _ ->
            log_old(Reason),
            gen_driver_flow:load(released(Without))
    end.

%% What was sent may still be on its way where the end was in order.
manner(closed) -> polite;
manner(_) -> abrupt.

%% At once after a link that gave an answer: its host may have died, and another be ready. After
%% others the pause goes on growing.
dial_again(true, State = #state{dialer = none, backoff = Backoff}) ->
    dial(State#state{backoff = gen_driver_backoff:reset(Backoff)});
dial_again(_HasAnswered, State) ->
    redial(State).

%% A drained link ends so.
log_old(closed) -> ok;
log_old(Reason) -> ?LOG_WARNING("drained link ended: ~tP", [Reason, 10]).

released(State = #state{links = Links, queue = Queue}) when map_size(Links) < 2 ->
    State#state{queue = gen_driver_queue:release(Queue)};
released(State) ->
    State.

%% @doc Somebody died whom we monitor: a caller, or none any more.
-spec down(reference(), #state{}) -> #state{}.
down(Monitor, State = #state{links = Links}) ->
    State#state{links = maps:map(fun(_, Link) ->
        case gen_driver_link:down(Monitor, Link) of
            {ok, Left} -> Left;
            not_mine -> Link
        end
    end, Links)}.

%%% Signs of life

%% @doc Somebody wants to know how far the host is.
-spec ping(gen_server:from(), #state{}) -> #state{}.
ping(From, State = #state{current = Socket, links = Links}) ->
    case Links of
        #{Socket := Link} ->
            State#state{links = Links#{Socket := gen_driver_link:ping(From, Link)}};
        #{} ->
            gen_server:reply(From, {error, unavailable}),
            State
    end.

pulsed(State = #state{pulse = none, options = #{ping := Every}}) when is_integer(Every) ->
    State#state{pulse = erlang:start_timer(Every, self(), pulse)};
pulsed(State) ->
    State.

%% @doc Whoever was quiet is asked; whoever gave no sign is given up.
-spec pulse(#state{}) -> #state{}.
pulse(State = #state{links = Links}) when map_size(Links) =:= 0 ->
    State;
pulse(State = #state{links = Links}) ->
    gen_driver_sweep:tidy(pulsed(maps:fold(fun pulse/3, State, Links))).

pulse(Socket, Link, State = #state{links = Links, options = #{ping_timeout := Timeout, leave_timeout := Left}}) ->
    case gen_driver_link:pulse(Timeout, Left, Link) of
        {ok, Asked} -> State#state{links = Links#{Socket := Asked}};
        silent -> lost(Socket, silent, disconnected, State)
    end.

%%% Notes

%% @doc Somebody wants what the driver says unasked.
-spec subscribe(pid(), gen_server:from(), #state{}) -> #state{}.
subscribe(Pid, From, State = #state{notes = none, options = #{max_notes := Max}}) ->
    subscribe(Pid, From, State#state{notes = gen_driver_notes:start_link(Max)});
subscribe(Pid, From, State = #state{notes = Notes}) ->
    ok = gen_driver_notes:subscribe(Notes, Pid, From),
    State.

%% @doc Or no more.
-spec unsubscribe(reference(), gen_server:from(), #state{}) -> #state{}.
unsubscribe(_Ref, From, State = #state{notes = none}) ->
    gen_server:reply(From, ok),
    State;
unsubscribe(Ref, From, State = #state{notes = Notes}) ->
    ok = gen_driver_notes:unsubscribe(Notes, Ref, From),
    State.

%% @doc What has become of that. The host is asked before the subscriber hears, so that what it then calls for is noted.
-spec notes(gen_driver_notes:change(), #state{}) -> #state{}.
notes({From, Word, Subscribers}, State) ->
    Wanting = want(Subscribers > 0, State),
    _ = From =:= none orelse gen_server:reply(From, Word),
    Wanting.

want(Wanted, State = #state{noting = Wanted}) ->
    State;
want(Wanted, State = #state{current = Socket, links = Links}) ->
    Told = case Links of
        #{Socket := Link} -> Links#{Socket := gen_driver_link:notes(Wanted, Link)};
        #{} -> Links
    end,
    State#state{links = Told, noting = Wanted}.

%% They hold on to all that was read with them.
noted(Frames, Data, #state{noting = true, notes = Notes}) when Frames =/= [] ->
    gen_driver_notes:noted(Notes, Frames, byte_size(Data));
noted(_Frames, _Data, _State) ->
    ok.
