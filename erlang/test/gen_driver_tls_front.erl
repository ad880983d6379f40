%% SPDX-License-Identifier: MIT
%% TLS in front of a service that speaks none: certificates made on the spot, and a relay.
%% An end by close_notify ends both directions here, as OTP's ssl does.
-module(gen_driver_tls_front).

-include_lib("public_key/include/public_key.hrl").

-export([certificates/1, write/2, start/3, url/1]).

%% What a server and its clients need, for a server of these names and addresses.
certificates(Names) ->
    Alternative = #'Extension'{extnID = ?'id-ce-subjectAltName', critical = false, extnValue = Names},
    Own = [{key, {namedCurve, secp256r1}}, {digest, sha256}],
    Chain = fun(Extensions) -> #{root => Own, intermediates => [], peer => [{extensions, Extensions} | Own]} end,
    #{server_config := Server, client_config := Client} =
        public_key:pkix_test_data(#{server_chain => Chain([Alternative]), client_chain => Chain([])}),
    {Server, [{cacerts, proplists:get_value(cacerts, Client)}]}.

%% The same in PEM: what the server needs, and whom its clients trust.
write(ServerFile, ClientFile) ->
    {Server, Client} = certificates([{dNSName, "localhost"}, {iPAddress, <<127, 0, 0, 1>>}]),
    {KeyType, Key} = proplists:get_value(key, Server),
    Chain = [{'Certificate', Der, not_encrypted} || Der <- [proplists:get_value(cert, Server)]],
    ok = file:write_file(ServerFile, public_key:pem_encode([{KeyType, Key, not_encrypted} | Chain])),
    Trusted = [{'Certificate', Der, not_encrypted} || Der <- proplists:get_value(cacerts, Client)],
    ok = file:write_file(ClientFile, public_key:pem_encode(Trusted)).

%% Each connection to it is one to `Port'. Ends with the calling process.
start(Server, Options, Port) ->
    {ok, _} = application:ensure_all_started(ssl),
    {ok, Listener} = ssl:listen(0, [binary, {active, false}, {packet, raw}, {ip, {127, 0, 0, 1}}, {reuseaddr, true}
                                    | Options ++ Server]),
    spawn_link(fun() -> accept(Listener, Port) end),
    Listener.

url(Listener) ->
    {ok, {_, Port}} = ssl:sockname(Listener),
    "tls://127.0.0.1:" ++ integer_to_list(Port).

accept(Listener, Port) ->
    {ok, Transport} = ssl:transport_accept(Listener),
    Relay = spawn(fun() -> receive go -> relay(ssl:handshake(Transport, 5000), Port) end end),
    ok = ssl:controlling_process(Transport, Relay),
    Relay ! go,
    accept(Listener, Port).

relay({ok, Tls}, Port) ->
    {ok, Tcp} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}, {nodelay, true}]),
    Back = spawn_link(fun() -> receive go -> pump(gen_tcp, Tcp, ssl, Tls) end end),
    ok = gen_tcp:controlling_process(Tcp, Back),
    Back ! go,
    pump(ssl, Tls, gen_tcp, Tcp);
relay({error, _}, _Port) ->
    ok.

pump(From, Source, To, Sink) ->
    case From:recv(Source, 0) of
        {ok, Data} ->
            case To:send(Sink, Data) of
                ok -> pump(From, Source, To, Sink);
                {error, _} -> exit(shutdown)
            end;
        {error, _} ->
            _ = To:close(Sink),
            exit(shutdown)
    end.
