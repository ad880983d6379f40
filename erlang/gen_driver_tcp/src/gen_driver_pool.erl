%% SPDX-License-Identifier: MIT
%% @doc Several connections to one instance, on one daemon or on several, and calls that find the right one.
%%
%% ```
%% {ok, _} = gen_driver_pool:start_link({local, sums}, #{instance => sum, endpoints => ["tcp://a:9900", "tcp://b:9900"]}),
%% {ok, 10.0} = gen_driver_pool:call(sums, sum, [1, 2, 3, 4]).
%% '''
%% No process stands between a caller and the connection that it uses: callers find the members, and
%% how much each has in hand, for themselves. Results are those of gen_driver_tcp.
%%
%% A pool serves its own node; from others gen_driver_cluster reaches its members.
-module(gen_driver_pool).

-include("gen_driver_member.hrl").

-export([start_link/1, start_link/2, child_spec/1, stop/1, info/1]).
-export([call/2, call/3, call/4, cast/2, cast/3, cast/4, call_stream/4, send_request/2, send_request/3, send_request/4]).
-export_type([pool/0, info/0, member_info/0]).

-type pool() :: gen_server:server_ref().
-type info() :: #{
    instance := binary(), members := [member_info()], panic := boolean(), trouble := none | term()
}.
%% ejected: its checks have failed, and it is left out. weight: its share of calls, from 0.1 to 1.0.
-type member_info() :: #{
    endpoint := gen_driver_options:address(), index := pos_integer(), pid := pid(),
    priority := non_neg_integer(), status := up | down | gone, load := non_neg_integer(),
    ejected := boolean(), weight := float()
}.

-define(TIMEOUT, 5000).

%%% Pools

%% @doc Start a pool. It returns when its members are started, where their endpoints are known; they connect
%% in the background. Beyond a client's errors: `{not_started, gen_driver_tcp}' when the pool is to be in the
%% cluster and the application is not started.
-spec start_link(gen_driver_pool_options:options()) ->
    {ok, pid()} | {error, gen_driver_options:bad_option() | {not_started, gen_driver_tcp} | term()}.
start_link(Options) ->
    start(Options, fun gen_driver_pool_sup:start_link/1).

%% @doc The same under a name: `{local, Name}', `{global, Name}' or `{via, Module, Name}'.
-spec start_link(gen_server:server_name(), gen_driver_pool_options:options()) ->
    {ok, pid()} | {error, gen_driver_options:bad_option() | {not_started, gen_driver_tcp} | term()}.
start_link(Name, Options) ->
    start(Options, fun(Checked) -> gen_driver_pool_sup:start_link(Name, Checked) end).

start(Options, Start) ->
    case gen_driver_pool_options:pool(Options) of
        {ok, Checked} -> start_if_it_can(Checked, Start);
        {error, Bad} -> {error, Bad}
    end.

start_if_it_can(Checked = #{cluster := Cluster}, Start) ->
    case Cluster andalso gen_driver_cluster:scope() of
        {error, NotStarted} -> {error, NotStarted};
        _ -> started(Start(Checked))
    end.

started({ok, Pool}) ->
    ok = gen_driver_keeper:ready(gen_driver_pool_sup:keeper(Pool)),
    {ok, Pool};
started({error, Reason}) ->
    {error, Reason};
started(ignore) ->
    {error, ignore}.

%% @doc For a supervisor. Options, or a name and options.
-spec child_spec(gen_driver_pool_options:options() | {gen_server:server_name(), gen_driver_pool_options:options()}) ->
    supervisor:child_spec().
child_spec({Name, Options}) ->
    child_spec(Name, [Name, Options]);
child_spec(Options) ->
    child_spec(instance(Options), [Options]).

child_spec(Id, Arguments) ->
    #{id => {?MODULE, Id}, start => {?MODULE, start_link, Arguments}, type => supervisor,
      restart => permanent, shutdown => infinity, modules => [gen_driver_pool_sup]}.

instance(Options) when is_map(Options) -> maps:get(instance, Options, undefined);
instance(Options) -> proplists:get_value(instance, Options).

%% @doc Stop: each member as a client is stopped.
-spec stop(pool()) -> ok.
stop(Pool) ->
    gen_server:stop(Pool).

%% @doc How its members are.
-spec info(pool()) -> info().
info(Pool) ->
    Pid = find(Pool, info, []),
    #{options := #{client := #{instance := Instance}}, tiers := Tiers} = Set = gen_driver_members:set(Pid),
    #{instance => Instance, panic => gen_driver_members:is_panic(Set),
      trouble => gen_driver_keeper:trouble(gen_driver_pool_sup:keeper(Pid)),
      members => [member(Member) || Member <- gen_driver_choice:members(Tiers)]}.

member(#member{id = {Address, Index}, priority = Priority, pid = Pid}) ->
    Standing = gen_driver_places:standing(Pid),
    Load = case gen_driver_places:load(Pid) of L when is_integer(L) -> L; _ -> 0 end,
    #{endpoint => Address, index => Index, pid => Pid, priority => Priority, load => Load,
      status => status(Standing), ejected => Standing =:= out, weight => weight(Standing)}.

status({up, _, _}) -> up;
status(out) -> up;
status(down) -> down;
status(nobody) -> gone.

weight({up, _, Share}) -> Share;
weight(_) -> 0.0.

%%% Calls

%% @equiv call(Pool, Command, [], 5000)
-spec call(pool(), gen_driver_tcp:command()) -> gen_driver_tcp:result().
call(Pool, Command) ->
    called(Pool, Command, none, ?TIMEOUT).

%% @equiv call(Pool, Command, Params, 5000)
-spec call(pool(), gen_driver_tcp:command(), Params :: term()) -> gen_driver_tcp:result().
call(Pool, Command, Params) ->
    call(Pool, Command, Params, ?TIMEOUT).

%% @doc As gen_driver_tcp:call/4, to one of the members. What certainly never started is tried elsewhere,
%% `retries' times, in the time that the call has.
%%
%% Options beyond those of a client: `key', here any term: calls of one key go to one member, and there to one
%% worker, while the members are the same; `keep => true': even while that member has no link; `hedge => Ms', for
%% calls that may run twice: without an answer after so many ms another member is asked too, and the first reply
%% wins; `retries'.
-spec call(pool(), gen_driver_tcp:command(), Params :: term(), gen_driver_pool_options:call_options()) ->
    gen_driver_tcp:result().
call(Pool, Command, Params, TimeoutOrOptions) ->
    called(Pool, Command, {params, Params}, TimeoutOrOptions).

called(Pool, Command, Params, TimeoutOrOptions) ->
    Pid = find(Pool, call, [Command]),
    {Timeout, Wire, Way} = gen_driver_pool_options:call(TimeoutOrOptions, ?TIMEOUT),
    Request = gen_driver_caller:request(Command, Params, Timeout, Wire),
    gen_driver_telemetry:called(Pool, Command, fun() ->
        gen_driver_tries:call(fun(Tried) -> gen_driver_members:choose(Pid, Way, Tried) end, Request, policy(Pid, Way))
    end).

policy(Pid, #{retries := Retries, hedge := Hedge}) ->
    #{options := #{retries := Default, client := #{connect_wait := Wait}}} = gen_driver_members:set(Pid),
    #{retries => case Retries of default -> Default; N -> N end, hedge => Hedge, patience => Wait}.

%% @equiv cast(Pool, Command, [])
-spec cast(pool(), gen_driver_tcp:command()) -> ok | gen_driver_tcp:failed().
cast(Pool, Command) ->
    {_, Way} = gen_driver_pool_options:cast(#{}),
    case one(find(Pool, cast, [Command]), Way) of
        {ok, Member} -> gen_driver_tcp:cast(Member, Command);
        none -> {error, {failed, unavailable}}
    end.

%% @equiv cast(Pool, Command, Params, #{})
-spec cast(pool(), gen_driver_tcp:command(), Params :: term()) ->
    ok | gen_driver_tcp:failed() | {error, {unknown_command, binary()}}.
cast(Pool, Command, Params) ->
    cast(Pool, Command, Params, #{}).

%% @doc As gen_driver_tcp:cast/4, to one of the members, and to no other. A `key' is any term, and casts follow it
%% as calls do.
-spec cast(pool(), gen_driver_tcp:command(), Params :: term(), gen_driver_pool_options:call_options()) ->
    ok | gen_driver_tcp:failed() | {error, {unknown_command, binary()}}.
cast(Pool, Command, Params, TimeoutOrOptions) ->
    Pid = find(Pool, cast, [Command]),
    {Options, Way} = gen_driver_pool_options:cast(TimeoutOrOptions),
    case one(Pid, Way) of
        {ok, Member} -> gen_driver_tcp:cast(Member, Command, Params, Options);
        none -> {error, {failed, unavailable}}
    end.

%% @doc As gen_driver_tcp:call_stream/4, to one of the members, and to no other.
-spec call_stream(pool(), gen_driver_tcp:command(), Params :: term(), gen_driver_pool_options:call_options()) ->
    {ok, gen_driver_tcp:stream()} | gen_driver_tcp:failed() | {gen_driver_tcp:result(), Acc :: term()}.
call_stream(Pool, Command, Params, TimeoutOrOptions) ->
    Pid = find(Pool, call_stream, [Command]),
    {Options, Way} = gen_driver_pool_options:stream(TimeoutOrOptions),
    case one(Pid, Way) of
        {ok, Member} -> gen_driver_tcp:call_stream(Member, Command, Params, Options);
        none -> no_stream(Options)
    end.

no_stream(#{fold := {_Fun, Acc}}) -> {{error, {failed, unavailable}}, Acc};
no_stream(_Options) -> {error, {failed, unavailable}}.

%% @equiv send_request(Pool, Command, [], infinity)
-spec send_request(pool(), gen_driver_tcp:command()) -> gen_driver_tcp:request_id().
send_request(Pool, Command) ->
    send_request(Pool, Command, []).

%% @equiv send_request(Pool, Command, Params, infinity)
-spec send_request(pool(), gen_driver_tcp:command(), Params :: term()) -> gen_driver_tcp:request_id().
send_request(Pool, Command, Params) ->
    send_request(Pool, Command, Params, infinity).

%% @doc As gen_driver_tcp:send_request/4, to one of the members, and to no other. What comes of it is for
%% gen_driver_tcp's functions.
-spec send_request(pool(), gen_driver_tcp:command(), Params :: term(), gen_driver_pool_options:call_options()) ->
    gen_driver_tcp:request_id().
send_request(Pool, Command, Params, TimeoutOrOptions) ->
    Pid = find(Pool, send_request, [Command]),
    {Timeout, Wire, Way} = gen_driver_pool_options:single(TimeoutOrOptions),
    case one(Pid, Way) of
        {ok, Member} -> gen_driver_tcp:send_request(Member, Command, Params, Wire#{timeout => Timeout});
        none -> exit({noproc, {?MODULE, send_request, [Pool, Command]}})
    end.

one(Pid, Way) ->
    gen_driver_members:choose(Pid, Way, []).

find(Pool, Function, Arguments) ->
    case gen_driver_members:find(Pool) of
        undefined -> exit({noproc, {?MODULE, Function, [Pool | Arguments]}});
        Pid -> Pid
    end.
