%% SPDX-License-Identifier: MIT
%% @doc A send on a passive socket that may wait for the peer, which may be waiting for us to read: a writer sends, and
%% what comes meanwhile is read, in the calling process.
-module(gen_driver_conn_writing).

-export([write/4]).

-define(MAX_MS, 16#ffffffff).

%% @doc Until all is in the kernel's hands (`ok'), the socket refuses it (`unsent'), the peer says no more (`ended'), or
%% no longer than until then (`late'). And whether the socket is open still: it is passive again.
-spec write(gen_driver_socket:socket(), iodata(), Until :: integer() | infinity, gen_driver_conn_kept:kept()) ->
    {ok | unsent | ended | late, IsOpen :: boolean(), gen_driver_conn_kept:kept()}.
write(Socket, Data, Until, Kept) ->
    Writer = gen_driver_writer:start_link(Socket),
    ok = gen_driver_writer:send(Writer, Data),
    {Outcome, Heard} = writing(Socket, Until, Kept),
    ok = gen_driver_writer:stop(Writer),
    receive {gen_driver_writer, Socket, _} -> ok after 0 -> ok end,
    IsOpen = gen_driver_socket:setopts(Socket, [{active, false}]) =:= ok,
    {Outcome, IsOpen, flushed(Socket, Heard)}.

%% Both what is written and what is to be read come as messages.
writing(Socket, Until, Kept) ->
    %% Of a socket that is closed the writer has a word to say.
    _ = gen_driver_socket:setopts(Socket, [{active, once}]),
    receive
        {gen_driver_writer, Socket, ok} ->
            {ok, Kept};
        {gen_driver_writer, Socket, {error, _}} ->
            {unsent, Kept};
        {Tag, Socket, Data} when (Tag =:= tcp orelse Tag =:= ssl), is_binary(Data) ->
            case gen_driver_conn_kept:take(Data, Kept) of
                {ok, More} -> writing(Socket, Until, More);
                {ended, More} -> {ended, More}
            end;
        {Closed, Socket} when Closed =:= tcp_closed; Closed =:= ssl_closed ->
            {ended, Kept};
        {Error, Socket, _} when Error =:= tcp_error; Error =:= ssl_error ->
            {ended, Kept}
    after left(Until) ->
        {late, Kept}
    end.

flushed(Socket, Kept) ->
    receive
        {Tag, Socket, Data} when (Tag =:= tcp orelse Tag =:= ssl), is_binary(Data) ->
            {_, More} = gen_driver_conn_kept:take(Data, Kept),
            flushed(Socket, More);
        {Closed, Socket} when Closed =:= tcp_closed; Closed =:= ssl_closed -> flushed(Socket, Kept);
        {Error, Socket, _} when Error =:= tcp_error; Error =:= ssl_error -> flushed(Socket, Kept)
    after 0 ->
        Kept
    end.

left(infinity) -> infinity;
left(Until) -> min(max(0, Until - erlang:monotonic_time(millisecond)), ?MAX_MS).
