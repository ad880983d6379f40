%% SPDX-License-Identifier: MIT
%% What callers were told against what ran: whatever does not agree, as sentences. Pure.
-module(prop_books).

-export([problems/3, kind/1]).
-export_type([entry/0, facts/0]).

%% One request, in the order in which they were made. `epoch': requests of one number went, if they went
%% anywhere, over links that no break came between; none: not known. `outcome' of a cast: what cast said.
-type entry() :: #{number := pos_integer(), sort := call | cast, outcome := term(), deadline := boolean(),
                   gives_up := boolean(), key := none | integer(), epoch := none | integer()}.
%% `sure_from': no link broke since the request of this number; `dropped': casts, by the client's own count, since then.
-type facts() :: #{breaks := boolean(), shuts := boolean(), drains := boolean(), bounded := boolean(),
                   sure_from := infinity | pos_integer(), dropped := non_neg_integer()}.

-spec problems([entry()], Ran :: [integer()], facts()) -> [string()].
problems(Entries, Ran, Facts) ->
    Times = lists:foldl(fun(N, Acc) -> maps:update_with(N, fun(T) -> T + 1 end, 1, Acc) end, #{}, Ran),
    Known = maps:from_list([{N, true} || #{number := N} <- Entries]),
    [text("~p ran, and nobody asked", [N]) || N <- maps:keys(Times), not is_map_key(N, Known)]
        ++ [Problem || Entry <- Entries, Problem <- one(Entry, maps:get(maps:get(number, Entry), Times, 0), Facts)]
        ++ orders(Entries, Ran) ++ casts(Entries, Times, Facts).

one(Entry = #{number := Number, outcome := Outcome}, Times, Facts) ->
    [text("~p was told ~p and ran ~p times", [Number, Outcome, Times]) || Times > 1]
        ++ [text("~p was told ~p, that is never started, and ran", [Number, Outcome])
            || Times =:= 1, kind(Entry) =:= never]
        ++ [text("~p was told ~p and did not run", [Number, Outcome]) || Times =:= 0, kind(Entry) =:= once]
        ++ [text("~p was told ~p: a wrong answer", [Number, Outcome]) || kind(Entry) =:= wrong]
        ++ [text("~p was told ~p: nothing explains that", [Number, Outcome])
            || kind(Entry) =/= wrong, not explained(Outcome, Entry, Facts)].

%% How often it can have run.
-spec kind(entry()) -> once | never | may | wrong.
kind(#{sort := call, number := Number, outcome := {ok, Number}}) -> once;
kind(#{sort := cast, outcome := ok}) -> may;
kind(#{outcome := {error, {failed, _}} = Outcome}) ->
    case gen_driver_tcp:retryable(Outcome) of true -> never; false -> may end;
kind(#{sort := call, outcome := killed}) -> may;
kind(#{sort := call, gives_up := true, outcome := gave_up}) -> may;
kind(#{}) -> wrong.

%% A client that tells everybody `disconnected' breaks no promise about what ran: so each word needs its reason in the script.
explained({error, {failed, Reason}}, Entry, Facts) -> reason(Reason, Entry, Facts);
explained(_, _Entry, _Facts) -> true.

reason(overloaded, _, #{bounded := Bounded}) -> Bounded;
reason(Reason, #{deadline := Deadline, sort := call}, _) when Reason =:= expired; Reason =:= timeout -> Deadline;
reason(unavailable, #{sort := call}, #{breaks := Breaks, shuts := Shuts, drains := Drains}) -> Breaks orelse Shuts andalso Drains;
reason(disconnected, #{sort := call}, #{breaks := Breaks}) -> Breaks;
reason(_, _, _) -> false.

%% One key, no break between: as they were made.
orders(Entries, Ran) ->
    Places = maps:from_list(lists:zip(lists:reverse(Ran), lists:seq(length(Ran), 1, -1))),
    Lines = lists:foldl(fun(#{number := N, key := Key, epoch := Epoch}, Acc)
                              when Key =/= none, Epoch =/= none, is_map_key(N, Places) ->
                                maps:update_with({Key, Epoch}, fun(Ns) -> [N | Ns] end, [N], Acc);
                           (_, Acc) -> Acc
                        end, #{}, Entries),
    [text("key ~p: made in the order ~p, ran in another: ~p", [Key, lists:reverse(Ns), by_place(Ns, Places)])
     || {{Key, _}, Ns} <- maps:to_list(Lines), by_place(Ns, Places) =/= lists:reverse(Ns)].

by_place(Ns, Places) ->
    [N || {_, N} <- lists:sort([{maps:get(N, Places), N} || N <- Ns])].

%% Those on a link that held, without a time that could pass, but for what the client says it dropped.
casts(Entries, Times, #{sure_from := From, dropped := Dropped}) ->
    Taken = [N || #{sort := cast, number := N, outcome := ok, deadline := false} <- Entries, N >= From],
    Missing = [N || N <- Taken, not is_map_key(N, Times)],
    [text("casts were taken on a link that held, ~p dropped, and did not run: ~p", [Dropped, Missing])
     || length(Missing) > Dropped].

text(Format, Arguments) ->
    lists:flatten(io_lib:format(Format, Arguments)).
