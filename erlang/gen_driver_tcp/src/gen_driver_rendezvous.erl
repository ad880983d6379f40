%% SPDX-License-Identifier: MIT
%% @doc Which of several a key belongs to: rendezvous hashing, by highest random weight. Pure.
%%
%% Every key orders all candidates by a hash of both, and belongs to the first. One
%% that goes takes only its own keys along, to the second of each; one that comes gets
%% only those that it is first for. All nodes find the same, as `erlang:phash2' is the
%% same on each.
-module(gen_driver_rendezvous).

-export([key/1, hash/1, order/2, weighted/2]).
-export_type([key/0, hash/0]).

-type key() :: 0..16#ffffffff.
-type hash() :: 0..16#ffffffff.

-define(RANGE, 16#100000000).

%% @doc Any term as a key: this is what goes on the wire too.
-spec key(term()) -> key().
key(Term) ->
    erlang:phash2(Term, ?RANGE).

%% @doc A candidate's name, hashed once.
-spec hash(Id :: term()) -> hash().
hash(Id) ->
    erlang:phash2(Id, ?RANGE).

%% @doc All of them, the key's own first.
-spec order(key(), [{hash(), Value}]) -> [Value].
order(Key, Candidates) ->
    descending([{score(Key, Hash), Hash, Value} || {Hash, Value} <- Candidates]).

%% @doc The same for candidates that get unequal numbers of keys: in proportion to their weights.
-spec weighted(key(), [{hash(), Weight :: number(), Value}]) -> [Value].
weighted(Key, Candidates) ->
    descending([{Weight / -math:log((score(Key, Hash) + 0.5) / ?RANGE), Hash, Value}
                || {Hash, Weight, Value} <- Candidates]).

score(Key, Hash) ->
    erlang:phash2({Key, Hash}, ?RANGE).

descending(Scored) ->
    [Value || {_, _, Value} <- lists:reverse(lists:sort(Scored))].
