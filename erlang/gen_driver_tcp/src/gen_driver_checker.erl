%% SPDX-License-Identifier: MIT
%% @doc Checks the members of a pool by ping, all at once, and says in their counters how they are to be chosen.
%%
%% One process for a pool, in nobody's way. Who has no link is not pinged but waited
%% for, so that its return is seen when it happens. It is also the one to take the pool's
%% entry away when the pool ends.
-module(gen_driver_checker).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").
-include("gen_driver_member.hrl").

-export([start_link/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% Longer than any pool lives.
-define(LONG, (1 bsl 40)).

-record(state, {
    pool :: pid(),
    options :: gen_driver_members:settings(),
    health = gen_driver_health:new() :: gen_driver_health:health(),   % by pid
    asked = gen_server:reqids_new() :: gen_server:request_id_collection(),   % labels: {ping | await, Pid}
    began = 0 :: integer()
}).

%% @doc For the pool whose supervisor this is.
-spec start_link(Pool :: pid()) -> gen_server:start_ret().
start_link(Pool) ->
    gen_server:start_link(?MODULE, Pool, []).

-spec init(pid()) -> {ok, #state{}, {continue, check}}.
init(Pool) ->
    process_flag(trap_exit, true),
    Settings = #{instance := Instance} = gen_driver_members:settings(Pool),
    logger:update_process_metadata(#{instance => Instance}),
    {ok, #state{pool = Pool, options = Settings}, {continue, check}}.

-spec handle_continue(check, #state{}) -> {noreply, #state{}}.
handle_continue(check, State) ->
    {noreply, check(State)}.

%% @private Somebody came or went.
-spec handle_cast(changed, #state{}) -> {noreply, #state{}}.
handle_cast(changed, State) ->
    {noreply, graded(news(State))}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, {error, unknown_call}, #state{}}.
handle_call(_Unknown, _From, State) ->
    {reply, {error, unknown_call}, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(check, State) ->
    {noreply, check(State)};
handle_info(over, State) ->
    {noreply, over(State)};
handle_info(Message, State = #state{asked = Asked}) ->
    case gen_server:check_response(Message, Asked, true) of
        {Answer, {What, Pid}, Left} ->
            {noreply, graded(answered(What, Answer, Pid, State#state{asked = Left}))};
        _ ->
            ?LOG_WARNING("unknown message ignored: ~tP", [Message, 6]),
            {noreply, State}
    end.

-spec terminate(term(), #state{}) -> ok.
terminate(shutdown, #state{pool = Pool}) -> gen_driver_members:close(Pool);
terminate(_Reason, _State) -> ok.

%%% Rounds

check(State = #state{options = #{health := infinity}}) ->
    graded(news(State));
check(State = #state{options = #{health_timeout := Timeout}}) ->
    _ = erlang:send_after(Timeout, self(), over),
    Known = news(State#state{began = now_ms()}),
    graded(asked(ping, idle(pids(Known), Known), Known)).

%% Whoever did not answer has failed, and the next round comes when it is time.
over(State = #state{asked = Asked, began = Began, options = #{health := Every, max_fails := Max}}) ->
    _ = erlang:send_after(max(0, Began + Every - now_ms()), self(), check),
    {Late, Left} = lists:partition(fun({_Id, {What, _Pid}}) -> What =:= ping end, gen_server:reqids_to_list(Asked)),
    graded(lists:foldl(fun(Request, Acc) -> late(Request, Max, Acc) end,
                       State#state{asked = lists:foldl(fun add/2, gen_server:reqids_new(), Left)}, Late)).

add({Id, Label}, Collection) ->
    gen_server:reqids_add(Id, Label, Collection).

late({Id, {ping, Pid}}, Max, State = #state{health = Health}) ->
    case gen_server:receive_response(Id, 0) of
        timeout -> State#state{health = gen_driver_health:failed(Pid, Max, Health)};
        Answer -> answered(ping, Answer, Pid, State)
    end.

%% Members of whom nothing was known are waited for: they may have no link yet.
news(State = #state{health = Health}) ->
    Pids = pids(State),
    Only = gen_driver_health:only(Pids, Health),
    asked(await, [Pid || Pid <- idle(Pids, State), not gen_driver_health:is_known(Pid, Health)], State#state{health = Only}).

pids(#state{pool = Pool}) ->
    case gen_driver_members:set(Pool) of
        #{tiers := Tiers} -> [Pid || #member{pid = Pid} <- gen_driver_choice:members(Tiers)];
        none -> []
    end.

idle(Pids, #state{asked = Asked}) ->
    Busy = [Pid || {_, {_, Pid}} <- gen_server:reqids_to_list(Asked)],
    [Pid || Pid <- Pids, not lists:member(Pid, Busy)].

asked(What, Pids, State) ->
    lists:foldl(fun(Pid, Acc = #state{asked = Asked}) ->
        Acc#state{asked = gen_server:send_request(Pid, What, {What, Pid}, Asked)}
    end, State, Pids).

%%% Answers

answered(ping, {reply, pong}, Pid, State) ->
    there(Pid, State);
answered(await, {reply, ok}, Pid, State) ->
    there(Pid, State);
answered(ping, {reply, {error, unavailable}}, Pid, State) ->
    asked(await, [Pid], gone(Pid, State));
answered(ping, {reply, {error, _}}, Pid, State = #state{health = Health, options = #{max_fails := Max}}) ->
    State#state{health = gen_driver_health:failed(Pid, Max, Health)};
%% The attempt has failed; the next has its time.
answered(await, {reply, {error, _}}, Pid, State) ->
    asked(await, [Pid], gone(Pid, State));
answered(_What, {error, _}, Pid, State) ->
    gone(Pid, State).

there(Pid, State = #state{health = Health}) ->
    {What, Healthy} = gen_driver_health:pong(Pid, Health),
    ok = returned(What, Pid, State),
    State#state{health = Healthy}.

returned(same, _Pid, _State) ->
    ok;
returned(returned, Pid, #state{options = #{slow_start := 0}}) ->
    gen_driver_places:grade(Pid, full);
returned(returned, Pid, #state{options = #{slow_start := Ms}}) ->
    Now = now_ms(),
    gen_driver_places:grade(Pid, {slow, Now, Now + Ms}).

%% When it is back it begins small, before we have heard of it.
gone(Pid, State = #state{health = Health, options = #{slow_start := SlowStart}}) ->
    Now = now_ms(),
    ok = gen_driver_places:grade(Pid, case SlowStart of 0 -> full; _ -> {slow, Now, Now + ?LONG} end),
    State#state{health = gen_driver_health:down(Pid, Health)}.

graded(State = #state{pool = Pool, health = Health, options = #{min_healthy := MinHealthy}}) ->
    Panic = gen_driver_health:is_panic(MinHealthy, Health),
    ok = gen_driver_members:panic(Pool, Panic),
    Grade = case Panic of true -> full; false -> out end,
    lists:foreach(fun(Pid) -> ok = gen_driver_places:grade(Pid, Grade) end, gen_driver_health:out(Health)),
    State.

now_ms() ->
    erlang:monotonic_time(millisecond).
