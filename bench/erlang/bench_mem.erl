%% SPDX-License-Identifier: MIT
%% @doc A gen_server that answers from memory: what any one process in the path of a call allows.
-module(bench_mem).
-behaviour(bench_client).
-behaviour(gen_server).

-export([open/1, close/1, caller/1, leave/1, call/3]).
-export([init/1, handle_call/3, handle_cast/2]).

-spec open(map()) -> bench_client:opened().
open(_) ->
    {ok, Pid} = gen_server:start_link(?MODULE, [], []),
    #{system => Pid, pids => [], each => 1}.

-spec close(pid()) -> ok.
close(Pid) -> gen_server:stop(Pid).

-spec caller(pid()) -> pid().
caller(Pid) -> Pid.

-spec leave(pid()) -> ok.
leave(_) -> ok.

-spec call(pid(), pos_integer(), term()) -> term().
call(Pid, Command, Params) -> gen_server:call(Pid, {port, Command, Params}, infinity).

-spec init([]) -> {ok, none}.
init([]) -> {ok, none}.

-spec handle_call(term(), gen_server:from(), none) ->
    {reply, term(), none}.
handle_call({port, 1, List}, _From, State) -> {reply, {ok, lists:sum(List)}, State};
handle_call({port, 2, Term}, _From, State) -> {reply, {ok, Term}, State}.

-spec handle_cast(term(), none) -> {noreply, none}.
handle_cast(_, State) -> {noreply, State}.
