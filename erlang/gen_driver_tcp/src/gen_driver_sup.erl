%% SPDX-License-Identifier: MIT
%% @doc Owns the scope of the process groups that members of pools are in, and the table of nodes that do not answer.
-module(gen_driver_sup).
-behaviour(supervisor).

-export([start_link/0, init/1]).

%% @doc The application's only supervisor.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case supervisor:start_link(?MODULE, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    ok = gen_driver_doubts:open(),
    {ok, {#{intensity => 5, period => 10}, [#{id => pg, start => {pg, start_link, [gen_driver_cluster]}}]}}.
