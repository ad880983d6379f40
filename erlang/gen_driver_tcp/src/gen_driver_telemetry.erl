%% SPDX-License-Identifier: MIT
%% @doc What the client tells `telemetry', where that library is on the node. Nothing else needs it.
%%
%% | event | measurements | metadata |
%% | `[gen_driver, link, up]' | `count' | `instance', `generation' |
%% | `[gen_driver, link, down]' | `count' | `instance', `generation', `reason' |
%% | `[gen_driver, cast, dropped]' | `count' | `instance', `reason' |
%% | `[gen_driver, call, stop]' | `duration' (native time) | `client', `command', `outcome' |
%%
%% `outcome' is `reply', `unknown_command' or a `gen_driver_tcp:failed_reason()'. Calls are those of
%% gen_driver_tcp's functions, and of a pool or the cluster, where `client' is the pool or the instance and a call is
%% one however often it is made; `gen_server:call' passes no code of ours on the caller's side.
-module(gen_driver_telemetry).

-export([is_there/0, link_up/1, link_down/2, cast_dropped/3, call/4, called/3]).

%% @doc Whether anybody could listen.
-spec is_there() -> boolean().
is_there() ->
    erlang:function_exported(telemetry, execute, 3).

%% @doc A connection was welcomed.
-spec link_up(gen_driver_handshake:welcome()) -> ok.
link_up(Welcome) ->
    execute([gen_driver, link, up], #{count => 1}, maps:with([instance, generation], Welcome)).

%% @doc A connection ended.
-spec link_down(gen_driver_handshake:welcome(), Reason :: term()) -> ok.
link_down(Welcome, Reason) ->
    execute([gen_driver, link, down], #{count => 1}, (maps:with([instance, generation], Welcome))#{reason => Reason}).

%% @doc So many casts were dropped.
-spec cast_dropped(Instance :: binary(), pos_integer(), gen_driver_proto:failed_reason()) -> ok.
cast_dropped(Instance, Count, Reason) ->
    execute([gen_driver, cast, dropped], #{count => Count}, #{instance => Instance, reason => Reason}).

%% @doc A call has ended. `Began' is monotonic, native time.
-spec call(Began :: integer(), term(), gen_driver_tcp:command(), gen_driver_caller:outcome()) -> ok.
call(Began, Client, Command, Outcome) ->
    execute([gen_driver, call, stop], #{duration => erlang:monotonic_time() - Began},
            #{client => Client, command => Command, outcome => brief(Outcome)}).

%% @doc Make a call, say so, and give its result.
-spec called(term(), gen_driver_tcp:command(), fun(() -> gen_driver_caller:outcome())) -> term().
called(Client, Command, Call) ->
    Began = erlang:monotonic_time(),
    Outcome = Call(),
    ok = call(Began, Client, Command, Outcome),
    gen_driver_caller:result(Outcome).

brief({reply, _}) -> reply;
brief({failed, Reason}) -> Reason;
brief({unknown_command, _}) -> unknown_command.

execute(Event, Measurements, Metadata) ->
    case is_there() of
        true -> execute(telemetry, Event, Measurements, Metadata);
        false -> ok
    end.

%% The module in a variable: nothing here depends on it.
execute(Telemetry, Event, Measurements, Metadata) ->
    _ = Telemetry:execute(Event, Measurements, Metadata),
    ok.
