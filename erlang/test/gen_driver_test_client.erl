%% SPDX-License-Identifier: MIT
%% A client, connected to a service that is played by hand: what suites start, call, and wait for.
-module(gen_driver_test_client).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([init_per_testcase/2, end_per_testcase/2]).
-export([connected/1, connected/3, client/2, call/4, plain/2, until/2, client_socket/1]).

-import(gen_driver_fake, [welcome/2, async/1]).

init_per_testcase(_Case, Config) ->
    Listener = gen_driver_fake:listen(),
    [{listener, Listener} | Config].

end_per_testcase(_Case, Config) ->
    gen_driver_fake:close(?config(listener, Config)).

%% A connected client and the service's end of its connection.
connected(Config) ->
    connected(#{}, #{}, Config).

connected(Options, Welcome, Config) ->
    Client = client(Options, Config),
    Conn = welcome(?config(listener, Config), Welcome),
    ok = gen_driver_tcp:await(Client, 5000),
    {Client, Conn}.

client(Options, Config) ->
    Connect = gen_driver_fake:url(?config(listener, Config)),
    {ok, Client} = gen_driver_tcp:start_link(maps:merge(#{instance => sum, connect => Connect}, Options)),
    Client.

call(Client, Command, Params, Options) ->
    async(fun() -> gen_driver_tcp:call(Client, Command, Params, Options) end).

plain(Client, Request) ->
    async(fun() -> gen_server:call(Client, Request) end).

%% Polls, where no event tells.
until(Client, Is) ->
    until(Client, Is, erlang:monotonic_time(millisecond) + 5000).

until(Client, Is, Deadline) ->
    Info = gen_driver_tcp:info(Client),
    case Is(Info) of
        true ->
            Info;
        false ->
            ?assert(erlang:monotonic_time(millisecond) < Deadline, Info),
            receive after 1 -> ok end,
            until(Client, Is, Deadline)
    end.

client_socket(Client) ->
    {links, Links} = process_info(Client, links),
    [Socket] = [Port || Port <- Links, is_port(Port)],
    Socket.
