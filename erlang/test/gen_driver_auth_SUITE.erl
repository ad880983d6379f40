%% SPDX-License-Identifier: MIT
%% Keys: who is taken for the service and who is not, and that a key is never printed.
-module(gen_driver_auth_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(gen_driver_fake, [accept/1, greet/1, hello/1, welcomed/2, recv/1, send/2, send_raw/2, frame/1]).
-import(gen_driver_test_client, [client/2, plain/2, until/2]).

-define(KEY, <<"do-not-print-me-0123456789-0123456789">>).
-define(PATIENT, #{backoff => {1, 2}, connect_wait => 60000}).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, parallel}, a_key_is_never_logged].

groups() ->
    [{parallel, [parallel],
      [both_prove_the_key, requests_may_follow_the_proof_at_once, wrong_proofs_of_the_server,
       a_replayed_service_is_not_believed, welcome_without_proof, downgrade, key_needed, a_service_of_before_keys,
       refused, a_key_that_cannot_be_had, atoms_are_not_made_for_a_stranger]}].

init_per_testcase(Case, Config) -> gen_driver_test_client:init_per_testcase(Case, Config).
end_per_testcase(Case, Config) -> gen_driver_test_client:end_per_testcase(Case, Config).

listener(Config) ->
    ?config(listener, Config).

with_key(Options) ->
    maps:merge(maps:merge(?PATIENT, #{auth => {anna, ?KEY}}), Options).

%%% The service's side, with its own HMAC

greeting() ->
    frame({gen_driver, 1, #{server => <<"fake">>, auth => hmac, nonce => crypto:strong_rand_bytes(32)}}).

%% Greeted; hello and proof were heard, and the proof is right. The frames so far, whole.
met(Config) ->
    Conn = accept(listener(Config)),
    Greeting = greeting(),
    ok = send_raw(Conn, Greeting),
    {ok, Hello} = gen_tcp:recv(Conn, 0, 10000),
    {ok, Proof} = gen_tcp:recv(Conn, 0, 10000),
    {hello, 1, <<"sum">>, #{key := <<"anna">>, nonce := <<_:32/bytes>>}} = binary_to_term(Hello),
    {proof, Mac} = binary_to_term(Proof),
    ?assertEqual(mac(?KEY, "gendriverd 1 client", [Greeting, whole(Hello)]), Mac),
    {Conn, [Greeting, whole(Hello), whole(Proof)]}.

mac(Key, Label, Frames) ->
    crypto:mac(hmac, sha256, Key, [Label, 0 | Frames]).

whole(Frame) ->
    <<(byte_size(Frame)):32, Frame/binary>>.

welcome_frame() ->
    frame(welcomed(<<"sum">>, #{})).

proof_of(Key, Said, Welcome) ->
    frame({proof, mac(Key, "gendriverd 1 server", Said ++ [Welcome])}).

welcome(Config) ->
    {Conn, Said} = met(Config),
    Welcome = welcome_frame(),
    ok = send_raw(Conn, [Welcome, proof_of(?KEY, Said, Welcome)]),
    Conn.

troubled(Trouble, Client) ->
    until(Client, fun(#{trouble := T}) -> T =:= Trouble end).

%%% Cases

both_prove_the_key(Config) ->
    [begin
         Client = client(with_key(#{auth => {Name, Key}}), Config),
         Conn = welcome(Config),
         ok = gen_driver_tcp:await(Client, 5000),
         ok = gen_driver_tcp:cast(Client, 3),
         {cast, 3} = recv(Conn),
         gen_driver_tcp:stop(Client)
     end || {Name, Key} <- [{anna, ?KEY}, {"anna", fun() -> ?KEY end}, {<<"anna">>, ?KEY}]].

requests_may_follow_the_proof_at_once(Config) ->
    Client = client(with_key(#{}), Config),
    Call = plain(Client, {port, 1}),
    Conn = welcome(Config),
    {call, Id, 1} = recv(Conn),
    ok = send(Conn, {reply, Id, ok}),
    ok = gen_driver_fake:outcome(Call).

wrong_proofs_of_the_server(Config) ->
    Client = client(with_key(#{}), Config),
    Welcome = welcome_frame(),
    Other = frame(welcomed(<<"sum">>, #{generation => 2})),
    Wrong = [fun(Said) -> proof_of(binary:copy(<<"x">>, 32), Said, Welcome) end,
             fun(Said) -> proof_of(?KEY, Said, Other) end,
             fun([Greeting, Hello, _]) -> proof_of(?KEY, [Greeting, Hello], Welcome) end,
             fun([_, _, Proof]) -> Proof end,
             fun(Said) -> {_, Mac} = proof(Said, Welcome), frame({proof, binary:part(Mac, 0, 31)}) end,
             fun(Said) -> {_, Mac} = proof(Said, Welcome), frame({proof, <<Mac/binary, 0>>}) end,
             fun(Said) -> {_, Mac} = proof(Said, Welcome), frame({proof, binary_to_list(Mac)}) end,
             fun(_) -> frame({proof, none}) end,
             fun(_) -> frame({reply, 0, ok}) end,
             fun(_) -> <<0:32>> end],
    [begin
         {Conn, Said} = met(Config),
         ok = send_raw(Conn, [Welcome, Proof(Said)]),
         closed = recv(Conn),
         troubled(bad_proof, Client),
         #{status := connecting, connects := 0} = gen_driver_tcp:info(Client)
     end || Proof <- Wrong],
    _ = welcome(Config),
    ok = gen_driver_tcp:await(Client, 5000).

proof(Said, Welcome) ->
    <<_:32, Encoded/binary>> = proof_of(?KEY, Said, Welcome),
    binary_to_term(Encoded).

%% All that a service has ever said, said again to the next connection.
a_replayed_service_is_not_believed(Config) ->
    First = client(with_key(#{}), Config),
    {Conn, Said = [Greeting | _]} = met(Config),
    Welcome = welcome_frame(),
    Proof = proof_of(?KEY, Said, Welcome),
    ok = send_raw(Conn, [Welcome, Proof]),
    ok = gen_driver_tcp:await(First, 5000),
    Second = client(with_key(#{}), Config),
    Replayed = accept(listener(Config)),
    ok = send_raw(Replayed, [Greeting, Welcome, Proof]),
    troubled(bad_proof, Second).

welcome_without_proof(Config) ->
    Client = client(with_key(#{}), Config),
    {Conn, _} = met(Config),
    ok = send_raw(Conn, welcome_frame()),
    ok = gen_driver_fake:half_close(Conn),
    troubled(closed, Client),
    #{connects := 0} = gen_driver_tcp:info(Client).

%% Nothing is said to a service that asks for no key: it may not be the one that is meant.
downgrade(Config) ->
    Client = client(with_key(#{}), Config),
    Conn = accept(listener(Config)),
    ok = greet(Conn),
    closed = recv(Conn),
    troubled({auth, not_offered}, Client).

a_service_of_before_keys(Config) ->
    Client = client(with_key(#{}), Config),
    Conn = accept(listener(Config)),
    ok = send(Conn, {gen_driver, 1, #{}}),
    closed = recv(Conn),
    troubled({auth, not_offered}, Client).

key_needed(Config) ->
    Client = client(?PATIENT, Config),
    Conn = accept(listener(Config)),
    ok = send_raw(Conn, greeting()),
    closed = recv(Conn),
    troubled({auth, key_needed}, Client).

refused(Config) ->
    Client = client(with_key(#{}), Config),
    {Conn, _} = met(Config),
    ok = send(Conn, {refused, auth}),
    until(Client, fun(#{status := Status}) -> Status =:= {refused, auth} end),
    {error, {failed, unavailable}} = gen_driver_tcp:call(Client, 1).

a_key_that_cannot_be_had(Config) ->
    Client = client(with_key(#{auth => {anna, fun() -> error({not_there, ?KEY}) end}}), Config),
    Conn = accept(listener(Config)),
    ok = send_raw(Conn, greeting()),
    closed = recv(Conn),
    troubled({auth, bad_key}, Client).

atoms_are_not_made_for_a_stranger(Config) ->
    Client = client(with_key(#{driver_atoms => true}), Config),
    Name = <<"an_atom_of_nobody_", (integer_to_binary(erlang:unique_integer([positive])))/binary>>,
    {Conn, Said} = met(Config),
    Welcome = frame(welcomed(<<"sum">>, #{atoms => [Name]})),
    ok = send_raw(Conn, [Welcome, proof_of(binary:copy(<<"x">>, 32), Said, Welcome)]),
    troubled(bad_proof, Client),
    ?assertError(badarg, binary_to_existing_atom(Name)).

%% Not in its status, its state's report, its crash, its dialer's crash, nor in an error.
a_key_is_never_logged(Config) ->
    _ = application:ensure_all_started(sasl),   % where there is one
    #{level := Before} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, all),
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => all, config => self()}),
    process_flag(trap_exit, true),
    ?assertError(_, hidden([{anna, ?KEY}])),    % it would be found
    Client = client(with_key(#{}), Config),
    _ = welcome(Config),
    ok = gen_driver_tcp:await(Client, 5000),
    hidden(sys:get_status(Client)),
    hidden(sys:get_state(Client)),
    hidden(gen_driver_tcp:info(Client)),
    exit(Client, a_crash),                      % as a dialer's: it traps exits
    receive {'EXIT', Client, a_crash} -> ok after 5000 -> error(still_there) end,
    hidden(logged("a_crash")),
    hidden(killed(#{tcp_options => [{sndbuf, no_number}]}, Config)),
    hidden(gen_driver_tcp:start_link(#{instance => sum, auth => {anna, [?KEY]}})),
    hidden(dialer_crash()),
    ok = logger:remove_handler(?MODULE),
    ok = logger:set_primary_config(level, Before).

%% gen_tcp:connect exits on such an option: the trouble says which.
killed(Options, Config) ->
    Client = client(with_key(Options), Config),
    Trouble = until(Client, fun(#{trouble := T}) -> T =/= none end),
    gen_driver_tcp:stop(Client),
    receive {'EXIT', Client, normal} -> Trouble after 5000 -> error(still_there) end.

%% Its arguments are in the report of a process that dies of a function_clause.
dialer_crash() ->
    {ok, Options} = gen_driver_options:client(with_key(#{instance => sum})),
    Dialer = gen_driver_dialer:start_link(Options#{connect := no_address}),
    receive {'EXIT', Dialer, Reason} -> [Reason, logged("function_clause")] after 5000 -> error(still_there) end.

hidden(Term) ->
    Text = lists:flatten(io_lib:format("~tp ~w", [Term, Term])),
    ?assertEqual(nomatch, string:find(Text, "print-me"), Text),
    ?assertEqual(nomatch, string:find(Text, lists:join($,, [integer_to_list(C) || C <- "print-me"])), Text).

%% All that is logged until something says this.
logged(Text) ->
    logged(Text, []).

logged(Text, Before) ->
    receive
        {logged, Line} ->
            case string:find(Line, Text) of
                nomatch -> logged(Text, [Line | Before]);
                _ -> [Line | Before]
            end
    after 5000 ->
        error({not_logged, Text})
    end.

log(Event, #{config := Test}) ->
    Test ! {logged, lists:flatten(logger_formatter:format(Event, #{})) ++ lists:flatten(io_lib:format("~p", [Event]))}.
