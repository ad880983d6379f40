%% SPDX-License-Identifier: MIT
%% What must not be decoded is found in its bytes: no fun of a peer's making gets into this node's table of funs.
-module(gen_driver_etf_tests).

-include_lib("eunit/include/eunit.hrl").

-define(MANY, 2000).
-define(DEEP, 1000000).

%%% Refused

a_fun_is_refused_wherever_it_stands_test_() ->
    [{lists:concat([Kind, " ", Place]), ?_assertEqual(undecodable, decoded(Put(Fun)))}
     || {Kind, Fun} <- funs(), {Place, Put} <- places()].

a_fun_of_every_form_of_module_is_refused_test_() ->
    [?_assertEqual(undecodable, decoded(a_fun(0, Module, Size)))
     || Module <- [<<119, 5, "lists">>, <<115, 5, "lists">>, <<100, 5:16, "lists">>, <<118, 5:16, "lists">>,
                   <<73, 10:16>>, <<75, 10:24>>],                   % the last two by number, as in no frame of a host
        Size <- [0, 70, 16#ffffffff]].

%% On OTP 28 for ever, until it is full and the node ends.
no_fun_of_a_reply_stays_in_the_nodes_table_test() ->
    Funs = [Put(a_fun(N, <<119, 5, "lists">>, 70)) || N <- lists:seq(1, ?MANY), {_, Put} <- places()],
    Before = funs_of_this_node(),
    ?assertEqual([undecodable], lists:usort([decoded(Fun) || Fun <- Funs])),
    ?assert(funs_of_this_node() < Before + ?MANY div 2).

funs() ->
    [{"made up", a_fun(1, <<119, 5, "lists">>, 70)},
     {"real", body(fun() -> ok end)},
     {"with free variables", body(holding(self()))},
     {"external", body(fun lists:map/2)},
     {"external, made up", <<113, 119, 5, "lists", 119, 3, "map", 97, 9>>},
     {"old", <<117, 0:32, (body(self()))/binary, 119, 5, "lists", 97, 1, 97, 1>>}].

holding(Variable) -> fun() -> Variable end.

%% Size is what OTP does not look at.
a_fun(N, Module, Size) ->
    <<112, Size:32, 0, N:128, 0:32, 0:32, Module/binary, 97, 1, 97, 1, (body(self()))/binary>>.

places() ->
    [{"alone", fun(Fun) -> Fun end},
     {"in a result", fun(Fun) -> <<104, 2, 119, 2, "ok", Fun/binary>> end},
     {"last of a tuple", fun(Fun) -> <<104, 3, 97, 1, 109, 3:32, "abc", Fun/binary>> end},
     {"in a large tuple", fun(Fun) -> <<105, 2:32, Fun/binary, 106>> end},
     {"in a list", fun(Fun) -> <<108, 3:32, 97, 1, Fun/binary, 97, 2, 106>> end},
     {"as a tail", fun(Fun) -> <<108, 1:32, 97, 1, Fun/binary>> end},
     {"as a key", fun(Fun) -> <<116, 1:32, Fun/binary, 97, 1>> end},
     {"as a value", fun(Fun) -> <<116, 1:32, 97, 1, Fun/binary>> end},
     {"deep", fun(Fun) -> <<104, 1, 108, 1:32, 116, 1:32, 97, 1, 108, 1:32, Fun/binary, 106, 106>> end},
     {"behind one of each",
      fun(Fun) ->
              Leaves = [body(Leaf) || Leaf <- leaves()],
              iolist_to_binary([104, length(Leaves) + 2, Leaves, 99, <<"1.50000000000000000000e+00", 0:40>>, Fun])
      end}].

%% Objects in the tables that have funs in them.
funs_of_this_node() ->
    {match, Objects} = re:run(erlang:system_info(info), "hash_table:fun[^=]*?objs: ([0-9]+)",
                              [global, dotall, {capture, all_but_first, list}]),
    lists:sum([list_to_integer(N) || [N] <- Objects]).

%%% Taken

%% 77, 112 and 113 are M, p and q, too.
what_only_looks_so_is_taken_test_() ->
    [{lists:flatten(io_lib:format("~P", [Term, 12])), ?_assertEqual({ok, Term}, decoded(body(Term)))}
     || Leaf <- leaves(), Term <- [Leaf, {error, Leaf}, [Leaf, Leaf | Leaf], #{Leaf => {Leaf}}, {lists:duplicate(300, $p), Leaf}]].

leaves() ->
    Fun = a_fun(1, <<119, 5, "lists">>, 70),
    [112, -112, 16#70717071, 16#7071707170717071 bsl 2000, -(16#70 bsl 300), 16#70 bsl 2100, 2.7458837206956876e241, "pq",
     lists:seq(70, 120), [77, 1000], <<"pMq">>, Fun, <<Fun/binary, 1:3>>, binary:copy(Fun, 10), pqM, 'Mp', {}, [], #{},
     self(), make_ref(), hd(erlang:ports()), list_to_tuple(lists:seq(1, 300))].

%%% Bounded

%% A term as deep as can be is looked through without a stack, and then decoded.
depth_costs_no_memory_test_() ->
    [{Name, ?_test(deep(Term))}
     || {Name, Term} <- [{"tuples", <<(binary:copy(<<104, 1>>, ?DEEP))/binary, 109, 1:32, "p">>},
                         {"lists", <<(binary:copy(<<108, 1:32>>, ?DEEP))/binary, 119, 1, "p", (binary:copy(<<106>>, ?DEEP))/binary>>},
                         {"tails", <<(binary:copy(<<108, 1:32, 97, 112>>, ?DEEP))/binary, 106>>},
                         {"maps", <<(binary:copy(<<116, 1:32, 97, 112>>, ?DEEP))/binary, 106>>}]].

deep(Term) ->
    {Frame, At} = reply(Term),
    {_, Monitor} = spawn_monitor(fun() ->
        true = gen_driver_etf:is_safe(Frame, At),
        exit(process_info(self(), total_heap_size))
    end),
    {total_heap_size, Words} = receive {'DOWN', Monitor, process, _, Reason} -> Reason end,
    ?assert(Words < ?DEEP div 100),
    ?assertMatch({ok, _}, gen_driver_proto:term(Frame, At)).

%%% Bytes

body(Term) ->
    <<131, Body/binary>> = term_to_binary(Term),
    Body.

reply(Body) ->
    {<<131, 104, 3, 119, 5, "reply", 97, 7, Body/binary>>, 12}.

decoded(Body) ->
    {Frame, At} = reply(Body),
    gen_driver_proto:term(Frame, At).
