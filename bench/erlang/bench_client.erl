%% SPDX-License-Identifier: MIT
%% @doc What the load generator wants of the client of a system: to open it, and to call it from many processes.
-module(bench_client).

-export_type([opened/0]).

%% `pids' are processes of the operating system that serve it and that only the client knows; `each' is how many requests
%% one call stands for.
-type opened() :: #{system := term(), pids := [non_neg_integer()], each := pos_integer()}.

-callback open(Args :: map()) -> opened().
-callback close(System :: term()) -> term().
%% In the process that will call.
-callback caller(System :: term()) -> Caller :: term().
-callback leave(Caller :: term()) -> term().
-callback call(Caller :: term(), Command :: pos_integer(), Params :: term()) -> Reply :: term().
-callback cast(Caller :: term(), Command :: pos_integer(), Params :: term()) -> term().
-optional_callbacks([cast/3]).
