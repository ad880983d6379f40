%% SPDX-License-Identifier: MIT
%% @doc How an outcome reaches its caller.
%%
%% A caller of gen_driver_tcp:call gets the frame and decodes it itself. For a plain
%% gen_server:call the client decodes, but not what is large: a term of 10 MiB
%% holds a process for 60 ms and more, and all other callers with it.
-module(gen_driver_answer).

-export([reply/5, failed/3, said/3, term/3]).

-define(LARGE, 65536).

%% @doc The driver's reply, as the frame that it came in.
-spec reply(gen_server:from(), plain | own, BodyAt :: pos_integer(), Frame :: binary(),
            Undecodable :: term()) -> ok.
reply(From, own, BodyAt, Frame, _Undecodable) ->
    gen_server:reply(From, {frame, BodyAt, Frame});
reply(From, plain, BodyAt, Frame, Undecodable) when byte_size(Frame) > ?LARGE ->
    _ = spawn(fun() -> gen_server:reply(From, term(BodyAt, Frame, Undecodable)) end),
    ok;
reply(From, plain, BodyAt, Frame, Undecodable) ->
    gen_server:reply(From, term(BodyAt, Frame, Undecodable)).

%% @doc The term in a reply's frame, or `Undecodable'.
-spec term(BodyAt :: pos_integer(), Frame :: binary(), Undecodable :: term()) -> term().
term(BodyAt, Frame, Undecodable) ->
    case gen_driver_proto:reply_term(Frame, BodyAt) of
        {ok, Term} -> Term;
        undecodable -> Undecodable
    end.

%% @doc The service's own word.
-spec failed(gen_server:from(), plain | own, gen_driver_proto:failed_reason()) -> ok.
failed(From, Style, Reason) ->
    said(From, Style, {error, {failed, Reason}}).

%% @doc What the client itself has to say.
-spec said(gen_server:from(), plain | own, term()) -> ok.
said(From, own, Term) -> gen_server:reply(From, {said, Term});
said(From, plain, Term) -> gen_server:reply(From, Term).
