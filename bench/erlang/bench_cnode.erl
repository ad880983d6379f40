%% SPDX-License-Identifier: MIT
%% @doc The client of peers/cnode.c: a message to the node from the caller itself, and its answer.
-module(bench_cnode).
-behaviour(bench_client).

-export([open/1, close/1, caller/1, leave/1, call/3, cast/3]).

-define(TIMEOUT, 60000).

%% @doc Makes this VM a node, which epmd must know: it is the bench's own, by $ERL_EPMD_PORT.
-spec open(map()) -> bench_client:opened().
open(#{node := Node, cookie := Cookie}) ->
    ok = application:set_env(kernel, inet_dist_use_interface, {127, 0, 0, 1}),
    _ = case is_alive() of
        true -> ok;
        false -> {ok, _} = net_kernel:start('bench_vm@127.0.0.1', #{name_domain => longnames})
    end,
    true = erlang:set_cookie(Node, Cookie),
    true = net_kernel:hidden_connect_node(Node),
    #{system => {any, Node}, pids => [], each => 1}.

-spec close(term()) -> term().
close({any, Node}) -> erlang:disconnect_node(Node).

-spec caller(term()) -> term().
caller(To) -> To.

-spec leave(term()) -> ok.
leave(_) -> ok.

-spec call(term(), pos_integer(), term()) -> term().
call(To, Command, Params) ->
    Ref = make_ref(),
    To ! {call, {self(), Ref}, Command, Params},
    receive {Ref, Reply} -> Reply after ?TIMEOUT -> error(timeout) end.

-spec cast(term(), pos_integer(), term()) -> term().
cast(To, Command, Params) ->
    To ! {cast, Command, Params}.
