%% SPDX-License-Identifier: MIT
%% @doc Calls and casts to a driver that gendriverd hosts: the client's API.
%%
%% ```
%% {ok, Pid} = gen_driver_tcp:start_link(#{instance => "sum"}),
%% {ok, 10.0} = gen_driver_tcp:call(Pid, sum, [1, 2, 3, 4]).
%% '''
%% `gen_server:call(Pid, {port, Command, Params})' works too, and is as fast. These
%% functions add deadlines that the host knows of, a bound on what may wait in the
%% client's mailbox, and encoding and decoding in the caller.
-module(gen_driver_tcp).

-include("gen_driver_request.hrl").

-export([start_link/1, start_link/2, child_spec/1, stop/1, await/2, info/1]).
-export([call/2, call/3, call/4, cast/2, cast/3, cast/4, retryable/1]).
-export_type([command/0, failed/0, failed_reason/0, not_run/0, may_have_run/0, info/0]).

%% An integer, or a name that the driver declared.
-type command() :: gen_driver_proto:command() | atom() | binary().
-type failed() :: {error, {failed, failed_reason()}}.
-type failed_reason() :: gen_driver_proto:failed_reason().
-type not_run() :: gen_driver_proto:not_run().
-type may_have_run() :: gen_driver_proto:may_have_run().
-type info() :: #{
    instance := binary(), connect := gen_driver_options:address(),
    status := connecting | up | {refused, gen_driver_handshake:refusal()},
    trouble := none | term(), in_flight := non_neg_integer(),
    queued := non_neg_integer(), queued_bytes := non_neg_integer(), links := non_neg_integer(),
    connects := non_neg_integer(), casts_dropped := non_neg_integer(),
    welcome => gen_driver_handshake:welcome()
}.

%% How long a caller waits beyond its deadline for the host's own word.
-define(BEYOND, 100).
-define(TIMEOUT, 5000).

%%% Clients

%% @doc Start a client. It returns at once: connecting goes on in the background, calls wait meanwhile.
-spec start_link(gen_driver_options:options()) ->
    {ok, pid()} | {error, gen_driver_options:bad_option() | term()}.
start_link(Options) ->
    case gen_driver_options:client(Options) of
        {ok, Checked} -> started(gen_driver_client:start_link(Checked));
        {error, Bad} -> {error, Bad}
    end.

%% @doc The same under a name: `{local, Name}', `{global, Name}' or `{via, Module, Name}'.
-spec start_link(gen_server:server_name(), gen_driver_options:options()) ->
    {ok, pid()} | {error, gen_driver_options:bad_option() | term()}.
start_link(ServerName, Options) ->
    case gen_driver_options:client(Options) of
        {ok, Checked} -> started(gen_driver_client:start_link(ServerName, Checked));
        {error, Bad} -> {error, Bad}
    end.

started({ok, Pid}) -> {ok, Pid};
started({error, Reason}) -> {error, Reason};
started(ignore) -> {error, ignore}.

%% @doc For a supervisor. Options, or a name and options.
-spec child_spec(gen_driver_options:options() | {gen_server:server_name(), gen_driver_options:options()}) ->
    supervisor:child_spec().
child_spec({ServerName, Options}) ->
    child_spec(ServerName, [ServerName, Options]);
child_spec(Options) ->
    child_spec(instance(Options), [Options]).

child_spec(Id, Arguments) ->
    #{id => {?MODULE, Id}, start => {?MODULE, start_link, Arguments}, type => worker,
      restart => permanent, shutdown => 5000, modules => [gen_driver_client]}.

instance(Options) when is_map(Options) -> maps:get(instance, Options, undefined);
instance(Options) -> proplists:get_value(instance, Options).

%% @doc Stop. Casts that were accepted go out; calls without an answer get `disconnected', or
%% `unavailable' if they were not sent.
-spec stop(gen_server:server_ref()) -> ok.
stop(Client) ->
    gen_server:stop(Client).

%% @doc Wait until the instance has welcomed this client, or the attempt under way has failed.
-spec await(gen_server:server_ref(), timeout()) -> ok | {error, term()}.
await(Client, Timeout) ->
    case gen_server:receive_response(gen_server:send_request(Client, await), Timeout) of
        {reply, Outcome} -> Outcome;
        {error, {Reason, _}} -> {error, Reason};
        timeout -> {error, timeout}
    end.

%% @doc How the client is: connected or not, what is in flight, what waits.
-spec info(gen_server:server_ref()) -> info().
info(Client) ->
    gen_server:call(Client, info).

%%% Requests

%% @equiv call(Client, Command, [], 5000)
-spec call(gen_server:server_ref(), command()) -> term() | failed().
call(Client, Command) ->
    call(#request{}, Client, Command, ?TIMEOUT, #{}).

%% @equiv call(Client, Command, Params, 5000)
-spec call(gen_server:server_ref(), command(), Params :: term()) -> term() | failed().
call(Client, Command, Params) ->
    call(gen_driver_params:request(Params), Client, Command, ?TIMEOUT, #{}).

%% @doc What the driver says, or the service's own word, `{error, {failed, Reason}}'. A name that the
%% driver has not declared is `{error, {unknown_command, Name}}'. Exits like `gen_server:call' when
%% there is no such client.
-spec call(gen_server:server_ref(), command(), Params :: term(), gen_driver_options:request_options()) ->
    term() | failed() | {error, {unknown_command, binary()}}.
call(Client, Command, Params, TimeoutOrOptions) ->
    {Timeout, Options} = case gen_driver_options:request(TimeoutOrOptions) of
        {default, Rest} -> {?TIMEOUT, Rest};
        Given -> Given
    end,
    call(gen_driver_params:request(Params), Client, Command, Timeout, Options).

call(Plain, Client, Command, Timeout, Options) ->
    Ref = make_ref(),
    case place(Client, Plain#request{style = own, ref = Ref, options = Options}, Command, Timeout) of
        {ok, Server, Request} ->
            %% gen_server:call finds its reply without a walk through the caller's mailbox.
            try gen_server:call(Server, Request, beyond(Timeout)) of
                {frame, BodyAt, Frame} -> gen_driver_answer:term(BodyAt, Frame, {error, {failed, undecodable}});
                {said, Term} -> Term
            catch
                exit:{timeout, {gen_server, call, _}} ->
                    gen_server:cast(Server, {cancel, Ref}),
                    {error, {failed, timeout}};
                exit:{Reason, {gen_server, call, _}} ->
                    exit({Reason, {?MODULE, call, [Client, Command]}})
            end;
        nobody ->
            exit({noproc, {?MODULE, call, [Client, Command]}});
        {failed, Reason} ->
            {error, {failed, Reason}}
    end.

beyond(infinity) -> infinity;
beyond(Timeout) -> min(Timeout + ?BEYOND, 16#ffffffff).

%% @equiv cast(Client, Command, [])
-spec cast(gen_server:server_ref(), command()) -> ok | failed().
cast(Client, Command) ->
    cast(#request{}, Client, Command, infinity, #{}).

%% @equiv cast(Client, Command, Params, #{})
-spec cast(gen_server:server_ref(), command(), Params :: term()) -> ok | failed().
cast(Client, Command, Params) ->
    cast(gen_driver_params:request(Params), Client, Command, infinity, #{}).

%% @doc Have a command run and never hear of it. `ok' says that it was taken, no more: without a link
%% it is dropped, and counted in `info/1'.
-spec cast(gen_server:server_ref(), command(), Params :: term(), gen_driver_options:request_options()) ->
    ok | failed().
cast(Client, Command, Params, TimeoutOrOptions) ->
    {Timeout, Options} = case gen_driver_options:request(TimeoutOrOptions) of
        {default, Rest} -> {infinity, Rest};
        Given -> Given
    end,
    cast(gen_driver_params:request(Params), Client, Command, Timeout, Options).

cast(Plain, Client, Command, Timeout, Options) ->
    case place(Client, Plain#request{options = Options}, Command, Timeout) of
        {ok, Server, Request} -> gen_server:cast(Server, Request);
        nobody -> ok;
        {failed, Reason} -> {error, {failed, Reason}}
    end.

%% @doc Whether the call that gave this result certainly never started, so that it may be made again.
%% A driver whose own replies look like `{error, {failed, _}}' misleads it.
-spec retryable(Result :: term()) -> boolean().
retryable({error, {failed, Reason}}) when is_atom(Reason) -> gen_driver_proto:retryable(Reason);
retryable(_) -> false.

%%% On the way

place(Client, Request, Name, Timeout) ->
    case gen_driver_options:command(Name) of
        {ok, Command} -> place(where(Client), Request#request{command = Command}, Timeout);
        bad_request -> {failed, bad_request}
    end.

place(undefined, _Request, _Timeout) ->
    nobody;
place(Pid, Request = #request{size = Size}, Timeout) when is_pid(Pid), node(Pid) =:= node() ->
    case gen_driver_places:take(Pid, Size) of
        full -> {failed, overloaded};
        Taken -> {ok, Pid, Request#request{placed = Taken =:= taken, deadline = deadline(Timeout)}}
    end;
place(Remote, Request, Timeout) ->
    Deadline = case Timeout of infinity -> infinity; _ -> {in, Timeout} end,
    {ok, Remote, Request#request{deadline = Deadline}}.

where(Pid) when is_pid(Pid) -> Pid;
where(Name) when is_atom(Name) -> whereis(Name);
where({global, Name}) -> global:whereis_name(Name);
where({Name, Node}) when Node =:= node() -> whereis(Name);
where({via, Module, Name}) -> Module:whereis_name(Name);
where({Name, Node}) -> {Name, Node}.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.
