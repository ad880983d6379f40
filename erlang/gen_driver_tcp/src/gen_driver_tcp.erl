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
%%
%% Longer than other files: it is the whole of the API, most of it in specs and words.
-module(gen_driver_tcp).

-export([start_link/1, start_link/2, child_spec/1, stop/1, await/2, ping/2, info/1]).
-export([call/2, call/3, call/4, cast/2, cast/3, cast/4, retryable/1]).
-export([send_request/2, send_request/3, send_request/4, send_request/6]).
-export([receive_response/2, receive_response/3, wait_response/2, wait_response/3, check_response/2, check_response/3]).
-export([reqids_new/0, reqids_add/3, reqids_size/1, reqids_to_list/1]).
-export([call_stream/4, next_part/2, check_part/2, cancel_stream/1, subscribe/2, unsubscribe/2]).
-export_type([command/0, failed/0, failed_reason/0, not_run/0, may_have_run/0, result/0, info/0]).
-export_type([request_id/0, request_id_collection/0, response/0, stream/0]).

%% An integer, or a name that the driver declared.
-type command() :: gen_driver_proto:command() | atom() | binary().
%% What a driver says, as it is; the service's own word; or a name that the driver has not declared.
-type result() :: term() | failed() | {error, {unknown_command, binary()}}.
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
-opaque request_id() :: gen_driver_requests:id().
-opaque request_id_collection() :: gen_driver_requests:collection().
%% As in gen_server; the error says that the client has ended, or was not there.
-type response() :: {reply, result()} | {error, {Reason :: term(), gen_server:server_ref()}}.
-type stream() :: gen_driver_stream:stream().

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
    case {gen_driver_options:is_name(ServerName), gen_driver_options:client(Options)} of
        {true, {ok, Checked}} -> started(gen_driver_client:start_link(ServerName, Checked));
        {true, {error, Bad}} -> {error, Bad};
        {false, _} -> {error, {bad_option, {name, ServerName}}}
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
    asked(Client, await, Timeout).

%% @doc Whether the host's loop answers, over the link that calls take.
-spec ping(gen_server:server_ref(), timeout()) -> pong | {error, unavailable | disconnected | timeout | term()}.
ping(Client, Timeout) ->
    asked(Client, ping, Timeout).

asked(Client, What, Timeout) ->
    case gen_server:receive_response(gen_server:send_request(Client, What), Timeout) of
        {reply, Outcome} -> Outcome;
        {error, {Reason, _}} -> {error, Reason};
        timeout -> {error, timeout}
    end.

%% @doc How the client is: connected or not, what is in flight, what waits.
-spec info(gen_server:server_ref()) -> info().
info(Client) ->
    gen_server:call(Client, info).

%%% Calls and casts

%% @equiv call(Client, Command, [], 5000)
-spec call(gen_server:server_ref(), command()) -> result().
call(Client, Command) ->
    called(Client, Command, gen_driver_caller:request(Command, none, ?TIMEOUT, #{})).

%% @equiv call(Client, Command, Params, 5000)
-spec call(gen_server:server_ref(), command(), Params :: term()) -> result().
call(Client, Command, Params) ->
    call(Client, Command, Params, ?TIMEOUT).

%% @doc What the driver says, or the service's own word, `{error, {failed, Reason}}'. A name that the
%% driver has not declared is `{error, {unknown_command, Name}}'. Exits like `gen_server:call' when
%% there is no such client.
-spec call(gen_server:server_ref(), command(), Params :: term(), gen_driver_options:request_options()) -> result().
call(Client, Command, Params, TimeoutOrOptions) ->
    {Timeout, Options} = options(TimeoutOrOptions, ?TIMEOUT),
    called(Client, Command, gen_driver_caller:request(Command, {params, Params}, Timeout, Options)).

called(Client, Command, Request) ->
    case gen_driver_telemetry:is_there() of
        false ->
            gen_driver_caller:result(gen_driver_caller:call(Client, Request));
        true ->
            Began = erlang:monotonic_time(),
            Outcome = gen_driver_caller:call(Client, Request),
            ok = gen_driver_telemetry:call(Began, Client, Command, Outcome),
            gen_driver_caller:result(Outcome)
    end.

%% @equiv cast(Client, Command, [])
-spec cast(gen_server:server_ref(), command()) -> ok | failed().
cast(Client, Command) ->
    cast_result(gen_driver_caller:cast(Client, gen_driver_caller:request(Command, none, infinity, #{}))).

%% @equiv cast(Client, Command, Params, #{})
-spec cast(gen_server:server_ref(), command(), Params :: term()) -> ok | failed().
cast(Client, Command, Params) ->
    cast_result(gen_driver_caller:cast(Client, gen_driver_caller:request(Command, {params, Params}, infinity, #{}))).

%% @doc Have a command run and never hear of it. `ok' says that it was taken, no more: without a link
%% it is dropped, logged, and counted in `info/1'. With `ack => true' the caller waits, and `ok' says
%% that it is on its way to the host; anything else that it was dropped, and why.
-spec cast(gen_server:server_ref(), command(), Params :: term(), gen_driver_options:cast_options()) ->
    ok | failed() | {error, {unknown_command, binary()}}.
cast(Client, Command, Params, TimeoutOrOptions) ->
    {Ack, Rest} = gen_driver_options:ack(TimeoutOrOptions),
    {Timeout, Options} = options(Rest, infinity),
    Request = gen_driver_caller:request(Command, {params, Params}, Timeout, Options),
    cast_result(case Ack of
        true -> gen_driver_caller:ack(Client, Request);
        false -> gen_driver_caller:cast(Client, Request)
    end).

cast_result(ok) -> ok;
cast_result(Outcome) -> gen_driver_caller:result(Outcome).

options(TimeoutOrOptions, Default) ->
    case gen_driver_options:request(TimeoutOrOptions) of
        {default, Options} -> {Default, Options};
        Given -> Given
    end.

%% @doc Whether the call that gave this result certainly never started, so that it may be made again.
%% A driver whose own replies look like `{error, {failed, _}}' misleads it.
-spec retryable(Result :: term()) -> boolean().
retryable({error, {failed, Reason}}) when is_atom(Reason) -> gen_driver_proto:retryable(Reason);
retryable(_) -> false.

%%% Requests that are answered later: as gen_server's functions of the same names

%% @equiv send_request(Client, Command, [], infinity)
-spec send_request(gen_server:server_ref(), command()) -> request_id().
send_request(Client, Command) ->
    send_request(Client, Command, []).

%% @equiv send_request(Client, Command, Params, infinity)
-spec send_request(gen_server:server_ref(), command(), Params :: term()) -> request_id().
send_request(Client, Command, Params) ->
    send_request(Client, Command, Params, infinity).

%% @doc Make a call and do not wait: the answer is for one of the functions below. A timeout is the deadline
%% that travels along; how long to wait is said when waiting.
-spec send_request(gen_server:server_ref(), command(), Params :: term(), gen_driver_options:request_options()) ->
    request_id().
send_request(Client, Command, Params, TimeoutOrOptions) ->
    {Timeout, Options} = options(TimeoutOrOptions, infinity),
    gen_driver_requests:send(Client, gen_driver_caller:request(Command, {params, Params}, Timeout, Options)).

%% @doc The same, into a collection.
-spec send_request(gen_server:server_ref(), command(), Params :: term(), gen_driver_options:request_options(),
                   Label :: term(), request_id_collection()) -> request_id_collection().
send_request(Client, Command, Params, TimeoutOrOptions, Label, Collection) ->
    reqids_add(send_request(Client, Command, Params, TimeoutOrOptions), Label, Collection).

%% @doc Wait for the answer. After `timeout' the call is given up: cancelled if it has not begun, and its answer,
%% should one come, is thrown away.
-spec receive_response(request_id(), gen_server:response_timeout()) -> response() | timeout.
receive_response(Id, Timeout) ->
    gen_driver_requests:receive_response(Id, Timeout).

%% @doc The first answer to a request of a collection, its label, and the collection, without it when `Delete'.
%% After `timeout' all of them are given up.
-spec receive_response(request_id_collection(), gen_server:response_timeout(), Delete :: boolean()) ->
    {response(), Label :: term(), request_id_collection()} | no_request | timeout.
receive_response(Collection, Timeout, Delete) ->
    gen_driver_requests:receive_response(Collection, Timeout, Delete).

%% @doc The same, but after `timeout' one may wait again.
-spec wait_response(request_id(), gen_server:response_timeout()) -> response() | timeout.
wait_response(Id, Timeout) ->
    gen_driver_requests:wait_response(Id, Timeout).

%% @doc The same for a collection.
-spec wait_response(request_id_collection(), gen_server:response_timeout(), Delete :: boolean()) ->
    {response(), Label :: term(), request_id_collection()} | no_request | timeout.
wait_response(Collection, Timeout, Delete) ->
    gen_driver_requests:wait_response(Collection, Timeout, Delete).

%% @doc For a process that receives for itself: the answer in a message, if it is one.
-spec check_response(Message :: term(), request_id()) -> response() | no_reply.
check_response(Message, Id) ->
    gen_driver_requests:check_response(Message, Id).

%% @doc The same for a collection.
-spec check_response(Message :: term(), request_id_collection(), Delete :: boolean()) ->
    {response(), Label :: term(), request_id_collection()} | no_request | no_reply.
check_response(Message, Collection, Delete) ->
    gen_driver_requests:check_response(Message, Collection, Delete).

%% @doc A collection without requests.
-spec reqids_new() -> request_id_collection().
reqids_new() ->
    gen_driver_requests:new().

%% @doc With one more.
-spec reqids_add(request_id(), Label :: term(), request_id_collection()) -> request_id_collection().
reqids_add(Id, Label, Collection) ->
    gen_driver_requests:add(Id, Label, Collection).

%% @doc How many.
-spec reqids_size(request_id_collection()) -> non_neg_integer().
reqids_size(Collection) ->
    gen_driver_requests:size(Collection).

%% @doc All of them.
-spec reqids_to_list(request_id_collection()) -> [{request_id(), Label :: term()}].
reqids_to_list(Collection) ->
    gen_driver_requests:to_list(Collection).

%%% Streams and notes

%% @doc A call whose driver gives parts before it replies. Options are those of a call (the timeout is for all of it:
%% infinity unless said), and `credit', how many parts may be on their way or unread: 16 unless said.
%%
%% With `fold => {Fun, Acc}' it waits, and gives `{Result, Acc}' when `Fun(Part, Acc)' has seen every part. Without,
%% `{ok, Stream}' at once: parts and result come as messages, for `next_part/2' or `check_part/2'.
-spec call_stream(gen_server:server_ref(), command(), Params :: term(), gen_driver_options:stream_options()) ->
    {ok, stream()} | failed() | {result(), Acc :: term()}.
call_stream(Client, Command, Params, Given) ->
    {Credit, Fold, Rest} = gen_driver_options:stream(Given),
    {Timeout, Options} = options(Rest, infinity),
    Request = gen_driver_caller:request(Command, {params, Params}, Timeout, Options),
    case gen_driver_stream:start(Client, Request, Credit) of
        {ok, Stream} -> streamed(Fold, Stream);
        {failed, Reason} -> not_streamed(Fold, {error, {failed, Reason}});
        nobody -> exit({noproc, {?MODULE, call_stream, [Client, Command]}})
    end.

streamed(none, Stream) ->
    {ok, Stream};
streamed({Fun, Acc}, Stream) ->
    {Outcome, Last} = gen_driver_stream:fold(Fun, Acc, Stream),
    {gen_driver_caller:result(Outcome), Last}.

not_streamed(none, Failed) -> Failed;
not_streamed({_Fun, Acc}, Failed) -> {Failed, Acc}.

%% @doc The next part, with the stream to ask on; or the result, after which there is none.
-spec next_part(stream(), timeout()) -> {part, term(), stream()} | {done, result()} | timeout.
next_part(Stream, Timeout) ->
    case gen_driver_stream:next(Stream, Timeout) of
        timeout -> timeout;
        Event -> event(Event)
    end.

%% @doc For a process that receives for itself: what a message means for this stream.
-spec check_part(Message :: term(), stream()) -> {part, term(), stream()} | {done, result()} | no_part.
check_part(Message, Stream) ->
    case gen_driver_stream:check(Message, Stream) of
        no_part -> no_part;
        Event -> event(Event)
    end.

event({part, Part, Next}) -> {part, Part, Next};
event({done, Outcome}) -> {done, gen_driver_caller:result(Outcome)}.

%% @doc Want no more: the driver is told, and what has come is thrown away.
-spec cancel_stream(stream()) -> ok.
cancel_stream(Stream) ->
    gen_driver_stream:cancel(Stream).

%% @doc Have the driver's notes sent to `Pid', until it ends or unsubscribes: `{gen_driver_note, Ref, Term}' each; and
%% `{gen_driver_gap, Ref}' when the client has a new link, and notes may have been missed.
-spec subscribe(gen_server:server_ref(), pid()) -> {ok, Ref :: reference()}.
subscribe(Client, Pid) when is_pid(Pid) ->
    gen_server:call(Client, {subscribe, Pid}).

%% @doc No more.
-spec unsubscribe(gen_server:server_ref(), Ref :: reference()) -> ok.
unsubscribe(Client, Ref) when is_reference(Ref) ->
    gen_server:call(Client, {unsubscribe, Ref}).
