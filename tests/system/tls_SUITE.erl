%% SPDX-License-Identifier: MIT
%% The Erlang client over TLS. Needs a daemon at $GENDRIVERD_TLS_URL whose certificate $GENDRIVERD_CA has signed, with
%% the instance echo, $GENDRIVERD_RELOAD, a command that gives echo a new host, and a certificate that the daemon takes,
%% $GENDRIVERD_CERTIFICATE with $GENDRIVERD_CERTIFICATE_KEY.
-module(tls_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([terms_come_back/1, large_binaries_come_back/1, many_callers_get_right_answers/1,
         a_reload_costs_no_call/1, a_stranger_is_refused/1, a_certificate_of_ours_is_shown/1]).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [terms_come_back, large_binaries_come_back, many_callers_get_right_answers, a_reload_costs_no_call,
     a_stranger_is_refused, a_certificate_of_ours_is_shown].

init_per_suite(Config) ->
    case {os:getenv("GENDRIVERD_TLS_URL"), os:getenv("GENDRIVERD_CA"), os:getenv("GENDRIVERD_RELOAD")} of
        {false, _, _} -> {skip, "GENDRIVERD_TLS_URL is not set"};
        {Url, Ca, Reload} -> [{url, Url}, {ca, Ca}, {reload, Reload} | Config]
    end.

end_per_suite(_Config) -> ok.

options(Config) ->
    #{connect => proplists:get_value(url, Config), instance => echo,
      tls_options => [{cacertfile, proplists:get_value(ca, Config)}]}.

connect(Config) ->
    {ok, Client} = gen_driver_tcp:start_link(options(Config)),
    ok = gen_driver_tcp:await(Client, 15000),
    true = unlink(Client),
    Client.

terms_come_back(Config) ->
    Client = connect(Config),
    [?assertEqual({ok, Term}, gen_driver_tcp:call(Client, echo, Term)) || Term <- [0, ok, [], "text", #{a => {1.5, <<"b">>}}]],
    ?assertEqual({ok, plain}, gen_server:call(Client, {port, 1, plain})),
    ok = gen_driver_tcp:stop(Client).

large_binaries_come_back(Config) ->
    Client = connect(Config),
    [?assert({ok, Large} =:= gen_driver_tcp:call(Client, echo, Large, 60000))
     || Size <- [65536, 1 bsl 20, 10 bsl 20], Large <- [crypto:strong_rand_bytes(Size)]],
    ok = gen_driver_tcp:stop(Client).

many_callers_get_right_answers(Config) ->
    Client = connect(Config),
    Self = self(),
    Callers = [spawn_link(fun() -> Self ! {self(), lists:usort([ask(Client, {N, I}) || I <- lists:seq(1, 50)])} end)
               || N <- lists:seq(1, 200)],
    ?assertEqual([right], lists:usort([Answer || Caller <- Callers, Answer <- receive {Caller, Answers} -> Answers end])),
    ok = gen_driver_tcp:stop(Client).

ask(Client, Term) ->
    case gen_driver_tcp:call(Client, echo, Term, 60000) of
        {ok, Term} -> right;
        Other -> Other
    end.

%% The old link is half-closed by close_notify, and still brings its answers.
a_reload_costs_no_call(Config) ->
    Client = connect(Config),
    Self = self(),
    Callers = [spawn_link(fun() -> Self ! {self(), until_told(Client, N, [])} end) || N <- lists:seq(1, 50)],
    Said = [os:cmd(proplists:get_value(reload, Config)) || _ <- lists:seq(1, 3)],
    [Caller ! enough || Caller <- Callers],
    ?assertEqual([right], lists:usort([Answer || Caller <- Callers, Answer <- receive {Caller, Answers} -> Answers end])),
    ?assertMatch({#{connects := 4}, _}, {gen_driver_tcp:info(Client), Said}),
    ok = gen_driver_tcp:stop(Client).

until_told(Client, N, Told) ->
    receive
        enough -> lists:usort(Told)
    after 0 ->
        until_told(Client, N, lists:usort([ask(Client, {N, make_ref()}) | Told]))
    end.

a_stranger_is_refused(Config) ->
    {ok, Client} = gen_driver_tcp:start_link((options(Config))#{tls_options => []}),
    ?assertMatch({error, {tls_alert, {unknown_ca, _}}}, gen_driver_tcp:await(Client, 15000)),
    ok = gen_driver_tcp:stop(Client).

%% What the daemon has seen of it is in its log.
a_certificate_of_ours_is_shown(Config) ->
    #{tls_options := Trust} = Options = options(Config),
    Own = [{certfile, os:getenv("GENDRIVERD_CERTIFICATE")}, {keyfile, os:getenv("GENDRIVERD_CERTIFICATE_KEY")}],
    {ok, Client} = gen_driver_tcp:start_link(Options#{tls_options => Own ++ Trust}),
    ok = gen_driver_tcp:await(Client, 15000),
    ?assertEqual({ok, 1}, gen_driver_tcp:call(Client, echo, 1)),
    ok = gen_driver_tcp:stop(Client).
