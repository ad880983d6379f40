%% SPDX-License-Identifier: MIT
%% @doc What a process's own connection is made of: the link that takes requests, and one that is being left.
%%
%% Nothing happens in the background: a link that was lost, or whose host is leaving,
%% is replaced when the next request needs one, in one attempt, within its time.
-module(gen_driver_conn_own).

-include("gen_driver_request.hrl").

-export([open/1, ready/3, check/3, check_left/3, time_left/1, settle/1, close/1, info/1, link/1, with/2, until/1]).
-export_type([own/0, info/0, ready/0]).

-type info() :: #{
    instance := binary(), connect := gen_driver_options:address(), status := up | down,
    in_flight := non_neg_integer(), links := 0..2, connects := pos_integer(),
    welcome => gen_driver_handshake:welcome()
}.
-record(own, {
    %% In a function, out of sight: the process dictionary is printed when its process crashes, and
    %% options may hold a password.
    dial :: fun((gen_driver_conn_link:until()) -> {ok, gen_driver_conn_link:link()} | {error, Reason :: term()}),
    instance :: binary(),
    connect :: gen_driver_options:address(),
    link = none :: none | gen_driver_conn_link:link(),
    leaving = none :: none | gen_driver_conn_link:link(),   % half-closed
    connects = 0 :: non_neg_integer()
}).
-opaque own() :: #own{}.
-type ready() :: {gen_driver_queue:request(), Left :: timeout()}.

%% @doc The first link.
-spec open(gen_driver_options:checked()) -> {ok, own()} | {error, Reason :: term()}.
open(Options = #{instance := Instance, connect := Address}) ->
    Dial = fun(Until) -> gen_driver_conn_link:open(Options, Until) end,
    dial(infinity, #own{dial = Dial, instance = Instance, connect = Address}).

dial(Until, Own = #own{dial = Dial, connects = Connects}) ->
    case Dial(Until) of
        {ok, Link} -> {ok, Own#own{link = Link, connects = Connects + 1}};
        {error, Reason} -> {error, Reason}
    end.

%%% Before a request

%% @doc A link for this request. What has come since the last one is read first, a goodbye or the end
%% for instance; only what has come within this millisecond is not looked for.
-spec ready(gen_driver_queue:request(), gen_driver_conn_link:until(), own()) ->
    {ok, own()} | {failed, gen_driver_proto:failed_reason(), own()}.
ready(Request, Until, Own = #own{leaving = none}) ->
    linked(Request, Until, Own);
ready(Request = #request{options = Options}, Until, Own) ->
    case left(Request, Until, Own) of
        #own{leaving = Link} = Late when Link =/= none, is_map_key(key, Options) -> {failed, expired, Late};
        Left -> linked(Request, Until, Left)
    end.

linked(_Request, Until, Own = #own{link = none}) ->
    dialled(Until, Own);
linked(Request, Until, Own = #own{link = Link}) ->
    case gen_driver_conn_link:touch(Link) of
        fresh ->
            {ok, Own};
        Touched ->
            case settle(Own#own{link = gen_driver_conn_link:ahead(Touched)}) of
                #own{link = none} = Lost -> ready(Request, Until, Lost);
                Looked -> {ok, Looked}
            end
    end.

dialled(Until, Own) ->
    case dial(Until, Own) of
        {ok, Linked} -> {ok, Linked};
        {error, _} -> {failed, unavailable, Own}
    end.

%% The host that is left may still run what was sent to it: a request with a key waits until it has
%% ended, so that its order holds; others see whether it has.
left(#request{options = #{key := _}}, Until, Own = #own{leaving = Link}) ->
    left(emptied(Until, Link), Own);
left(_Request, _Until, Own = #own{leaving = Link}) ->
    left(gen_driver_conn_link:ahead(Link), Own).

left(Link, Own) ->
    case gen_driver_conn_link:is_over(Link) of
        true ->
            ok = gen_driver_conn_link:close(polite, Link),
            Own#own{leaving = none};
        false ->
            Own#own{leaving = Link}
    end.

emptied(Until, Link) ->
    case gen_driver_conn_link:next(Until, Link) of
        {timeout, Read} -> Read;
        {{over, _}, Read} -> Read;
        {_Late, Read} -> emptied(Until, Read)
    end.

%% @doc The request as it goes out, and how much time (ms) it has; or what its caller is told instead. There must be a link.
-spec check(gen_driver_queue:request(), gen_driver_conn_link:until(), own()) ->
    {ok, ready()} | {refused, gen_driver_caller:outcome()}.
check(Request, Until, #own{link = Link}) ->
    check_left(Request, time_left(Until), Link).

%% @doc How much time (ms) is left.
-spec time_left(gen_driver_conn_link:until()) -> integer() | infinity.
time_left(infinity) -> infinity;
time_left(Until) when is_integer(Until) -> Until - erlang:monotonic_time(millisecond).

%% @doc The same as `check/3', for a request that has so much time left.
-spec check_left(gen_driver_queue:request(), Left :: integer() | infinity, gen_driver_conn_link:link()) ->
    {ok, ready()} | {refused, gen_driver_caller:outcome()}.
check_left(_Request, Left, _Link) when is_integer(Left), Left =< 0 ->
    {refused, {failed, expired}};
check_left(Request, Left, Link) ->
    case gen_driver_conn_link:check(Request, Link) of
        {ok, Ready} -> {ok, {Ready, Left}};
        {refused, Why} -> {refused, gen_driver_caller:outcome({said, Why})}
    end.

%% @doc Until when: monotonic ms.
-spec until(timeout()) -> gen_driver_conn_link:until().
until(infinity) -> infinity;
until(Timeout) when is_integer(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

%%% After a request

%% @doc A link that is over is closed, one whose host is leaving is half-closed: the host waits for that.
-spec settle(own()) -> own().
settle(Own = #own{link = none}) ->
    Own;
settle(Own = #own{link = Link}) ->
    case gen_driver_conn_link:is_over(Link) of
        true ->
            ok = gen_driver_conn_link:close(abrupt, Link),
            Own#own{link = none};
        false ->
            case gen_driver_conn_link:is_draining(Link) of
                true -> leave(Own);
                false -> Own
            end
    end.

leave(Own = #own{link = Link, leaving = none}) ->
    Own#own{link = none, leaving = gen_driver_conn_link:finish(Link)};
leave(Own = #own{leaving = Older}) ->
    ok = gen_driver_conn_link:close(abrupt, Older),
    leave(Own#own{leaving = none}).

%% @doc The end. What was sent still arrives.
-spec close(own()) -> ok.
close(#own{link = Link, leaving = Leaving}) ->
    lists:foreach(fun(Each) -> gen_driver_conn_link:close(polite, Each) end, [L || L <- [Link, Leaving], L =/= none]).

%%% Looking in

%% @doc How it is, as far as this process has looked.
-spec info(own()) -> info().
info(#own{instance = Instance, connect = Address, link = Link, leaving = Leaving, connects = Connects}) ->
    Links = [L || L <- [Link, Leaving], L =/= none],
    Info = #{instance => Instance, connect => Address, connects => Connects, links => length(Links),
             in_flight => lists:sum([gen_driver_conn_link:pending(L) || L <- Links])},
    case Link of
        none -> Info#{status => down};
        _ -> Info#{status => up, welcome => gen_driver_conn_link:welcome(Link)}
    end.

%% @doc The link, when there is one.
-spec link(own()) -> none | gen_driver_conn_link:link().
link(#own{link = Link}) -> Link.

%% @doc The same link, later.
-spec with(gen_driver_conn_link:link(), own()) -> own().
with(Link, Own) -> Own#own{link = Link}.
