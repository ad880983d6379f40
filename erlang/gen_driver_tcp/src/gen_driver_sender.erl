%% SPDX-License-Identifier: MIT
%% @doc Sends what a link has for its socket, and never blocks the client.
%%
%% The client sends itself only while the socket holds nothing back. Otherwise, and
%% where its mailbox is long, a writer does: a process that is made when it is first
%% needed, and is the link's from then on.
-module(gen_driver_sender).

-export([send/3, writer/2]).

%% Beyond so many messages a send by the writer costs less than one through them.
-define(LONG_MAILBOX, 1000).

%% @doc Send, by the calling process or by this writer, or by one that is made now. `busy': the writer has it, and says
%% when it is out.
-spec send(iodata(), gen_driver_socket:socket(), none | pid()) ->
    {ok | busy | {error, closed | gen_driver_socket:reason()}, none | pid()}.
send(Data, Socket, Writer) ->
    case gen_driver_socket:is_clear(Socket) of
        true ->
            send_now(Data, process_info(self(), message_queue_len), Socket, Writer);
        false ->
            By = writer(Socket, Writer),
            ok = gen_driver_writer:send(By, Data),
            {busy, By};
        closed ->
            {{error, closed}, Writer}
    end.

send_now(Data, {message_queue_len, Waiting}, Socket, Writer) when Waiting > ?LONG_MAILBOX ->
    By = writer(Socket, Writer),
    {gen_driver_writer:send_now(By, Data), By};
send_now(Data, _, Socket, Writer) ->
    {gen_driver_socket:send(Socket, Data), Writer}.

%% @doc This writer, or one that is made now.
-spec writer(gen_driver_socket:socket(), none | pid()) -> pid().
writer(Socket, none) ->
    gen_driver_writer:start_link(Socket);
writer(_Socket, Writer) ->
    Writer.
