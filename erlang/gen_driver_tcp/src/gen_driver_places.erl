%% SPDX-License-Identifier: MIT
%% @doc Places in a client's queue, taken by callers before they send; how much it has in hand; and whether
%% those who choose between clients are to choose it.
%%
%% A mailbox cannot be bounded by its owner: what is refused there has already
%% been sent. So a caller takes a place in a counter first and the client gives
%% it back when the request leaves its queue. Callers find the counter under the
%% client's pid in persistent_term: a client lives long, and a lookup costs next to
%% nothing and needs no process to own a table.
-module(gen_driver_places).

-export([open/2, close/1, take/2, give/3, load/3, load/1, taken/1, grade/2, standing/1]).
-export_type([places/0, grade/0, standing/0]).

-type bounds() :: {Requests :: pos_integer(), Bytes :: pos_integer()}.
-opaque places() :: {atomics:atomics_ref(), bounds()}.
%% Not chosen; or with a share that grows from a tenth to all between these times (monotonic ms).
-type grade() :: full | out | {slow, Since :: integer(), Until :: integer()}.
%% out: it has a link, and is not to be chosen. nobody: no such client on this node.
-type standing() :: {up, Load :: non_neg_integer(), Share :: float()} | out | down | nobody.

-define(KEY(Pid), {?MODULE, Pid}).
-define(REQUESTS, 1).
-define(BYTES, 2).
-define(UP, 3).
-define(IN_FLIGHT, 4).
-define(GRADE, 5).
-define(SINCE, 6).
-define(UNTIL, 7).
-define(FULL, 0).
-define(OUT, 1).
-define(SLOW, 2).
-define(FIRST_SHARE, 0.1).

%% @doc Open the places of a client; those of clients that were killed go.
-spec open(pid(), bounds()) -> places().
open(Pid, Bounds) ->
    lists:foreach(fun close/1, [Dead || {?KEY(Dead), _} <- persistent_term:get(),
                                        not is_process_alive(Dead)]),
    Places = {atomics:new(7, [{signed, true}]), Bounds},
    persistent_term:put(?KEY(Pid), Places),
    Places.

%% @doc The client ends.
-spec close(pid()) -> ok.
close(Pid) ->
    _ = persistent_term:erase(?KEY(Pid)),
    ok.

%% @doc Take a place for a request of `Size' bytes. `nobody' when there is no such client: sending
%% will tell.
-spec take(pid(), Size :: non_neg_integer()) -> taken | full | nobody.
take(Pid, Size) ->
    case persistent_term:get(?KEY(Pid), nobody) of
        nobody -> nobody;
        Places -> count(Places, Size)
    end.

count({Counter, {MaxRequests, MaxBytes}} = Places, Size) ->
    Requests = atomics:add_get(Counter, ?REQUESTS, 1),
    Bytes = atomics:add_get(Counter, ?BYTES, Size),
    %% A single large one passes when nothing else waits: it could never pass otherwise.
    case Requests =< MaxRequests andalso (Bytes =< MaxBytes orelse Requests =:= 1) of
        true ->
            taken;
        false ->
            give(Places, 1, Size),
            full
    end.

%% @doc Give back what `Requests' requests of together `Size' bytes had taken.
-spec give(places(), Requests :: integer(), Size :: integer()) -> ok.
give({Counter, _}, Requests, Size) ->
    atomics:sub(Counter, ?REQUESTS, Requests),
    atomics:sub(Counter, ?BYTES, Size).

%% @doc The client says whether it has a link, and how many calls are in flight.
-spec load(places(), Up :: boolean(), InFlight :: non_neg_integer()) -> ok.
load({Counter, _}, Up, InFlight) ->
    atomics:put(Counter, ?UP, case Up of true -> 1; false -> 0 end),
    atomics:put(Counter, ?IN_FLIGHT, InFlight).

%% @doc Calls in flight and requests that wait, of a client that has a link; `down' of one that has none,
%% `nobody' where there is no such client on this node.
-spec load(pid()) -> Requests :: non_neg_integer() | down | nobody.
load(Pid) ->
    case persistent_term:get(?KEY(Pid), nobody) of
        nobody ->
            nobody;
        {Counter, _} ->
            case atomics:get(Counter, ?UP) of
                1 -> in_hand(Counter);
                0 -> down
            end
    end.

in_hand(Counter) ->
    atomics:get(Counter, ?IN_FLIGHT) + max(0, atomics:get(Counter, ?REQUESTS)).

%% @doc Whoever checks this client says how it is to be chosen. It is forgotten with the client.
-spec grade(pid(), grade()) -> ok.
grade(Pid, Grade) ->
    case persistent_term:get(?KEY(Pid), nobody) of
        nobody -> ok;
        {Counter, _} -> grade_(Counter, Grade)
    end.

grade_(Counter, full) ->
    atomics:put(Counter, ?GRADE, ?FULL);
grade_(Counter, out) ->
    atomics:put(Counter, ?GRADE, ?OUT);
grade_(Counter, {slow, Since, Until}) when Until > Since ->
    atomics:put(Counter, ?SINCE, Since),
    atomics:put(Counter, ?UNTIL, Until),
    atomics:put(Counter, ?GRADE, ?SLOW).

%% @doc All that a choice needs to know.
-spec standing(pid()) -> standing().
standing(Pid) ->
    case persistent_term:get(?KEY(Pid), nobody) of
        nobody -> nobody;
        {Counter, _} -> standing(atomics:get(Counter, ?UP), atomics:get(Counter, ?GRADE), Counter)
    end.

standing(0, _Grade, _Counter) -> down;
standing(1, ?FULL, Counter) -> {up, in_hand(Counter), 1.0};
standing(1, ?OUT, _Counter) -> out;
standing(1, ?SLOW, Counter) -> {up, in_hand(Counter), share(Counter, erlang:monotonic_time(millisecond))}.

share(Counter, Now) ->
    Since = atomics:get(Counter, ?SINCE),
    Grown = (Now - Since) / (atomics:get(Counter, ?UNTIL) - Since),
    max(?FIRST_SHARE, min(1.0, ?FIRST_SHARE + (1 - ?FIRST_SHARE) * Grown)).

%% @doc How many are taken.
-spec taken(places()) -> {Requests :: integer(), Bytes :: integer()}.
taken({Counter, _}) ->
    {atomics:get(Counter, ?REQUESTS), atomics:get(Counter, ?BYTES)}.
