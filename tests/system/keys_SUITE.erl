%% SPDX-License-Identifier: MIT
%% The Erlang client and a daemon that asks for keys. Needs one at $GENDRIVERD_URL and
%% $GENDRIVERD_UNIX_URL with the instances sum and echo, the key anna, of 48 bytes `k' or `n', which opens sum
%% and there the command sum alone, and another daemon at $GENDRIVERD_OPEN_URL that asks for none.
-module(keys_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([who_proves_the_key_is_served/1, a_key_may_be_had_at_each_connection/1, who_does_not_is_refused/1,
         each_secret_of_a_key_will_do/1, what_the_key_does_not_allow_is_forbidden/1,
         a_client_without_a_key_says_what_is_missing/1, a_daemon_that_asks_for_none_is_not_trusted/1]).

suite() -> [{timetrap, {seconds, 60}}].

all() ->
    [who_proves_the_key_is_served, a_key_may_be_had_at_each_connection, who_does_not_is_refused,
     each_secret_of_a_key_will_do, what_the_key_does_not_allow_is_forbidden,
     a_client_without_a_key_says_what_is_missing, a_daemon_that_asks_for_none_is_not_trusted].

init_per_suite(Config) ->
    case os:getenv("GENDRIVERD_OPEN_URL") of
        Unset when Unset =:= false; Unset =:= "" -> {skip, "GENDRIVERD_OPEN_URL is not set"};
        _ -> Config
    end.

end_per_suite(_Config) -> ok.

key() -> binary:copy(<<"k">>, 48).

%% A client, and what came of its first attempt.
client(Url, Instance, Options) ->
    {ok, Pid} = gen_driver_tcp:start_link(maps:merge(#{connect => os:getenv(Url), instance => Instance}, Options)),
    {Pid, gen_driver_tcp:await(Pid, 15000)}.

outcome(Url, Instance, Options) ->
    {Pid, Outcome} = client(Url, Instance, Options),
    ok = gen_driver_tcp:stop(Pid),
    Outcome.

who_proves_the_key_is_served(_Config) ->
    [begin
         {Pid, ok} = client(Url, sum, #{auth => {anna, key()}}),
         ?assertEqual({ok, 10.0}, gen_driver_tcp:call(Pid, sum, [1, 2, 3, 4])),
         ok = gen_driver_tcp:stop(Pid)
     end || Url <- ["GENDRIVERD_URL", "GENDRIVERD_UNIX_URL"]].

a_key_may_be_had_at_each_connection(_Config) ->
    ?assertEqual(ok, outcome("GENDRIVERD_URL", sum, #{auth => {<<"anna">>, fun key/0}})).

who_does_not_is_refused(_Config) ->
    [?assertEqual({error, {refused, auth}}, outcome("GENDRIVERD_URL", Instance, #{auth => {Name, Key}}))
     || {Instance, Name, Key} <- [{sum, anna, binary:copy(<<"x">>, 48)}, {sum, bert, key()}, {echo, anna, key()},
                                  {nowhere, anna, key()}]].

each_secret_of_a_key_will_do(_Config) ->
    [?assertEqual(ok, outcome("GENDRIVERD_URL", sum, #{auth => {anna, binary:copy(Byte, 48)}})) || Byte <- [<<"k">>, <<"n">>]].

what_the_key_does_not_allow_is_forbidden(_Config) ->
    {Pid, ok} = client("GENDRIVERD_URL", sum, #{auth => {anna, key()}}),
    Forbidden = gen_driver_tcp:call(Pid, stats, []),
    ?assertEqual({error, {failed, forbidden}}, Forbidden),
    ?assert(gen_driver_tcp:retryable(Forbidden)),
    ?assertEqual({error, {failed, forbidden}}, gen_server:call(Pid, {port, 4711, []})),
    ?assertEqual({ok, 10.0}, gen_driver_tcp:call(Pid, sum, [1, 2, 3, 4])),
    ok = gen_driver_tcp:stop(Pid).

a_client_without_a_key_says_what_is_missing(_Config) ->
    ?assertEqual({error, {auth, key_needed}}, outcome("GENDRIVERD_URL", sum, #{})).

a_daemon_that_asks_for_none_is_not_trusted(_Config) ->
    ?assertEqual({error, {auth, not_offered}}, outcome("GENDRIVERD_OPEN_URL", sum, #{auth => {anna, key()}})).
