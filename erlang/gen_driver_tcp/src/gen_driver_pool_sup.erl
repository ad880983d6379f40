%% SPDX-License-Identifier: MIT
%% @doc The supervisor of a pool: its keeper, its checker and its members. Its process is the pool.
%%
%% Options may hold secrets, and supervisors show what they start: so children are
%% started with the pool's pid alone, and find the options where callers do.
-module(gen_driver_pool_sup).
-behaviour(supervisor).

-export([start_link/1, start_link/2, keeper/1, members/1, member/2, start_member/2, start_client/2, stop_member/2, changed/1]).
-export([init/1]).

%% @doc A pool without a name, with options already checked.
-spec start_link(gen_driver_pool_options:checked()) -> supervisor:startlink_ret().
start_link(Options) ->
    supervisor:start_link(?MODULE, fun() -> Options end).

%% @doc The same under a name.
-spec start_link(supervisor:sup_name(), gen_driver_pool_options:checked()) -> supervisor:startlink_ret().
start_link(Name, Options) ->
    supervisor:start_link(Name, ?MODULE, fun() -> Options end).

%% The checker first: it ends last, and takes the pool's entry away.
-spec init(fun(() -> gen_driver_pool_options:checked())) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Given) ->
    Options = #{restarts := {Times, Seconds}} = Given(),
    ok = gen_driver_members:open(self(), Options),
    {ok, {#{strategy => one_for_one, intensity => Times, period => Seconds},
          [#{id => Module, start => {Module, start_link, [self()]}}
           || Module <- [gen_driver_checker, gen_driver_keeper]]}}.

%% @doc The process that knows of endpoints.
-spec keeper(Pool :: pid()) -> pid() | undefined.
keeper(Pool) ->
    child(gen_driver_keeper, Pool).

child(Id, Pool) ->
    case lists:keyfind(Id, 1, supervisor:which_children(Pool)) of
        {Id, Pid, _, _} when is_pid(Pid) -> Pid;
        _ -> undefined
    end.

%% @doc Members by their ids, those too that are just being started again.
-spec members(Pool :: pid()) -> [{Id :: term(), supervisor:child() | restarting}].
members(Pool) ->
    [{Id, Pid} || {{member, Id}, Pid, _, _} <- supervisor:which_children(Pool)].

%% @doc One of them, if it runs.
-spec member(Pool :: pid(), Id :: term()) -> pid() | undefined.
member(Pool, Id) ->
    child({member, Id}, Pool).

%% @doc One more member.
-spec start_member(Pool :: pid(), gen_driver_keeper:id()) -> {ok, pid()} | {error, term()}.
start_member(Pool, Id = {Address, _Index}) ->
    Spec = #{id => {member, Id}, start => {?MODULE, start_client, [Pool, Address]}, shutdown => 5000,
             modules => [gen_driver_client]},
    case supervisor:start_child(Pool, Spec) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% @private Its process.
-spec start_client(Pool :: pid(), gen_driver_options:address()) -> gen_server:start_ret().
start_client(Pool, Address) ->
    #{options := #{client := Client}} = gen_driver_members:set(Pool),
    gen_driver_client:start_link(Client#{connect := Address}).

%% @doc One less.
-spec stop_member(Pool :: pid(), Id :: term()) -> ok.
stop_member(Pool, Id) ->
    ok = supervisor:terminate_child(Pool, {member, Id}),
    ok = supervisor:delete_child(Pool, {member, Id}).

%% @doc Tell the checker that members came or went.
-spec changed(Pool :: pid()) -> ok.
changed(Pool) ->
    case child(gen_driver_checker, Pool) of
        undefined -> ok;
        Checker -> gen_server:cast(Checker, changed)
    end.
