%% SPDX-License-Identifier: MIT
%% @doc Which member a call goes to. Pure, but for chance.
%%
%% Without a key: of two at random the one with less in hand. That is nearly as even
%% as asking all of them, and unlike the least of all it does not send everybody to
%% the same one. With a key: the key's member, or the next in the key's order.
%%
%% Members stand in tiers, by SRV's priority; a tier is used when none before it has a
%% member that can be used.
-module(gen_driver_choice).

-include("gen_driver_member.hrl").

-export([tiers/1, tier/1, members/1, usable/3, waiting/3, keyed/4, kept/3]).
-export_type([tier/0, look/0]).

-type member() :: #member{}.
%% even: all weights are the same.
-opaque tier() :: {even | uneven, tuple()}.
%% How a member stands now.
-type look() :: fun((pid()) -> gen_driver_places:standing()).

%% @doc Members by their priorities, the lowest first. Weights as in RFC 2782: one of weight 0 has a
%% small chance, where others have more.
-spec tiers([member()]) -> [tier()].
tiers(Members) ->
    [tier([Member || Member = #member{priority = P} <- Members, P =:= Priority])
     || Priority <- lists:usort([P || #member{priority = P} <- Members])].

%% @doc Members of one priority.
-spec tier([member()]) -> tier().
tier(Members) ->
    Weights = [Weight || #member{weight = Weight} <- Members],
    case lists:usort(Weights) of
        [0 | [_ | _]] ->
            Share = 1 / length([0 || 0 <- Weights]),
            {uneven, list_to_tuple([small(Share, Member) || Member <- Members])};
        [_, _ | _] ->
            {uneven, list_to_tuple(Members)};
        _ ->
            {even, list_to_tuple([Member#member{weight = 1} || Member <- Members])}
    end.

small(Share, Member = #member{weight = 0}) -> Member#member{weight = Share};
small(_Share, Member) -> Member.

%% @doc All of them.
-spec members([tier()]) -> [member()].
members(Tiers) ->
    lists:append([tuple_to_list(Members) || {_, Members} <- Tiers]).

%% @doc One that has a link, and is neither left out nor tried.
-spec usable([tier()], Tried :: [pid()], look()) -> {ok, pid()} | none.
usable([], _Tried, _Look) ->
    none;
usable([Tier | Tiers], Tried, Look) ->
    case quickly(Tier, Tried, Look) of
        {ok, Pid} -> {ok, Pid};
        no -> case drawn(up(Tier, Tried, Look)) of
            {ok, Pid} -> {ok, Pid};
            none -> usable(Tiers, Tried, Look)
        end
    end.

%% Nearly always both can be used: nobody else is looked at.
quickly({even, Members}, [], Look) when tuple_size(Members) > 1 ->
    %% Two of them, from one number.
    Drawn = rand:uniform(tuple_size(Members) * (tuple_size(Members) - 1)) - 1,
    First = Drawn div (tuple_size(Members) - 1) + 1,
    Second = case Drawn rem (tuple_size(Members) - 1) + 1 of N when N < First -> N; N -> N + 1 end,
    quickly(element(First, Members), element(Second, Members), Look);
quickly({_, _}, _Tried, _Look) ->
    no;
quickly(A, B, Look) ->
    case {Look(A#member.pid), Look(B#member.pid)} of
        {{up, LoadA, ShareA}, {up, LoadB, ShareB}} -> {ok, better({A, LoadA, ShareA}, {B, LoadB, ShareB})};
        {_, _} -> no
    end.

up({_, Members}, Tried, Look) ->
    [{Member, Load, Share} || Member = #member{pid = Pid} <- tuple_to_list(Members), not lists:member(Pid, Tried),
                              {up, Load, Share} <- [Look(Pid)]].

drawn([]) ->
    none;
drawn([{#member{pid = Pid}, _, _}]) ->
    {ok, Pid};
drawn(Candidates) ->
    {First, Others} = draw(Candidates),
    {Second, _} = draw(Others),
    {ok, better(First, Second)}.

draw(Candidates) ->
    Total = lists:sum([Weight || {#member{weight = Weight}, _, _} <- Candidates]),
    draw(rand:uniform() * Total, Candidates, []).

draw(At, [{#member{weight = Weight}, _, _} = Candidate | Rest], Before) when At < Weight; Rest =:= [] ->
    {Candidate, Before ++ Rest};
draw(At, [{#member{weight = Weight}, _, _} = Candidate | Rest], Before) ->
    draw(At - Weight, Rest, [Candidate | Before]).

%% One that has just come back takes part as often as its share says.
better({A, LoadA, ShareA}, {B, LoadB, ShareB}) ->
    case {takes_part(ShareA), takes_part(ShareB)} of
        {true, false} -> A#member.pid;
        {false, true} -> B#member.pid;
        _ when LoadA * B#member.weight =< LoadB * A#member.weight -> A#member.pid;
        _ -> B#member.pid
    end.

takes_part(Share) ->
    Share >= 1 orelse rand:uniform() < Share.

%% @doc Where none can be used: one in which a call may wait. Not while there is any that could be, if it had
%% not been tried: that one is tried again, after a pause.
-spec waiting([tier()], Tried :: [pid()], look()) -> {ok, pid()} | none.
waiting(Tiers, Tried, Look) ->
    case second_best([Pid || #member{pid = Pid} <- members(Tiers)], Tried, Look) of
        [] -> none;
        Pids -> {ok, lists:nth(rand:uniform(length(Pids)), Pids)}
    end.

%% Those left out have a link; those without will have one.
second_best(Pids, Tried, Look) ->
    Standings = [{Look(Pid), Pid} || Pid <- Pids],
    case lists:any(fun({Standing, _}) -> is_tuple(Standing) end, Standings) of
        true ->
            [];
        false ->
            case untried(out, Standings, Tried) of
                [] -> untried(down, Standings, Tried);
                Out -> Out
            end
    end.

untried(Standing, Standings, Tried) ->
    [Pid || {S, Pid} <- Standings, S =:= Standing, not lists:member(Pid, Tried)].

%% @doc The key's member; when that cannot be used, or was tried, the next in the key's order.
-spec keyed([tier()], gen_driver_rendezvous:key(), Tried :: [pid()], look()) -> {ok, pid()} | none.
keyed(Tiers, Key, Tried, Look) ->
    Ordered = lists:append([ordered(Tier, Key) || Tier <- Tiers]),
    case first_up(Ordered, Tried, Look) of
        {ok, Pid} -> {ok, Pid};
        none -> first(second_best(Ordered, Tried, Look))
    end.

first_up([], _Tried, _Look) ->
    none;
first_up([Pid | Pids], Tried, Look) ->
    case not lists:member(Pid, Tried) andalso Look(Pid) of
        {up, _, _} -> {ok, Pid};
        _ -> first_up(Pids, Tried, Look)
    end.

first([]) -> none;
first([Pid | _]) -> {ok, Pid}.

%% @doc The key's member, however it stands.
-spec kept([tier()], gen_driver_rendezvous:key(), Tried :: [pid()]) -> {ok, pid()} | none.
kept([], _Key, _Tried) ->
    none;
kept([Tier | _], Key, Tried) ->
    case ordered(Tier, Key) of
        [Pid | _] -> first([Pid] -- Tried);
        [] -> none
    end.

ordered({even, Members}, Key) ->
    gen_driver_rendezvous:order(Key, [{Hash, Pid} || #member{hash = Hash, pid = Pid} <- tuple_to_list(Members)]);
ordered({uneven, Members}, Key) ->
    gen_driver_rendezvous:weighted(Key, [{Hash, Weight, Pid} || #member{hash = Hash, weight = Weight, pid = Pid}
                                                                   <- tuple_to_list(Members)]).
