%% SPDX-License-Identifier: MIT
%% @doc How much of what was sent to a process it can have unread: by how many messages wait there, whosever they are. Pure.
%%
%% Messages are read in the order in which they came, so that of those that were sent at most so many are unread as
%% wait in all: the newest ones. A process that looks for some messages first may have older ones, too.
-module(gen_driver_unread).

-export([new/0, sent/3, waiting/2, bytes/1]).
-export_type([unread/0]).

-record(unread, {
    batches = queue:new() :: queue:queue({Messages :: pos_integer(), Bytes :: non_neg_integer()}),
    messages = 0 :: non_neg_integer(),
    bytes = 0 :: non_neg_integer()
}).
-opaque unread() :: #unread{}.

%% @doc Nothing was sent.
-spec new() -> unread().
new() ->
    #unread{}.

%% @doc And so many messages more, of so many bytes together.
-spec sent(non_neg_integer(), non_neg_integer(), unread()) -> unread().
sent(0, _Bytes, Unread) ->
    Unread;
sent(Messages, Bytes, #unread{batches = Batches, messages = M, bytes = B}) ->
    #unread{batches = queue:in({Messages, Bytes}, Batches), messages = M + Messages, bytes = B + Bytes}.

%% @doc So many messages wait there now.
-spec waiting(non_neg_integer(), unread()) -> unread().
waiting(Waiting, Unread = #unread{batches = Batches, messages = M, bytes = B}) ->
    case queue:out(Batches) of
        {{value, {Messages, Bytes}}, Newer} when M - Messages >= Waiting ->
            waiting(Waiting, #unread{batches = Newer, messages = M - Messages, bytes = B - Bytes});
        _ ->
            Unread
    end.

%% @doc Of those that may be unread, to a batch.
-spec bytes(unread()) -> non_neg_integer().
bytes(#unread{bytes = Bytes}) ->
    Bytes.
