%% SPDX-License-Identifier: MIT
%% A supervisor of what a test gives it.
-module(gen_driver_test_sup).
-behaviour(supervisor).

-export([start_link/1, stop/1, init/1]).

start_link(Specs) ->
    supervisor:start_link(?MODULE, Specs).

stop(Supervisor) ->
    unlink(Supervisor),
    Monitor = monitor(process, Supervisor),
    exit(Supervisor, shutdown),
    receive {'DOWN', Monitor, process, Supervisor, shutdown} -> ok end.

init(Specs) ->
    {ok, {#{}, Specs}}.
