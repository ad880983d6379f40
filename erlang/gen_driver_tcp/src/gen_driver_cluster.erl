%% SPDX-License-Identifier: MIT
%% @doc Calls to an instance from any node: through this node's connections, or through another's.
%%
%% ```
%% {ok, 10.0} = gen_driver_cluster:call(sum, sum, [1, 2, 3, 4]).
%% '''
%% The members of all pools (gen_driver_pool, `cluster => true') are in process groups (pg), whose scope is a
%% process of the application gen_driver_tcp: it must be started, here and where the pools are. A
%% node needs no pool of its own, and no route to a daemon.
-module(gen_driver_cluster).

-include("gen_driver_member.hrl").

-export([call/2, call/3, call/4, cast/2, cast/3, cast/4, members/1]).
-export([scope/0, join/3, leave/3, identity/2]).
-export_type([instance/0, not_started/0]).

-type instance() :: binary() | string() | atom().
-type not_started() :: {error, {not_started, gen_driver_tcp}}.
%% What a member is called on every node: an address that means another place on each machine goes with its node.
-type identity() :: {any | node(), gen_driver_options:address(), Index :: pos_integer()}.

-define(SCOPE, ?MODULE).
-define(TIMEOUT, 5000).
-define(RETRIES, 2).

%%% Calls

%% @equiv call(Instance, Command, [], 5000)
-spec call(instance(), gen_driver_tcp:command()) -> gen_driver_tcp:result() | not_started().
call(Instance, Command) ->
    called(Instance, Command, none, ?TIMEOUT).

%% @equiv call(Instance, Command, Params, 5000)
-spec call(instance(), gen_driver_tcp:command(), Params :: term()) -> gen_driver_tcp:result() | not_started().
call(Instance, Command, Params) ->
    call(Instance, Command, Params, ?TIMEOUT).

%% @doc As gen_driver_pool:call/4, with the same options: to a member on this node, if one has a link, otherwise
%% on another. A call with a `key' goes to the key's member, wherever that is; all nodes that see the same members
%% agree on it. A node that is lost on the way is `disconnected': the call may have run, and is not made again.
-spec call(instance(), gen_driver_tcp:command(), Params :: term(), gen_driver_pool_options:call_options()) ->
    gen_driver_tcp:result() | not_started().
call(Instance, Command, Params, TimeoutOrOptions) ->
    called(Instance, Command, {params, Params}, TimeoutOrOptions).

called(Instance, Command, Params, TimeoutOrOptions) ->
    {Timeout, Wire, Way = #{hedge := Hedge}} = gen_driver_pool_options:call(TimeoutOrOptions, ?TIMEOUT),
    Retries = case Way of #{retries := default} -> ?RETRIES; #{retries := N} -> N end,
    Name = name(Instance),
    case scope() of
        {ok, _} ->
            Request = gen_driver_caller:request(Command, Params, Timeout, Wire),
            gen_driver_telemetry:called(Name, Command, fun() ->
                gen_driver_tries:call(fun(Tried) -> choose(Name, Way, Tried) end, Request,
                                      #{retries => Retries, hedge => Hedge, patience => 0})
            end);
        {error, NotStarted} ->
            {error, NotStarted}
    end.

%% @equiv cast(Instance, Command, [], #{})
-spec cast(instance(), gen_driver_tcp:command()) -> ok | gen_driver_tcp:failed() | not_started().
cast(Instance, Command) ->
    cast(Instance, Command, []).

%% @equiv cast(Instance, Command, Params, #{})
-spec cast(instance(), gen_driver_tcp:command(), Params :: term()) ->
    ok | gen_driver_tcp:failed() | {error, {unknown_command, binary()}} | not_started().
cast(Instance, Command, Params) ->
    cast(Instance, Command, Params, #{}).

%% @doc As gen_driver_pool:cast/4, to one member, chosen as for a call.
-spec cast(instance(), gen_driver_tcp:command(), Params :: term(), gen_driver_pool_options:call_options()) ->
    ok | gen_driver_tcp:failed() | {error, {unknown_command, binary()}} | not_started().
cast(Instance, Command, Params, TimeoutOrOptions) ->
    {Options, Way} = gen_driver_pool_options:cast(TimeoutOrOptions),
    case scope() of
        {ok, _} ->
            case choose(name(Instance), Way, []) of
                {ok, Member} -> gen_driver_tcp:cast(Member, Command, Params, Options);
                none -> {error, {failed, unavailable}}
            end;
        {error, NotStarted} ->
            {error, NotStarted}
    end.

%% @doc The members of all nodes, those of this one first.
-spec members(instance()) -> [pid()] | not_started().
members(Instance) ->
    Name = name(Instance),
    case scope() of
        {ok, _} ->
            Local = local(Name),
            Local ++ (pg:get_members(?SCOPE, Name) -- Local);
        {error, NotStarted} ->
            {error, NotStarted}
    end.

name(Instance) when is_binary(Instance) -> Instance;
name(Instance) when is_atom(Instance) -> atom_to_binary(Instance);
name(Instance) when is_list(Instance) -> unicode:characters_to_binary(Instance).

%%% Choosing

choose(Instance, #{key := none}, Tried) ->
    choose_any(Instance, Tried);
choose(Instance, #{key := Key, keep := true}, Tried) ->
    gen_driver_choice:kept(by_identity(Instance, Key), Key, Tried);
choose(Instance, #{key := Key}, Tried) ->
    gen_driver_choice:keyed(by_identity(Instance, Key), Key, Tried, fun look/1).

%% Those here that have a link; others; those here, to wait in.
choose_any(Instance, Tried) ->
    Here = [gen_driver_choice:tier([#member{id = Pid, hash = 0, pid = Pid} || Pid <- local(Instance)])],
    case gen_driver_choice:usable(Here, Tried, fun look/1) of
        {ok, Pid} ->
            {ok, Pid};
        none ->
            case elsewhere([Pid || Pid <- pg:get_members(?SCOPE, Instance), node(Pid) =/= node()] -- Tried) of
                {ok, Pid} -> {ok, Pid};
                none -> gen_driver_choice:waiting(Here, Tried, fun look/1)
            end
    end.

%% How much they have in hand is not known: any of those whose nodes answer.
elsewhere([]) ->
    none;
elsewhere(Pids) ->
    case [Pid || Pid <- Pids, not gen_driver_doubts:is_doubted(node(Pid))] of
        [] -> {ok, random(Pids)};
        Answering -> {ok, random(Answering)}
    end.

random(Pids) ->
    lists:nth(rand:uniform(length(Pids)), Pids).

look(Pid) when node(Pid) =:= node() -> gen_driver_places:standing(Pid);
look(_Pid) -> {up, 0, 1.0}.

%% One of each identity: here, if there is one here, otherwise the same for the same key.
by_identity(Instance, Key) ->
    [gen_driver_choice:tier([#member{id = Identity, hash = gen_driver_rendezvous:hash(Identity), pid = Pid}
                             || {Name, Identity} = Group <- all_groups(), Name =:= Instance,
                                Pid <- one_of(Group, Key)])].

%% None when the application is just being stopped.
all_groups() ->
    try pg:which_groups(?SCOPE)
    catch
        error:badarg -> []
    end.

one_of(Group, Key) ->
    case pg:get_local_members(?SCOPE, Group) of
        [] -> lists:sublist(gen_driver_rendezvous:order(Key, [{gen_driver_rendezvous:hash(node(Pid)), Pid}
                                                              || Pid <- pg:get_members(?SCOPE, Group)]), 1);
        Here -> [lists:min(Here)]
    end.

local(Instance) ->
    pg:get_local_members(?SCOPE, Instance).

%%% For pools

%% @doc The process that knows of all groups, while the application runs.
-spec scope() -> {ok, pid()} | not_started().
scope() ->
    case whereis(?SCOPE) of
        undefined -> {error, {not_started, gen_driver_tcp}};
        Pid -> {ok, Pid}
    end.

%% @private A member of a pool on this node.
-spec join(Instance :: binary(), {gen_driver_options:address(), pos_integer()}, pid()) -> ok.
join(Instance, Id, Pid) ->
    in_scope(fun(Group) ->
        _ = lists:member(Pid, pg:get_local_members(?SCOPE, Group)) orelse pg:join(?SCOPE, Group, Pid)
    end, groups(Instance, Id)).

%% Whoever keeps members hears when the scope ends, and has them join the next.
in_scope(Do, Groups) ->
    try lists:foreach(Do, Groups)
    catch
        exit:{_Ended, {gen_server, call, [?SCOPE | _]}} -> ok
    end.

%% @private It gets no more calls.
-spec leave(Instance :: binary(), {gen_driver_options:address(), pos_integer()}, pid()) -> ok.
leave(Instance, Id, Pid) ->
    in_scope(fun(Group) -> _ = pg:leave(?SCOPE, Group, Pid) end, groups(Instance, Id)).

groups(Instance, Id) ->
    [Instance, {Instance, identity(Id, node())}].

%% @private
-spec identity({gen_driver_options:address(), pos_integer()}, node()) -> identity().
identity({Address, Index}, Node) ->
    case gen_driver_endpoints:is_local(Address) of
        true -> {Node, Address, Index};
        false -> {any, Address, Index}
    end.
