%% SPDX-License-Identifier: MIT
%% Runs one script with a client of its own, through a relay, against the one daemon of all cases.
%%
%% A step is over when what it did has happened: a request is in the client's mailbox, a cut has been
%% made. So requests are made in a known order, and a script runs nearly the same each time; a burst
%% alone is not waited for.
-module(prop_case).

-export([open/3, run/3, fault/2]).
-export_type([world/0]).

-define(RECORD, 1).
-define(HOLD, 4).
-define(THREADS, 4).
-define(DEADLINE, 15000).

-record(world, {relay, control, ledger, gate, counter}).
-opaque world() :: #world{}.
-record(run, {world, client, options, patience, callers = [], told = #{}, entries = [], gate, epoch = 0, sure_from, dropped = 0,
              breaks = false, shuts = false, drains = false, over = []}).

%% The daemon's address, the instance's ledger and gate. Lasts for all cases.
-spec open({string(), inet:port_number()}, file:name(), file:name()) -> world().
open({Host, Port} = Daemon, LedgerPath, GatePath) ->
    {ok, Ledger} = file:open(LedgerPath, [read, raw, binary]),
    {ok, Gate} = file:open(GatePath, [read, write, raw, binary]),
    {ok, Control} = gen_driver_tcp:start_link(#{instance => ledger, connect => {tcp, Host, Port}}),
    ok = gen_driver_tcp:await(Control, ?DEADLINE),
    #world{relay = prop_relay:start(Daemon), control = Control, ledger = Ledger, gate = Gate, counter = atomics:new(2, [])}.

%% From now on the relay lies.
-spec fault(world(), atom()) -> ok.
fault(#world{relay = Relay}, Fault) ->
    prop_relay:fault(Relay, Fault).

%% What does not agree, what was told how often, and the history, for reading. `Patience' (ms): whoever hears nothing
%% for so long never will.
-spec run(world(), {map(), [term()]}, Patience :: pos_integer()) ->
    {Problems :: [string()], Told :: [term()], History :: iodata()}.
run(World = #world{relay = Relay}, {Options, Steps}, Patience) ->
    ok = prop_relay:door(Relay, open),
    prop_relay:flow(Relay, true),
    {ok, Client} = gen_driver_tcp:start_link(Options#{instance => ledger, connect => prop_relay:url(Relay), backoff => {1, 4}}),
    Run = #run{world = World, client = Client, options = Options, patience = Patience, gate = gate(World),
               sure_from = number(World) + 1},
    ok = gen_driver_tcp:await(Client, ?DEADLINE),
    finished(lists:foldl(fun step/2, Run, Steps)).

number(#world{counter = Counter}) -> atomics:get(Counter, 1).
next_number(#world{counter = Counter}) -> atomics:add_get(Counter, 1, 1).
gate(#world{counter = Counter}) -> atomics:get(Counter, 2).

%%% Steps

step({call, own, Timeout, Key, Work}, Run) ->
    {Command, Params, Number} = work(Work, Run),
    Options = maps:from_list([{timeout, none_is(infinity, Timeout)} | [{key, Key} || Key =/= none]]),
    called(fun(Client) -> gen_driver_tcp:call(Client, Command, Params, Options) end,
           #{number => Number, deadline => Timeout =/= none, short => is_short(Timeout), key => Key}, wait, Run);
step({call, plain, Timeout, none, Work}, Run = #run{options = #{plain_timeout := Plain}}) ->
    {Command, Params, Number} = work(Work, Run),
    called(fun(Client) -> patient(Client, {port, Command, Params}, none_is(infinity, Timeout)) end,
           #{number => Number, deadline => Plain =/= infinity, gives_up => Timeout =/= none,
             short => is_short(Timeout)}, wait, Run);
step({burst, N, Style}, Run) ->
    bounded(lists:foldl(fun(_, Acc) -> burst(Style, Acc) end, Run, lists:seq(1, N)));
step({cast, Style, Timeout, Key, Work}, Run = #run{client = Client}) ->
    {Command, Params, Number} = work(Work, Run),
    {Told, Own} = case Style of
        own ->
            Options = maps:from_list([{timeout, Timeout} || Timeout =/= none] ++ [{key, Key} || Key =/= none]),
            {gen_driver_tcp:cast(Client, Command, Params, Options), #{deadline => Timeout =/= none, key => Key}};
        plain ->
            {gen_server:cast(Client, {port, Command, Params}), #{}}
    end,
    enter(Own#{sort => cast, number => Number, outcome => Told}, Run);
step({kill, _}, Run = #run{callers = []}) ->
    Run;
step({kill, I}, Run = #run{callers = Callers}) ->
    {_, Pid, _} = lists:nth(1 + I rem length(Callers), lists:reverse(Callers)),
    exit(Pid, kill),
    Run;
step({cut, Which, How}, Run = #run{world = #world{relay = Relay}}) ->
    prop_relay:cut(Relay, Which, How),
    broken(Run#run{epoch = next_epoch(Run)});
step({tear, Direction, K, How}, Run = #run{world = #world{relay = Relay}}) ->
    prop_relay:tear(Relay, Direction, K, How),
    broken(Run#run{epoch = none});
step(drain, Run = #run{world = #world{relay = Relay}}) ->
    prop_relay:drain(Relay),
    Run#run{drains = true};
step({chop, Bytes}, Run = #run{world = #world{relay = Relay}}) ->
    prop_relay:chop(Relay, Bytes),
    Run;
step(starve, Run = #run{options = #{connect_wait := Wait}}) when Wait > 100 ->
    Run;
step(starve, Run = #run{client = Client}) ->
    Cut = step({cut, all, close}, step(shut, Run)),
    until(fun() -> maps:get(links, gen_driver_tcp:info(Client)) =:= 0 end),
    Starved = #run{callers = Callers, told = Told} = step({call, plain, none, none, free}, Cut),
    All = [Number || {Number, _, _} <- Callers, not is_map_key(Number, Told)],
    Heard = told(All, Told, Callers, now_ms() + Run#run.patience),
    Starved#run{told = Heard, over = [lists:flatten(io_lib:format("~b still waits though there is no link", [Number]))
                                      || Number <- All, not is_map_key(Number, Heard)] ++ Run#run.over};
step({handover, Key}, Run = #run{client = Client}) ->
    Whole = step(await, Run),
    #{connects := Connects} = gen_driver_tcp:info(Client),
    Asked = step({call, own, none, Key, free}, step(stall, Whole)),
    Draining = step(drain, Asked),
    until(fun() -> maps:get(connects, gen_driver_tcp:info(Client)) > Connects end),
    Draining;
step(noise, Run = #run{world = #world{relay = Relay}}) ->
    prop_relay:noise(Relay),
    Run;
step(stall, Run = #run{world = #world{relay = Relay}}) ->
    prop_relay:flow(Relay, false),
    Run;
step(flow, Run = #run{world = #world{relay = Relay}}) ->
    prop_relay:flow(Relay, true),
    Run;
step(shut, Run = #run{world = #world{relay = Relay}}) ->
    prop_relay:door(Relay, shut),
    Run#run{shuts = true};
step(open, Run = #run{world = #world{relay = Relay}}) ->
    prop_relay:door(Relay, open),
    Run;
step(release, Run = #run{world = World}) ->
    Run#run{gate = release(World)};
step(hear, Run = #run{callers = Callers, entries = Entries, told = Told}) ->
    Short = [Number || #{short := true, number := Number} <- Entries, not is_map_key(Number, Told)],
    Run#run{told = told(Short, Told, Callers, now_ms() + Run#run.patience)};
step(await, Run = #run{world = World, client = Client}) ->
    prop_relay:calm(World#world.relay),
    #run{} = step(flow, step(open, Run)),
    until(fun() -> linked(World, Client) end),
    Kept = Run#run{epoch = case Run#run.epoch of none -> next_epoch(Run); Known -> Known end},
    case Run#run.sure_from of
        infinity -> Kept#run{sure_from = number(World) + 1, dropped = dropped(Client)};
        _ -> Kept
    end.

%% However many links there are while old ones are drained.
bounded(Run = #run{client = Client, options = #{max_in_flight := Max}}) ->
    case gen_driver_tcp:info(Client) of
        #{in_flight := InFlight, links := Links} when InFlight > Max * Links ->
            Run#run{over = [lists:flatten(io_lib:format("~b calls in flight on ~b links", [InFlight, Links])) | Run#run.over]};
        #{} ->
            Run
    end.

burst(own, Run) -> call(fun(Client, N) -> gen_driver_tcp:call(Client, ?RECORD, N, infinity) end, #{}, Run);
burst(plain, Run = #run{options = #{plain_timeout := Plain}}) ->
    call(fun(Client, N) -> gen_server:call(Client, {port, ?RECORD, N}, infinity) end, #{deadline => Plain =/= infinity}, Run).

call(Fun, Entry, Run = #run{world = World}) ->
    Number = next_number(World),
    called(fun(Client) -> Fun(Client, Number) end, Entry#{number => Number}, go_on, Run).

work(free, #run{world = World}) ->
    Number = next_number(World),
    {?RECORD, Number, Number};
work(held, #run{world = World, gate = Gate}) ->
    Number = next_number(World),
    {?HOLD, {Number, Gate}, Number}.

is_short(Timeout) -> is_integer(Timeout) andalso Timeout < 100.

none_is(Default, none) -> Default;
none_is(_, Timeout) -> Timeout.

%% What the original's callers do, and some do not wait for ever.
patient(Client, Request, Timeout) ->
    try gen_server:call(Client, Request, Timeout)
    catch exit:{timeout, {gen_server, call, _}} -> gave_up
    end.

%% A tear may have happened or not: until the next cut or await it is not known what went where.
next_epoch(#run{entries = Entries}) -> length(Entries) + 1.

broken(Run) -> Run#run{breaks = true, sure_from = infinity}.

%% Whole, on both sides.
linked(#world{relay = Relay}, Client) ->
    {links, Links} = process_info(Client, links),
    Ours = [Port || Socket <- Links, is_port(Socket), {ok, Port} <- [inet:port(Socket)]],
    #{status := Status} = gen_driver_tcp:info(Client),
    Status =:= up andalso Ours =/= [] andalso Ours -- prop_relay:live(Relay) =:= [].

dropped(Client) ->
    maps:get(casts_dropped, gen_driver_tcp:info(Client)).

release(#world{gate = Gate, counter = Counter}) ->
    Number = atomics:add_get(Counter, 2, 1),
    ok = file:pwrite(Gate, 0, <<Number:64/native>>),
    Number.

%%% Callers: they live until the case ends, and show what is left in their mailboxes

called(Fun, Entry = #{number := Number}, Wait, Run = #run{client = Client, callers = Callers}) ->
    Owner = self(),
    {Pid, Monitor} = spawn_monitor(fun() -> caller(Owner, Number, fun() -> Fun(Client) end) end),
    Wait =:= wait andalso asked(Pid),
    enter(Entry#{sort => call}, Run#run{callers = [{Number, Pid, Monitor} | Callers]}).

caller(Owner, Number, Fun) ->
    Outcome = try Fun() catch Class:Reason -> {raised, Class, Reason} end,
    Owner ! {told, Number, Outcome},
    receive finish -> ok end,
    {messages, Left} = process_info(self(), messages),
    exit({left, Left}).

%% It has sent, and waits for the answer or already for the end.
asked(Pid) ->
    case process_info(Pid, status) of
        {status, waiting} -> ok;
        undefined -> ok;
        _ -> erlang:yield(), asked(Pid)
    end.

enter(Entry, Run = #run{entries = Entries, epoch = Epoch}) ->
    Run#run{entries = [maps:merge(#{deadline => false, gives_up => false, key => none, epoch => Epoch}, Entry) | Entries]}.

%%% The end: all that was broken works again, everybody hears, and the books are compared

finished(Run = #run{world = World, client = Client}) ->
    prop_relay:calm(World#world.relay),
    step(release, step(flow, step(open, Run))),
    Deadline = now_ms() + Run#run.patience,
    Told = told([Number || {Number, _, _} <- Run#run.callers, not is_map_key(Number, Run#run.told)], Run#run.told,
                Run#run.callers, Deadline),
    Entries = [maps:merge(Entry, outcome(Entry, Told)) || Entry <- lists:reverse(Run#run.entries)],
    Rest = rest(Client, Deadline) ++ serves(World, Client),
    Dropped = dropped(Client) - Run#run.dropped,
    Left = left(Run#run.callers),
    ok = gen_driver_tcp:stop(Client),
    ok = prop_relay:idle(World#world.relay),
    Ran = ran(World),
    Facts = #{breaks => Run#run.breaks, shuts => Run#run.shuts, drains => Run#run.drains, sure_from => Run#run.sure_from,
              bounded => maps:get(max_queued, Run#run.options) < 100, dropped => Dropped},
    Served = number(World),
    {prop_books:problems(Entries, [N || N <- Ran, N =/= Served], Facts) ++ Run#run.over ++ Rest ++ Left,
     [word(Entry) || Entry <- Entries],
     [io_lib:format("  ~b ~p key ~p: ~p, ran ~b times~n", [N, Sort, Key, Outcome, length([x || M <- Ran, M =:= N])])
      || #{number := N, sort := Sort, key := Key, outcome := Outcome} <- Entries]}.

outcome(#{sort := call, number := Number}, Told) -> #{outcome => maps:get(Number, Told, nothing)};
outcome(#{}, _Told) -> #{}.

told([], Told, _Callers, _Deadline) ->
    Told;
told(Waiting, Told, Callers, Deadline) ->
    receive
        {told, Number, Outcome} ->
            told(Waiting -- [Number], Told#{Number => Outcome}, Callers, Deadline);
        {'DOWN', Monitor, process, _, killed} ->
            {Number, _, _} = lists:keyfind(Monitor, 3, Callers),
            told(Waiting -- [Number], maps:merge(#{Number => killed}, Told), Callers, Deadline)
    after max(0, Deadline - now_ms()) ->
        Told
    end.

%% All bounds are free again.
rest(Client, Deadline) ->
    Info = gen_driver_tcp:info(Client),
    {_, Places} = lists:keyfind({gen_driver_places, Client}, 1, persistent_term:get()),
    case {Info, gen_driver_places:taken(Places)} of
        {#{in_flight := 0, queued := 0, queued_bytes := 0}, {0, 0}} ->
            [];
        {_, Taken} ->
            case now_ms() < Deadline of
                true -> erlang:yield(), rest(Client, Deadline);
                false -> [lists:flatten(io_lib:format("something is left in the client: ~p, places ~p", [Info, Taken]))]
            end
    end.

serves(World, Client) ->
    Number = next_number(World),
    until(fun() -> linked(World, Client) end),
    case gen_driver_tcp:call(Client, ?RECORD, Number, ?DEADLINE) of
        {ok, Number} -> [];
        Other -> [lists:flatten(io_lib:format("after all that the client says ~p", [Other]))]
    end.

%% Some were killed, and the word of that may have been read already.
left(Callers) ->
    [Pid ! finish || {_, Pid, _} <- Callers],
    [lists:flatten(io_lib:format("~p ended with ~p: its mailbox should be empty", [Number, Reason]))
     || {Number, Pid, Monitor} <- Callers, Reason <- [ended(Pid, Monitor)], Reason =/= {left, []}, Reason =/= noproc].

ended(Pid, Monitor) ->
    Again = monitor(process, Pid),
    receive
        {'DOWN', Again, process, Pid, Why} ->
            true = demonitor(Monitor, [flush]),
            Why
    after ?DEADLINE ->
        still_waiting
    end.

%% Casts may still wait in the host though their connection is gone. Each worker answers us after what it had
%% before: first whoever takes from the common queue, then each seat.
ran(#world{control = Control, ledger = Ledger}) ->
    {ok, 0} = gen_driver_tcp:call(Control, ?RECORD, 0, ?DEADLINE),
    Seats = [gen_driver_tcp:call(Control, ?RECORD, 0, #{timeout => ?DEADLINE, key => Seat})
             || Seat <- lists:seq(0, ?THREADS - 1)],
    [{ok, 0}] = lists:usort(Seats),
    [N || <<N:64>> <= everything(Ledger, []), N =/= 0].

everything(Ledger, Read) ->
    case file:read(Ledger, 65536) of
        {ok, Bytes} -> everything(Ledger, [Bytes | Read]);
        eof -> iolist_to_binary(lists:reverse(Read))
    end.

word(#{sort := Sort, outcome := {ok, _}}) -> {Sort, ok};
word(#{sort := Sort, outcome := {error, {failed, Reason}}}) -> {Sort, Reason};
word(#{sort := Sort, outcome := Outcome}) -> {Sort, Outcome}.

until(Is) ->
    until(Is, now_ms() + ?DEADLINE).

until(Is, Deadline) ->
    case Is() of
        true -> ok;
        false ->
            now_ms() < Deadline orelse error(waited_too_long),
            erlang:yield(),
            until(Is, Deadline)
    end.

now_ms() ->
    erlang:monotonic_time(millisecond).
