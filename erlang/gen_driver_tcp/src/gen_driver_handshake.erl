%% SPDX-License-Identifier: MIT
%% @doc Greeting, hello, welcome and refused, and the proofs that both ends know a key
%% (docs/protocol.md, The handshake). No I/O.
%%
%% The server's frames are read by a small decoder of our own, which gives atoms
%% as `{atom, Name}': a later daemon may send keys this node has no atom for, and
%% they are to be ignored, not made and not refused.
-module(gen_driver_handshake).

-export([introduce/3, hello/1, greeting/1, answer/1, proof/3, proved/3]).
-export_type([welcome/0, refusal/0, auth/0, check/0, mistrust/0]).

-type auth() :: none | {Name :: binary(), Key :: fun(() -> binary())}.
%% What becomes of a welcome: `none', it is taken; a fun, when that finds the server's proof right.
-type check() :: none | fun((Welcome :: binary(), Proof :: binary()) -> ok | {error, bad_proof}).
-type mistrust() :: bad_greeting | bad_version | {auth, unknown_method | key_needed | not_offered | bad_key}.

-type welcome() :: #{
    instance := binary(),
    generation := integer(),
    threads := integer(),
    commands := #{binary() => gen_driver_proto:command()},
    atoms := [binary()],
    limits := #{frame | depth | terms | bignum | in_flight | in_flight_bytes => pos_integer()},
    last_exit := none | binary()
}.
-type refusal() :: unknown_instance | unavailable | bad_hello | bad_version | auth | busy | draining
                 | {unknown, binary()}.

-define(MAX_ATOMS, 256).
-define(NONCE, 32).
-define(CLIENT, "gendriverd 1 client").
-define(SERVER, "gendriverd 1 server").

%% @doc What to send after a greeting, and how to tell whether the welcome is to be taken.
%% A server that asks for less than this client came to prove is not believed: who stands
%% in between could have it say so.
-spec introduce(Greeting :: binary(), Instance :: binary(), auth()) ->
    {ok, Frames :: iodata(), check()} | {error, mistrust()}.
introduce(Greeting, Instance, Auth) ->
    case {greeting(Greeting), Auth} of
        {{ok, none}, none} -> {ok, gen_driver_frame:join(hello(Instance)), none};
        {{ok, hmac}, none} -> {error, {auth, key_needed}};
        {{ok, none}, _} -> {error, {auth, not_offered}};
        {{ok, hmac}, {Name, Key}} -> prove(whole(Greeting), whole(hello(Instance, Name)), Key);
        {{error, Reason}, _} -> {error, Reason}
    end.

%% Whatever goes wrong with a key, an error's stack trace could show it.
prove(Greeting, Hello, Key) ->
    try proof(Key(), Greeting, Hello) of
        Proof -> {ok, [Hello, Proof], fun(Welcome, Told) -> check(Key, [Greeting, Hello, Proof, whole(Welcome)], Told) end}
    catch
        _:_ -> {error, {auth, bad_key}}
    end.

check(Key, Frames, Told) ->
    try proved(Key(), Frames, Told)
    catch
        _:_ -> {error, bad_proof}
    end.

%% @doc The client's proof, a frame with its length as those that it covers.
-spec proof(Key :: binary(), Greeting :: binary(), Hello :: binary()) -> binary().
proof(Key, Greeting, Hello) when byte_size(Key) >= ?NONCE ->
    Mac = crypto:mac(hmac, sha256, Key, [?CLIENT, 0, Greeting, Hello]),
    whole(<<131, 104, 2, 119, 5, "proof", 109, 32:32, Mac/binary>>).

%% @doc Whether the server's proof is that of this handshake: greeting, hello, the client's
%% proof and welcome, each with its length; `Told' is without.
-spec proved(Key :: binary(), Frames :: [binary()], Told :: binary()) -> ok | {error, bad_proof}.
proved(Key, Frames, Told) ->
    Mac = crypto:mac(hmac, sha256, Key, [?SERVER, 0 | Frames]),
    case decode(Told) of
        {ok, {{atom, <<"proof">>}, Said}} when byte_size(Said) =:= byte_size(Mac) ->
            case crypto:hash_equals(Mac, Said) of
                true -> ok;
                false -> {error, bad_proof}
            end;
        _ ->
            {error, bad_proof}
    end.

whole(Frame) ->
    iolist_to_binary(gen_driver_frame:join(Frame)).

%% @doc `{hello, 1, Instance, #{}}'.
-spec hello(Instance :: binary()) -> iodata().
hello(Instance) ->
    [<<131, 104, 4, 119, 5, "hello", 97, 1, 109, (byte_size(Instance)):32>>, Instance, <<116, 0:32>>].

hello(Instance, KeyName) ->
    [<<131, 104, 4, 119, 5, "hello", 97, 1, 109, (byte_size(Instance)):32>>, Instance, <<116, 2:32, 119, 3, "key">>,
     <<109, (byte_size(KeyName)):32>>, KeyName, <<119, 5, "nonce", 109, ?NONCE:32>>, crypto:strong_rand_bytes(?NONCE)].

%% @doc What a greeting asks of this client.
-spec greeting(Frame :: binary()) -> {ok, none | hmac} | {error, bad_greeting | bad_version | {auth, unknown_method}}.
greeting(Frame) ->
    case decode(Frame) of
        {ok, {{atom, <<"gen_driver">>}, 1, Info}} when is_map(Info) ->
            case maps:get({atom, <<"auth">>}, Info, {atom, <<"none">>}) of
                {atom, <<"none">>} -> {ok, none};
                {atom, <<"hmac">>} -> {ok, hmac};
                _ -> {error, {auth, unknown_method}}
            end;
        {ok, {{atom, <<"gen_driver">>}, Version, _}} when is_integer(Version) ->
            {error, bad_version};
        _ ->
            {error, bad_greeting}
    end.

%% @doc What the server says to a hello.
-spec answer(Frame :: binary()) -> {welcome, welcome()} | {refused, refusal()} | {error, bad_welcome}.
answer(Frame) ->
    case decode(Frame) of
        {ok, {{atom, <<"welcome">>}, 1, Info}} when is_map(Info) ->
            {welcome, welcome(Info)};
        {ok, {{atom, <<"refused">>}, {atom, Reason}}} ->
            {refused, refusal(Reason)};
        _ ->
            {error, bad_welcome}
    end.

welcome(Info) ->
    #{instance => take(<<"instance">>, Info, fun is_binary/1, <<>>),
      generation => take(<<"generation">>, Info, fun is_integer/1, 0),
      threads => take(<<"threads">>, Info, fun is_integer/1, 0),
      commands => commands(take(<<"commands">>, Info, fun is_map/1, #{})),
      atoms => atoms(take(<<"atoms">>, Info, fun is_list/1, [])),
      limits => limits(take(<<"limits">>, Info, fun is_map/1, #{})),
      last_exit => take(<<"last_exit">>, Info, fun is_binary/1, none)}.

take(Key, Info, IsIt, Default) ->
    case Info of
        #{{atom, Key} := Value} ->
            case IsIt(Value) of
                true -> Value;
                false -> Default
            end;
        #{} ->
            Default
    end.

commands(Map) ->
    maps:filter(fun(Name, Command) -> is_binary(Name) andalso is_integer(Command)
                                           andalso Command >= 0 andalso Command =< 16#3fffffff end, Map).

atoms(List) ->
    lists:sublist([Name || Name <- List, is_binary(Name)], ?MAX_ATOMS).

limits(Map) ->
    maps:from_list([{Key, Limit} || Key <- [frame, depth, terms, bignum, in_flight, in_flight_bytes],
                                    {ok, Limit} <- [maps:find({atom, atom_to_binary(Key)}, Map)],
                                    is_integer(Limit), Limit > 0]).

refusal(<<"unknown_instance">>) -> unknown_instance;
refusal(<<"unavailable">>) -> unavailable;
refusal(<<"bad_hello">>) -> bad_hello;
refusal(<<"bad_version">>) -> bad_version;
refusal(<<"auth">>) -> auth;
refusal(<<"busy">>) -> busy;
refusal(<<"draining">>) -> draining;
refusal(Reason) -> {unknown, Reason}.

decode(<<131, Encoded/binary>>) ->
    try term(Encoded) of
        {Term, <<>>} -> {ok, Term};
        {_, _} -> bad_term
    catch
        throw:bad_term -> bad_term
    end;
decode(_) ->
    bad_term.

term(<<97, N, Rest/binary>>) -> {N, Rest};
term(<<98, N:32/signed, Rest/binary>>) -> {N, Rest};
term(<<110, Size, 0, N:Size/little-unit:8, Rest/binary>>) -> {N, Rest};
term(<<110, Size, 1, N:Size/little-unit:8, Rest/binary>>) -> {-N, Rest};
term(<<70, F:64/float, Rest/binary>>) -> {F, Rest};
term(<<119, Size, Name:Size/binary, Rest/binary>>) -> {{atom, Name}, Rest};
term(<<100, Size:16, Name:Size/binary, Rest/binary>>) -> {{atom, Name}, Rest};
term(<<118, Size:16, Name:Size/binary, Rest/binary>>) -> {{atom, Name}, Rest};
term(<<115, Size, Name:Size/binary, Rest/binary>>) -> {{atom, Name}, Rest};
term(<<109, Size:32, Bytes:Size/binary, Rest/binary>>) -> {binary:copy(Bytes), Rest};
term(<<107, Size:16, Bytes:Size/binary, Rest/binary>>) -> {binary_to_list(Bytes), Rest};
term(<<106, Rest/binary>>) -> {[], Rest};
term(<<108, Size:32, Rest/binary>>) -> list(terms(Size, Rest, []));
term(<<104, Size, Rest/binary>>) -> tuple(terms(Size, Rest, []));
term(<<116, Size:32, Rest/binary>>) -> map(terms(2 * Size, Rest, []));
term(_) -> throw(bad_term).

terms(0, Rest, Terms) ->
    {lists:reverse(Terms), Rest};
terms(N, Encoded, Terms) ->
    {Term, Rest} = term(Encoded),
    terms(N - 1, Rest, [Term | Terms]).

list({Terms, <<106, Rest/binary>>}) -> {Terms, Rest};
list(_) -> throw(bad_term).

tuple({Terms, Rest}) -> {list_to_tuple(Terms), Rest}.

map({Terms, Rest}) -> {map(Terms, #{}), Rest}.

map([Key, Value | Terms], Map) -> map(Terms, Map#{Key => Value});
map([], Map) -> Map.
