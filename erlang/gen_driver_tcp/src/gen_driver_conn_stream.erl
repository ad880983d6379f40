%% SPDX-License-Identifier: MIT
%% @doc A call on a process's own connection whose driver gives parts before its reply.
%%
%% Parts are read only when the function has seen the one before; the host sends no
%% more than it has credit for, which is given again half a window at a time.
-module(gen_driver_conn_stream).

-export([fold/5]).

-record(stream, {
    id :: gen_driver_proto:id(),
    window :: pos_integer(),
    taken = 0 :: non_neg_integer(),             % parts since credit was last given
    until :: gen_driver_conn_link:until(),
    function :: fun((term(), term()) -> term())
}).
-type outcome() :: gen_driver_caller:outcome() | {raised, error | exit | throw, term(), erlang:stacktrace()}.

%% @doc All parts into an accumulator, then the outcome. A function that raises ends the stream.
-spec fold(gen_driver_caller:request(), Window :: pos_integer(), fun((Part :: term(), Acc) -> Acc), Acc,
           gen_driver_conn_own:own()) -> {outcome(), Acc, gen_driver_conn_own:own()}.
fold(Request, Window, Fun, Acc, Own) ->
    case gen_driver_conn_calls:stream(Request, fun(Id, Until, Link) ->
             parts(Acc, #stream{id = Id, window = Window, until = Until, function = Fun}, Link)
         end, Own)
    of
        {{folded, Outcome, Last}, After} -> {Outcome, Last, After};
        {NotBegun, After} -> {NotBegun, Acc, After}
    end.

parts(Acc, Stream = #stream{id = Id, until = Until}, Link) ->
    case gen_driver_conn_link:next(Until, Link) of
        {{part, Id, BodyAt, Frame}, Read} ->
            part(gen_driver_proto:term(Frame, BodyAt), Acc, Stream, Read);
        {{reply, Id, BodyAt, Frame}, Read} ->
            {{folded, gen_driver_caller:outcome({frame, BodyAt, Frame}), Acc}, Read};
        {{failed, Id, Reason}, Read} ->
            {{folded, {failed, Reason}, Acc}, Read};
        {timeout, Read} ->
            {{folded, {failed, timeout}, Acc}, gen_driver_conn_link:cancel([Id], Read)};
        {{over, Reason}, Read} ->
            {{folded, {failed, Reason}, Acc}, Read};
        {_Late, Read} ->
            parts(Acc, Stream, Read)
    end.

part({ok, Part}, Acc, Stream = #stream{function = Fun}, Link) ->
    try Fun(Part, Acc) of
        Next ->
            case gen_driver_conn_link:is_past(Stream#stream.until) of
                true ->
                    {{folded, {failed, timeout}, Next}, gen_driver_conn_link:cancel([Stream#stream.id], Link)};
                false ->
                    {Taken, Credited} = taken(Stream, Link),
                    parts(Next, Taken, Credited)
            end
    catch
        Class:Reason:Stack ->
            {{folded, {raised, Class, Reason, Stack}, Acc}, gen_driver_conn_link:cancel([Stream#stream.id], Link)}
    end;
part(undecodable, Acc, #stream{id = Id}, Link) ->
    {{folded, {failed, undecodable}, Acc}, gen_driver_conn_link:cancel([Id], Link)}.

taken(Stream = #stream{taken = Taken, window = Window}, Link) when 2 * (Taken + 1) < Window ->
    {Stream#stream{taken = Taken + 1}, Link};
taken(Stream = #stream{id = Id, taken = Taken, until = Until}, Link) ->
    Frame = gen_driver_frame:join(gen_driver_proto:encode_credit(Id, Taken + 1)),
    %% Of a link that is over the next event tells.
    {_, Told} = gen_driver_conn_link:send(Frame, iolist_size(Frame), false, Until, Link),
    {Stream#stream{taken = 0}, Told}.
