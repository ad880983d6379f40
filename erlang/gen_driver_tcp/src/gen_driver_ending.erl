%% SPDX-License-Identifier: MIT
%% @doc The end of a client: casts that were taken go out, and everybody who waits hears.
%%
%% A part of `gen_driver_client', on its state; its process alone.
-module(gen_driver_ending).

-include("gen_driver_client.hrl").

-export([terminate/2]).

%% Time (ms) for casts that were taken, when the client stops: less than a supervisor's.
-define(LAST_WORDS, 2000).

%% @doc As gen_server's.
-spec terminate(Reason :: term(), #state{}) -> ok.
terminate(Reason, State = #state{notes = Notes}) ->
    ok = gen_driver_places:close(self()),
    ok = hang_up(State),
    ok = gen_driver_notes:stop(Notes),
    Manner = manner(Reason),
    Last = gen_driver_flow:unavailable(case Manner of
        polite -> last_words(now_ms() + ?LAST_WORDS, gen_driver_flow:without_calls(State));
        abrupt -> State
    end),
    Ended = maps:fold(fun(_, Link, Acc) -> gen_driver_flow:unsent(gen_driver_link:give_up(disconnected, Manner, Link), Acc) end,
                      Last, Last#state.links),
    _ = gen_driver_links:told({error, stopped}, Ended),
    ok.

hang_up(#state{dialer = Dialer}) when is_pid(Dialer) ->
    true = exit(Dialer, kill),
    ok;
hang_up(_State) ->
    ok.

manner(normal) -> polite;
manner(shutdown) -> polite;
manner({shutdown, _}) -> polite;
manner(_) -> abrupt.

%% Casts that were accepted go out, as far as the socket takes them in this time.
last_words(Until, State = #state{current = Socket, links = Links}) ->
    case gen_driver_flow:can_send(State) of
        true ->
            last_words(Until, gen_driver_flow:flush(State));
        false when Socket =:= none ->
            State;
        false ->
            case gen_driver_queue:size(State#state.queue) > 0 orelse gen_driver_link:is_busy(maps:get(Socket, Links)) of
                true -> written(Until, State);
                false -> State
            end
    end.

written(Until, State = #state{current = Socket, links = Links}) ->
    receive
        {gen_driver_writer, Socket, ok} ->
            last_words(Until, State#state{links = maps:update_with(Socket, fun gen_driver_link:sent/1, Links)});
        {gen_driver_writer, Socket, {error, _}} ->
            State;
        {Closed, Socket} when Closed =:= tcp_closed; Closed =:= ssl_closed ->
            State
    after max(0, Until - now_ms()) ->
        State
    end.

now_ms() ->
    erlang:monotonic_time(millisecond).
