%% SPDX-License-Identifier: MIT
%% Options of a client and of a request: what is taken, what is refused and with which words, and what is never shown.
-module(gen_driver_options_tests).

-include_lib("eunit/include/eunit.hrl").

defaults_test() ->
    {ok, Options} = gen_driver_options:client([{instance, sum}]),
    ?assertEqual(#{connect => {tcp, {127, 0, 0, 1}, 9900}, instance => <<"sum">>, connect_timeout => 8000,
                   connect_wait => 5000, plain_timeout => infinity, max_in_flight => 4096,
                   max_queued => {10000, 64 bsl 20}, max_frame => 65 bsl 20, max_notes => 16 bsl 20,
                   backoff => {100, 5000},
                   driver_atoms => false, undecodable => {error, {failed, undecodable}}, ping => 15000,
                   ping_timeout => 60000, leave_timeout => 300000, tcp_options => [], tls_options => [], auth => none},
                 Options).

connect_test_() ->
    [?_assertEqual({ok, Address}, connect(Url)) || {Url, Address} <- [
        {"tcp://127.0.0.1:9900", {tcp, {127, 0, 0, 1}, 9900}},
        {<<"tcp://db.example:1">>, {tcp, "db.example", 1}},
        {"tcp://db.example:65535/", {tcp, "db.example", 65535}},
        {"tls://db.example:9901", {tls, "db.example", 9901}},
        {{tls, {10, 0, 0, 1}, 1}, {tls, {10, 0, 0, 1}, 1}},
        {"tcp://[::1]:9900", {tcp, {0, 0, 0, 0, 0, 0, 0, 1}, 9900}},
        {"unix:/run/gendriverd.sock", {local, <<"/run/gendriverd.sock">>}},
        {{tcp, "h", 5}, {tcp, "h", 5}},
        {{local, "/p"}, {local, "/p"}}]]
    ++ [?_assertEqual({error, {bad_option, {connect, Url}}}, connect(Url))
        || Url <- ["", "tcp://", "tcp://h", "tcp://h:0", "tcp://h:65536", "tcp://h:1/path", "unix:", "http://h:1", "tls://h", {tls, "h", 0},
                   "h:1", {tcp, "h", 0}, {local, ""}, 9900, [1, foo]]].

connect(Url) ->
    case gen_driver_options:client(#{instance => x, connect => Url}) of
        {ok, #{connect := Address}} -> {ok, Address};
        Error -> Error
    end.

options_test_() ->
    Good = [{instance, "sum"}, {instance, <<"s">>}, {connect_timeout, 1}, {connect_wait, 0}, {plain_timeout, 1},
            {max_in_flight, 1}, {max_queued, 1}, {max_queued, {1, 1}}, {max_frame, 1}, {max_notes, 1}, {backoff, {1, 1}},
            {driver_atoms, true}, {undecodable, anything}, {ping, 1}, {ping, infinity}, {ping_timeout, 1},
            {tls_options, [{cacertfile, "ca.pem"}, {server_name_indication, "name"}, {depth, 2}]},
            {tcp_options, [inet6, {keepalive, false}, {sndbuf, 1000}, {raw, 6, 4, <<1:32>>}]}],
    Bad = [{instance, ""}, {instance, 1}, {instance, [foo]}, {connect_timeout, 0}, {connect_timeout, infinity},
           {connect_wait, -1}, {plain_timeout, 0}, {max_in_flight, 0}, {max_queued, 0}, {max_queued, {0, 1}},
           {max_frame, 1 bsl 32}, {max_notes, 0}, {max_notes, infinity},
           {backoff, {0, 1}}, {backoff, {2, 1}}, {backoff, 1}, {driver_atoms, yes},
           {ping, 0}, {ping_timeout, infinity}, {tls_options, x},
           {tcp_options, [{packet, 4}]}, {tcp_options, [{active, true}]}, {tcp_options, [list]}, {tcp_options, x}],
    [?_assertMatch({ok, _}, gen_driver_options:client([Option, {instance, x}])) || Option <- Good]
    ++ [?_assertEqual({error, {bad_option, Option}}, gen_driver_options:client([Option, {instance, x}]))
        || Option <- Bad]
    ++ [?_assertEqual({error, {bad_option, {unknown, conect}}},
                      gen_driver_options:client(#{instance => x, conect => y})),
        %% What would turn the peer's proof off is refused, and no value of these is repeated: it may be secret.
        [?_assertEqual({error, {bad_option, {tls_options, Named}}},
                       gen_driver_options:client(#{instance => x, tls_options => [Option]}))
         || {Named, Option} <- [{verify, {verify, verify_none}}, {versions, {versions, ['tlsv1.2']}},
                                {verify_fun, {verify_fun, {x, y}}}, {not_a_pair, "secret"},
                                {server_name_indication, {server_name_indication, disable}}]],
        ?_assertEqual({error, {bad_option, {missing, instance}}}, gen_driver_options:client([])),
        ?_assertEqual({error, {bad_option, {unknown, 1}}}, gen_driver_options:client([1])),
        ?_assertEqual({error, {bad_option, {unknown, x}}}, gen_driver_options:client(x)),
        ?_assertEqual({error, {bad_option, {missing, instance}}}, gen_driver_tcp:start_link([])),
        ?_assertEqual({error, {bad_option, {missing, instance}}}, gen_driver_tcp:start_link({local, x}, [])),
        [?_assertEqual({error, {bad_option, {name, Name}}}, gen_driver_tcp:start_link(Name, #{instance => x}))
         || Name <- [x, {x, node()}, "x", {local, "x"}]]].

auth_option_test_() ->
    Key = binary:copy(<<"s">>, 32),
    [?_assertMatch({ok, #{auth := {<<"anna">>, _}}}, auth({Name, Given}))
     || Name <- [anna, "anna", <<"anna">>], Given <- [Key, binary:copy(<<"s">>, 1024), fun() -> Key end]]
    ++ [?_assertEqual({error, {bad_option, {auth, hidden}}}, auth(Wrong))
        || Wrong <- [{anna, binary:copy(<<"s">>, 31)}, {anna, binary:copy(<<"s">>, 1025)}, {anna, "text"}, {Key, anna},
                     {"", Key}, {binary:copy(<<"n">>, 65), Key}, {[foo], Key}, {anna, fun(_) -> Key end}, Key, anna]]
    ++ [?_assertEqual({error, {bad_option, {auth, hidden}}},
                      gen_driver_options:client([{instance, x}, {auth, anna, Key}])),
        ?_assertEqual({error, {bad_option, {unknown, options}}}, gen_driver_options:client({auth, {anna, Key}})),
        ?_assertEqual({ok, none}, case auth(none) of {ok, #{auth := Auth}} -> {ok, Auth} end)].

auth(Auth) ->
    gen_driver_options:client(#{instance => x, auth => Auth}).

%% What a client keeps for its life, and what a crash of its dialer would print.
a_key_in_checked_options_is_not_printed_test() ->
    Key = <<"do-not-print-me-do-not-print-me-do-not">>,
    {ok, Options} = auth({anna, Key}),
    ?assertEqual(nomatch, string:find(io_lib:format("~tp", [Options]), "print-me")),
    #{auth := {_, Fun}} = Options,
    ?assertEqual(Key, Fun()).

options_that_no_socket_takes_are_refused_test_() ->
    [?_assertMatch({error, {bad_option, {connect, _}}}, connect(Connect))
     || Connect <- [{tcp, {1, 2}, 1}, {tcp, "", 1}, {tcp, [a], 1}, {tcp, <<"h">>, 1}, "unix:/" ++ lists:duplicate(107, $x),
                    {local, lists:duplicate(108, $x)}]]
    ++ [?_assertMatch({ok, _}, connect(Connect))
        || Connect <- [{tcp, {127, 0, 0, 1}, 1}, {tcp, localhost, 1}, {tcp, "h", 1}, {local, lists:duplicate(107, $x)}]].

improper_option_lists_are_bad_options_test() ->
    ?assertMatch({error, {bad_option, _}}, gen_driver_options:client([{instance, x} | y])),
    ?assertError({bad_option, _}, gen_driver_options:request([key])),
    ?assertError({bad_option, _}, gen_driver_options:request([{key, 1} | x])),
    ?assertEqual({default, #{key => 1}}, gen_driver_options:request([{key, 1}, {key, 2}])).
