%% SPDX-License-Identifier: MIT
%% A service played by the test itself: real loopback sockets, every frame by hand.
-module(gen_driver_fake).

-export([listen/0, listen/1, listen_unix/1, port/1, url/1, close/1]).
-export([accept/1, greet/1, hello/1, welcome/1, welcome/2, welcomed/2, refuse/2]).
-export([recv/1, recv/2, recv_calls/2, send/2, send_raw/2, frame/1, half_close/1, reset/1]).
-export([async/1, outcome/1, drained/1, repository/0, load/1]).

-define(WAIT, 30000).

listen() ->
    listen([]).

listen(Options) ->
    {ok, Listener} = gen_tcp:listen(0, Options ++ [{ip, {127, 0, 0, 1}} | options()]),
    Listener.

listen_unix(Path) ->
    {ok, Listener} = gen_tcp:listen(0, [{ifaddr, {local, Path}} | options()]),
    Listener.

options() ->
    [binary, {packet, 4}, {active, false}, {reuseaddr, true}, {nodelay, true}, {backlog, 64},
     {exit_on_close, false}].

port(Listener) ->
    {ok, Port} = inet:port(Listener),
    Port.

url(Listener) ->
    "tcp://127.0.0.1:" ++ integer_to_list(port(Listener)).

close(Socket) ->
    ok = gen_tcp:close(Socket).

%%% Handshake, in steps or at once

accept(Listener) ->
    {ok, Conn} = gen_tcp:accept(Listener, ?WAIT),
    Conn.

greet(Conn) ->
    send(Conn, {gen_driver, 1, #{server => <<"fake">>, auth => none, nonce => <<0:256>>}}).

hello(Conn) ->
    {hello, 1, Instance, #{}} = recv(Conn),
    Instance.

%% A client of ours, connected. What `Info' says is added to the welcome.
welcome(Listener) ->
    welcome(Listener, #{}).

welcome(Listener, Info) ->
    Conn = accept(Listener),
    ok = greet(Conn),
    Instance = hello(Conn),
    ok = send(Conn, welcomed(Instance, Info)),
    Conn.

welcomed(Instance, Info) ->
    {welcome, 1, maps:merge(#{instance => Instance, generation => 1, threads => 1,
                              commands => #{<<"sum">> => 1}, atoms => [],
                              limits => #{frame => 16 bsl 20, in_flight => 1024}, last_exit => none}, Info)}.

refuse(Listener, Reason) ->
    Conn = accept(Listener),
    ok = greet(Conn),
    _ = hello(Conn),
    ok = send(Conn, {refused, Reason}),
    close(Conn).

%%% Frames

recv(Conn) ->
    recv(Conn, ?WAIT).

%% The next term, or `closed', or `timeout' when the client says nothing for so long.
recv(Conn, Timeout) ->
    case gen_tcp:recv(Conn, 0, Timeout) of
        {ok, Frame} -> binary_to_term(Frame);
        {error, Reason} -> Reason
    end.

recv_calls(Conn, N) ->
    [recv(Conn) || _ <- lists:seq(1, N)].

send(Conn, Term) ->
    send_raw(Conn, frame(Term)).

%% Bytes as they are: lies, pieces, garbage.
send_raw(Conn, Bytes) ->
    ok = inet:setopts(Conn, [{packet, raw}]),
    ok = gen_tcp:send(Conn, Bytes),
    ok = inet:setopts(Conn, [{packet, 4}]).

frame(Term) ->
    Encoded = term_to_binary(Term),
    <<(byte_size(Encoded)):32, Encoded/binary>>.

half_close(Conn) ->
    ok = gen_tcp:shutdown(Conn, write).

reset(Conn) ->
    ok = inet:setopts(Conn, [{linger, {true, 0}}]),
    close(Conn).

%%% Callers

async(Fun) ->
    Owner = self(),
    Ref = make_ref(),
    Pid = spawn(fun() -> Owner ! {Ref, try Fun() catch Class:Reason -> {Class, Reason} end} end),
    {Ref, Pid}.

outcome({Ref, _Pid}) ->
    receive {Ref, Outcome} -> Outcome after ?WAIT -> error(no_outcome) end.

%% The client has handled all that was sent to it before.
drained(Client) ->
    gen_driver_tcp:info(Client).

%%% Files

%% The root of the repository: this file's source lies below it, wherever it was compiled to.
repository() ->
    above(filename:dirname(proplists:get_value(source, module_info(compile)))).

above(Directory) ->
    case filelib:is_dir(filename:join(Directory, "tests/vectors")) of
        true -> Directory;
        false when Directory =/= "/" -> above(filename:dirname(Directory))
    end.

%% A module of the repository that belongs to no application; compiled here where nobody has done so before.
load(Path) ->
    Module = list_to_atom(filename:basename(Path, ".erl")),
    case code:ensure_loaded(Module) of
        {module, Module} ->
            Module;
        {error, nofile} ->
            Source = filename:join(repository(), Path),
            {ok, Module, Code} = compile:file(Source, [binary, debug_info]),
            {module, Module} = code:load_binary(Module, Source, Code),
            Module
    end.
