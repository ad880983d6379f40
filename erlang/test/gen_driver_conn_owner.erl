%% SPDX-License-Identifier: MIT
%% A process that owns a connection and does as a test tells it, and the service's end of that connection.
-module(gen_driver_conn_owner).

-export([init_per_testcase/2, end_per_testcase/2, with_ssl/1, listener/1]).
-export([connected/1, connected/3, owner/2, tell/2, call/4, many/3, info/1, works/2, again/2, next_millisecond/0]).
-export([tls/0, say/2, hear/1, raw/2]).

-include_lib("common_test/include/ct.hrl").

-import(gen_driver_fake, [welcome/1, welcome/2, recv/1, send/2, outcome/1]).

%% Not every runtime has it.
with_ssl(Cases) ->
    case code:which(ssl) of
        non_existing -> [];
        _ -> Cases
    end.

init_per_testcase(_Case, Config) ->
    [{listener, gen_driver_fake:listen()} | Config].

end_per_testcase(_Case, Config) ->
    gen_driver_fake:close(?config(listener, Config)).

listener(Config) ->
    ?config(listener, Config).

%% An owner, which does as it is told, and the service's end of its connection.
connected(Config) ->
    connected(#{}, #{}, Config).

connected(Options, Welcome, Config) ->
    Owner = owner(gen_driver_fake:url(listener(Config)), Options),
    Peer = welcome(listener(Config), Welcome),
    {ok, _} = outcome(Owner),
    {Owner, Peer}.

owner(Url, Options) ->
    Test = self(),
    Ref = make_ref(),
    {Ref, spawn_link(fun() ->
        process_flag(trap_exit, true),
        Connected = gen_driver_conn:connect(maps:merge(#{instance => sum, connect => Url}, Options)),
        Test ! {Ref, Connected},
        {ok, Conn} = Connected,
        told(Conn)
    end)}.

told(Conn) ->
    receive
        {tell, From, Ref, Fun} ->
            From ! {Ref, try Fun(Conn) catch Class:Reason -> {Class, Reason} end},
            told(Conn);
        leave ->
            ok
    end.

tell({_, Pid}, Fun) ->
    Ref = make_ref(),
    Pid ! {tell, self(), Ref, Fun},
    {Ref, Pid}.

call(Owner, Command, Params, Options) ->
    tell(Owner, fun(Conn) -> gen_driver_conn:call(Conn, Command, Params, Options) end).

many(Owner, Calls, Options) ->
    tell(Owner, fun(Conn) -> gen_driver_conn:call_many(Conn, Calls, Options) end).

info(Owner) ->
    outcome(tell(Owner, fun gen_driver_conn:info/1)).

%% The connection works: a call on it is answered.
works(Owner, Peer) ->
    Call = call(Owner, 9, [], infinity),
    {call, Id, 9, []} = recv(Peer),
    send(Peer, {reply, Id, {works, Id}}),
    {works, Id} = outcome(Call).

%% The next call connects anew, and is answered.
again(Owner, Config) ->
    Call = call(Owner, 9, [], infinity),
    New = welcome(listener(Config)),
    {call, 0, 9, []} = recv(New),
    send(New, {reply, 0, again}),
    again = outcome(Call),
    New.

%% What has come within this millisecond is not looked for before a send.
next_millisecond() ->
    next_millisecond(erlang:monotonic_time(millisecond)).

next_millisecond(Now) ->
    erlang:monotonic_time(millisecond) > Now orelse next_millisecond(Now).

%% Certificates that nobody else trusts, and a listener that has one.
tls() ->
    {ok, _} = application:ensure_all_started(ssl),
    Name = {extensions, [{'Extension', {2, 5, 29, 17}, false, [{dNSName, "localhost"}]}]},
    Own = [{digest, sha256}, {key, {namedCurve, secp256r1}}],
    #{server_config := Server, client_config := Client} =
        public_key:pkix_test_data(#{server_chain => #{root => Own, intermediates => [], peer => [Name | Own]},
                                    client_chain => #{root => Own, intermediates => [], peer => Own}}),
    {ok, Listener} = ssl:listen(0, Server ++ [binary, {packet, 4}, {active, false}, {versions, ['tlsv1.3']}, {ip, {127, 0, 0, 1}}]),
    {ok, {_, Port}} = ssl:sockname(Listener),
    Options = #{tls_options => [proplists:lookup(cacerts, Client), {server_name_indication, "localhost"}]},
    Owner = owner("tls://127.0.0.1:" ++ integer_to_list(Port), Options),
    {ok, Accepted} = ssl:transport_accept(Listener, 10000),
    {ok, Peer} = ssl:handshake(Accepted, 10000),
    say(Peer, {gen_driver, 1, #{auth => none}}),
    {hello, 1, Instance, _} = hear(Peer),
    say(Peer, gen_driver_fake:welcomed(Instance, #{})),
    {ok, _} = outcome(Owner),
    {Owner, Peer}.

say(Peer, Term) -> ok = ssl:send(Peer, term_to_binary(Term)).

hear(Peer) ->
    case ssl:recv(Peer, 0, 10000) of
        {ok, Frame} -> binary_to_term(Frame);
        {error, Reason} -> Reason
    end.

raw(Peer, Size) ->
    ok = inet:setopts(Peer, [{packet, raw}]),
    gen_tcp:recv(Peer, Size, 10000).
