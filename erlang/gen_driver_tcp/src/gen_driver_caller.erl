%% SPDX-License-Identifier: MIT
%% @doc The caller's side of a request: encoded, a place taken, sent to the client, its frame decoded here.
%%
%% What comes of it is tagged, so that whoever decides about another try looks at
%% the frame's kind and never at a driver's term, which may look like anything.
-module(gen_driver_caller).

-include("gen_driver_request.hrl").

-export([request/4, call/2, cast/2, ack/2, send/2, cancel/1]).
-export([place/2, beyond/1, outcome/1, result/1]).
-export_type([request/0, outcome/0, handle/0]).

-type request() :: {gen_driver_queue:request(), timeout()} | bad_request.
%% What the driver said; the service's own word; or the driver declares no such command.
-type outcome() :: {reply, term()}
                 | {failed, gen_driver_proto:failed_reason()}
                 | {unknown_command, binary()}.
%% A call under way: whom to tell when it is given up.
-type handle() :: {gen_server:server_ref(), reference()}.

%% How long (ms) a caller waits beyond its deadline for the host's own word.
-define(BEYOND, 100).
-define(SAY, 5000).

%% @doc A request to be made, of one client or of one after another: encoded once.
-spec request(gen_driver_tcp:command(), {params, term()} | none, timeout(), gen_driver_proto:options()) -> request().
request(Name, Params, Timeout, Options) ->
    case gen_driver_options:command(Name) of
        {ok, Command} -> {request(Command, Params, Options), Timeout};
        bad_request -> bad_request
    end.

request(Command, none, Options) ->
    #request{command = Command, options = Options};
request(Command, {params, Params}, Options) ->
    {Encoded, Size, Shape} = gen_driver_params:encode(Params),
    #request{command = Command, params = Encoded, size = Size, shape = Shape, options = Options}.

%% @doc Make a call and wait. Exits like `gen_server:call' when there is no such client, or it ends.
-spec call(gen_server:server_ref(), request()) -> outcome().
call(Client, Asked) ->
    Ref = make_ref(),
    case placed(Client, Asked, own, Ref) of
        {ok, Server, Request, Timeout} ->
            %% gen_server:call finds its reply without a walk through the caller's mailbox.
            try outcome(gen_server:call(Server, Request, beyond(Timeout)))
            catch
                exit:{timeout, {gen_server, call, _}} ->
                    cancel({Server, Ref}),
                    {failed, timeout};
                exit:{Reason, {gen_server, call, _}} ->
                    exit({Reason, {gen_driver_tcp, call, [Client]}})
            end;
        nobody ->
            exit({noproc, {gen_driver_tcp, call, [Client]}});
        {failed, Reason} ->
            {failed, Reason}
    end.

%% @doc Hand over a cast. `ok' says that the client has it.
-spec cast(gen_server:server_ref(), request()) -> ok | {failed, gen_driver_proto:failed_reason()}.
cast(Client, Asked) ->
    case placed(Client, Asked, plain, none) of
        {ok, Server, Request, _} -> gen_server:cast(Server, Request);
        nobody -> ok;
        {failed, Reason} -> {failed, Reason}
    end.

%% @doc The same, and wait until it has left for the host, or was dropped.
-spec ack(gen_server:server_ref(), request()) -> ok | {failed, gen_driver_proto:failed_reason()} | {unknown_command, binary()}.
ack(Client, Asked) ->
    case placed(Client, Asked, plain, none) of
        {ok, Server, Request, _} ->
            try gen_server:call(Server, Request, infinity) of
                ok -> ok;
                {error, {failed, Reason}} -> {failed, Reason};
                {error, {unknown_command, Name}} -> {unknown_command, Name}
            catch
                exit:{noproc, {gen_server, call, _}} -> {failed, unavailable};
                exit:{_Ended, {gen_server, call, _}} -> {failed, disconnected}
            end;
        nobody ->
            {failed, unavailable};
        {failed, Reason} ->
            {failed, Reason}
    end.

%% @doc Make a call and go on: the answer comes as to `gen_server:send_request/2'.
-spec send(gen_server:server_ref(), request()) -> {gen_server:request_id(), handle()}.
send(Client, Asked) ->
    {Server, Request} = sendable(Client, Asked),
    {gen_server:send_request(Server, Request), {Server, Request#request.ref}}.

%% What has failed already is said by a process of its own, so that it comes as every answer does.
sendable(Client, Asked) ->
    Ref = make_ref(),
    case placed(Client, Asked, own, Ref) of
        {ok, Server, Request, _} -> {Server, Request};
        nobody -> {Client, #request{style = own, ref = Ref}};
        {failed, Reason} -> {spawn(fun() -> say(Reason) end), #request{style = own, ref = Ref}}
    end.

say(Reason) ->
    receive {'$gen_call', From, #request{}} -> gen_driver_answer:failed(From, own, Reason)
    after ?SAY -> ok                            % its caller died before it asked
    end.

%% @doc The outcome that an answer of the client holds.
-spec outcome({term, {ok, term()} | undecodable} | {frame, BodyAt :: pos_integer(), Frame :: binary()} | {said, term()} |
              gen_driver_tcp:failed()) -> outcome().
outcome({term, {ok, Term}}) -> {reply, Term};
outcome({term, undecodable}) -> {failed, undecodable};
outcome({frame, BodyAt, Frame}) -> outcome({term, gen_driver_proto:term(Frame, BodyAt)});
outcome({said, {error, {failed, Reason}}}) -> {failed, Reason};
outcome({said, {error, {unknown_command, Name}}}) -> {unknown_command, Name};
%% A client of another version, on another node, that did not know what it was asked.
outcome({error, {failed, Reason}}) -> {failed, Reason}.

%% @doc Nobody waits any more.
-spec cancel(handle()) -> ok.
cancel({Server, Ref}) ->
    gen_server:cast(Server, {cancel, Ref}).

%% @doc As callers of gen_driver_tcp see it.
-spec result(outcome()) -> term() | gen_driver_tcp:failed() | {error, {unknown_command, binary()}}.
result({reply, Term}) -> Term;
result({failed, Reason}) -> {error, {failed, Reason}};
result({unknown_command, Name}) -> {error, {unknown_command, Name}}.

%% @doc How long (ms) to wait for an answer.
-spec beyond(timeout()) -> timeout().
beyond(infinity) -> infinity;
beyond(Timeout) when is_integer(Timeout) -> min(Timeout + ?BEYOND, 16#ffffffff).

%%% On the way

placed(_Client, bad_request, _Style, _Ref) ->
    {failed, bad_request};
placed(Client, {Request, Timeout}, Style, Ref) ->
    case place(where(Client), Request, Timeout, Style, Ref) of
        {ok, Server, Placed} -> {ok, Server, Placed, Timeout};
        Not -> Not
    end.

%% @doc The process to send it to, and the request with a place taken, if it is on this node.
-spec place(gen_server:server_ref(), {gen_driver_queue:request(), timeout()}) ->
    {ok, gen_server:server_ref(), gen_driver_queue:request()} | nobody | {failed, overloaded}.
place(Client, {Request = #request{style = Style, ref = Ref}, Timeout}) ->
    place(where(Client), Request, Timeout, Style, Ref).

place(undefined, _Request, _Timeout, _Style, _Ref) ->
    nobody;
place(Pid, Request = #request{size = Size}, Timeout, Style, Ref) when is_pid(Pid), node(Pid) =:= node() ->
    case gen_driver_places:take(Pid, Size) of
        full -> {failed, overloaded};
        Taken -> {ok, Pid, Request#request{placed = Taken =:= taken, deadline = deadline(Timeout), style = Style, ref = Ref}}
    end;
place(Remote, Request, infinity, Style, Ref) ->
    {ok, Remote, Request#request{style = Style, ref = Ref}};
place(Remote, Request, Timeout, Style, Ref) ->
    {ok, Remote, Request#request{deadline = {in, Timeout}, style = Style, ref = Ref}}.

where(Pid) when is_pid(Pid) -> Pid;
where(Name) when is_atom(Name) -> whereis(Name);
where({global, Name}) -> global:whereis_name(Name);
where({Name, Node}) when Node =:= node() -> whereis(Name);
where({via, Module, Name}) -> Module:whereis_name(Name);
where({Name, Node}) -> {Name, Node}.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.
