%% SPDX-License-Identifier: MIT
%% @doc Sends for a client whose socket is full: the process that may block, linked to the one that may not.
%%
%% One batch is outstanding at a time; the client keeps the rest and counts it.
%% It also sends for a client whose mailbox is long: `gen_tcp:send' looks for its
%% answer in the whole of the calling process's mailbox, message by message.
-module(gen_driver_writer).

-export([start_link/1, send/2, send_now/2, half_close/1, stop/1]).
-export([loop/2]).

%% @doc A writer for a socket of the calling process.
-spec start_link(gen_driver_socket:socket()) -> pid().
start_link(Socket) ->
    Owner = self(),
    spawn_link(fun() -> loop(Owner, Socket) end).

%% @doc Send; the owner gets `{gen_driver_writer, Socket, ok | {error, Reason}}' when it is done.
-spec send(pid(), iodata()) -> ok.
send(Writer, Data) ->
    Writer ! {send, Data},
    ok.

%% @doc Send, and return when it is done: only for a socket that holds nothing back.
-spec send_now(pid(), iodata()) -> ok | {error, gen_driver_socket:reason()}.
send_now(Writer, Data) ->
    %% Made here, the reference lets the receive below skip all that waits already.
    Ref = monitor(process, Writer),
    Writer ! {send_now, self(), Ref, Data},
    receive
        {Ref, Result} ->
            true = demonitor(Ref, [flush]),
            Result;
        {'DOWN', Ref, process, Writer, _} ->
            {error, closed}
    end.

%% @doc Shut the sending side down once everything handed in has gone out; the owner gets
%% `{gen_driver_writer, Socket, half_closed}'.
-spec half_close(pid()) -> ok.
half_close(Writer) ->
    Writer ! half_close,
    ok.

%% @doc End it wherever it is, in the middle of a send too.
-spec stop(pid()) -> ok.
stop(Writer) ->
    unlink(Writer),
    exit(Writer, kill),
    receive {'EXIT', Writer, _} -> ok after 0 -> ok end.

%% @private By its module's name, so that it goes on in new code.
-spec loop(pid(), gen_driver_socket:socket()) -> no_return().
loop(Owner, Socket) ->
    receive
        {send, Data} ->
            Owner ! {?MODULE, Socket, gen_driver_socket:send(Socket, Data)},
            true = erlang:garbage_collect(),    % it may be long until the next
            ?MODULE:loop(Owner, Socket);
        {send_now, From, Ref, Data} ->
            From ! {Ref, gen_driver_socket:send(Socket, Data)},
            ?MODULE:loop(Owner, Socket);
        half_close ->
            %% An error means that the link is gone: the owner hears of that from the socket. OTP's ssl may
            %% shut TCP down before its close_notify is out, which to the peer is a stream that was cut off: so
            %% TLS is left open here, and its owner closes it when it has all its answers.
            _ = gen_driver_socket:is_secure(Socket) orelse gen_driver_socket:half_close(Socket),
            Owner ! {?MODULE, Socket, half_closed},
            ?MODULE:loop(Owner, Socket)
    end.
