%% SPDX-License-Identifier: MIT
%% @doc The calls in flight on one link: who waits for the answer to which id.
%%
%% A value in the link's. An id stays taken until its final frame, whether or not
%% anybody still waits for it. A frame for an id that is not in flight is ignored.
-module(gen_driver_calls).

-include("gen_driver_request.hrl").

-export([new/1, add/3, reply/4, failed/3, part/4, give_up/2]).
-export([cancel/2, credit/3, watch/2, down/2]).
-export([size/1, has_streams/1, has_answered/1]).
-export_type([calls/0]).

-record(call, {
    from :: gen_driver_answer:to() | nobody,
    style :: gen_driver_answer:style(),
    ref :: none | reference(),
    tick :: integer(),
    monitor = none :: none | reference()
}).
-record(calls, {
    undecodable :: term(),
    pending = #{} :: #{gen_driver_proto:id() => #call{}},
    watched = #{} :: #{reference() => gen_driver_proto:id()},
    %% Calls that take parts: by the caller's reference, and how many more may come.
    streams = #{} :: #{reference() => {gen_driver_proto:id(), Parts :: non_neg_integer()}},
    next_id = 0 :: non_neg_integer(),           % goes on beyond the last id: from then on they are not fresh
    answered = false :: boolean()               % some call, at some time
}).
-opaque calls() :: #calls{}.

%% @doc None. `Undecodable' is what a caller gets for an answer that cannot be decoded.
-spec new(Undecodable :: term()) -> calls().
new(Undecodable) ->
    #calls{undecodable = Undecodable}.

%% @doc And this one, under the next id that is free.
-spec add(gen_driver_queue:request(), Tick :: integer(), calls()) -> {gen_driver_proto:id(), calls()}.
add(Request = #request{from = From, style = Style, ref = Ref}, Tick, Calls) ->
    #calls{undecodable = Undecodable, pending = Pending, watched = Watched, streams = Streams, next_id = Next,
           answered = Answered} = Calls,
    Id = gen_driver_proto:next_id(Next, Pending),
    Call = #call{from = From, style = Style, ref = Ref, tick = Tick},
    %% Built and not updated: that is a call of setelement/3, for each request.
    {Id, #calls{undecodable = Undecodable, pending = Pending#{Id => Call}, watched = Watched,
                streams = streams(Request, Id, Streams), next_id = Next + 1, answered = Answered}}.

streams(#request{style = stream, ref = Ref, options = Options}, Id, Streams) ->
    Streams#{Ref => {Id, maps:get(parts, Options, 0)}};
streams(_Request, _Id, Streams) ->
    Streams.

%%% Frames

%% @doc A reply came. Most are to calls that have no more to them than a caller who waits.
-spec reply(gen_driver_proto:id(), BodyAt :: pos_integer(), Frame :: binary(), calls()) -> calls().
reply(Id, BodyAt, Frame, Calls = #calls{pending = Pending}) ->
    case maps:take(Id, Pending) of
        {#call{from = From, style = Style, monitor = none}, Rest} when From =/= nobody, Style =/= stream ->
            ok = gen_driver_answer:reply(From, Style, BodyAt, Frame, Calls#calls.undecodable),
            Calls#calls{pending = Rest, answered = true};
        {Call, Rest} ->
            final(Call, {reply, BodyAt, Frame}, Calls#calls{pending = Rest});
        error ->
            Calls
    end.

%% @doc It has failed.
-spec failed(gen_driver_proto:id(), gen_driver_proto:failed_reason(), calls()) -> calls().
failed(Id, Reason, Calls = #calls{pending = Pending}) ->
    case maps:take(Id, Pending) of
        {Call, Rest} -> final(Call, {failed, Reason}, Calls#calls{pending = Rest});
        error -> Calls
    end.

final(Call, Outcome, Calls) ->
    answer(Call, Outcome, Calls),
    ended(Call, unwatch(Call, Calls#calls{answered = true})).

answer(#call{from = nobody}, _Outcome, _Calls) ->
    ok;
answer(#call{from = From, style = Style}, {reply, BodyAt, Frame}, #calls{undecodable = Undecodable}) ->
    gen_driver_answer:reply(From, Style, BodyAt, Frame, Undecodable);
answer(#call{from = From, style = Style}, {failed, Reason}, _Calls) ->
    gen_driver_answer:failed(From, Style, Reason).

ended(#call{style = stream, ref = Ref}, Calls = #calls{streams = Streams}) ->
    Calls#calls{streams = maps:remove(Ref, Streams)};
ended(_Call, Calls) ->
    Calls.

unwatch(#call{monitor = none}, Calls) ->
    Calls;
unwatch(#call{monitor = Monitor}, Calls = #calls{watched = Watched}) ->
    true = demonitor(Monitor, [flush]),
    Calls#calls{watched = maps:remove(Monitor, Watched)}.

%% @doc A part came. One that nobody asked for, or that comes after its caller has left, is ignored; `bad_frame' when
%% the host sends more than it was given credit for: nothing else bounds the caller's mailbox.
-spec part(gen_driver_proto:id(), BodyAt :: pos_integer(), Frame :: binary(), calls()) -> {ok, calls()} | bad_frame.
part(Id, BodyAt, Frame, Calls = #calls{pending = Pending, streams = Streams}) ->
    case Pending of
        #{Id := #call{style = stream, from = From, ref = Ref}} when From =/= nobody ->
            case Streams of
                #{Ref := {_, 0}} ->
                    bad_frame;
                #{Ref := {_, Parts}} ->
                    ok = gen_driver_answer:part(From, BodyAt, Frame),
                    {ok, Calls#calls{streams = Streams#{Ref := {Id, Parts - 1}}}}
            end;
        #{} ->
            {ok, Calls}
    end.

%% @doc The end: all of them hear this.
-spec give_up(gen_driver_proto:failed_reason(), calls()) -> ok.
give_up(Reason, Calls = #calls{pending = Pending, watched = Watched}) ->
    maps:foreach(fun(_Id, Call) -> answer(Call, {failed, Reason}, Calls) end, Pending),
    %% Without flush, which walks through the mailbox each time: a late 'DOWN' is ignored.
    lists:foreach(fun(Monitor) -> demonitor(Monitor) end, maps:keys(Watched)).

%%% Callers who change their minds

%% @doc Callers gave up: forget them. The ids of their calls, for the host to forget them too.
-spec cancel(#{reference() => true}, calls()) -> {[gen_driver_proto:id()], calls()}.
cancel(Refs, Calls = #calls{pending = Pending}) ->
    maps:fold(fun(_Id, #call{from = nobody}, Acc) -> Acc;     % its caller has died meanwhile: that was told
                 (Id, #call{ref = Ref} = Call, {Ids, Acc}) when is_map_key(Ref, Refs) -> {[Id | Ids], abandon(Id, Call, Acc)};
                 (_Id, _Call, Acc) -> Acc
              end, {[], Calls}, Pending).

%% The id is still taken; the name is not, but a stream goes on until its final frame.
abandon(Id, Call, Calls = #calls{pending = Pending}) ->
    Left = unwatch(Call, Calls),
    ok = gen_driver_answer:forget(Call#call.from, Call#call.style),
    Left#calls{pending = Pending#{Id := Call#call{from = nobody, monitor = none}}}.

%% @doc So many parts more may come to a stream, by its caller's reference: its id. `not_mine' when it is not in flight
%% here.
-spec credit(reference(), pos_integer(), calls()) -> {ok, gen_driver_proto:id(), calls()} | not_mine.
credit(Ref, More, Calls = #calls{streams = Streams}) ->
    case Streams of
        #{Ref := {Id, Parts}} -> {ok, Id, Calls#calls{streams = Streams#{Ref := {Id, Parts + More}}}};
        #{} -> not_mine
    end.

%% @doc Monitor the callers of calls from before `Tick'; not those on other nodes: a monitor is a signal to
%% there, and would hold us while that node does not listen. Their calls end by their deadline.
-spec watch(Tick :: integer(), calls()) -> calls().
watch(Tick, Calls = #calls{pending = Pending}) ->
    maps:fold(fun(Id, #call{tick = Since, monitor = none, from = {Pid, _}} = Call, Acc)
                    when Since < Tick, node(Pid) =:= node() ->
                      Monitor = monitor(process, Pid),
                      Acc#calls{pending = (Acc#calls.pending)#{Id := Call#call{monitor = Monitor}},
                                watched = (Acc#calls.watched)#{Monitor => Id}};
                 (_Id, _Call, Acc) -> Acc
              end, Calls, Pending).

%% @doc A caller died: its call's id, for the host to forget it.
-spec down(reference(), calls()) -> {ok, gen_driver_proto:id(), calls()} | not_mine.
down(Monitor, Calls = #calls{watched = Watched, pending = Pending}) ->
    case Watched of
        #{Monitor := Id} -> {ok, Id, abandon(Id, maps:get(Id, Pending), Calls)};
        #{} -> not_mine
    end.

%%% Looking in

%% @doc How many calls have no final frame yet.
-spec size(calls()) -> non_neg_integer().
size(#calls{pending = Pending}) ->
    map_size(Pending).

%% @doc Whether some of them take parts.
-spec has_streams(calls()) -> boolean().
has_streams(#calls{streams = Streams}) ->
    map_size(Streams) > 0.

%% @doc Whether any call was answered.
-spec has_answered(calls()) -> boolean().
has_answered(#calls{answered = Answered}) ->
    Answered.
