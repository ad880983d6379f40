%% SPDX-License-Identifier: MIT
%% @doc Many calls on a process's own connection: sent together, answers put in the order of the requests.
%%
%% They leave in windows, and only while a send would not wait: a peer that cannot
%% write its answers stops reading, and would never read the rest if we did not
%% read meanwhile. When a send would wait, answers are read until it would not.
-module(gen_driver_conn_many).

-include("gen_driver_request.hrl").

-export([call/3]).

-define(REQUESTS, 256).
-define(BYTES, 65536).

-type place() :: pos_integer().
-type waiting() :: [{place(), gen_driver_queue:request()}].
-record(many, {
    until :: gen_driver_conn_link:until(),
    waiting :: waiting(),
    flying = #{} :: #{gen_driver_proto:id() => {place(), gen_driver_queue:request()}},
    bytes = 0 :: non_neg_integer(),             % of those that fly
    outcomes = [] :: [{place(), gen_driver_caller:outcome()}],
    unsent = false :: boolean(),                % the last window did not leave
    own :: gen_driver_conn_own:own()
}).
%% What goes out in one send.
-record(window, {
    link :: gen_driver_conn_link:link(),
    left :: integer() | infinity,               % ms, when it was begun
    frames = [] :: [iodata()],
    calls = [] :: [{gen_driver_proto:id(), {place(), gen_driver_queue:request()}}],  % newest first
    size = 0 :: non_neg_integer(),              % of calls
    bytes = 0 :: non_neg_integer()
}).

%% @doc Ask all, and wait for all; the time is for all of them together.
-spec call([gen_driver_caller:request()], timeout(), gen_driver_conn_own:own()) ->
    {[gen_driver_caller:outcome()], gen_driver_conn_own:own()}.
call(Requests, Timeout, Own) ->
    Placed = lists:zip(lists:seq(1, length(Requests)), Requests),
    Done = go(#many{until = gen_driver_conn_own:until(Timeout), own = Own,
                    waiting = [{Place, Request} || {Place, {Request, _}} <- Placed],
                    outcomes = [{Place, {failed, bad_request}} || {Place, bad_request} <- Placed]}),
    #many{outcomes = Outcomes, own = After} = Done,
    {[Outcome || {_Place, Outcome} <- lists:keysort(1, Outcomes)], After}.

%% Nothing flies, so the link may change.
go(Many = #many{waiting = []}) ->
    Many;
go(Many = #many{waiting = [{_, First} | _], until = Until, own = Own}) ->
    case gen_driver_conn_own:ready(First, Until, Own) of
        {ok, Linked} ->
            {Link, After} = fly(gen_driver_conn_own:link(Linked), Many#many{own = Linked}),
            go(After#many{own = gen_driver_conn_own:settle(gen_driver_conn_own:with(Link, Linked))});
        {failed, Reason, Without} ->
            all_waiting(Reason, Many#many{own = Without})
    end.

%% On one link, until all are answered, or it takes no more and the last answer has come.
fly(Link, Many = #many{waiting = Waiting, flying = Flying}) ->
    Stays = not (gen_driver_conn_link:is_draining(Link) orelse gen_driver_conn_link:is_over(Link)),
    case Waiting =/= [] andalso Stays andalso may_send(Link, Many) of
        true ->
            Window = #window{link = Link, left = gen_driver_conn_own:time_left(Many#many.until)},
            send(window(Many#many.waiting, Window, Many));
        false when map_size(Flying) =:= 0 -> {Link, Many};
        false -> read(Link, Many)
    end.

%% Not one by one, as places become free: when half of them are.
may_send(Link, #many{flying = Flying}) ->
    case map_size(Flying) of
        0 -> true;
        Some -> gen_driver_conn_link:room(Link) >= Some andalso gen_driver_conn_link:is_clear(Link)
    end.

%%% Out

window([{Place, Request} = First | Waiting], Window = #window{link = Link, left = Left}, Many) ->
    case has_room(gen_driver_ready:weight(Request), Window, Many) of
        false ->
            {Window, Many#many{waiting = [First | Waiting]}};
        true ->
            case gen_driver_conn_own:check_left(Request, Left, Link) of
                {ok, Checked} ->
                    {Id, Entered} = gen_driver_conn_link:enter(none, Link),
                    window(Waiting, add(Id, First, Checked, Window#window{link = Entered}), Many);
                {refused, Outcome} ->
                    window(Waiting, Window, told(Place, Outcome, Many))
            end
    end;
window([], Window, Many) ->
    {Window, Many#many{waiting = []}}.

add(Id, First, {Request, Left}, Window = #window{frames = Frames, calls = Calls, size = Size, bytes = Bytes}) ->
    Window#window{frames = [Frames, gen_driver_ready:call(Id, Request, Left)], calls = [{Id, First} | Calls],
                  size = Size + 1, bytes = Bytes + gen_driver_ready:weight(Request)}.

%% The first goes alone, however large.
has_room(Weight, #window{link = Link, size = Size, bytes = Bytes}, #many{bytes = Flying}) ->
    gen_driver_conn_link:room(Link) > 0
        andalso Size < ?REQUESTS
        andalso (Bytes =:= 0 orelse Bytes + Weight =< ?BYTES)
        andalso (Bytes + Flying =:= 0 orelse Bytes + Flying + Weight =< gen_driver_conn_link:max_bytes(Link)).

%% Without any: all were refused, or those that fly leave no room, or those that were given up.
send({#window{link = Link, calls = []}, Many = #many{flying = Flying}}) when map_size(Flying) > 0 ->
    read(Link, Many);
send({#window{link = Link, calls = []}, Many = #many{until = Until}}) ->
    Reason = case Until =/= infinity andalso Until =< erlang:monotonic_time(millisecond) of
        true -> expired;
        false -> overloaded
    end,
    {Link, all_waiting(Reason, Many)};
send({#window{link = Link, frames = Frames, calls = [{Newest, _} | _] = Calls, bytes = Bytes}, Many}) ->
    case gen_driver_conn_link:send(Frames, Bytes, Newest, Many#many.until, Link) of
        {ok, Sent} -> fly(Sent, flying(Calls, Bytes, Many#many{unsent = false}));
        {unsent, Over} -> fly(Over, unsent(Calls, Many));
        {late, Over} -> {Over, all_flying(timeout, flying(Calls, Bytes, Many))}
    end.

flying(Calls, More, Many = #many{flying = Flying, bytes = Bytes}) ->
    Many#many{flying = maps:merge(Flying, maps:from_list(Calls)), bytes = Bytes + More}.

%% The link was found to have ended: once more on a new one.
unsent(Calls, Many = #many{waiting = Waiting, unsent = Again}) ->
    Back = Many#many{waiting = lists:reverse([First || {_, First} <- Calls], Waiting), unsent = true},
    case Again of
        true -> all_waiting(unavailable, Back);
        false -> Back
    end.

%%% In

read(Link, Many = #many{until = Until, flying = Flying}) ->
    case gen_driver_conn_link:next(gen_driver_conn_calls:beyond(Until), Link) of
        {{reply, Id, BodyAt, Frame}, Read} ->
            fly(Read, landed(Id, {frame, BodyAt, Frame}, Many));
        {{failed, Id, Reason}, Read} ->
            fly(Read, landed(Id, {said, {error, {failed, Reason}}}, Many));
        {timeout, Read} ->
            {gen_driver_conn_link:cancel(maps:keys(Flying), Read), all_flying(timeout, Many)};
        {{over, Reason}, Read} ->
            {Read, all_flying(Reason, Many)};
        {_Late, Read} ->
            read(Read, Many)
    end.

landed(Id, Answer, Many = #many{flying = Flying, bytes = Bytes}) ->
    case maps:take(Id, Flying) of
        {{Place, Request}, Left} ->
            told(Place, gen_driver_caller:outcome(Answer),
                 Many#many{flying = Left, bytes = Bytes - gen_driver_ready:weight(Request)});
        error ->
            Many
    end.

all_flying(Reason, Many = #many{flying = Flying}) ->
    maps:fold(fun(_, {Place, _}, Acc) -> told(Place, {failed, Reason}, Acc) end,
              Many#many{flying = #{}, bytes = 0}, Flying).

all_waiting(Reason, Many = #many{waiting = Waiting}) ->
    lists:foldl(fun({Place, _}, Acc) -> told(Place, {failed, Reason}, Acc) end, Many#many{waiting = []}, Waiting).

told(Place, Outcome, Many = #many{outcomes = Outcomes}) ->
    Many#many{outcomes = [{Place, Outcome} | Outcomes]}.
