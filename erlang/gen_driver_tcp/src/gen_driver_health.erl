%% SPDX-License-Identifier: MIT
%% @doc How the members of a pool are, as their checks tell, and which of them are left out. Pure.
%%
%% A member is left out after so many checks in a row that failed, and comes back with
%% the first that does not. One without a link is known to have none by everybody, and
%% only counted here. When fewer than a share of all are healthy nobody is left out
%% (panic): it is then likelier that the checks are wrong, or that the healthy ones would
%% be crushed, than that all the others are of no use.
-module(gen_driver_health).

-export([new/0, only/2, is_known/2, pong/2, failed/3, down/2, is_panic/2, out/1]).
-export_type([health/0]).

-type state() :: {up, Fails :: non_neg_integer()} | out | down.
-opaque health() :: #{term() => state()}.

%% @doc Nobody was checked yet.
-spec new() -> health().
new() ->
    #{}.

%% @doc These are the members: the others are forgotten; new ones have not answered yet.
-spec only([Id :: term()], health()) -> health().
only(Ids, Health) ->
    maps:from_list([{Id, maps:get(Id, Health, down)} || Id <- Ids]).

%% @doc Whether it was a member before.
-spec is_known(Id :: term(), health()) -> boolean().
is_known(Id, Health) ->
    is_map_key(Id, Health).

%% @doc It answers. `returned' when it did not before.
-spec pong(Id :: term(), health()) -> {returned | same, health()}.
pong(Id, Health) ->
    case Health of
        #{Id := {up, _}} -> {same, Health#{Id := {up, 0}}};
        #{Id := _} -> {returned, Health#{Id := {up, 0}}};
        #{} -> {same, Health}
    end.

%% @doc It has a link, and does not answer.
-spec failed(Id :: term(), MaxFails :: pos_integer(), health()) -> health().
failed(Id, MaxFails, Health) ->
    case Health of
        #{Id := {up, Fails}} when Fails + 1 < MaxFails -> Health#{Id := {up, Fails + 1}};
        #{Id := {up, _}} -> Health#{Id := out};
        #{} -> Health
    end.

%% @doc It has no link.
-spec down(Id :: term(), health()) -> health().
down(Id, Health) when is_map_key(Id, Health) -> Health#{Id := down};
down(_Id, Health) -> Health.

%% @doc Whether too few are healthy for any to be left out.
-spec is_panic(MinHealthy :: number(), health()) -> boolean().
is_panic(MinHealthy, Health) ->
    Healthy = length([up || {up, _} <- maps:values(Health)]),
    Healthy < MinHealthy * map_size(Health).

%% @doc Who would be left out.
-spec out(health()) -> [Id :: term()].
out(Health) ->
    [Id || {Id, out} <- maps:to_list(Health)].
