%% SPDX-License-Identifier: MIT
%% @doc A call that a second member is asked too, when the first takes long. For calls that may run twice.
%%
%% The first reply wins, and the other call is cancelled; a failure waits for the other.
%% Nothing of it is left in the caller's mailbox.
-module(gen_driver_hedge).

-include("gen_driver_request.hrl").

-export([call/5, worse/2]).

-type outcome() :: gen_driver_caller:outcome() | gone.

%% @doc Ask `Pid', and after `After' ms whom `Second' says. The outcome, and who was asked.
-spec call(pid(), Second :: fun(() -> {ok, pid()} | none), After :: non_neg_integer(), gen_driver_queue:request(),
           Until :: infinity | integer()) -> {outcome(), [pid()]}.
call(Pid, Second, After, Request, Until) ->
    End = end_of(Until),
    Asked = ask(Pid, Request, left(Until), gen_server:reqids_new()),
    case wait(Asked, min(After, left(End))) of
        {Outcome, _None} -> {Outcome, [Pid]};
        timeout -> both(Pid, Second, Request, Until, Asked)
    end.

both(Pid, Second, Request, Until, Asked) ->
    End = end_of(Until),
    Left = left(Until),
    case Left > 0 andalso Second() of
        {ok, Other} -> {first(ask(Other, Request, Left, Asked), End, none), [Other, Pid]};
        _ -> {first(Asked, End, none), [Pid]}
    end.

ask(Pid, Request, Left, Asked) ->
    {Id, Handle} = gen_driver_caller:send(Pid, {Request, Left}),
    gen_server:reqids_add(Id, {Pid, Handle}, Asked).

%% Before: one has failed so already.
first(Asked, End, Before) ->
    case wait(Asked, left(End)) of
        timeout ->
            given_up(Asked, {failed, timeout});
        {Outcome, Others} ->
            case {is_failure(Outcome), gen_server:reqids_size(Others)} of
                {false, _} -> given_up(Others, Outcome);
                {true, 0} -> worse(Before, Outcome);
                {true, _} -> first(Others, End, Outcome)
            end
    end.

is_failure(gone) -> true;
is_failure({failed, _}) -> true;
is_failure(_) -> false.

%% @doc Of two failures the one that says more: that the call may have run.
-spec worse(none | outcome(), outcome()) -> outcome().
worse(none, B) -> B;
worse(gone, B) -> B;
worse(A, gone) -> A;
worse({failed, A}, {failed, B}) ->
    case {gen_driver_tries:again(A), gen_driver_proto:retryable(A)} of
        {true, _} -> {failed, B};
        {false, false} -> {failed, A};
        {false, true} -> {failed, case gen_driver_tries:again(B) of true -> A; false -> B end}
    end.

wait(Asked, Timeout) ->
    case gen_server:wait_response(Asked, Timeout, true) of
        timeout ->
            timeout;
        {Answer, {Pid, _Handle}, Others} ->
            Outcome = outcome(Answer),
            ok = gen_driver_doubts:heard(Pid, Outcome),
            {Outcome, Others}
    end.

outcome({reply, Answer}) -> gen_driver_caller:outcome(Answer);
outcome({error, {noproc, _}}) -> gone;
outcome({error, {_Ended, _}}) -> {failed, disconnected}.

%% The others are told, and what has come of them is thrown away.
given_up(Asked, Outcome) ->
    lists:foreach(fun({_Id, {Pid, Handle}}) ->
        ok = gen_driver_caller:cancel(Handle),
        ok = doubt(Outcome, Pid)
    end, gen_server:reqids_to_list(Asked)),
    ok = forget(Asked),
    Outcome.

doubt({failed, timeout} = Outcome, Pid) -> gen_driver_doubts:heard(Pid, Outcome);
doubt(_Outcome, _Pid) -> ok.

forget(Asked) ->
    case gen_server:receive_response(Asked, 0, true) of
        {_Answer, _Label, Others} -> forget(Others);
        timeout -> ok;
        no_request -> ok
    end.

%% As long as a call waits beyond its deadline for the host's own word.
end_of(infinity) -> infinity;
end_of(Until) -> Until + gen_driver_caller:beyond(0).

left(infinity) -> infinity;
left(Until) -> max(0, Until - erlang:monotonic_time(millisecond)).
