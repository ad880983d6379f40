%% SPDX-License-Identifier: MIT
%% @doc The options of a pool, and of a call to a pool, checked and given their defaults. Pure.
%%
%% What is not of the pool itself is an option of its members (gen_driver_options).
-module(gen_driver_pool_options).

-export([pool/1, endpoints/2, call/2, single/1, cast/1, stream/1]).
-export_type([options/0, checked/0, endpoint/0, call_options/0, way/0]).

%% Of a pool, or of gen_driver_options.
-type options() :: [{atom(), term()} | atom()] | #{atom() => term()}.
-type checked() :: #{
    source := gen_driver_endpoints:source(), client := gen_driver_options:checked(), size := pos_integer(),
    refresh := pos_integer(), lookup_timeout := pos_integer(), max_endpoints := pos_integer(),
    health := pos_integer() | infinity, health_timeout := pos_integer(), max_fails := pos_integer(),
    min_healthy := number(), slow_start := non_neg_integer(), retries := non_neg_integer(),
    drain := non_neg_integer(), restarts := {non_neg_integer(), pos_integer()}, cluster := boolean()
}.
-type endpoint() :: {Priority :: non_neg_integer(), Weight :: non_neg_integer(), gen_driver_options:address()}.
-type call_options() :: timeout() | [{atom(), term()}] | #{atom() => term()}.
%% How a call is to find its member.
-type way() :: #{key := none | gen_driver_rendezvous:key(), keep := boolean(), hedge := none | non_neg_integer(),
                 retries := default | non_neg_integer()}.

-define(MAX_MS, 16#ffffffff).
-define(MAX_COUNT, 16#ffff).
%% As gen_driver_options', which are for a client that has nobody beside it.
-define(CONNECT_WAIT, 2000).

%% @doc The options of a pool.
-spec pool(options()) -> {ok, checked()} | {error, gen_driver_options:bad_option()}.
pool(Options) ->
    try {ok, checked(to_map(Options))}
    catch
        throw:{bad_option, _} = Bad -> {error, Bad}
    end.

checked(#{endpoints := _, connect := Connect}) ->
    throw({bad_option, {connect, Connect}});
checked(Given) ->
    Defaults = defaults(),
    Ours = maps:with([endpoints | maps:keys(Defaults)], Given),
    Rest = maps:merge(#{connect_wait => ?CONNECT_WAIT}, maps:without(maps:keys(Ours), Given)),
    Client = good(gen_driver_options:client(Rest)),
    Source = maps:get(endpoints, Given, [maps:get(connect, Client)]),
    Checked = maps:map(fun check/2, maps:merge(Defaults, maps:remove(endpoints, Ours))),
    Pool = Checked#{source => source(Source), client => Client},
    case gen_driver_endpoints:is_fixed(Source) of
        true -> _ = fixed(Source, Pool), Pool;
        false -> Pool
    end.

good({ok, Checked}) -> Checked;
good({error, Bad}) -> throw(Bad).

defaults() ->
    #{size => 1,
      refresh => 30000,
      lookup_timeout => 5000,
      max_endpoints => 128,
      health => 5000,
      health_timeout => 2000,
      max_fails => 3,
      min_healthy => 0.5,
      slow_start => 10000,
      retries => 2,
      drain => 5000,
      restarts => {10, 10},
      cluster => true}.

check(size, N) when is_integer(N), N > 0, N =< 1024 -> N;
check(Key, N) when Key =:= max_endpoints orelse Key =:= max_fails, is_integer(N), N > 0, N =< ?MAX_COUNT -> N;
check(retries, N) when is_integer(N), N >= 0, N =< ?MAX_COUNT -> N;
check(health, infinity) -> infinity;
check(Key, Ms) when Key =:= refresh orelse Key =:= lookup_timeout orelse Key =:= health orelse Key =:= health_timeout,
                    is_integer(Ms), Ms > 0, Ms =< ?MAX_MS -> Ms;
check(Key, Ms) when Key =:= slow_start orelse Key =:= drain, is_integer(Ms), Ms >= 0, Ms =< ?MAX_MS -> Ms;
check(min_healthy, Share) when is_number(Share), Share >= 0, Share =< 1 -> Share;
check(restarts, {Times, Seconds} = Restarts)
  when is_integer(Times), Times >= 0, is_integer(Seconds), Seconds > 0 -> Restarts;
check(cluster, Flag) when is_boolean(Flag) -> Flag;
check(Key, Value) -> throw({bad_option, {Key, Value}}).

source(Source) ->
    case gen_driver_endpoints:is_source(Source) of
        true -> Source;
        false -> throw({bad_option, {endpoints, Source}})
    end.

fixed(Source, Pool) ->
    {ok, Endpoints} = gen_driver_endpoints:read(Source),
    case endpoints(Endpoints, Pool) of
        {ok, Checked} -> Checked;
        {error, {bad_option, {connect, Address}}} -> throw({bad_option, {endpoints, Address}});
        {error, {too_many, _}} -> throw({bad_option, {endpoints, Source}})
    end.

%% @doc Their addresses, checked; the same address twice is one.
-spec endpoints([gen_driver_endpoints:endpoint()], #{max_endpoints := pos_integer(), atom() => term()}) ->
    {ok, [endpoint()]} | {error, gen_driver_options:bad_option() | {too_many, non_neg_integer()}}.
endpoints(Endpoints, #{max_endpoints := Max}) ->
    try gen_driver_endpoints:distinct([{address(Address), Priority, Weight} || {Priority, Weight, Address} <- Endpoints]) of
        Distinct when length(Distinct) > Max -> {error, {too_many, length(Distinct)}};
        Distinct -> {ok, [{Priority, Weight, Address} || {Address, Priority, Weight} <- Distinct]}
    catch
        throw:{bad_option, _} = Bad -> {error, Bad}
    end.

address(Address) ->
    #{connect := Checked} = good(gen_driver_options:client(#{instance => x, connect => Address})),
    Checked.

to_map(Options) when is_map(Options) -> Options;
to_map(Options) when is_list(Options), length(Options) >= 0 -> maps:from_list(lists:map(fun pair/1, lists:reverse(Options)));
to_map(Options) -> throw({bad_option, {unknown, Options}}).

pair({_Key, _Value} = Pair) -> Pair;
pair(Key) when is_atom(Key) -> {Key, true};
%% Said as a client's options say it: what is not a pair may yet be secret.
pair(Option) -> good(gen_driver_options:client([Option])).

%%% Calls

%% @doc The options of one call: how long, what goes on the wire, and how its member is found. Wrong ones
%% are a mistake in the calling code: `error({bad_option, ..})'.
-spec call(call_options(), Default :: timeout()) -> {timeout(), gen_driver_proto:options(), way()}.
call(Options, Default) when is_list(Options), length(Options) >= 0 ->
    call(request_map(Options), Default);
call(Options, Default) when is_map(Options) ->
    Way = maps:map(fun way/2, maps:merge(#{keep => false, hedge => none, retries => default},
                                         maps:with([keep, hedge, retries], Options))),
    {Timeout, Wire} = gen_driver_options:request(keyed(maps:without([keep, hedge, retries], Options))),
    {or_default(Timeout, Default), Wire, Way#{key => maps:get(key, Wire, none)}};
call(Timeout, Default) ->
    {Given, Wire} = gen_driver_options:request(Timeout),
    {or_default(Given, Default), Wire, #{key => none, keep => false, hedge => none, retries => default}}.

or_default(default, Default) -> Default;
or_default(Timeout, _Default) -> Timeout.

keyed(#{key := Key} = Options) -> Options#{key := gen_driver_rendezvous:key(Key)};
keyed(Options) -> Options.

way(keep, Flag) when is_boolean(Flag) -> Flag;
way(hedge, none) -> none;
way(hedge, Ms) when is_integer(Ms), Ms >= 0, Ms =< ?MAX_MS -> Ms;
way(retries, default) -> default;
way(retries, N) when is_integer(N), N >= 0, N =< ?MAX_COUNT -> N;
way(Key, Value) -> error({bad_option, {Key, Value}}).

%% @doc The options of a call that is made once.
-spec single(call_options()) -> {timeout(), gen_driver_proto:options(), way()}.
single(Options) ->
    {Given, Way} = one(Options, []),
    {Timeout, Wire} = gen_driver_options:request(Given),
    {or_default(Timeout, infinity), Wire, Way}.

%% @doc The options of one cast: those of the member's client, and the way.
-spec cast(call_options()) -> {gen_driver_options:cast_options(), way()}.
cast(Options) ->
    one(Options, [ack]).

%% @doc The options of one stream, in the same way.
-spec stream(call_options()) -> {gen_driver_options:stream_options(), way()}.
stream(Options) ->
    one(Options, [credit, fold]).

one(Options, Others) when is_list(Options), length(Options) >= 0 ->
    one(request_map(Options), Others);
one(Options, Others) when is_map(Options) ->
    {_, Wire, Way} = call(maps:without([hedge, retries | Others], Options), infinity),
    Timeout = maps:with([timeout], Options),
    {maps:merge(maps:merge(Wire, Timeout), maps:with(Others, refused([hedge, retries], Options))), Way};
one(Timeout, _Others) ->
    {_, _, Way} = call(Timeout, infinity),
    {Timeout, Way}.

%% What is not made a second time has no use for these.
refused(Keys, Options) ->
    case maps:to_list(maps:with(Keys, Options)) of
        [] -> Options;
        [Option | _] -> error({bad_option, Option})
    end.

request_map(Options) ->
    maps:from_list(lists:map(fun request_pair/1, lists:reverse(Options))).

request_pair({_, _} = Pair) -> Pair;
request_pair(Option) -> error({bad_option, {unknown, Option}}).
