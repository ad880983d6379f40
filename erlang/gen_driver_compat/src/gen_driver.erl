%% SPDX-License-Identifier: MIT
%% @doc The original linked-in driver's `gen_driver', for code written for it: the driver now runs
%% outside the VM, and nothing else changes.
%%
%% `gen_server:call(Pid, {port, Cmd})', `{port, Cmd, Params}', the casts, and
%% `gen_server:cast(Pid, stop)' work as they did; a reply that cannot be decoded is
%% `{error, eparse}'. What the original did not know is `{error, {failed, Reason}}'.
-module(gen_driver).

-include_lib("kernel/include/logger.hrl").

-export([start_link/2]).

-define(APPLICATION, gen_driver_compat).
-define(CONNECT, "tcp://127.0.0.1:9900").
%% Longer than an attempt takes: connecting and handshake have 8 s each.
-define(WELCOME, 20000).

%% @doc Connect to the instance `Name' at the application's `connect' setting and wait until it is
%% ready. `Path' was the directory of the driver; the service knows its drivers itself.
-spec start_link(Path :: string(), Name :: string()) -> {ok, pid()} | {error, term()}.
start_link(Path, Name) ->
    Connect = application:get_env(?APPLICATION, connect, ?CONNECT),
    ?LOG_INFO("driver ~ts: instance of the service at ~tp, path ~ts not used", [Name, Connect, Path]),
    case gen_driver_tcp:start_link(#{connect => Connect, instance => Name, undecodable => {error, eparse}}) of
        {ok, Pid} -> welcomed(gen_driver_tcp:await(Pid, ?WELCOME), Pid);
        {error, Reason} -> {error, Reason}
    end.

welcomed(ok, Pid) ->
    {ok, Pid};
welcomed({error, Reason}, Pid) ->
    unlink(Pid),
    true = exit(Pid, shutdown),
    receive {'EXIT', Pid, _} -> ok after 0 -> ok end,
    {error, Reason}.
