%% SPDX-License-Identifier: MIT
%% @doc One request on a process's own connection: sent, and its answer read, in the calling process.
-module(gen_driver_conn_calls).

-include("gen_driver_request.hrl").

-export([call/2, cast/2, ping/2, stream/3, beyond/1]).

%% Time (ms) beyond its deadline that a call waits for the host's own word.
-define(BEYOND, 100).

%% @doc Ask, and wait for the answer.
-spec call(gen_driver_caller:request(), gen_driver_conn_own:own()) ->
    {gen_driver_caller:outcome(), gen_driver_conn_own:own()}.
call(Request, Own) ->
    stream(Request, fun answer/3, Own).

%% @doc Ask, and have `Await' read all there is to read.
-spec stream(gen_driver_caller:request(), Await, gen_driver_conn_own:own()) ->
    {Outcome | gen_driver_caller:outcome(), gen_driver_conn_own:own()}
    when Await :: fun((gen_driver_proto:id(), gen_driver_conn_link:until(), gen_driver_conn_link:link()) ->
                          {Outcome, gen_driver_conn_link:link()}).
stream(bad_request, _Await, Own) ->
    {{failed, bad_request}, Own};
stream({Request, Timeout}, Await, Own) ->
    sent(fun(Checked, Until, Link) -> called(Checked, Until, Await, Link) end, Request,
         gen_driver_conn_own:until(Timeout), Own).

%% @doc Send, and wait until the kernel has it.
-spec cast(gen_driver_caller:request(), gen_driver_conn_own:own()) ->
    {ok | gen_driver_caller:outcome(), gen_driver_conn_own:own()}.
cast(bad_request, Own) ->
    {{failed, bad_request}, Own};
cast({Request, Timeout}, Own) ->
    sent(fun handed_over/3, Request, gen_driver_conn_own:until(Timeout), Own).

%% What could not leave at all, for the link was found to have ended, is sent once more on a new one.
sent(How, Request, Until, Own) ->
    case once(How, Request, Until, Own) of
        {unsent, Lost} ->
            case once(How, Request, Until, Lost) of
                {unsent, Again} -> {{failed, unavailable}, Again};
                Done -> Done
            end;
        Done ->
            Done
    end.

once(How, Request, Until, Own) ->
    case gen_driver_conn_own:ready(Request, Until, Own) of
        {ok, Linked} ->
            case gen_driver_conn_own:check(Request, Until, Linked) of
                {ok, Checked} ->
                    {Outcome, Link} = How(Checked, Until, gen_driver_conn_own:link(Linked)),
                    {Outcome, gen_driver_conn_own:settle(gen_driver_conn_own:with(Link, Linked))};
                {refused, Outcome} ->
                    {Outcome, Linked}
            end;
        {failed, Reason, Without} ->
            {{failed, Reason}, Without}
    end.

called({Request = #request{options = Options}, Left}, Until, Await, Link) ->
    case gen_driver_conn_link:room(Link) of
        0 ->
            {{failed, overloaded}, Link};
        _ ->
            {Id, Entered} = gen_driver_conn_link:enter(maps:get(parts, Options, none), Link),
            Frame = gen_driver_ready:call(Id, Request, Left),
            case gen_driver_conn_link:send(Frame, gen_driver_ready:weight(Request), Id, Until, Entered) of
                {ok, Sent} -> Await(Id, beyond(Until), Sent);
                {unsent, Over} -> {unsent, Over};
                {late, Over} -> {{failed, timeout}, Over}
            end
    end.

handed_over({Request, Left}, Until, Link) ->
    Frame = gen_driver_ready:cast(Request, Left),
    case gen_driver_conn_link:send(Frame, gen_driver_ready:weight(Request), false, Until, Link) of
        {ok, Sent} ->
            case gen_driver_conn_link:written(Until, Sent) of
                {ok, Written} -> {ok, Written};
                {unsent, Over} -> {{failed, disconnected}, Over};
                {late, Over} -> {{failed, timeout}, Over}
            end;
        {unsent, Over} ->
            {unsent, Over};
        {late, Over} ->
            {{failed, timeout}, Over}
    end.

%% What comes for others is late, and skipped.
answer(Id, Until, Link) ->
    case gen_driver_conn_link:next(Until, Link) of
        {{reply, Id, BodyAt, Frame}, Read} -> {gen_driver_caller:outcome({frame, BodyAt, Frame}), Read};
        {{failed, Id, Reason}, Read} -> {{failed, Reason}, Read};
        {timeout, Read} -> {{failed, timeout}, gen_driver_conn_link:cancel([Id], Read)};
        {{over, Reason}, Read} -> {{failed, Reason}, Read};
        {_Late, Read} -> answer(Id, Until, Read)
    end.

%% @doc Until when an answer is waited for.
-spec beyond(gen_driver_conn_link:until()) -> gen_driver_conn_link:until().
beyond(infinity) -> infinity;
beyond(Until) when is_integer(Until) -> Until + ?BEYOND.

%% @doc Whether the host's loop answers.
-spec ping(timeout(), gen_driver_conn_own:own()) ->
    {pong | {error, unavailable | disconnected | timeout}, gen_driver_conn_own:own()}.
ping(Timeout, Own) ->
    case sent(fun pinged/3, #request{}, gen_driver_conn_own:until(Timeout), Own) of
        {pong, After} -> {pong, After};
        {{failed, expired}, After} -> {{error, timeout}, After};
        {{failed, Reason}, After} when Reason =:= timeout; Reason =:= unavailable -> {{error, Reason}, After};
        {{failed, _}, After} -> {{error, disconnected}, After}
    end.

pinged(_Request, Until, Link) ->
    {Id, Entered} = gen_driver_conn_link:enter(ping, Link),
    Frame = gen_driver_frame:join(gen_driver_proto:encode_ping(Id)),
    case gen_driver_conn_link:send(Frame, iolist_size(Frame), false, Until, Entered) of
        {ok, Sent} -> pong(Id, Until, Sent);
        {unsent, Over} -> {unsent, Over};
        {late, Over} -> {{failed, timeout}, Over}
    end.

pong(Id, Until, Link) ->
    case gen_driver_conn_link:next(Until, Link) of
        {{pong, Id}, Read} -> {pong, Read};
        {timeout, Read} -> {{failed, timeout}, Read};
        {{over, Reason}, Read} -> {{failed, Reason}, Read};
        {_Late, Read} -> pong(Id, Until, Read)
    end.
