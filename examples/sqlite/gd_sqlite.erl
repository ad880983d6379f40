%% SPDX-License-Identifier: MIT
%% @doc SQLite outside the VM: the sqlite driver as functions.
%%
%% `Pid' is a {@link gen_driver_tcp} connected to an instance of that driver.
%% The instance holds one connection to its database file for each of its threads.
%%
%% A key says which statements belong together: those with one key run in order,
%% on one database connection. Take {@link key/1} of whatever names your user.
%% Without a key (`any') the next free connection runs the statement.
%%
%% To run several statements as one, use {@link transaction/3}. BEGIN and COMMIT
%% sent with {@link exec/4} work only when all statements between them have one
%% key, and whatever other keys share the connection become part of it.
-module(gd_sqlite).

-export([exec/3, exec/4, query/3, query/4, transaction/2, transaction/3, key/1, atoms/0, errors/0]).
-export_type([key/0, param/0, value/0, statement/0, reason/0, error/0]).

-define(EXEC, 1).
-define(QUERY, 2).
-define(TRANSACTION, 3).

-define(TIMEOUT, 15000).

-type key() :: any | 0..16#FFFFFFFF.
-type param() :: integer() | float() | binary() | {blob, binary()} | null.
%% A binary is TEXT in UTF-8, which is not checked; `null' is NULL.
-type value() :: param().
-type statement() :: {Sql :: iodata(), [param()]}.
-type error() :: {error, reason() | {failed, atom()}}.
-type reason() ::
    %% the caller's
    constraint | syntax | params | type | range | mismatch | decode | transaction | too_many_rows | too_large |
    %% somebody else holds the lock; the call was cancelled
    busy | cancelled |
    %% the file's, or the machine's
    readonly | full | io | corrupt | cantopen | memory | sqlite | command.

%% @doc Any term as a key.
-spec key(term()) -> key().
key(Term) ->
    erlang:phash2(Term, 1 bsl 32).

-spec exec(pid(), iodata(), [param()]) -> {ok, Changes :: non_neg_integer()} | error().
exec(Pid, Sql, Params) ->
    exec(Pid, any, Sql, Params).

%% @doc Run a statement; the number of rows it inserted, updated or deleted.
-spec exec(pid(), key(), iodata(), [param()]) -> {ok, Changes :: non_neg_integer()} | error().
exec(Pid, Key, Sql, Params) ->
    call(Pid, Key, ?EXEC, statement({Sql, Params})).

-spec query(pid(), iodata(), [param()]) -> {ok, Columns :: [binary()], Rows :: [tuple()]} | error().
query(Pid, Sql, Params) ->
    query(Pid, any, Sql, Params).

%% @doc Run a statement; its columns' names and its rows, each a tuple of {@type value()}.
-spec query(pid(), key(), iodata(), [param()]) -> {ok, Columns :: [binary()], Rows :: [tuple()]} | error().
query(Pid, Key, Sql, Params) ->
    call(Pid, Key, ?QUERY, statement({Sql, Params})).

-spec transaction(pid(), [statement()]) -> {ok, [Changes :: non_neg_integer()]} | error().
transaction(Pid, Statements) ->
    transaction(Pid, any, Statements).

%% @doc All of the statements, or none.
-spec transaction(pid(), key(), [statement()]) -> {ok, [Changes :: non_neg_integer()]} | error().
transaction(Pid, Key, Statements) ->
    call(Pid, Key, ?TRANSACTION, [statement(S) || S <- Statements]).

%% @doc All atoms in the driver's replies. Those are decoded with `safe': only atoms
%% that the node knows. By standing here they are known once this module is loaded.
-spec atoms() -> [atom()].
atoms() ->
    [blob, null | errors()].

%% @doc All errors of the driver's own.
-spec errors() -> [reason()].
errors() ->
    [constraint, syntax, params, type, range, mismatch, decode, transaction, too_many_rows, too_large, busy,
     cancelled, readonly, full, io, corrupt, cantopen, memory, sqlite, command].

-spec statement(statement()) -> {binary(), [param()]}.
statement({Sql, Params}) ->
    {iolist_to_binary(Sql), Params}.

-spec call(pid(), key(), 1..3, term()) -> term().
call(Pid, any, Cmd, Params) ->
    gen_driver_tcp:call(Pid, Cmd, Params, ?TIMEOUT);
call(Pid, Key, Cmd, Params) ->
    gen_driver_tcp:call(Pid, Cmd, Params, #{timeout => ?TIMEOUT, key => Key}).
