%% SPDX-License-Identifier: MIT
%% @doc The one place that knows TCP and unix sockets (gen_tcp) from TLS (ssl).
%%
%% gen_tcp sockets are ports here, whatever the node's default: a port tells how
%% much it holds back, and so whether a send would wait. A TLS socket does not
%% tell: for it `is_clear/1' is false, and a process that may wait does the sending.
-module(gen_driver_socket).

-export([connect/3, send/2, recv/3, setopts/2, half_close/1, close/1, abort/1, give/2]).
-export([is_clear/1, is_open/1, is_secure/1]).
-export_type([socket/0, reason/0]).

-type socket() :: gen_tcp:socket() | ssl:sslsocket().
-type reason() :: closed | timeout | inet:posix() | term().

%% No descriptor is passed to this node by a unix socket: SO_PASSRIGHTS of Linux 6.16; older ones leave it out. What
%% a driver passes would be closed here, and a close may wait.
-define(NO_RIGHTS, {raw, 1, 83, <<0:32>>}).

%% Time (ms) in which a process of its own closes what cannot be closed at once.
-define(CLOSE, 5000).

%% @doc A passive socket of the calling process, that gives binaries as they come.
-spec connect(gen_driver_options:address(), gen_driver_options:checked(), timeout()) ->
    {ok, socket()} | {error, reason()}.
connect(Address, Options, Timeout) ->
    try
        {Module, Host, Port, All} = target(Address, Options),
        Module:connect(Host, Port, All, Timeout)
    of
        {ok, Socket} -> {ok, Socket};
        {error, Reason} -> {error, Reason}
    catch
        throw:{unavailable, Reason} -> {error, Reason};
        exit:Reason -> {error, {Reason, {connect, Address}}}        % badarg: an option's value
    end.

target({local, Path}, #{tcp_options := Given}) ->
    {gen_tcp, {local, Path}, 0, [{inet_backend, inet}, local, ?NO_RIGHTS | ours()] ++ Given};
target({tcp, Host, Port}, #{tcp_options := Given}) ->
    {gen_tcp, Host, Port, [{inet_backend, inet} | ours()] ++ for_tcp() ++ Given};
target({tls, Host, Port}, #{tcp_options := Given, tls_options := Tls}) ->
    {ssl, Host, Port, ours() ++ for_tcp() ++ Given ++ for_tls(Tls)}.

ours() ->
    [binary, {packet, raw}, {active, false}, {buffer, 65536}].

for_tcp() ->
    [{nodelay, true}, {keepalive, true}].

%% Not to be had otherwise: 1.3, and a peer that proves who it is.
for_tls(Given) ->
    ok = started(),
    [{versions, ['tlsv1.3']}, {verify, verify_peer}] ++ trusted(Given) ++ Given.

%% An optional application: whoever names a tls address has it.
started() ->
    case application:ensure_all_started(ssl) of
        {ok, _} -> ok;
        {error, _} -> throw({unavailable, {not_started, ssl}})
    end.

trusted(Given) ->
    case lists:keymember(cacerts, 1, Given) orelse lists:keymember(cacertfile, 1, Given) of
        true -> [];
        false -> [{cacerts, of_the_system()}]
    end.

of_the_system() ->
    try public_key:cacerts_get()
    catch
        error:_ -> throw({unavailable, no_cacerts})
    end.

%% @doc Send; may wait for the peer to read, unless the socket is clear.
-spec send(socket(), iodata()) -> ok | {error, reason()}.
send(Socket, Data) when is_port(Socket) -> gen_tcp:send(Socket, Data);
send(Socket, Data) -> ssl:send(Socket, Data).

%% @doc So many bytes of a passive socket. After a timeout nothing is lost: what has come is still there.
-spec recv(socket(), Size :: non_neg_integer(), timeout()) -> {ok, binary()} | {error, reason()}.
recv(Socket, Size, Timeout) when is_port(Socket) -> received(gen_tcp:recv(Socket, Size, Timeout));
recv(Socket, Size, Timeout) -> received(ssl:recv(Socket, Size, Timeout)).

received({ok, Data}) when is_binary(Data) -> {ok, Data};
received({error, Reason}) -> {error, Reason}.

%% @doc As inet:setopts.
-spec setopts(socket(), [gen_tcp:option()]) -> ok | {error, reason()}.
setopts(Socket, Options) when is_port(Socket) -> inet:setopts(Socket, Options);
setopts(Socket, Options) -> ssl:setopts(Socket, Options).

%% @doc Nothing more will be sent; what comes is still read.
-spec half_close(socket()) -> ok | {error, reason()}.
half_close(Socket) when is_port(Socket) -> gen_tcp:shutdown(Socket, write);
half_close(Socket) -> ssl:shutdown(Socket, write).

%% @doc The end. Never waits: with nothing held back a close does not, and what was sent still
%% arrives; else a process of its own does the waiting, for a while.
-spec close(socket()) -> ok.
close(Socket) ->
    case is_clear(Socket) of
        true ->
            gen_tcp:close(Socket);
        _ ->
            Closer = spawn(fun() -> receive owner -> close_now(Socket) after ?CLOSE -> ok end end),
            case give(Socket, Closer) of
                ok -> Closer ! owner, ok;
                {error, _} -> ok                % it is closed already
            end
    end.

close_now(Socket) when is_port(Socket) -> gen_tcp:close(Socket);
close_now(Socket) -> _ = ssl:close(Socket), ok.

%% @doc The end, now: what was not sent is thrown away.
-spec abort(socket()) -> ok.
abort(Socket) when is_port(Socket) ->
    %% An error says that it is closed already.
    _ = inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket);
abort(Socket) ->
    _ = spawn(fun() -> _ = ssl:setopts(Socket, [{linger, {true, 0}}]), ssl:close(Socket, 0) end),
    ok.

%% @doc Make another process the owner.
-spec give(socket(), pid()) -> ok | {error, reason()}.
give(Socket, Pid) when is_port(Socket) -> gen_tcp:controlling_process(Socket, Pid);
give(Socket, Pid) -> ssl:controlling_process(Socket, Pid).

%% @doc Whether a send from here would not wait: nothing is held back. `closed': there is no such socket.
-spec is_clear(socket()) -> boolean() | closed.
is_clear(Socket) when is_port(Socket) ->
    case erlang:port_info(Socket, queue_size) of
        {queue_size, 0} -> true;
        {queue_size, _} -> false;
        undefined -> closed
    end;
is_clear(_Socket) ->
    false.

%% @doc Whether it is still connected, as far as has been noticed here.
-spec is_open(socket()) -> boolean().
is_open(Socket) when is_port(Socket) -> is_ok(inet:sockname(Socket));
is_open(Socket) -> is_ok(ssl:sockname(Socket)).

is_ok({ok, _}) -> true;
is_ok({error, _}) -> false.

%% @doc Whether it is TLS.
-spec is_secure(socket()) -> boolean().
is_secure(Socket) ->
    not is_port(Socket).
