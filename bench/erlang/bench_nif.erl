%% SPDX-License-Identifier: MIT
%% @doc The client of peers/nif.c: a NIF on dirty schedulers, called by each caller itself.
-module(bench_nif).
-behaviour(bench_client).

-export([open/1, close/1, caller/1, leave/1, call/3]).
-export([sum/1, echo/1, spin/1, mixed/1]).

-spec open(map()) -> bench_client:opened().
open(#{path := Path}) ->
    case erlang:load_nif(Path, 0) of
        ok -> ok;
        {error, {reload, _}} -> ok
    end,
    #{system => none, pids => [], each => 1}.

-spec close(none) -> ok.
close(none) -> ok.

-spec caller(none) -> none.
caller(none) -> none.

-spec leave(none) -> ok.
leave(none) -> ok.

-spec call(none, pos_integer(), term()) -> term().
call(none, 1, Params) -> ?MODULE:sum(Params);
call(none, 2, Params) -> ?MODULE:echo(Params);
call(none, 3, Params) -> ?MODULE:spin(Params);
call(none, 4, Params) -> ?MODULE:mixed(Params).

-spec sum([integer()]) -> term().
sum(_) -> erlang:nif_error(not_loaded).

-spec echo(term()) -> term().
echo(_) -> erlang:nif_error(not_loaded).

-spec spin(integer()) -> term().
spin(_) -> erlang:nif_error(not_loaded).

-spec mixed({integer(), integer(), integer()}) -> term().
mixed(_) -> erlang:nif_error(not_loaded).
