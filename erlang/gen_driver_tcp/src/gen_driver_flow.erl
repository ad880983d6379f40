%% SPDX-License-Identifier: MIT
%% @doc Requests through a client: taken in, waiting, sent together, given up.
%%
%% It drains: requests that are in the mailbox are taken first and sent together.
%% Every callback returns through `next/1' or `asked/1', which ask for a timeout of 0, that is
%% for a word when the mailbox is empty, while something can be sent, and send
%% without waiting for it when enough has come together.
%%
%% A request is encoded when it comes, onto the link that will carry it, where it can
%% go out with the next batch; only one that cannot waits in the queue.
%%
%% A part of `gen_driver_client', on its state; its process alone.
-module(gen_driver_flow).

-include_lib("kernel/include/logger.hrl").
-include("gen_driver_request.hrl").
-include("gen_driver_client.hrl").

-export([plain/4, taken/2, credit/3]).
-export([asked/1, next/1, idle/1, flush/1, can_send/1, load/1]).
-export([unsent/2, unavailable/1, without_calls/1, fail/3, drops/1]).

%% Sent without waiting for an empty mailbox after so many messages that added nothing to it.
-define(MESSAGES, 64).
%% Dropped casts are logged at once, and then together, after so many ms.
-define(DROPS, 10000).

%%% In

%% @doc `gen_server:call' and `cast', in the original's form: nobody has taken a place.
-spec plain(cast | gen_server:from(), Name :: term(), none | {params, term()}, #state{}) -> #state{}.
plain(From, Name, Params, State) ->
    case gen_driver_options:command(Name) of
        {ok, Command} -> taken(plain_request(From, Command, Params, plain_deadline(From, State)), State);
        bad_request -> refuse(#request{from = From}, {error, {failed, bad_request}}, State)
    end.

plain_request(From, Command, none, Deadline) ->
    #request{from = From, command = Command, deadline = Deadline};
plain_request(From, Command, {params, Params}, Deadline) ->
    {Encoded, Size, Shape} = gen_driver_params:encode(Params),
    #request{from = From, command = Command, params = Encoded, size = Size, shape = Shape, deadline = Deadline}.

plain_deadline(cast, _State) -> infinity;
plain_deadline(_From, #state{options = #{plain_timeout := infinity}}) -> infinity;
plain_deadline(_From, #state{options = #{plain_timeout := Timeout}}) -> {in, Timeout}.

%% @doc A request; one that holds no place, plain or from another node, is bounded by the queue itself.
-spec taken(gen_driver_queue:request(), #state{}) -> #state{}.
taken(Request, State = #state{current = none}) ->
    waits(Request, State);
taken(Request, State = #state{current = Socket, links = Links, queue = Queue}) ->
    #{Socket := Link} = Links,
    %% In order, and not beside a link that may still be running what came before.
    case gen_driver_queue:size(Queue) =:= 0 andalso map_size(Links) =:= 1 andalso gen_driver_link:takes(Request, Link) of
        true -> add(Request, Socket, Link, State);
        false -> waits(Request, State)
    end.

%% To look at the clock costs as much as some requests do: once for those that go out together.
add(Request = #request{deadline = Deadline}, Socket, Link, State = #state{now = none}) when is_integer(Deadline) ->
    add(Request, Socket, Link, State#state{now = now_ms()});
add(Request, Socket, Link, State = #state{now = Now}) ->
    add(Request, left(Request, Now), Socket, Link, State).

left(#request{deadline = infinity}, _Now) -> infinity;
left(#request{deadline = {in, Ms}}, _Now) -> Ms;
left(#request{deadline = Deadline}, Now) -> Deadline - Now.

add(Request, Left, _Socket, _Link, State) when is_integer(Left), Left =< 0 ->
    refuse(Request, {error, {failed, expired}}, State);
add(Request, Left, Socket, Link, State = #state{links = Links, tick = Tick}) ->
    case gen_driver_link:add(Request, Left, Tick, Link) of
        {ok, Added} -> State#state{links = Links#{Socket := Added}};
        {refused, Why} -> refuse(Request, Why, State)
    end.

waits(Request = #request{placed = false}, State = #state{queue = Queue, options = #{max_queued := Bounds}}) ->
    case gen_driver_queue:is_full(Bounds, Queue) of
        false -> accept(Request, State);
        true -> refuse(Request, {error, {failed, overloaded}}, State)
    end;
waits(Request, State) ->
    accept(Request, State).

accept(Request = #request{deadline = {in, Ms}}, State) ->
    accept(Request#request{deadline = now_ms() + Ms}, State);
accept(Request, State = #state{current = Socket, queue = Queue}) when Socket =/= none ->
    counted(State#state{queue = gen_driver_queue:in(Request, Queue)});
accept(Request = #request{from = cast}, State) ->
    refuse(Request, {error, {failed, unavailable}}, State);
accept(Request, State = #state{refused = no, queue = Queue, options = #{connect_wait := Wait}}) ->
    Patient = Request#request{patience = now_ms() + Wait},
    State#state{queue = gen_driver_queue:in(Patient, Queue)};
accept(Request, State) ->
    refuse(Request, {error, {failed, unavailable}}, State).

%% Its place is free again.
refuse(Request = #request{placed = true, size = Size}, Why, State) ->
    ok = give({1, Size}, State),
    say(Request, Why, counted(State));
refuse(Request, Why, State) ->
    say(Request, Why, counted(State)).

%% What the client has to say; a cast is counted.
say(#request{from = cast}, Why, State) ->
    dropped(1, reason(Why), State);
say(#request{from = {ack, From}}, Why, State) ->
    gen_driver_answer:said(From, plain, Why),
    dropped(1, reason(Why), State);
say(#request{from = From, style = Style}, Why, State) ->
    gen_driver_answer:said(From, Style, Why),
    State.

reason({error, {failed, Reason}}) -> Reason;
reason({error, {unknown_command, _}}) -> bad_request.

%% @doc All of them, which were taken out of the queue, hear so.
-spec fail([gen_driver_queue:request()], gen_driver_proto:failed_reason(), #state{}) -> #state{}.
fail(Requests, Reason, State) ->
    lists:foldl(fun(Request, Acc) -> refuse(Request, {error, {failed, Reason}}, Acc) end, State, Requests).

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

%% @doc Requests end here: those that go out with the next batch bound it themselves.
-spec asked(#state{}) -> {noreply, #state{}} | {noreply, #state{}, 0}.
asked(State = #state{messages = Messages}) when Messages >= ?MESSAGES - 1 ->
    next(State);
asked(State) ->
    case batched(State) of
        some -> {noreply, State, 0};
        _ -> next(State)
    end.

batched(#state{current = Socket, links = Links}) ->
    case Links of
        #{Socket := Link} -> gen_driver_link:waits(Link);
        #{} -> none
    end.

%% @doc Every other callback ends here.
-spec next(#state{}) -> {noreply, #state{}} | {noreply, #state{}, 0}.
next(State = #state{messages = Messages}) ->
    case can_send(State) of
        false -> {noreply, State#state{messages = 0, now = none}};
        true ->
            case Messages >= ?MESSAGES - 1 orelse batched(State) =:= enough of
                true -> next_after(flush(State));
                false -> {noreply, counted(State), 0}
            end
    end.

%% A message that added nothing to what goes out next.
counted(State = #state{messages = Messages}) ->
    State#state{messages = Messages + 1}.

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
can_send(#state{current = Socket, links = Links, queue = Queue}) ->
    has_next(Links, Socket, Queue)
        orelse lists:any(fun(Link) -> gen_driver_link:waits(Link) =/= none end, maps:values(Links)).

has_next(Links, Socket, Queue) ->
    case gen_driver_queue:peek(Queue) of
        empty -> false;
        _ when Socket =:= none -> false;
        Request -> gen_driver_link:takes(Request, maps:get(Socket, Links))
    end.

%% @doc Send what can be sent now.
-spec flush(#state{}) -> #state{}.
flush(State) ->
    load(others(send(from_queue(cancel(State#state{messages = 0, now = none}))))).

%% From the queue onto the link, as far as it takes them.
from_queue(State = #state{current = none}) ->
    State;
from_queue(State = #state{queue = Queue}) ->
    from_queue(gen_driver_queue:peek(Queue), State).

from_queue(empty, State) ->
    State;
%% A link that is being drained may still be running its predecessors.
from_queue(Request = #request{options = #{key := _}}, State = #state{queue = Queue, links = Links}) when map_size(Links) > 1 ->
    Held = gen_driver_queue:hold(Request, Queue),
    from_queue(gen_driver_queue:peek(Held), State#state{queue = Held});
from_queue(Request, State = #state{current = Socket, links = Links, queue = Queue}) ->
    #{Socket := Link} = Links,
    case gen_driver_link:takes(Request, Link) andalso gen_driver_link:waits(Link) =/= enough of
        true ->
            Left = gen_driver_queue:out(Queue),
            from_queue(gen_driver_queue:peek(Left), add(Request, Socket, Link, State#state{queue = Left}));
        false ->
            State
    end.

send(State = #state{current = Socket, links = Links}) ->
    case Links of
        #{Socket := Link} -> State#state{links = Links#{Socket := sent(Link, State)}};
        #{} -> State
    end.

sent(Link, State) ->
    case gen_driver_link:waits(Link) of
        none ->
            Link;
        _ ->
            Batch = gen_driver_link:batch(Link),
            Sent = gen_driver_link:send(Link),
            ok = acknowledge(gen_driver_batch:acks(Batch), Sent),
            ok = give(gen_driver_batch:places(Batch), State),
            Sent
    end.

acknowledge([], _Link) ->
    ok;
acknowledge(Acks, Link) ->
    Word = case gen_driver_link:is_broken(Link) of
        false -> ok;
        true -> {error, {failed, disconnected}}
    end,
    lists:foreach(fun(From) -> gen_server:reply(From, Word) end, Acks).

%% @doc A link has ended, with this in hand: its callers know, the rest are casts.
-spec unsent(gen_driver_batch:batch(), #state{}) -> #state{}.
unsent(Batch, State) ->
    lists:foreach(fun(From) -> gen_driver_answer:failed(From, plain, unavailable) end, gen_driver_batch:acks(Batch)),
    ok = give(gen_driver_batch:places(Batch), State),
    dropped(gen_driver_batch:casts(Batch), unavailable, State).

%% Links that are left: what their streams take, and what is cancelled.
others(State = #state{current = Socket, links = Links}) when map_size(Links) > 1; Socket =:= none ->
    State#state{links = maps:map(fun(_, Link) -> told(Link) end, Links)};
others(State) ->
    State.

told(Link) ->
    case gen_driver_link:waits(Link) of
        none -> Link;
        _ -> gen_driver_link:send(Link)
    end.

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
    Told = fail(Gone, cancelled, State),
    Told#state{cancels = #{}, queue = Left, links = maps:map(fun(_, Link) -> gen_driver_link:cancel(Refs, Link) end, Links)}.

%% @doc All that waits hears that there is no link.
-spec unavailable(#state{}) -> #state{}.
unavailable(State = #state{queue = Queue}) ->
    {Waiting, Left} = gen_driver_queue:empty(Queue),
    fail(Waiting, unavailable, State#state{queue = Left}).

%% @doc The same, but casts stay; and what has not left yet counts as waiting.
-spec without_calls(#state{}) -> #state{}.
without_calls(State = #state{queue = Queue, links = Links}) ->
    {Calls, Casts} = gen_driver_queue:remove(fun(Request) -> not gen_driver_queue:is_cast(Request) end, Queue),
    fail(Calls, unavailable,
         State#state{queue = Casts, links = maps:map(fun(_, Link) -> gen_driver_link:unsend(Link) end, Links)}).

now_ms() ->
    erlang:monotonic_time(millisecond).
