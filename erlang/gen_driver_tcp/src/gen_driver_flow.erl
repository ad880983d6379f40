%% SPDX-License-Identifier: MIT
%% @doc Requests through a client: taken in, waiting, sent together, given up.
%%
%% It drains: requests that are in the mailbox are taken first and sent together.
%% Every callback returns through `next/1', which asks for a timeout of 0, that is
%% for a word when the mailbox is empty, while something can be sent, and sends
%% without waiting for it when enough has come together.
%%
%% A part of `gen_driver_client', on its state; its process alone.
-module(gen_driver_flow).

-include_lib("kernel/include/logger.hrl").
-include("gen_driver_request.hrl").
-include("gen_driver_client.hrl").

-export([plain/3, taken/2, credit/3]).
-export([next/1, idle/1, flush/1, can_send/1, settle/1, load/1]).
-export([answer_failed/3, unavailable/1, without_calls/1, sweep/1, drops/1, tidy/1, tidied/1]).

%% Sent without waiting for an empty mailbox when so much has come together.
-define(REQUESTS, 256).
-define(BYTES, 65536).
-define(MESSAGES, 64).
%% A sweep (ms) looks for time that has passed, and monitors the callers of calls
%% that have gone through so many of them: most are answered sooner.
-define(SWEEP, 25).
-define(OLD, 4).
%% Dropped casts are logged at once, and then together, after so many ms.
-define(DROPS, 10000).
%% A caller that has taken a place sends within so many ms, or has died.
-define(TIDY, 1000).

%%% In

%% @doc `gen_server:call' and `cast', in the original's form: nobody has taken a place.
-spec plain(gen_driver_queue:request(), Name :: term(), #state{}) -> #state{}.
plain(Request = #request{from = From}, Name, State) ->
    case gen_driver_options:command(Name) of
        {ok, Command} ->
            taken(Request#request{command = Command, deadline = plain_deadline(From, State)}, State);
        bad_request ->
            refuse(Request, bad_request, State)
    end.

plain_deadline(cast, _State) -> infinity;
plain_deadline(_From, #state{options = #{plain_timeout := infinity}}) -> infinity;
plain_deadline(_From, #state{options = #{plain_timeout := Timeout}}) -> now_ms() + Timeout.

%% @doc A request; one that holds no place, plain or from another node, is bounded by the queue itself.
-spec taken(gen_driver_queue:request(), #state{}) -> #state{}.
taken(Request = #request{placed = false}, State = #state{queue = Queue, options = #{max_queued := Bounds}}) ->
    case gen_driver_queue:is_full(Bounds, Queue) of
        false -> accept(Request, State);
        true -> refuse(Request, overloaded, State)
    end;
taken(Request, State) ->
    accept(Request, State).

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

%% @doc The service's word, by the client; a cast is counted.
-spec answer_failed(gen_driver_queue:request(), gen_driver_proto:failed_reason(), #state{}) -> #state{}.
answer_failed(#request{from = cast}, Reason, State) ->
    dropped(1, Reason, State);
answer_failed(#request{from = {ack, From}}, Reason, State) ->
    gen_driver_answer:failed(From, plain, Reason),
    dropped(1, Reason, State);
answer_failed(#request{from = From, style = Style}, Reason, State) ->
    gen_driver_answer:failed(From, Style, Reason),
    State.

dropped(0, _Reason, State) ->
    State;
dropped(N, Reason, State = #state{dropped = Dropped, drops = none, options = #{instance := Instance}}) ->
    ?LOG_WARNING("cast to ~ts dropped: ~ts; more are counted, and logged together", [Instance, Reason]),
    gen_driver_telemetry:cast_dropped(Instance, N, Reason),
    State#state{dropped = Dropped + N, drops = {Dropped + N, erlang:start_timer(?DROPS, self(), drops)}};
dropped(N, Reason, State = #state{dropped = Dropped, options = #{instance := Instance}}) ->
    gen_driver_telemetry:cast_dropped(Instance, N, Reason),
    State#state{dropped = Dropped + N}.

%% @doc Time to say how many more were dropped.
-spec drops(#state{}) -> #state{}.
drops(State = #state{dropped = Dropped, drops = {Dropped, _}}) ->
    State#state{drops = none};
drops(State = #state{dropped = Dropped, drops = {Told, _}, options = #{instance := Instance}}) ->
    ?LOG_WARNING("~b more casts to ~ts dropped", [Dropped - Told, Instance]),
    State#state{drops = {Dropped, erlang:start_timer(?DROPS, self(), drops)}}.

%% @doc The caller of a stream takes more parts. Of one that is not in flight any more it means nothing.
-spec credit(reference(), pos_integer(), #state{}) -> #state{}.
credit(Ref, Parts, State = #state{links = Links}) ->
    State#state{links = maps:map(fun(_, Link) ->
        case gen_driver_link:credit(Ref, Parts, Link) of
            {ok, Told} -> Told;
            not_mine -> Link
        end
    end, Links)}.

%%% Draining

%% @doc Every callback ends here.
-spec next(#state{}) -> {noreply, #state{}} | {noreply, #state{}, 0}.
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

%% @doc The mailbox is empty.
-spec idle(#state{}) -> {noreply, #state{}} | {noreply, #state{}, 0}.
idle(State) ->
    next_after(flush(State)).

next_after(State) ->
    case can_send(State) of
        true -> {noreply, State, 0};
        false -> {noreply, State}
    end.

%% @doc Whether a flush would do anything.
-spec can_send(#state{}) -> boolean().
can_send(#state{cancels = Cancels}) when map_size(Cancels) > 0 ->
    true;
can_send(#state{current = none, links = Links}) when map_size(Links) =:= 0 ->
    false;
can_send(State = #state{current = Socket, links = Links, queue = Queue}) ->
    case Links of
        #{Socket := Link} ->
            case gen_driver_link:room(Link) of
                blocked -> false;
                0 -> gen_driver_queue:begins_with_cast(Queue);
                _ -> gen_driver_queue:ready(Queue) > 0
            end;
        #{} ->
            false
    end orelse has_control(State).

has_control(#state{links = Links}) ->
    lists:any(fun gen_driver_link:has_control/1, maps:values(Links)).

enough(#state{messages = Messages, queue = Queue}) ->
    Messages >= ?MESSAGES - 1
        orelse gen_driver_queue:ready(Queue) >= ?REQUESTS
        orelse gen_driver_queue:bytes(Queue) >= ?BYTES.

%% @doc Send what can be sent now.
-spec flush(#state{}) -> #state{}.
flush(State) ->
    load(others(send(cancel(State#state{messages = 0})))).

send(State = #state{current = none}) ->
    State;
send(State = #state{current = Socket, links = Links, queue = Queue, tick = Tick}) ->
    #{Socket := Link} = Links,
    case gen_driver_link:room(Link) of
        blocked ->
            State;
        _ ->
            Batch = gen_driver_batch:take(Tick, map_size(Links) > 1, Queue, Link),
            Sent = sent(Batch),
            ok = acknowledge(Batch, Sent),
            #{dropped := Dropped, queue := Left} = Batch,
            settle(dropped(Dropped, bad_request, State#state{queue = Left, links = Links#{Socket := Sent}}))
    end.

sent(#{frames := Frames, link := Link}) ->
    case Frames =/= [] orelse gen_driver_link:has_control(Link) of
        true -> gen_driver_link:send(Frames, Link);
        false -> Link
    end.

acknowledge(#{acks := []}, _Link) ->
    ok;
acknowledge(#{acks := Acks}, Link) ->
    Word = case gen_driver_link:is_broken(Link) of
        false -> ok;
        true -> {error, {failed, disconnected}}
    end,
    lists:foreach(fun(From) -> gen_server:reply(From, Word) end, Acks).

%% Links that are left: what their streams take, and what is cancelled.
others(State = #state{current = Socket, links = Links}) when map_size(Links) > 1; Socket =:= none ->
    State#state{links = maps:map(fun(_, Link) -> told(Link) end, Links)};
others(State) ->
    State.

told(Link) ->
    case gen_driver_link:has_control(Link) of
        true -> gen_driver_link:send([], Link);
        false -> Link
    end.

%% @doc Give places back that became free.
-spec settle(#state{}) -> #state{}.
settle(State = #state{queue = Queue}) ->
    {Places, Settled} = gen_driver_queue:settle(Queue),
    ok = give(Places, State),
    State#state{queue = Settled}.

give({0, 0}, _State) -> ok;
give({Requests, Bytes}, #state{places = Places}) -> gen_driver_places:give(Places, Requests, Bytes).

%% @doc Tell those who choose between clients how much is in flight here.
-spec load(#state{}) -> #state{}.
load(State = #state{places = Places, links = Links, current = Socket}) ->
    InFlight = maps:fold(fun(_, Link, Sum) -> Sum + gen_driver_link:in_flight(Link) end, 0, Links),
    ok = gen_driver_places:load(Places, Socket =/= none, InFlight),
    State.

%%% Given up

%% Together: finding one takes a walk over all, and when a host hangs all come at once.
cancel(State = #state{cancels = Refs}) when map_size(Refs) =:= 0 ->
    State;
cancel(State = #state{cancels = Refs, queue = Queue, links = Links}) ->
    {Gone, Left} = gen_driver_queue:remove(fun(#request{ref = Ref}) -> is_map_key(Ref, Refs) end, Queue),
    Told = lists:foldl(fun(Request, Acc) -> answer_failed(Request, cancelled, Acc) end, State, Gone),
    settle(Told#state{cancels = #{}, queue = Left,
                      links = maps:map(fun(_, Link) -> gen_driver_link:cancel(Refs, Link) end, Links)}).

%% @doc All that waits hears that there is no link.
-spec unavailable(#state{}) -> #state{}.
unavailable(State = #state{queue = Queue}) ->
    {Waiting, Left} = gen_driver_queue:empty(Queue),
    settle(lists:foldl(fun(Request, Acc) -> answer_failed(Request, unavailable, Acc) end,
                       State#state{queue = Left}, Waiting)).

%% @doc The same, but casts stay.
-spec without_calls(#state{}) -> #state{}.
without_calls(State = #state{queue = Queue}) ->
    {Calls, Casts} = gen_driver_queue:remove(fun(Request) -> not gen_driver_queue:is_cast(Request) end, Queue),
    settle(lists:foldl(fun(Call, Acc) -> answer_failed(Call, unavailable, Acc) end, State#state{queue = Casts}, Calls)).

%%% The sweep: it runs only while somebody waits

swept(State = #state{sweep = none}) ->
    State#state{sweep = erlang:start_timer(?SWEEP, self(), sweep)};
swept(State) ->
    State.

%% @doc Time has passed.
-spec sweep(#state{}) -> #state{}.
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
            tidy(State);
        false ->
            swept(State)
    end.

%%% Places that nobody holds any more

%% @doc A caller that was killed between taking its place and sending gives none back. Where some are taken
%% while nothing waits, and still the same a while later, they are nobody's.
-spec tidy(#state{}) -> #state{}.
tidy(State = #state{tidying = none, places = Places}) ->
    case gen_driver_places:taken(Places) of
        {0, 0} -> State;
        Taken -> State#state{tidying = {Taken, erlang:start_timer(?TIDY, self(), tidy)}}
    end;
tidy(State) ->
    State.

%% @doc A while later.
-spec tidied(#state{}) -> #state{}.
tidied(State = #state{tidying = {Before, _}, places = Places, queue = Queue}) ->
    Idle = gen_driver_queue:size(Queue) =:= 0 andalso process_info(self(), message_queue_len) =:= {message_queue_len, 0},
    case gen_driver_places:taken(Places) of
        {Requests, Bytes} = Before when Idle ->
            ok = gen_driver_places:give(Places, Requests, Bytes),
            State#state{tidying = none};
        _ ->
            tidy(State#state{tidying = none})
    end.

now_ms() ->
    erlang:monotonic_time(millisecond).
