%% SPDX-License-Identifier: MIT
%% The examples around real C libraries, through the whole stack, with real data:
%% instances `zlib' and `sqlite' of the daemon at $GENDRIVERD_URL. Without that
%% variable, or without the instance, the group is skipped. gd_zlib and gd_sqlite are on the code path.
-module(examples_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([files_survive_compression_here_and_decompression_there/1,
         files_survive_compression_there_and_decompression_here/1,
         every_level_is_understood_by_the_other_side/1, checksums_are_the_vms_own/1, damaged_data_is_an_error/1,
         a_bomb_is_refused/1, params_of_another_type_are_an_error/1, a_caller_that_gives_up_frees_the_worker/1]).
-export([values_come_back_as_they_went/1, statements_of_a_user_keep_their_order/1, a_lock_held_elsewhere_is_busy/1,
         a_broken_constraint_is_an_error_and_changes_nothing/1, errors_have_names/1, rows_are_bounded/1,
         a_transaction_is_all_or_nothing/1, a_transaction_cannot_end_itself/1, more_statements_than_are_kept/1,
         a_cancelled_statement_is_interrupted/1]).

suite() -> [{timetrap, {seconds, 60}}].

all() -> [{group, zlib}, {group, sqlite}].

groups() ->
    [{zlib, [], [files_survive_compression_here_and_decompression_there,
                 files_survive_compression_there_and_decompression_here,
                 every_level_is_understood_by_the_other_side, checksums_are_the_vms_own, damaged_data_is_an_error,
                 a_bomb_is_refused, params_of_another_type_are_an_error, a_caller_that_gives_up_frees_the_worker]},
     {sqlite, [], [values_come_back_as_they_went, statements_of_a_user_keep_their_order, a_lock_held_elsewhere_is_busy,
                   a_broken_constraint_is_an_error_and_changes_nothing, errors_have_names, rows_are_bounded,
                   a_transaction_is_all_or_nothing, a_transaction_cannot_end_itself, more_statements_than_are_kept,
                   a_cancelled_statement_is_interrupted]}].

init_per_suite(Config) ->
    case os:getenv("GENDRIVERD_URL") of
        Unset when Unset =:= false; Unset =:= "" ->
            {skip, "GENDRIVERD_URL is not set"};
        Url ->
            [{url, Url} | Config]
    end.

end_per_suite(_Config) -> ok.

init_per_group(Instance, Config) ->
    {ok, Pid} = connect(Instance, Config),
    Outcome = gen_driver_tcp:await(Pid, 10000),
    gen_driver_tcp:stop(Pid),
    case Outcome of
        ok -> [{instance, Instance} | Config];
        {error, Reason} -> {skip, {no_instance, Instance, Reason}}
    end.

end_per_group(_Instance, _Config) -> ok.

init_per_testcase(_Case, Config) ->
    {ok, Pid} = connect(proplists:get_value(instance, Config), Config),
    [{pid, Pid} | Config].

end_per_testcase(_Case, Config) ->
    gen_driver_tcp:stop(pid(Config)).

connect(Instance, Config) ->
    gen_driver_tcp:start_link(#{connect => proplists:get_value(url, Config), instance => Instance}).

pid(Config) -> proplists:get_value(pid, Config).

%%% zlib

files_survive_compression_there_and_decompression_here(Config) ->
    in_parallel([fun() ->
        {ok, Packed} = gd_zlib:compress(pid(Config), Data),
        ?assert(zlib:uncompress(Packed) =:= Data, File)
    end || {File, Data} <- files()]).

files_survive_compression_here_and_decompression_there(Config) ->
    in_parallel([fun() ->
        {ok, Unpacked} = gd_zlib:decompress(pid(Config), zlib:compress(Data)),
        ?assert(Unpacked =:= Data, File)
    end || {File, Data} <- files()]).

every_level_is_understood_by_the_other_side(Config) ->
    {_, Data} = hd(files()),
    [begin
        {ok, Packed} = gd_zlib:compress(pid(Config), Data, Level),
        ?assertEqual(Data, zlib:uncompress(Packed))
     end || Level <- lists:seq(-1, 9), _Twice <- [1, 2]],
    ?assertMatch({ok, <<_, _/binary>>}, gd_zlib:compress(pid(Config), <<>>)),
    ?assertEqual({ok, <<>>}, gd_zlib:decompress(pid(Config), zlib:compress(<<>>))),
    ?assertEqual({error, badarg}, gd_zlib:compress(pid(Config), Data, 10)).

checksums_are_the_vms_own(Config) ->
    in_parallel([fun() ->
        ?assertEqual({ok, erlang:crc32(Data)}, gd_zlib:crc32(pid(Config), Data)),
        ?assertEqual({ok, erlang:adler32(Data)}, gd_zlib:adler32(pid(Config), Data))
    end || Data <- [<<>> | [Data || {_, Data} <- files()]]]).

damaged_data_is_an_error(Config) ->
    {_, Data} = hd(files()),
    Packed = zlib:compress(Data),
    Half = byte_size(Packed) div 2,
    <<Front:Half/binary, Byte, Rest/binary>> = Packed,
    Checksum = binary:part(Packed, 0, byte_size(Packed) - 1),
    Damaged = [<<Front/binary, (Byte bxor 16#55), Rest/binary>>, Front, Checksum, <<Packed/binary, 0>>, <<>>, Data],
    [?assertEqual({error, data}, gd_zlib:decompress(pid(Config), Bad)) || Bad <- Damaged],
    ?assertEqual({ok, Data}, gd_zlib:decompress(pid(Config), Packed)).

%% 64 MiB and a byte, of 64 KiB: one more than the instance's max_output allows.
a_bomb_is_refused(Config) ->
    Bomb = zlib:compress(binary:copy(<<0>>, (64 bsl 20) + 1)),
    ?assert(byte_size(Bomb) < 100000),
    ?assertEqual({error, too_large}, gd_zlib:decompress(pid(Config), Bomb)).

params_of_another_type_are_an_error(Config) ->
    [?assertEqual({error, badarg}, gen_driver_tcp:call(pid(Config), Command, Params))
     || Command <- [1, 2, 3, 4], Params <- [[], atom, 1.5, {a, <<>>}, {1, 2, 3}, #{}, <<1:1>>]].

%% Compressing this takes the better part of a second; the client waits 100 ms beyond its time.
a_caller_that_gives_up_frees_the_worker(Config) ->
    Large = iolist_to_binary([Data || {_, Data} <- files()]),
    [?assertMatch({error, _}, gen_driver_tcp:call(pid(Config), compress, {9, Large}, 1)) || _ <- lists:seq(1, 20)],
    ?assertEqual({ok, 0}, gd_zlib:crc32(pid(Config), <<>>)).

%% Beams and sources of the Erlang installation: megabytes that do and do not compress.
files() ->
    Directories = [code:lib_dir(stdlib), code:lib_dir(kernel)],
    Names = lists:append([filelib:wildcard(filename:join(D, "{ebin,src}/*.{beam,erl}")) || D <- Directories]),
    Files = [{Name, element(2, {ok, _} = file:read_file(Name))} || Name <- Names],
    ?assert(lists:sum([byte_size(Data) || {_, Data} <- Files]) > 2000000),
    Files.

%%% sqlite

values_come_back_as_they_went(Config) ->
    Pid = table(Config, "t_values", "id INTEGER PRIMARY KEY, value"),
    Values = [0, -1, 1 bsl 62, (1 bsl 63) - 1, -(1 bsl 63), 0.0, -1.5, 1.7976931348623157e308, <<>>, <<"text">>,
              unicode:characters_to_binary("Ångström λ 字"), <<0, 1, 0>>, {blob, <<>>}, {blob, <<0, 255, 128>>},
              {blob, binary:copy(<<7>>, 1000000)}, null],
    [{ok, 1} = gd_sqlite:exec(Pid, "INSERT INTO t_values (value) VALUES (?)", [V]) || V <- Values],
    {ok, Columns, Rows} = gd_sqlite:query(Pid, "SELECT value, id AS place FROM t_values ORDER BY id", []),
    ?assertEqual([<<"value">>, <<"place">>], Columns),
    ?assertEqual(lists:zip(Values, lists:seq(1, length(Values))), Rows),
    %% Params that travel as a list of bytes.
    ?assertEqual({ok, [<<"sum">>], [{60}]}, gd_sqlite:query(Pid, "SELECT ? + ? + ? AS sum", [10, 20, 30])),
    ?assertEqual({ok, [<<"value">>], []}, gd_sqlite:query(Pid, "SELECT value FROM t_values WHERE id < 0", [])).

%% Each user sends without waiting for answers; its statements must not overtake each other.
statements_of_a_user_keep_their_order(Config) ->
    Pid = table(Config, "t_order", "place INTEGER PRIMARY KEY AUTOINCREMENT, user INTEGER, n INTEGER"),
    in_parallel([fun() -> user(Pid, User) end || User <- lists:seq(1, 200)]),
    ?assertEqual({ok, [<<"n">>], [{200 * 10}]}, gd_sqlite:query(Pid, "SELECT count(*) AS n FROM t_order", [])).

user(Pid, User) ->
    Key = gd_sqlite:key(User),
    Insert = <<"INSERT INTO t_order (user, n) VALUES (?, ?)">>,
    [ok = gen_driver_tcp:cast(Pid, exec, {Insert, [User, N]}, #{key => Key}) || N <- lists:seq(1, 9)],
    ?assertEqual({ok, 1}, gd_sqlite:exec(Pid, Key, Insert, [User, 10])),
    ?assertEqual({ok, [<<"n">>], [{N} || N <- lists:seq(1, 10)]},
                 gd_sqlite:query(Pid, Key, "SELECT n FROM t_order WHERE user = ? ORDER BY place", [User])).

%% The connections of two keys: one holds the lock, the other is told to wait for nothing.
a_lock_held_elsewhere_is_busy(Config) ->
    Pid = table(Config, "t_busy", "n INTEGER"),
    #{welcome := #{threads := Threads}} = gen_driver_tcp:info(Pid),
    ?assert(Threads >= 2),
    {Holder, Other} = {0, 1},
    Insert = "INSERT INTO t_busy VALUES (1)",
    {ok, _, _} = gd_sqlite:query(Pid, Other, "PRAGMA busy_timeout = 0", []),
    ?assertEqual({ok, 0}, gd_sqlite:exec(Pid, Holder, "BEGIN EXCLUSIVE", [])),
    ?assertEqual({ok, 1}, gd_sqlite:exec(Pid, Holder, Insert, [])),
    ?assertEqual({error, busy}, gd_sqlite:exec(Pid, Other, Insert, [])),
    ?assertEqual({error, busy}, gd_sqlite:transaction(Pid, Other, [{Insert, []}])),
    ?assertEqual({error, transaction}, gd_sqlite:transaction(Pid, Holder, [{Insert, []}])),
    ?assertEqual({ok, [<<"n">>], []}, gd_sqlite:query(Pid, Other, "SELECT n FROM t_busy", [])),
    ?assertEqual({ok, 0}, gd_sqlite:exec(Pid, Holder, "COMMIT", [])),
    ?assertEqual({ok, 1}, gd_sqlite:exec(Pid, Other, Insert, [])),
    {ok, _, _} = gd_sqlite:query(Pid, Other, "PRAGMA busy_timeout = 5000", []),
    ?assertEqual({ok, [<<"n">>], [{1}, {1}]}, gd_sqlite:query(Pid, "SELECT n FROM t_busy", [])).

a_broken_constraint_is_an_error_and_changes_nothing(Config) ->
    Pid = table(Config, "t_constraint", "name TEXT NOT NULL UNIQUE, age INTEGER CHECK (age >= 0)"),
    Insert = "INSERT INTO t_constraint VALUES (?, ?)",
    ?assertEqual({ok, 1}, gd_sqlite:exec(Pid, Insert, [<<"ada">>, 36])),
    [?assertEqual({error, constraint}, gd_sqlite:exec(Pid, Insert, Params))
     || Params <- [[<<"ada">>, 1], [null, 1], [<<"bob">>, -1]]],
    ?assertEqual({ok, [<<"name">>, <<"age">>], [{<<"ada">>, 36}]}, gd_sqlite:query(Pid, "SELECT * FROM t_constraint", [])),
    ?assertEqual({ok, 1}, gd_sqlite:exec(Pid, "UPDATE t_constraint SET age = age + 1", [])),
    ?assertEqual({ok, 0}, gd_sqlite:exec(Pid, "UPDATE t_constraint SET age = 0 WHERE name = 'eve'", [])),
    ?assertEqual({ok, 1}, gd_sqlite:exec(Pid, "DELETE FROM t_constraint", [])).

errors_have_names(Config) ->
    Pid = pid(Config),
    [?assertEqual({error, Error}, gd_sqlite:exec(Pid, Sql, Params))
     || {Error, Sql, Params} <- [
        {syntax, "SELEKT 1", []}, {syntax, "", []}, {syntax, "SELECT 1; SELECT 2", []}, {syntax, [<<"SELECT 1">>, 0], []},
        {syntax, "SELECT * FROM no_such_table", []},
        {params, "SELECT ?", []}, {params, "SELECT 1", [1]}, {params, "SELECT ?2", [1]},
        {type, "SELECT ?", [some_atom]}, {type, "SELECT ?", [[1]]}, {type, "SELECT ?", [{blob, 1}]},
        {range, "SELECT ?", [1 bsl 63]}, {range, "SELECT ?", [1 bsl 80]}]],
    ?assertEqual({error, range}, gd_sqlite:query(Pid, "SELECT 9e999", [])),
    [?assertEqual({error, decode}, gen_driver_tcp:call(Pid, exec, Bad))
     || Bad <- [[], <<"SELECT 1">>, {<<"SELECT 1">>}, {"SELECT 1", []}, {<<"SELECT 1">>, none}]],
    ?assertEqual({error, command}, gen_driver_tcp:call(Pid, 99)).

%% 10000 is the instance's max_rows.
rows_are_bounded(Config) ->
    Count = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ?) SELECT n FROM c",
    {ok, _, Rows} = gd_sqlite:query(pid(Config), Count, [10000]),
    ?assertEqual([{N} || N <- lists:seq(1, 10000)], Rows),
    ?assertEqual({error, too_many_rows}, gd_sqlite:query(pid(Config), Count, [10001])).

a_transaction_is_all_or_nothing(Config) ->
    Pid = table(Config, "t_transaction", "n INTEGER PRIMARY KEY"),
    Insert = fun(N) -> {"INSERT INTO t_transaction VALUES (?)", [N]} end,
    Count = fun() -> {ok, _, [{N}]} = gd_sqlite:query(Pid, "SELECT count(*) FROM t_transaction", []), N end,
    ?assertEqual({ok, []}, gd_sqlite:transaction(Pid, [])),
    ?assertEqual({ok, [1, 1, 2]},
                 gd_sqlite:transaction(Pid, [Insert(1), Insert(2), {"UPDATE t_transaction SET n = n + 10", []}])),
    ?assertEqual({error, constraint}, gd_sqlite:transaction(Pid, [Insert(3), Insert(3)])),
    ?assertEqual({error, type}, gd_sqlite:transaction(Pid, [Insert(4), Insert(atom)])),
    ?assertEqual({error, decode}, gen_driver_tcp:call(Pid, transaction, [{<<"DELETE FROM t_transaction">>, []}, oops])),
    ?assertEqual(2, Count()),
    in_parallel([fun() -> {ok, [1, 1]} = gd_sqlite:transaction(Pid, [Insert(N), Insert(-N)]) end
                 || N <- lists:seq(100, 199)]),
    ?assertEqual(202, Count()).

a_transaction_cannot_end_itself(Config) ->
    ?assertEqual({error, transaction}, gd_sqlite:transaction(pid(Config), [{"ROLLBACK", []}, {"SELECT 1", []}])),
    ?assertEqual({ok, [0]}, gd_sqlite:transaction(pid(Config), [{"SELECT 1", []}])).

more_statements_than_are_kept(Config) ->
    [?assertEqual({ok, [<<"n">>], [{N}]},
                  gd_sqlite:query(pid(Config), 7, ["SELECT ", integer_to_binary(N), " AS n"], []))
     || _Round <- [1, 2, 3], N <- lists:seq(1, 40)],
    ?assertEqual({ok, [<<"n">>], [{1}]}, gd_sqlite:query(pid(Config), 7, "SELECT 1 AS n ;\n", [])).

%% Without the interruption this statement would hold its connection for good.
a_cancelled_statement_is_interrupted(Config) ->
    Forever = <<"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c">>,
    [begin
        ?assertMatch({error, _}, gen_driver_tcp:call(pid(Config), query, {Forever, []}, #{timeout => 50, key => Key})),
        ?assertEqual({ok, [<<"1">>], [{1}]}, gd_sqlite:query(pid(Config), Key, "SELECT 1", []))
     end || Key <- lists:seq(0, 7)].

%% A new, empty table.
table(Config, Name, Columns) ->
    {ok, _} = gd_sqlite:exec(pid(Config), ["DROP TABLE IF EXISTS ", Name], []),
    {ok, _} = gd_sqlite:exec(pid(Config), ["CREATE TABLE ", Name, " (", Columns, ")"], []),
    pid(Config).

%%% Many at once

%% Each in a process of its own; the first that fails, fails the test.
in_parallel(Funs) ->
    Running = [spawn_monitor(Fun) || Fun <- Funs],
    [receive {'DOWN', Ref, process, Pid, Reason} -> ?assertEqual(normal, Reason) end || {Pid, Ref} <- Running],
    ok.
