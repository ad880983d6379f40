%% SPDX-License-Identifier: MIT
%% @doc How an outcome reaches its caller.
%%
%% A caller of gen_driver_tcp gets the frame and decodes it itself. For a plain
%% gen_server:call the client decodes, but not what is large: a term of 10 MiB
%% holds a process for 60 ms and more, and all other callers with it.
-module(gen_driver_answer).

-export([reply/5, part/3, failed/3, said/3, term/3]).

-export_type([to/0, style/0]).

%% Of a stream: the caller and its alias. It gets `{gen_driver_stream, Alias, Answer}'.
-type to() :: gen_server:from() | {pid(), Alias :: reference()}.
-type style() :: plain | own | stream.

-define(LARGE, 65536).

%% @doc The driver's reply, as the frame that it came in.
-spec reply(to(), style(), BodyAt :: pos_integer(), Frame :: binary(),
            Undecodable :: term()) -> ok.
reply(From, plain, BodyAt, Frame, Undecodable) when byte_size(Frame) > ?LARGE ->
    _ = spawn(fun() -> gen_server:reply(From, term(BodyAt, Frame, Undecodable)) end),
    ok;
reply(From, plain, BodyAt, Frame, Undecodable) ->
    gen_server:reply(From, term(BodyAt, Frame, Undecodable));
reply(To, Style, BodyAt, Frame, _Undecodable) ->
    answer(To, Style, {frame, BodyAt, Frame}).

answer({_Pid, Alias}, stream, Answer) ->
    Alias ! {gen_driver_stream, Alias, Answer},
    ok;
answer(From, own, Answer) ->
    gen_server:reply(From, Answer).

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
said(From, plain, Term) -> gen_server:reply(From, Term);
said(To, Style, Term) -> answer(To, Style, {said, Term}).
