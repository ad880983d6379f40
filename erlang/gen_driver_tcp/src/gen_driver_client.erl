%% SPDX-License-Identifier: MIT
%% @doc The process of a client: many callers, one socket, nothing that waits in one for the other.
%%
%% It drains: requests that are in the mailbox are taken first and sent together.
%% Every callback returns through `next/1', which asks for a timeout of 0, that is
%% for a word when the mailbox is empty, while something can be sent, and sends
%% without waiting for it when enough has come together.
%%
%% Links are kept in a map under their sockets. There is one, `current', except
%% while a host is being drained: then the old one still answers beside it.
%%
%% It traps exits so that a supervisor's shutdown is answered to every caller.
%%
%% Longer than other files: every clause here handles the same state, and what
%% needs none of it (queue, link, batch, dialing, writing) is elsewhere.
-module(gen_driver_client).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").
-include("gen_driver_request.hrl").

-export([start_link/1, start_link/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, code_change/3, format_status/1]).

%% Sent without waiting for an empty mailbox when so much has come together.
-define(REQUESTS, 256).
-define(BYTES, 65536).
-define(MESSAGES, 64).
%% A sweep (ms) looks for time that has passed, and monitors the callers of calls
%% that have gone through so many of them: most are answered sooner.
-define(SWEEP, 25).
%% Time (ms) for casts that were taken, when the client stops: less than a supervisor's.
-define(LAST_WORDS, 2000).
-define(OLD, 4).
%% Time (ms) on a link that asked to be left, while there is no other: its daemon may be waiting
%% for that before it makes room for the next one.
-define(LEAVE, 1000).

-record(state, {
    options :: gen_driver_options:checked(),
    places :: gen_driver_places:places(),
    queue = gen_driver_queue:new() :: gen_driver_queue:queue(),
    messages = 0 :: non_neg_integer(),          % since something could first be sent
    cancels = #{} :: #{reference() => true},
    links = #{} :: #{gen_driver_link:socket() => gen_driver_link:link()},
    current = none :: none | gen_driver_link:socket(),
    dialer = none :: none | pid() | {pause, reference()},
    refused = no :: no | gen_driver_handshake:refusal(),
    trouble = none :: none | term(),            % why there is no link; logged when it changes
    backoff :: gen_driver_backoff:backoff(),
    waiters = [] :: [gen_server:from()],        % for the outcome of the attempt
    leave = none :: none | reference(),
    sweep = none :: none | reference(),
    tick = 0 :: non_neg_integer(),
    connects = 0 :: non_neg_integer(),
    dropped = 0 :: non_neg_integer()            % casts
}).

%% @doc A client without a name, with options already checked.
-spec start_link(gen_driver_options:checked()) -> gen_server:start_ret().
start_link(Options) ->
    gen_server:start_link(?MODULE, Options, []).

%% @doc The same under a name.
-spec start_link(gen_server:server_name(), gen_driver_options:checked()) -> gen_server:start_ret().
start_link(Name, Options) ->
    gen_server:start_link(Name, ?MODULE, Options, []).

-spec init(gen_driver_options:checked()) -> {ok, #state{}}.
init(Options = #{instance := Instance, max_queued := Bounds, backoff := Range}) ->
    process_flag(trap_exit, true),
    process_flag(message_queue_data, off_heap),
    logger:update_process_metadata(#{instance => Instance}),
    {ok, dial(#state{options = Options, places = gen_driver_places:open(self(), Bounds),
                     backoff = gen_driver_backoff:new(Range)})}.

%%% Requests

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {noreply, #state{}} | {noreply, #state{}, 0}.
handle_call({port, Command}, From, State) ->
    plain(#request{from = From}, Command, State);
handle_call({port, Command, Params}, From, State) ->
    plain((gen_driver_params:request(Params))#request{from = From}, Command, State);
handle_call(Request = #request{}, From, State) ->
    next(taken(Request#request{from = From}, State));
handle_call(await, From, State = #state{current = none, waiters = Waiters}) ->
    next(State#state{waiters = [From | Waiters]});
handle_call(await, From, State) ->
    gen_server:reply(From, ok),
    next(State);
handle_call(info, From, State) ->
    gen_server:reply(From, info(State)),
    next(State);
handle_call(_Unknown, {Pid, _} = From, State) ->
    ?LOG_WARNING("unknown call from ~tp refused", [Pid]),
    gen_server:reply(From, {error, {failed, bad_request}}),
    next(State).

-spec handle_cast(term(), #state{}) ->
    {noreply, #state{}} | {noreply, #state{}, 0} | {stop, normal, #state{}}.
handle_cast({port, Command}, State) ->
    plain(#request{}, Command, State);
handle_cast({port, Command, Params}, State) ->
    plain(gen_driver_params:request(Params), Command, State);
handle_cast(Request = #request{}, State) ->
    next(taken(Request, State));
handle_cast({cancel, Ref}, State = #state{cancels = Cancels}) ->
    next(State#state{cancels = Cancels#{Ref => true}});
handle_cast(stop, State) ->
    {stop, normal, State};
handle_cast(_Unknown, State) ->
    ?LOG_WARNING("unknown cast ignored"),
    next(State).

plain(Request = #request{from = From}, Name, State = #state{queue = Queue, options = #{max_queued := Bounds}}) ->
    next(case gen_driver_options:command(Name) of
             {ok, Command} ->
                 case gen_driver_queue:is_full(Bounds, Queue) of
                     false -> accept(Request#request{command = Command, deadline = plain_deadline(From, State)}, State);
                     true -> refuse(Request, overloaded, State)
                 end;
             bad_request ->
                 refuse(Request, bad_request, State)
         end).

%% From another node nobody can take a place before: the queue itself is the bound.
taken(Request = #request{placed = false}, State = #state{queue = Queue, options = #{max_queued := Bounds}}) ->
    case gen_driver_queue:is_full(Bounds, Queue) of
        false -> accept(Request, State);
        true -> refuse(Request, overloaded, State)
    end;
taken(Request, State) ->
    accept(Request, State).

plain_deadline(cast, _State) -> infinity;
plain_deadline(_From, #state{options = #{plain_timeout := infinity}}) -> infinity;
plain_deadline(_From, #state{options = #{plain_timeout := Timeout}}) -> now_ms() + Timeout.

accept(Request = #request{deadline = {in, Ms}}, State) ->
    accept(Request#request{deadline = now_ms() + Ms}, State);
accept(Request, State = #state{current = Socket, queue = Queue}) when Socket =/= none ->
    swept(State#state{queue = gen_driver_queue:in(Request, Queue)});
accept(Request = #request{from = cast}, State) ->
    refuse(Request, unavailable, State);
accept(Request, State = #state{refused = no, queue = Queue, options = #{connect_wait := Wait}}) ->
    Patient = Request#request{patience = now_ms() + Wait},
    swept(State#state{queue = gen_driver_queue:in(Patient, Queue)});
accept(Request, State) ->
    refuse(Request, unavailable, State).

refuse(Request, Reason, State) ->
    Place = case Request of
        #request{placed = true, size = Size} -> {1, Size};
        #request{} -> {0, 0}
    end,
    ok = give(Place, State),
    answer_failed(Request, Reason, State).

answer_failed(#request{from = cast}, _Reason, State = #state{dropped = Dropped}) ->
    State#state{dropped = Dropped + 1};
answer_failed(#request{from = From, style = Style}, Reason, State) ->
    gen_driver_answer:failed(From, Style, Reason),
    State.

%%% Draining

%% Every callback ends here.
next(State) ->
    case can_send(State) of
        false ->
            {noreply, State#state{messages = 0}};
        true ->
            case enough(State) of
                true -> next_after(flush(State));
                false -> {noreply, State#state{messages = State#state.messages + 1}, 0}
            end
    end.

next_after(State) ->
    case can_send(State) of
        true -> {noreply, State, 0};
        false -> {noreply, State}
    end.

can_send(#state{cancels = Cancels}) when map_size(Cancels) > 0 ->
    true;
can_send(#state{current = none}) ->
    false;
can_send(#state{current = Socket, links = Links, queue = Queue}) ->
    #{Socket := Link} = Links,
    case gen_driver_link:room(Link) of
        blocked -> false;
        0 -> gen_driver_queue:begins_with_cast(Queue) orelse gen_driver_link:has_control(Link);
        _ -> gen_driver_queue:ready(Queue) > 0 orelse gen_driver_link:has_control(Link)
    end.

enough(#state{messages = Messages, queue = Queue}) ->
    Messages >= ?MESSAGES - 1
        orelse gen_driver_queue:ready(Queue) >= ?REQUESTS
        orelse gen_driver_queue:bytes(Queue) >= ?BYTES.

flush(State) ->
    send(cancel(State#state{messages = 0})).

send(State = #state{current = none}) ->
    State;
send(State = #state{current = Socket, links = Links, queue = Queue, tick = Tick}) ->
    #{Socket := Link} = Links,
    case gen_driver_link:room(Link) of
        blocked ->
            State;
        _ ->
            Hold = map_size(Links) > 1,
            {Frames, Dropped, Left, Entered} = gen_driver_batch:take(Tick, Hold, Queue, Link),
            Sent = case Frames =/= [] orelse gen_driver_link:has_control(Entered) of
                true -> gen_driver_link:send(Frames, Entered);
                false -> Entered
            end,
            settle(State#state{queue = Left, links = Links#{Socket := Sent},
                               dropped = State#state.dropped + Dropped})
    end.

settle(State = #state{queue = Queue}) ->
    {Places, Settled} = gen_driver_queue:settle(Queue),
    ok = give(Places, State),
    State#state{queue = Settled}.

give({0, 0}, _State) -> ok;
give({Requests, Bytes}, #state{places = Places}) -> gen_driver_places:give(Places, Requests, Bytes).

%% Together: finding one takes a walk over all, and when a host hangs all come at once.
cancel(State = #state{cancels = Refs}) when map_size(Refs) =:= 0 ->
    State;
cancel(State = #state{cancels = Refs, queue = Queue, links = Links}) ->
    {_, Left} = gen_driver_queue:remove(fun(#request{ref = Ref}) -> is_map_key(Ref, Refs) end, Queue),
    settle(State#state{cancels = #{}, queue = Left,
                       links = maps:map(fun(_, Link) -> gen_driver_link:cancel(Refs, Link) end, Links)}).

%%% Sockets, timers, and whoever died

-spec handle_info(term(), #state{}) ->
    {noreply, #state{}} | {noreply, #state{}, 0} | {stop, term(), #state{}}.
handle_info(timeout, State) ->
    next_after(flush(State));
handle_info({tcp, Socket, Data}, State = #state{links = Links}) when is_map_key(Socket, Links) ->
    next(received(Socket, gen_driver_link:data(Data, maps:get(Socket, Links)), State));
handle_info({tcp_passive, Socket}, State = #state{links = Links}) when is_map_key(Socket, Links) ->
    case gen_driver_link:activate(maps:get(Socket, Links)) of
        ok -> next(State);
        {error, Reason} -> next(lost(Socket, Reason, disconnected, State))
    end;
handle_info({tcp_closed, Socket}, State = #state{links = Links}) when is_map_key(Socket, Links) ->
    Reason = case gen_driver_link:mid_frame(maps:get(Socket, Links)) of
        true -> closed_in_mid_frame;
        false -> closed
    end,
    next(lost(Socket, Reason, disconnected, State));
handle_info({tcp_error, Socket, Reason}, State = #state{links = Links}) when is_map_key(Socket, Links) ->
    next(lost(Socket, Reason, disconnected, State));
handle_info({gen_driver_writer, Socket, ok}, State = #state{links = Links}) when is_map_key(Socket, Links) ->
    next(State#state{links = maps:update_with(Socket, fun gen_driver_link:sent/1, Links)});
handle_info({gen_driver_writer, Socket, {error, Reason}}, State = #state{links = Links})
  when is_map_key(Socket, Links) ->
    next(lost(Socket, {send, Reason}, disconnected, State));
handle_info({gen_driver_dialer, Dialer, Outcome}, State = #state{dialer = Dialer}) ->
    next(dialed(Outcome, State#state{dialer = none}));
handle_info({timeout, Timer, dial}, State = #state{dialer = {pause, Timer}}) ->
    next(dial(State#state{dialer = none}));
handle_info({timeout, Timer, leave}, State = #state{leave = Timer}) ->
    next(leave(State#state{leave = none}));
handle_info({timeout, Timer, sweep}, State = #state{sweep = Timer}) ->
    next(sweep(State#state{sweep = none}));
handle_info({'DOWN', Monitor, process, _, _}, State = #state{links = Links}) ->
    next(State#state{links = maps:map(fun(_, Link) -> down(Monitor, Link) end, Links)});
%% Dialers end when they are done; a port whose socket closed says so to its owner.
handle_info({'EXIT', _, normal}, State) ->
    next(State);
handle_info({'EXIT', Port, _}, State) when is_port(Port) ->
    next(State);
handle_info({'EXIT', _, Reason}, State) ->
    {stop, Reason, State};
%% A link that was given up: nobody waits for what it still says.
handle_info(Message, State)
  when element(1, Message) =:= tcp; element(1, Message) =:= tcp_passive; element(1, Message) =:= tcp_closed;
       element(1, Message) =:= tcp_error; element(1, Message) =:= gen_driver_writer ->
    next(State);
handle_info(Unknown, State) ->
    ?LOG_WARNING("unknown message ignored: ~tP", [Unknown, 6]),
    next(State).

received(Socket, {ok, Link}, State = #state{links = Links}) ->
    leave_if_asked(Socket, Link, State#state{links = Links#{Socket := Link}});
received(Socket, {goodbye, Reason, Link}, State = #state{links = Links}) ->
    lost(Socket, {goodbye, Reason}, gen_driver_proto:unanswered(Reason), State#state{links = Links#{Socket := Link}});
received(Socket, {lost, Reason, Link}, State = #state{links = Links}) ->
    lost(Socket, Reason, disconnected, State#state{links = Links#{Socket := Link}}).

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

%% What comes from now on waits for the next link.
leave(State = #state{current = Socket, links = Links, queue = Queue, options = #{connect_wait := Wait}})
  when is_map_key(Socket, Links) ->
    case gen_driver_link:is_draining(maps:get(Socket, Links)) of
        true -> State#state{current = none, links = maps:update_with(Socket, fun gen_driver_link:finish/1, Links),
                            queue = gen_driver_queue:impatient(now_ms() + Wait, Queue)};
        false -> State
    end;
leave(State) ->
    State.

lost(Socket, Reason, Outcome, State = #state{links = Links, current = Current}) ->
    {Link, Others} = maps:take(Socket, Links),
    ok = gen_driver_link:give_up(Outcome, abrupt, Link),
    case Socket of
        Current ->
            Alone = unavailable(trouble({lost, Reason}, State#state{links = Others, current = none})),
            dial_again(gen_driver_link:has_answered(Link), Alone);
        _ ->
            log_old(Reason),
            released(State#state{links = Others})
    end.

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

unavailable(State = #state{queue = Queue}) ->
    {Waiting, Left} = gen_driver_queue:empty(Queue),
    settle(lists:foldl(fun(Request, Acc) -> answer_failed(Request, unavailable, Acc) end,
                       State#state{queue = Left}, Waiting)).

down(Monitor, Link) ->
    case gen_driver_link:down(Monitor, Link) of
        {ok, Left} -> Left;
        not_mine -> Link
    end.

%%% Connecting

dial(State = #state{options = Options}) ->
    State#state{dialer = gen_driver_dialer:start_link(Options)}.

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
    redial(unavailable(trouble({refused, Reason}, State#state{refused = Reason})));
dialed({refused, Reason}, State) ->
    redial(trouble({refused, Reason}, State));
dialed({error, Reason}, State) ->
    redial(trouble(Reason, State#state{refused = no})).

linked(Socket, Link, Welcome, State = #state{links = Links, current = Current, connects = Connects}) ->
    ?LOG_INFO("connected to generation ~b of ~ts", [maps:get(generation, Welcome), maps:get(instance, Welcome)]),
    Old = case Current of
        none -> Links;
        _ -> maps:update_with(Current, fun gen_driver_link:finish/1, Links)
    end,
    tell_waiters(ok, State#state{links = Old#{Socket => Link}, current = Socket, refused = no, trouble = none, leave = none,
                                 connects = Connects + 1}).

trouble(Trouble, State = #state{trouble = Trouble}) ->
    tell_waiters({error, Trouble}, State);
trouble(Trouble, State = #state{options = #{instance := Instance, connect := Connect}}) ->
    ?LOG_WARNING("no link to ~ts at ~tp: ~tP", [Instance, Connect, Trouble, 10]),
    tell_waiters({error, Trouble}, State#state{trouble = Trouble}).

tell_waiters(Outcome, State = #state{waiters = Waiters}) ->
    lists:foreach(fun(From) -> gen_server:reply(From, Outcome) end, Waiters),
    State#state{waiters = []}.

redial(State = #state{dialer = none, backoff = Backoff}) ->
    {Delay, Next} = gen_driver_backoff:next(rand:uniform(), Backoff),
    State#state{dialer = {pause, erlang:start_timer(Delay, self(), dial)}, backoff = Next};
redial(State) ->
    State.

%%% The sweep: it runs only while somebody waits

swept(State = #state{sweep = none}) ->
    State#state{sweep = erlang:start_timer(?SWEEP, self(), sweep)};
swept(State) ->
    State.

sweep(State = #state{queue = Queue, links = Links, tick = Tick, current = Current}) ->
    Now = now_ms(),
    {Gone, Left} = gen_driver_queue:remove(fun(Request) -> is_over(Request, Now, Current) end, Queue),
    Late = case Current of none -> unavailable; _ -> expired end,
    Answered = lists:foldl(fun(Request, Acc) -> answer_failed(Request, Late, Acc) end,
                           State#state{queue = Left, tick = Tick + 1}, Gone),
    again(settle(Answered#state{links = maps:map(fun(_, Link) -> gen_driver_link:watch(Tick - ?OLD, Link) end, Links)})).

is_over(#request{deadline = Deadline}, Now, _Current) when Deadline =< Now -> true;
is_over(#request{patience = Patience}, Now, none) when Patience =< Now -> true;
is_over(#request{from = {Pid, _}}, _Now, _Current) when node(Pid) =:= node() -> not is_process_alive(Pid);
is_over(#request{}, _Now, _Current) -> false.

again(State = #state{queue = Queue, links = Links}) ->
    Idle = gen_driver_queue:size(Queue) =:= 0
        andalso lists:all(fun(Link) -> gen_driver_link:in_flight(Link) =:= 0 end, maps:values(Links)),
    case Idle of
        true ->
            true = erlang:garbage_collect(),    % a large reply may still be held
            State;
        false ->
            swept(State)
    end.

now_ms() ->
    erlang:monotonic_time(millisecond).

%%% The end, and looking in

-spec terminate(term(), #state{}) -> ok.
terminate(Reason, State) ->
    ok = gen_driver_places:close(self()),
    ok = hang_up(State),
    Manner = manner(Reason),
    Last = unavailable(case Manner of
        polite -> last_words(now_ms() + ?LAST_WORDS, without_calls(State));
        abrupt -> State
    end),
    maps:foreach(fun(_, Link) -> gen_driver_link:give_up(disconnected, Manner, Link) end, Last#state.links),
    _ = tell_waiters({error, stopped}, Last),
    ok.

hang_up(#state{dialer = Dialer}) when is_pid(Dialer) ->
    true = exit(Dialer, kill),
    ok;
hang_up(_State) ->
    ok.

manner(normal) -> polite;
manner(shutdown) -> polite;
manner({shutdown, _}) -> polite;
manner(_) -> abrupt.

%% Casts that were accepted go out, as far as the socket takes them in this time.
last_words(Until, State = #state{current = Socket, links = Links}) ->
    case can_send(State) of
        true ->
            last_words(Until, flush(State));
        false when Socket =:= none ->
            State;
        false ->
            case gen_driver_queue:size(State#state.queue) > 0 orelse gen_driver_link:is_busy(maps:get(Socket, Links)) of
                true -> written(Until, State);
                false -> State
            end
    end.

written(Until, State = #state{current = Socket, links = Links}) ->
    receive
        {gen_driver_writer, Socket, ok} ->
            last_words(Until, State#state{links = maps:update_with(Socket, fun gen_driver_link:sent/1, Links)});
        {gen_driver_writer, Socket, {error, _}} ->
            State;
        {tcp_closed, Socket} ->
            State
    after max(0, Until - now_ms()) ->
        State
    end.

without_calls(State = #state{queue = Queue}) ->
    {Calls, Casts} = gen_driver_queue:remove(fun(#request{from = From}) -> From =/= cast end, Queue),
    settle(lists:foldl(fun(Call, Acc) -> answer_failed(Call, unavailable, Acc) end, State#state{queue = Casts}, Calls)).

-spec code_change(term(), #state{}, term()) -> {ok, #state{}}.
code_change(_Old, State, _Extra) ->
    {ok, State}.

-spec format_status(gen_server:format_status()) -> gen_server:format_status().
format_status(Status) ->
    maps:map(fun(state, State = #state{}) -> info(State);
                (message, _) -> hidden;
                (log, _) -> [];
                (_, Value) -> Value
             end, Status).

info(State = #state{options = Options, queue = Queue, links = Links, current = Current}) ->
    maps:merge(
      #{instance => maps:get(instance, Options),
        connect => maps:get(connect, Options),
        status => status(State),
        trouble => State#state.trouble,
        in_flight => lists:sum([gen_driver_link:in_flight(Link) || Link <- maps:values(Links)]),
        queued => gen_driver_queue:size(Queue),
        queued_bytes => gen_driver_queue:bytes(Queue),
        links => map_size(Links),
        connects => State#state.connects,
        casts_dropped => State#state.dropped},
      case Links of
          #{Current := Link} -> #{welcome => gen_driver_link:welcome(Link)};
          #{} -> #{}
      end).

status(#state{current = none, refused = no}) -> connecting;
status(#state{current = none, refused = Refusal}) -> {refused, Refusal};
status(#state{}) -> up.
