%% SPDX-License-Identifier: MIT
%% @doc Calls that are answered later, alone or in collections: gen_server's own requests, and whom to tell
%% when one of them is given up.
-module(gen_driver_requests).

-export([send/2, receive_response/2, wait_response/2, check_response/2]).
-export([new/0, add/3, size/1, to_list/1, receive_response/3, wait_response/3, check_response/3]).
-export_type([id/0, collection/0]).

-opaque id() :: {gen_server:request_id(), gen_driver_caller:handle()}.
%% Labels are `{Handle, Label}'.
-opaque collection() :: gen_server:request_id_collection().

%% @doc See gen_driver_tcp:send_request/4.
-spec send(gen_server:server_ref(), gen_driver_caller:request()) -> id().
send(Client, Request) ->
    gen_driver_caller:send(Client, Request).

%% @doc See gen_driver_tcp.
-spec receive_response(id(), gen_server:response_timeout()) -> gen_driver_tcp:response() | timeout.
receive_response({Id, Handle}, Timeout) ->
    case gen_server:receive_response(Id, Timeout) of
        timeout ->
            ok = gen_driver_caller:cancel(Handle),
            timeout;
        Answer ->
            response(Answer)
    end.

%% @doc See gen_driver_tcp.
-spec wait_response(id(), gen_server:response_timeout()) -> gen_driver_tcp:response() | timeout.
wait_response({Id, _Handle}, Timeout) ->
    case gen_server:wait_response(Id, Timeout) of
        timeout -> timeout;
        Answer -> response(Answer)
    end.

%% @doc See gen_driver_tcp.
-spec check_response(Message :: term(), id()) -> gen_driver_tcp:response() | no_reply.
check_response(Message, {Id, _Handle}) ->
    case gen_server:check_response(Message, Id) of
        no_reply -> no_reply;
        Answer -> response(Answer)
    end.

response({reply, Answer}) -> {reply, gen_driver_caller:result(gen_driver_caller:outcome(Answer))};
response({error, {Reason, Server}}) -> {error, {Reason, Server}}.

%% @doc See gen_driver_tcp.
-spec new() -> collection().
new() ->
    gen_server:reqids_new().

%% @doc See gen_driver_tcp.
-spec add(id(), Label :: term(), collection()) -> collection().
add({Id, Handle}, Label, Collection) ->
    gen_server:reqids_add(Id, {Handle, Label}, Collection).

%% @doc See gen_driver_tcp.
-spec size(collection()) -> non_neg_integer().
size(Collection) ->
    gen_server:reqids_size(Collection).

%% @doc See gen_driver_tcp.
-spec to_list(collection()) -> [{id(), Label :: term()}].
to_list(Collection) ->
    [{{Id, Handle}, Label} || {Id, {Handle, Label}} <- gen_server:reqids_to_list(Collection)].

%% @doc See gen_driver_tcp.
-spec receive_response(collection(), gen_server:response_timeout(), Delete :: boolean()) ->
    {gen_driver_tcp:response(), Label :: term(), collection()} | no_request | timeout.
receive_response(Collection, Timeout, Delete) ->
    case gen_server:receive_response(Collection, Timeout, Delete) of
        timeout ->
            lists:foreach(fun({{_Id, Handle}, _Label}) -> ok = gen_driver_caller:cancel(Handle) end, to_list(Collection)),
            timeout;
        no_request ->
            no_request;
        Answer ->
            labelled(Answer)
    end.

%% @doc See gen_driver_tcp.
-spec wait_response(collection(), gen_server:response_timeout(), Delete :: boolean()) ->
    {gen_driver_tcp:response(), Label :: term(), collection()} | no_request | timeout.
wait_response(Collection, Timeout, Delete) ->
    case gen_server:wait_response(Collection, Timeout, Delete) of
        timeout -> timeout;
        no_request -> no_request;
        Answer -> labelled(Answer)
    end.

%% @doc See gen_driver_tcp.
-spec check_response(Message :: term(), collection(), Delete :: boolean()) ->
    {gen_driver_tcp:response(), Label :: term(), collection()} | no_request | no_reply.
check_response(Message, Collection, Delete) ->
    case gen_server:check_response(Message, Collection, Delete) of
        no_reply -> no_reply;
        no_request -> no_request;
        Answer -> labelled(Answer)
    end.

labelled({Answer, {_Handle, Label}, Collection}) -> {response(Answer), Label, Collection}.
