%% SPDX-License-Identifier: MIT
%% @doc How an outcome reaches its caller.
%%
%% What is small is decoded here: as a term it costs less to send than the frame that
%% it came in. For a caller of gen_driver_tcp all else is its own to decode, and that of
%% another node, which may know other atoms, decodes for itself anyhow. For a plain
%% gen_server:call it is decoded here too, but not what is large: a term of 10 MiB holds
%% a process for 60 ms and more, and all other callers with it.
%%
%% A caller on another node may be out of reach: a send to it would then hold the
%% client for as long as the connection between the nodes takes to be given up. So
%% other processes send to other nodes: one for each reply, and one for each stream.
-module(gen_driver_answer).

-export([reply/5, part/3, failed/3, said/3, term/3, forget/2]).

-export_type([to/0, style/0]).

%% Of a stream: the caller and its alias. It gets `{gen_driver_stream, Alias, Answer}'.
-type to() :: gen_server:from() | {pid(), Alias :: reference()}.
-type style() :: plain | own | stream.

-define(LARGE, 65536).
-define(SMALL, 256).

%% @doc The driver's reply, as the frame that it came in.
-spec reply(to(), style(), BodyAt :: pos_integer(), Frame :: binary(),
            Undecodable :: term()) -> ok.
reply(From, plain, BodyAt, Frame, Undecodable) when byte_size(Frame) > ?LARGE ->
    _ = spawn(fun() -> gen_server:reply(From, term(BodyAt, Frame, Undecodable)) end),
    ok;
reply(From, plain, BodyAt, Frame, Undecodable) ->
    send(From, term(BodyAt, Frame, Undecodable));
reply({Pid, _} = From, own, BodyAt, Frame, _Undecodable) when byte_size(Frame) =< ?SMALL, node(Pid) =:= node() ->
    send(From, {term, gen_driver_proto:term(Frame, BodyAt)});
reply(To, Style, BodyAt, Frame, _Undecodable) ->
    answer(To, Style, {frame, BodyAt, Frame}).

answer({Pid, Alias}, stream, Answer) when node(Pid) =:= node() ->
    Alias ! {gen_driver_stream, Alias, Answer},
    ok;
answer({_Pid, Alias}, stream, {part, _, _} = Part) ->
    forwarder(Alias) ! Part,
    ok;
answer({_Pid, Alias} = To, stream, Final) ->
    forwarder(Alias) ! Final,
    forget(To, stream);
answer(From, own, Answer) ->
    send(From, Answer).

send({Pid, _} = From, Term) when node(Pid) =:= node() ->
    gen_server:reply(From, Term);
send(From, Term) ->
    _ = spawn(fun() -> gen_server:reply(From, Term) end),
    ok.

%% Holds what its stream has credit for, and no more.
forwarder(Alias) ->
    case get({?MODULE, Alias}) of
        undefined ->
            Forwarder = spawn_link(fun() -> forward(Alias) end),
            undefined = put({?MODULE, Alias}, Forwarder),
            Forwarder;
        Forwarder ->
            Forwarder
    end.

forward(Alias) ->
    receive
        over ->
            ok;
        Answer ->
            Alias ! {gen_driver_stream, Alias, Answer},
            forward(Alias)
    end.

%% @doc A stream gets no more of it.
-spec forget(to() | nobody, style()) -> ok.
forget({_Pid, Alias}, stream) ->
    case erase({?MODULE, Alias}) of
        undefined -> ok;
        Forwarder -> Forwarder ! over, ok
    end;
forget(_To, _Style) ->
    ok.

%% @doc A piece ahead of the reply.
-spec part(to(), BodyAt :: pos_integer(), Frame :: binary()) -> ok.
part(To, BodyAt, Frame) ->
    answer(To, stream, {part, BodyAt, Frame}).

%% @doc The term in a reply's frame, or `Undecodable'.
-spec term(BodyAt :: pos_integer(), Frame :: binary(), Undecodable :: term()) -> term().
term(BodyAt, Frame, Undecodable) ->
    case gen_driver_proto:term(Frame, BodyAt) of
        {ok, Term} -> Term;
        undecodable -> Undecodable
    end.

%% @doc The service's own word.
-spec failed(to(), style(), gen_driver_proto:failed_reason()) -> ok.
failed(From, Style, Reason) ->
    said(From, Style, {error, {failed, Reason}}).

%% @doc What the client itself has to say.
-spec said(to(), style(), term()) -> ok.
said(From, plain, Term) -> send(From, Term);
said(To, Style, Term) -> answer(To, Style, {said, Term}).
