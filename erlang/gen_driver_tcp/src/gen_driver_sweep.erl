%% SPDX-License-Identifier: MIT
%% @doc What time brings to a client: requests whose time has passed, callers that have died, places that nobody
%% holds any more.
%%
%% A timer runs only while somebody waits. A part of `gen_driver_client', on its state; its process alone.
-module(gen_driver_sweep).

-include("gen_driver_request.hrl").
-include("gen_driver_client.hrl").

-export([on/1, sweep/1, tidy/1, tidied/1]).

%% A sweep (ms) looks for time that has passed, and monitors the callers of calls
%% that have gone through so many of them: most are answered sooner.
-define(SWEEP, 25).
-define(OLD, 4).
%% A caller that has taken a place sends within so many ms, or has died.
-define(TIDY, 1000).

%% @doc Somebody waits.
-spec on(#state{}) -> #state{}.
on(State = #state{sweep = none}) ->
    State#state{sweep = erlang:start_timer(?SWEEP, self(), sweep)};
on(State) ->
    State.

%% @doc Time has passed.
-spec sweep(#state{}) -> #state{}.
sweep(State = #state{queue = Queue, links = Links, tick = Tick, current = Current}) ->
    Now = erlang:monotonic_time(millisecond),
    {Gone, Left} = gen_driver_queue:remove(fun(Request) -> is_over(Request, Now, Current) end, Queue),
    Late = case Current of none -> unavailable; _ -> expired end,
    Answered = gen_driver_flow:fail(Gone, Late, State#state{queue = Left, tick = Tick + 1}),
    again(Answered#state{links = maps:map(fun(_, Link) -> gen_driver_link:watch(Tick - ?OLD, Link) end, Links)}).

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
            on(State)
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
tidied(State = #state{tidying = {Before, _}, places = Places}) ->
    Idle = nothing_waits(State),
    case gen_driver_places:taken(Places) of
        {Requests, Bytes} = Before when Idle ->
            ok = gen_driver_places:give(Places, Requests, Bytes),
            State#state{tidying = none};
        _ ->
            tidy(State#state{tidying = none})
    end.

nothing_waits(State = #state{queue = Queue}) ->
    gen_driver_queue:size(Queue) =:= 0
        andalso not gen_driver_flow:can_send(State)
        andalso process_info(self(), message_queue_len) =:= {message_queue_len, 0}.
