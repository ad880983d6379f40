%% SPDX-License-Identifier: MIT
%% @doc A call that may go to several members, one after another: in its caller's process, within its caller's time.
%%
%% It is made again only when it certainly never started: when the service said so, in
%% a frame of its own or in the client's word, never because of what a driver's term
%% looks like; or when the process was not there. The time that is left goes along.
-module(gen_driver_tries).

-export([call/3, again/1]).
-export_type([choose/0, policy/0]).

%% The next member, other than those tried; `none' when all were.
-type choose() :: fun((Tried :: [pid()]) -> {ok, pid()} | none).
%% patience: time (ms) to wait while there is no member at all.
-type policy() :: #{retries := non_neg_integer(), hedge := none | non_neg_integer(), patience := non_neg_integer()}.
-record(tries, {
    choose :: choose(),
    request :: gen_driver_queue:request(),
    until :: infinity | integer(),
    patient_until :: integer(),
    hedge :: none | non_neg_integer(),
    left :: non_neg_integer(),
    tried = [] :: [pid()],                      % since the last pause
    counted = false :: boolean(),               % one of these has cost a retry
    last = {failed, unavailable} :: gen_driver_caller:outcome()
}).

%% A pause (ms) when all members were tried: between these, at random.
-define(PAUSE, 10).
-define(PAUSE_MAX, 50).

%% @doc Make a call. A request is encoded once, for all of them.
-spec call(choose(), gen_driver_caller:request(), policy()) -> gen_driver_caller:outcome().
call(_Choose, bad_request, _Policy) ->
    {failed, bad_request};
call(Choose, {Request, Timeout}, #{retries := Retries, hedge := Hedge, patience := Patience}) ->
    Now = now_ms(),
    attempt(Timeout, #tries{choose = Choose, request = Request, until = until(Timeout, Now), patient_until = Now + Patience,
                            hedge = Hedge, left = Retries}).

until(infinity, _Now) -> infinity;
until(Timeout, Now) -> Now + Timeout.

attempt(T) ->
    attempt(left(T), T).

attempt(Timeout, T = #tries{choose = Choose, tried = Tried}) ->
    case Choose(Tried) of
        {ok, Pid} -> ask(Pid, Timeout, T);
        none -> pause(T)
    end.

ask(Pid, Timeout, T = #tries{request = Request, hedge = none}) ->
    Outcome = asked(Pid, {Request, Timeout}),
    ok = gen_driver_doubts:heard(Pid, Outcome),
    decide(Outcome, [Pid], T);
ask(Pid, _Timeout, T = #tries{request = Request, hedge = After, choose = Choose, tried = Tried}) ->
    {Outcome, Pids} = gen_driver_hedge:call(Pid, fun() -> Choose([Pid | Tried]) end, After, Request, T#tries.until),
    decide(Outcome, Pids, T).

asked(Pid, Request) ->
    try gen_driver_caller:call(Pid, Request)
    catch
        exit:{noproc, {gen_driver_tcp, call, [Pid]}} -> gone;
        exit:{_Ended, {gen_driver_tcp, call, [Pid]}} -> {failed, disconnected}
    end.

decide(gone, Pids, T = #tries{tried = Tried}) ->
    attempt(T#tries{tried = Pids ++ Tried});
decide({failed, Reason} = Outcome, Pids, T = #tries{left = Left, tried = Tried}) ->
    case Left > 0 andalso again(Reason) andalso left(T) > 0 of
        true -> attempt(T#tries{tried = Pids ++ Tried, left = Left - 1, counted = true, last = Outcome});
        false -> Outcome
    end;
decide(Outcome, _Pids, _T) ->
    Outcome.

%% A round in which nobody was there costs one too, unless the call may wait for members.
pause(T = #tries{last = Last, left = Left}) ->
    Now = now_ms(),
    Patient = T#tries.tried =:= [] andalso Now < T#tries.patient_until,
    Free = Patient orelse T#tries.counted,
    case left(T) > 0 andalso (Free orelse Left > 0) of
        true ->
            ok = wait(min(left(T), ?PAUSE + rand:uniform(?PAUSE_MAX - ?PAUSE))),
            attempt(T#tries{tried = [], counted = false, left = case Free of true -> Left; false -> Left - 1 end});
        false ->
            Last
    end.

wait(Ms) ->
    receive after Ms -> ok end.

%% An atom is more than every number.
left(#tries{until = infinity}) -> infinity;
left(#tries{until = Until}) -> max(0, Until - now_ms()).

%% @doc Whether a call that failed so is worth making again elsewhere. All of these never started; of those
%% that did not either, a bad request stays one, a request that kills hosts is to kill no more, the key is the
%% same everywhere, and so are the caller's will and time.
-spec again(gen_driver_proto:failed_reason()) -> boolean().
again(bad_request) -> false;
again(quarantined) -> false;
again(forbidden) -> false;
again(cancelled) -> false;
again(expired) -> false;
again(Reason) -> gen_driver_proto:retryable(Reason).

now_ms() ->
    erlang:monotonic_time(millisecond).
