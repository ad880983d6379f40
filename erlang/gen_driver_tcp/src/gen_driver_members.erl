%% SPDX-License-Identifier: MIT
%% @doc Who is in a pool, for everybody who calls: found without asking a process.
%%
%% The set stands in persistent_term under the pool's pid, and is replaced when it
%% changes, which is seldom. What changes with every call, how much each member has in
%% hand, stands in the members' own counters (gen_driver_places).
-module(gen_driver_members).

-export([open/2, publish/2, close/1, find/1, set/1, settings/1, choose/3, panic/2, is_panic/1]).
-export_type([set/0, settings/0]).

-type set() :: #{
    options := gen_driver_pool_options:checked(), tiers := [gen_driver_choice:tier()], flags := atomics:atomics_ref()
}.

%% Of the pool itself, with the instance's name: nothing that is secret.
-type settings() :: #{instance := binary(), atom() => term()}.

-define(KEY(Pool), {?MODULE, Pool}).

%% @doc A pool begins, without members; those of pools that were killed go.
-spec open(Pool :: pid(), gen_driver_pool_options:checked()) -> ok.
open(Pool, Options) ->
    lists:foreach(fun close/1, [Dead || {?KEY(Dead), _} <- persistent_term:get(), not is_process_alive(Dead)]),
    persistent_term:put(?KEY(Pool), #{options => Options, tiers => [], flags => atomics:new(1, [])}).

%% @doc These are its members.
-spec publish(Pool :: pid(), [gen_driver_choice:tier()]) -> ok.
publish(Pool, Tiers) ->
    persistent_term:put(?KEY(Pool), (persistent_term:get(?KEY(Pool)))#{tiers := Tiers}).

%% @doc The pool ends.
-spec close(Pool :: pid()) -> ok.
close(Pool) ->
    _ = persistent_term:erase(?KEY(Pool)),
    ok.

%% @doc The process of a pool on this node.
-spec find(gen_server:server_ref()) -> pid() | undefined.
find(Pid) when is_pid(Pid) -> here(Pid);
find(Name) when is_atom(Name) -> here(whereis(Name));
find({global, Name}) -> here(global:whereis_name(Name));
find({via, Module, Name}) -> here(Module:whereis_name(Name));
find({Name, Node}) when Node =:= node() -> here(whereis(Name));
find({_Name, _Node}) -> undefined.

here(Pid) ->
    case is_pid(Pid) andalso node(Pid) =:= node() andalso is_process_alive(Pid) andalso set(Pid) of
        #{} -> Pid;
        _ -> undefined
    end.

%% @doc What is known of it.
-spec set(Pool :: pid()) -> set() | none.
set(Pool) ->
    persistent_term:get(?KEY(Pool), none).

%% @doc What its own processes need to know.
-spec settings(Pool :: pid()) -> settings().
settings(Pool) ->
    #{options := Options = #{client := #{instance := Instance}}} = set(Pool),
    (maps:remove(client, Options))#{instance => Instance}.

%% @doc The member for a call that has been to those already.
-spec choose(Pool :: pid(), gen_driver_pool_options:way(), Tried :: [pid()]) -> {ok, pid()} | none.
choose(Pool, Way, Tried) ->
    case set(Pool) of
        #{tiers := Tiers} -> chosen(Tiers, Way, Tried);
        none -> none
    end.

chosen(Tiers, #{key := none}, Tried) ->
    Look = fun gen_driver_places:standing/1,
    case gen_driver_choice:usable(Tiers, Tried, Look) of
        {ok, Pid} -> {ok, Pid};
        none -> gen_driver_choice:waiting(Tiers, Tried, Look)
    end;
chosen(Tiers, #{key := Key, keep := true}, Tried) ->
    gen_driver_choice:kept(Tiers, Key, Tried);
chosen(Tiers, #{key := Key}, Tried) ->
    gen_driver_choice:keyed(Tiers, Key, Tried, fun gen_driver_places:standing/1).

%% @doc Whether nobody is left out, as too few are healthy.
-spec panic(Pool :: pid(), boolean()) -> ok.
panic(Pool, Is) ->
    case set(Pool) of
        #{flags := Flags} -> atomics:put(Flags, 1, case Is of true -> 1; false -> 0 end);
        none -> ok
    end.

%% @doc The same, asked.
-spec is_panic(set()) -> boolean().
is_panic(#{flags := Flags}) ->
    atomics:get(Flags, 1) =:= 1.
