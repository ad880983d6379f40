%% SPDX-License-Identifier: MIT
%% What a socket of the client's does not let in.
-module(gen_driver_socket_tests).

-include_lib("eunit/include/eunit.hrl").

-define(PASSRIGHTS, {raw, 1, 83, 4}).

no_descriptor_comes_by_a_unix_socket_test() ->
    Path = filename:join("/tmp", "gen_driver_socket_tests-" ++ os:getpid()),
    {ok, Listening} = gen_tcp:listen(0, [{ifaddr, {local, Path}}]),
    try
        {ok, Untold} = gen_tcp:connect({local, Path}, 0, [{inet_backend, inet}, local]),
        {ok, Options} = gen_driver_options:client([{instance, "x"}]),
        {ok, Ours} = gen_driver_socket:connect({local, Path}, Options, 5000),
        ?assertEqual(refused(inet:getopts(Untold, [?PASSRIGHTS])), inet:getopts(Ours, [?PASSRIGHTS]))
    after
        gen_tcp:close(Listening),
        file:delete(Path)
    end.

%% A kernel that does not know it tells nothing.
refused({ok, [{raw, 1, 83, <<_:32>>}]}) -> {ok, [{raw, 1, 83, <<0:32>>}]};
refused({ok, []}) -> {ok, []}.
