%% SPDX-License-Identifier: MIT
%% @doc Keeps a pool's members as its endpoints say: starts them, lets them go, and says to everybody who they are.
%%
%% Members are children of the pool's supervisor, which starts them again when they
%% crash; a member whose endpoint has gone gets no more calls, and ends when those that
%% it has are answered, or after `drain' ms.
-module(gen_driver_keeper).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").
-include("gen_driver_member.hrl").

-export([start_link/1, ready/1, trouble/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([id/0]).

-type id() :: {gen_driver_options:address(), Index :: pos_integer()}.
-record(kept, {
    pid :: pid(),
    monitor :: reference(),
    priority :: non_neg_integer(),
    weight :: non_neg_integer()
}).
-record(state, {
    pool :: pid(),
    options :: gen_driver_members:settings(),
    kept = #{} :: #{id() => #kept{}},
    leaving = #{} :: #{id() => {#kept{}, Until :: integer()}},
    lookup = none :: none | gen_driver_endpoints:lookup(),
    trouble = none :: none | term(),            % with the endpoints; logged when it changes
    again = none :: none | reference(),         % members could not be started
    scope = none :: none | reference()          % monitors the cluster's scope
}).

%% How often (ms) to look whether a member that leaves is done, or a crashed one is there again; and for the scope,
%% where it has gone, or whether a member can be started now.
-define(LOOK, 50).
-define(REJOIN, 1000).

%% @doc For the pool whose supervisor this is.
-spec start_link(Pool :: pid()) -> gen_server:start_ret().
start_link(Pool) ->
    gen_server:start_link(?MODULE, Pool, []).

%% @doc Returns when members that are known have been started.
-spec ready(pid() | undefined) -> ok.
ready(undefined) ->
    ok;
ready(Keeper) ->
    try gen_server:call(Keeper, ready, infinity)
    catch
        exit:{_Ended, {gen_server, call, _}} -> ok      % it is started again
    end.

%% @doc Why the endpoints could not be read last time.
-spec trouble(pid() | undefined) -> none | term().
trouble(undefined) ->
    none;
trouble(Keeper) ->
    gen_server:call(Keeper, trouble).

-spec init(pid()) -> {ok, #state{}, {continue, start}}.
init(Pool) ->
    Settings = #{instance := Instance} = gen_driver_members:settings(Pool),
    logger:update_process_metadata(#{instance => Instance}),
    {ok, #state{pool = Pool, options = Settings}, {continue, start}}.

%% Members may be there already, if this process was started again.
-spec handle_continue(start, #state{}) -> {noreply, #state{}}.
handle_continue(start, State = #state{pool = Pool}) ->
    Found = maps:from_list([{Id, kept(Pid, 0, 1)} || {Id, Pid} <- gen_driver_pool_sup:members(Pool), is_pid(Pid)]),
    {noreply, refresh(published(scoped(State#state{kept = Found})))}.

-spec handle_call(ready | trouble, gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(ready, _From, State) ->
    {reply, ok, State};
handle_call(trouble, _From, State = #state{trouble = Trouble}) ->
    {reply, Trouble, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Unknown, State) ->
    ?LOG_WARNING("unknown cast ignored"),
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(refresh, State) ->
    {noreply, refresh(State)};
handle_info({timeout, Timer, again}, State = #state{again = Timer}) ->
    {noreply, refresh(State#state{again = none})};
handle_info({gen_driver_endpoints, Pid, Outcome}, State = #state{lookup = {Pid, _, _}}) ->
    {noreply, looked_up(Outcome, State)};
handle_info({'DOWN', Monitor, process, _, Reason}, State = #state{lookup = {_, Monitor, _}}) ->
    {noreply, looked_up({error, Reason}, State)};
handle_info({'DOWN', Monitor, process, _, _}, State = #state{scope = Monitor}) ->
    {noreply, scoped(State#state{scope = none})};
handle_info({'DOWN', _Monitor, process, Pid, _}, State) ->
    {noreply, restarted(Pid, State)};
handle_info({restarted, Pid}, State) ->
    {noreply, restarted(Pid, State)};
handle_info(left, State) ->
    {noreply, left(State)};
handle_info(scope, State) ->
    {noreply, scoped(State)};
handle_info({timeout, _Old, again}, State) ->
    {noreply, State};
%% A lookup that was given up may yet have answered.
handle_info({gen_driver_endpoints, _, _}, State) ->
    {noreply, State};
handle_info(Unknown, State) ->
    ?LOG_WARNING("unknown message ignored: ~tP", [Unknown, 6]),
    {noreply, State}.

%%% Endpoints

refresh(State = #state{options = Options = #{source := Source, lookup_timeout := Timeout}}) ->
    case gen_driver_endpoints:is_fixed(Source) of
        true ->
            {ok, Endpoints} = gen_driver_endpoints:read(Source),
            {ok, Wanted} = gen_driver_pool_options:endpoints(Endpoints, Options),
            follow(Wanted, State);
        false ->
            State#state{lookup = gen_driver_endpoints:ask(Source, Timeout)}
    end.

looked_up(Outcome, State = #state{lookup = Lookup, options = Options = #{refresh := Refresh}}) ->
    ok = gen_driver_endpoints:drop(Lookup),
    _ = erlang:send_after(Refresh, self(), refresh),
    Done = State#state{lookup = none},
    case Outcome of
        {ok, Endpoints} -> checked(gen_driver_pool_options:endpoints(Endpoints, Options), Done);
        {error, Reason} -> trouble(Reason, Done)
    end.

checked({ok, Wanted}, State) -> follow(Wanted, State#state{trouble = none});
checked({error, Reason}, State) -> trouble(Reason, State).

trouble(Trouble, State = #state{trouble = Trouble}) ->
    State;
trouble(Trouble, State) ->
    ?LOG_WARNING("no new endpoints, those known are kept: ~tP", [Trouble, 10]),
    State#state{trouble = Trouble}.

%% Those that are new, those that stay, those that go.
follow(Endpoints, State = #state{options = #{size := Size}}) ->
    Wanted = [{{Address, Index}, Endpoint} || {_, _, Address} = Endpoint <- Endpoints, Index <- lists:seq(1, Size)],
    Followed = lists:foldl(fun want/2, State, Wanted),
    Gone = maps:keys(Followed#state.kept) -- [Id || {Id, _} <- Wanted],
    published(lists:foldl(fun leave/2, Followed, Gone)).

want({Id, {Priority, Weight, _Address}}, State = #state{kept = Kept, leaving = Leaving}) ->
    case {Kept, Leaving} of
        {#{Id := Member}, _} ->
            State#state{kept = Kept#{Id := Member#kept{priority = Priority, weight = Weight}}};
        {_, #{Id := {Member, _Until}}} ->
            %% It may have crashed while nobody cared.
            self() ! {restarted, Member#kept.pid},
            State#state{kept = Kept#{Id => Member#kept{priority = Priority, weight = Weight}},
                        leaving = maps:remove(Id, Leaving)};
        _ ->
            start(Id, Priority, Weight, State)
    end.

start(Id, Priority, Weight, State = #state{pool = Pool, kept = Kept}) ->
    case gen_driver_pool_sup:start_member(Pool, Id) of
        {ok, Pid} -> State#state{kept = Kept#{Id => kept(Pid, Priority, Weight)}};
        {error, Reason} -> not_started({not_started, Id, Reason}, State)
    end.

%% With a source that is asked again this is done then.
not_started(Trouble, State = #state{again = none, options = #{source := Source}}) ->
    Again = case gen_driver_endpoints:is_fixed(Source) of
        true -> erlang:start_timer(?REJOIN, self(), again);
        false -> none
    end,
    trouble(Trouble, State#state{again = Again});
not_started(Trouble, State) ->
    trouble(Trouble, State).

kept(Pid, Priority, Weight) ->
    #kept{pid = Pid, monitor = monitor(process, Pid), priority = Priority, weight = Weight}.

leave(Id, State = #state{kept = Kept, leaving = Leaving, options = #{drain := Drain}}) ->
    {Member, Stay} = maps:take(Id, Kept),
    _ = map_size(Leaving) =:= 0 andalso look_again(left),
    ok = unjoin(Id, Member, State),
    State#state{kept = Stay, leaving = Leaving#{Id => {Member, now_ms() + Drain}}}.

left(State = #state{pool = Pool, leaving = Leaving}) ->
    Now = now_ms(),
    Done = maps:filter(fun(_, {#kept{pid = Pid}, Until}) -> Now >= Until orelse is_idle(Pid) end, Leaving),
    lists:foreach(fun(Id) -> ok = gen_driver_pool_sup:stop_member(Pool, Id) end, maps:keys(Done)),
    Still = maps:without(maps:keys(Done), Leaving),
    _ = map_size(Still) > 0 andalso look_again(left),
    State#state{leaving = Still}.

is_idle(Pid) ->
    case gen_driver_places:load(Pid) of
        Load when is_integer(Load) -> Load =:= 0;
        _NoLink -> true
    end.

look_again(Message) ->
    erlang:send_after(?LOOK, self(), Message).

%%% Members that crashed

%% The supervisor starts it again, and may have done so already.
restarted(Pid, State = #state{pool = Pool, kept = Kept}) ->
    case [Id || {Id, #kept{pid = P}} <- maps:to_list(Kept), P =:= Pid] of
        [Id] -> restarted(Id, Pid, is_process_alive(Pid) orelse gen_driver_pool_sup:member(Pool, Id), State);
        [] -> State
    end.

restarted(_Id, _Alive, true, State) ->
    State;
restarted(Id, Old, Pid, State = #state{kept = Kept}) when is_pid(Pid), Pid =/= Old ->
    #kept{priority = Priority, weight = Weight} = maps:get(Id, Kept),
    published(State#state{kept = Kept#{Id := kept(Pid, Priority, Weight)}});
restarted(_Id, Old, _NotYet, State) ->
    _ = look_again({restarted, Old}),
    State.

%%% What others see

published(State = #state{pool = Pool, kept = Kept}) ->
    Members = [#member{id = Id, hash = gen_driver_rendezvous:hash(Id), pid = Pid, priority = Priority, weight = Weight}
               || {Id, #kept{pid = Pid, priority = Priority, weight = Weight}} <- lists:sort(maps:to_list(Kept))],
    ok = gen_driver_members:publish(Pool, gen_driver_choice:tiers(Members)),
    ok = gen_driver_pool_sup:changed(Pool),
    ok = joined(State),
    State.

%% The scope's process is the application's, and ends and comes with it.
scoped(State = #state{options = #{cluster := false}}) ->
    State;
scoped(State) ->
    case gen_driver_cluster:scope() of
        {ok, Scope} ->
            Scoped = State#state{scope = monitor(process, Scope)},
            ok = joined(Scoped),
            Scoped;
        {error, _} ->
            _ = erlang:send_after(?REJOIN, self(), scope),
            State
    end.

joined(#state{scope = none}) ->
    ok;
joined(#state{kept = Kept, options = #{instance := Instance}}) ->
    maps:foreach(fun(Id, #kept{pid = Pid}) -> ok = gen_driver_cluster:join(Instance, Id, Pid) end, Kept).

unjoin(_Id, _Member, #state{scope = none}) ->
    ok;
unjoin(Id, #kept{pid = Pid}, #state{options = #{instance := Instance}}) ->
    gen_driver_cluster:leave(Instance, Id, Pid).

now_ms() ->
    erlang:monotonic_time(millisecond).
