%% SPDX-License-Identifier: MIT
%% @doc Compression outside the VM: the zlib driver as functions.
%%
%% `Pid' is a {@link gen_driver_tcp} connected to an instance of that driver.
%% What these functions make, `zlib:uncompress/1' takes, and the other way round.
%% The driver's own errors come as `{error, Atom}': `data' (corrupt, cut off, or
%% followed by something), `too_large' (more than the instance's `max_output'),
%% `memory', `badarg', `cancelled'. The service's word comes as
%% `{error, {failed, Reason}}'.
-module(gd_zlib).

-export([compress/2, compress/3, decompress/2, decompress/3, crc32/2, adler32/2, errors/0]).
-export_type([level/0, reason/0, error/0]).

-define(COMPRESS, 1).
-define(DECOMPRESS, 2).
-define(CRC32, 3).
-define(ADLER32, 4).

-define(TIMEOUT, 30000).

-type level() :: -1..9.
%% 0 stores, 1 is fastest, 9 smallest; -1 is zlib's own choice.
-type reason() :: badarg | cancelled | command | data | memory | too_large.
-type error() :: {error, reason() | {failed, atom()}}.

%% @doc Compress with zlib's own choice of level.
-spec compress(pid(), iodata()) -> {ok, binary()} | error().
compress(Pid, Data) ->
    compress(Pid, Data, -1).

-spec compress(pid(), iodata(), level()) -> {ok, binary()} | error().
compress(Pid, Data, Level) ->
    gen_driver_tcp:call(Pid, ?COMPRESS, {Level, iolist_to_binary(Data)}, ?TIMEOUT).

-spec decompress(pid(), iodata()) -> {ok, binary()} | error().
decompress(Pid, Data) ->
    decompress(Pid, Data, ?TIMEOUT).

%% @doc As {@link decompress/2}; a caller that has waited `Timeout' ms cancels,
%% and the driver stops at its next chunk.
-spec decompress(pid(), iodata(), timeout()) -> {ok, binary()} | error().
decompress(Pid, Data, Timeout) ->
    gen_driver_tcp:call(Pid, ?DECOMPRESS, iolist_to_binary(Data), Timeout).

-spec crc32(pid(), iodata()) -> {ok, non_neg_integer()} | error().
crc32(Pid, Data) ->
    gen_driver_tcp:call(Pid, ?CRC32, iolist_to_binary(Data), ?TIMEOUT).

-spec adler32(pid(), iodata()) -> {ok, non_neg_integer()} | error().
adler32(Pid, Data) ->
    gen_driver_tcp:call(Pid, ?ADLER32, iolist_to_binary(Data), ?TIMEOUT).

%% @doc All errors of the driver's own. Replies are decoded with `safe': only atoms
%% that the node knows. By standing here they are known once this module is loaded.
-spec errors() -> [reason()].
errors() ->
    [badarg, cancelled, command, data, memory, too_large].
