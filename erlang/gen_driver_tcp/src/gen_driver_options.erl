%% SPDX-License-Identifier: MIT
%% @doc Options checked and given their defaults, before anything is started or sent. Pure.
-module(gen_driver_options).

-export([client/1, is_name/1, request/1, ack/1, stream/1, command/1]).
-export_type([options/0, option/0, checked/0, address/0, bad_option/0]).
-export_type([request_options/0, cast_options/0, stream_options/0]).

-type option() ::
    {connect, string() | binary() | address()}
  | {instance, binary() | string() | atom()}
  | {connect_timeout, pos_integer()}
  | {connect_wait, non_neg_integer()}
  | {plain_timeout, pos_integer() | infinity}
  | {max_in_flight, pos_integer()}
  | {max_queued, pos_integer() | {Calls :: pos_integer(), Bytes :: pos_integer()}}
  | {max_frame, pos_integer()}
  | {max_notes, pos_integer()}
  | {backoff, gen_driver_backoff:range()}
  | {driver_atoms, boolean()}
  | {undecodable, term()}
  | {ping, pos_integer() | infinity}
  | {ping_timeout, pos_integer()}
  | {leave_timeout, pos_integer()}
  | {tcp_options, [gen_tcp:connect_option()]}
  | {tls_options, [ssl:tls_client_option()]}
  | {auth, none | {Name :: binary() | string() | atom(), Key :: binary() | fun(() -> binary())}}.
-type options() :: [option()] | #{atom() => term()}.
-type address() :: {tcp | tls, inet:hostname() | inet:ip_address(), inet:port_number()}
                 | {local, Path :: string() | binary()}.
-type checked() :: #{
    connect := address(), instance := binary(), connect_timeout := pos_integer(),
    connect_wait := non_neg_integer(), plain_timeout := pos_integer() | infinity,
    max_in_flight := pos_integer(), max_queued := {pos_integer(), pos_integer()},
    max_frame := pos_integer(), max_notes := pos_integer(), backoff := gen_driver_backoff:range(),
    driver_atoms := boolean(), undecodable := term(),
    ping := pos_integer() | infinity, ping_timeout := pos_integer(), leave_timeout := pos_integer(),
    tcp_options := [gen_tcp:connect_option()], tls_options := [ssl:tls_client_option()],
    auth := gen_driver_handshake:auth()
}.
-type bad_option() :: {bad_option, {Key :: term(), Value :: term()} | {unknown | missing, Key :: term()}}.
-type request_options() ::
    timeout()
  | [{timeout, timeout()} | {key, 0..16#ffffffff} | {trace, binary()}]
  | #{timeout => timeout(), key => 0..16#ffffffff, trace => binary()}.
%% Of a cast also `ack', of a stream also `credit' and `fold'.
-type cast_options() :: request_options() | [{ack, boolean()} | tuple()] | #{ack => boolean(), atom() => term()}.
-type stream_options() :: request_options()
  | [{credit, pos_integer()} | {fold, {fun((term(), Acc) -> Acc), Acc}} | tuple()]
  | #{credit => pos_integer(), fold => {fun((term(), Acc) -> Acc), Acc}, atom() => term()}.

%% Bytes of a unix socket's path: sockaddr_un.
-define(MAX_PATH, 107).
-define(MAX_MS, 16#ffffffff).
-define(MAX_COMMAND, 16#3fffffff).
%% Parts of a stream on their way or unread.
-define(CREDIT, 16).
%% Bytes of a key, and of its name.
-define(MIN_KEY, 32).
-define(MAX_KEY, 1024).
-define(MAX_NAME, 64).

%% @doc The options of a client.
-spec client(options()) -> {ok, checked()} | {error, bad_option()}.
client(Options) ->
    try {ok, checked(to_map(Options))}
    catch
        throw:{bad_option, _} = Bad -> {error, Bad}
    end.

checked(#{instance := _} = Given) ->
    maps:map(fun check/2, maps:merge(defaults(), Given));
checked(#{}) ->
    throw({bad_option, {missing, instance}}).

defaults() ->
    #{connect => "tcp://127.0.0.1:9900",
      connect_timeout => 8000,  % more than a daemon's handshake_timeout: its word is heard
      connect_wait => 5000,
      plain_timeout => infinity,
      max_in_flight => 4096,
      max_queued => {10000, 64 bsl 20},
      max_frame => 65 bsl 20,                   % the service lets replies be 64 MiB
      max_notes => 16 bsl 20,
      backoff => {100, 5000},
      driver_atoms => false,
      undecodable => {error, {failed, undecodable}},
      ping => 15000,
      ping_timeout => 60000,                    % casts that wait for a worker hold up a pong too
      leave_timeout => 300000,                  % more than a daemon's drain_timeout, and than a call that it waits for
      tcp_options => [],
      tls_options => [],
      auth => none}.

check(instance, Name) when is_binary(Name), Name =/= <<>> -> Name;
check(instance, Name) when is_atom(Name) -> atom_to_binary(Name);
check(instance, Name) when is_list(Name), Name =/= [] -> text(instance, Name);
check(connect, Connect) -> address(Connect);
check(connect_timeout, Ms) when is_integer(Ms), Ms > 0, Ms =< ?MAX_MS -> Ms;
check(connect_wait, Ms) when is_integer(Ms), Ms >= 0, Ms =< ?MAX_MS -> Ms;
check(plain_timeout, infinity) -> infinity;
check(plain_timeout, Ms) when is_integer(Ms), Ms > 0, Ms =< ?MAX_MS -> Ms;
check(max_in_flight, N) when is_integer(N), N > 0, N =< 1 bsl 30 -> N;
check(max_queued, {Calls, Bytes})
  when is_integer(Calls), Calls > 0, is_integer(Bytes), Bytes > 0 -> {Calls, Bytes};
check(max_queued, Calls) when is_integer(Calls), Calls > 0 ->
    {_, Bytes} = maps:get(max_queued, defaults()),
    {Calls, Bytes};
check(max_frame, Bytes) when is_integer(Bytes), Bytes > 0, Bytes =< 16#ffffffff -> Bytes;
check(max_notes, Bytes) when is_integer(Bytes), Bytes > 0, Bytes =< 1 bsl 40 -> Bytes;
check(backoff, {First, Max})
  when is_integer(First), First > 0, is_integer(Max), Max >= First, Max =< ?MAX_MS -> {First, Max};
check(driver_atoms, Flag) when is_boolean(Flag) -> Flag;
check(undecodable, Term) -> Term;
check(ping, infinity) -> infinity;
check(Key, Ms) when Key =:= ping orelse Key =:= ping_timeout orelse Key =:= leave_timeout, is_integer(Ms), Ms > 0, Ms =< ?MAX_MS -> Ms;
check(tls_options, List) when is_list(List) ->
    lists:foreach(fun tls_option/1, List),
    List;
check(tcp_options, List) when is_list(List) ->
    lists:foreach(fun(Option) -> tcp_option(Option, List) end, List),
    List;
check(auth, none) -> none;
check(auth, {Name, Key}) -> {key_name(Name), key(Key)};
check(auth, _) -> hidden();
check(Key, Value) -> bad(Key, Value).

-spec bad(term(), term()) -> no_return().
bad(Key, Value) ->
    case maps:is_key(Key, defaults()) orelse Key =:= instance of
        true -> throw({bad_option, {Key, Value}});
        false -> throw({bad_option, {unknown, Key}})
    end.

key_name(Name) when is_atom(Name) -> key_name(atom_to_binary(Name));
key_name(Name) when is_list(Name) ->
    try unicode:characters_to_binary(Name) of
        Binary when is_binary(Binary) -> key_name(Binary);
        _ -> hidden()
    catch
        error:badarg -> hidden()
    end;
key_name(Name) when is_binary(Name), Name =/= <<>>, byte_size(Name) =< ?MAX_NAME -> Name;
key_name(_) -> hidden().

%% Behind a fun: what a fun holds is not printed, wherever these options may get to.
key(Key) when is_function(Key, 0) -> Key;
key(Key) when is_binary(Key), byte_size(Key) >= ?MIN_KEY, byte_size(Key) =< ?MAX_KEY -> fun() -> Key end;
key(_) -> hidden().

%% A wrong value may hold the secret all the same.
-spec hidden() -> no_return().
hidden() ->
    throw({bad_option, {auth, hidden}}).

%% What decides how bytes become messages is ours.
tcp_option({Key, _}, _List)
  when Key =:= keepalive; Key =:= nodelay; Key =:= sndbuf; Key =:= recbuf; Key =:= ip;
       Key =:= ifaddr; Key =:= tos; Key =:= tclass; Key =:= priority -> ok;
tcp_option({raw, _, _, _}, _List) -> ok;
tcp_option(Family, _List) when Family =:= inet; Family =:= inet6 -> ok;
tcp_option(_, List) -> throw({bad_option, {tcp_options, List}}).

%% Who is trusted and who we are; not whether the peer is asked, and not which version. Values may be secret.
tls_option({server_name_indication, disable}) ->        % it would turn the check of the name off
    throw({bad_option, {tls_options, server_name_indication}});
tls_option({Key, _})
  when Key =:= cacerts; Key =:= cacertfile; Key =:= cert; Key =:= certfile; Key =:= key; Key =:= keyfile;
       Key =:= password; Key =:= certs_keys; Key =:= server_name_indication; Key =:= depth;
       Key =:= customize_hostname_check; Key =:= crl_check; Key =:= crl_cache; Key =:= ciphers;
       Key =:= supported_groups; Key =:= signature_algs -> ok;
tls_option({Key, _}) -> throw({bad_option, {tls_options, Key}});
tls_option(_) -> throw({bad_option, {tls_options, not_a_pair}}).

address({Kind, Host, Port} = Address) when Kind =:= tcp orelse Kind =:= tls, is_integer(Port), Port > 0, Port < 65536 ->
    case is_host(Host) of
        true -> Address;
        false -> throw({bad_option, {connect, Address}})
    end;
address({local, Path} = Address) when is_list(Path), Path =/= []; is_binary(Path), Path =/= <<>> ->
    case byte_size(text(connect, Path)) =< ?MAX_PATH of
        true -> Address;
        false -> throw({bad_option, {connect, Address}})
    end;
address(Url) when is_binary(Url); is_list(Url) -> url(text(connect, Url), Url);
address(Other) -> throw({bad_option, {connect, Other}}).

url(<<"unix:", Path/binary>>, _Url) when Path =/= <<>>, byte_size(Path) =< ?MAX_PATH ->
    {local, Path};
url(<<"tcp://", Rest/binary>>, Url) -> url(tcp, Rest, Url);
url(<<"tls://", Rest/binary>>, Url) -> url(tls, Rest, Url);
url(_, Url) -> throw({bad_option, {connect, Url}}).

url(Kind, Rest, Url) ->
    case uri_string:parse(<<"tcp://", Rest/binary>>) of
        #{host := Host, port := Port} = Parts
          when Host =/= <<>>, is_integer(Port), Port > 0, Port < 65536 ->
            case maps:get(path, Parts) of
                Path when Path =:= <<>>; Path =:= <<"/">> -> {Kind, host(binary_to_list(Host)), Port};
                _ -> throw({bad_option, {connect, Url}})
            end;
        _ ->
            throw({bad_option, {connect, Url}})
    end.

is_host(Host) when is_atom(Host) -> true;
is_host(Host) when is_tuple(Host) -> inet:ntoa(Host) =/= {error, einval};
is_host(Host) -> Host =/= [] andalso io_lib:latin1_char_list(Host).

host(Host) ->
    case inet:parse_strict_address(Host) of
        {ok, Ip} -> Ip;
        {error, einval} -> Host
    end.

text(Key, Text) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> throw({bad_option, {Key, Text}})
    catch
        error:badarg -> throw({bad_option, {Key, Text}})
    end.

to_map(Options) when is_map(Options) ->
    Options;
to_map(Options) when is_list(Options), length(Options) >= 0 ->
    maps:from_list([pair(Option) || Option <- lists:reverse(Options)]);
to_map(Options) when is_atom(Options) ->
    throw({bad_option, {unknown, Options}});
to_map(_Options) ->
    throw({bad_option, {unknown, options}}).

pair({_Key, _Value} = Pair) -> Pair;
pair(Key) when is_atom(Key) -> {Key, true};
pair(Option) when is_tuple(Option), element(1, Option) =:= auth -> hidden();
pair(Option) -> throw({bad_option, {unknown, Option}}).

%% @doc Whether a process can be started under it.
-spec is_name(term()) -> boolean().
is_name({local, Name}) -> is_atom(Name);
is_name({global, _Name}) -> true;
is_name({via, Module, _Name}) -> is_atom(Module);
is_name(_) -> false.

%% @doc The options of one call or cast: how long, and what goes on the wire.
%% Wrong ones are a mistake in the calling code: `error({bad_option, ..})'.
-spec request(request_options()) -> {timeout() | default, gen_driver_proto:options()}.
request(infinity) ->
    {infinity, #{}};
request(Timeout) when is_integer(Timeout), Timeout >= 0, Timeout =< ?MAX_MS ->
    {Timeout, #{}};
request(Options) when is_map(Options) ->
    ok = maps:foreach(fun request_option/2, Options),
    {maps:get(timeout, Options, default), maps:remove(timeout, Options)};
request(Options) when is_list(Options), length(Options) >= 0 ->
    request(request_map(Options));
request(Other) ->
    error({bad_option, {timeout, Other}}).

%% @doc Whether a cast is to be acknowledged; and its other options.
-spec ack(cast_options()) -> {boolean(), request_options()}.
ack(Options) when is_list(Options), length(Options) >= 0 ->
    ack(request_map(Options));
ack(#{ack := Ack} = Options) when is_boolean(Ack) ->
    {Ack, maps:remove(ack, Options)};
ack(#{ack := Other}) ->
    error({bad_option, {ack, Other}});
ack(Options) ->
    {false, Options}.

%% @doc How many parts a stream may have unread, what is to be done with them; and its other options.
-spec stream(stream_options()) -> {pos_integer(), none | {fun((term(), term()) -> term()), term()}, request_options()}.
stream(Options) when is_list(Options), length(Options) >= 0 ->
    stream(request_map(Options));
stream(Options) when is_map(Options) ->
    {credit(maps:get(credit, Options, ?CREDIT)), fold(maps:get(fold, Options, none)), maps:without([credit, fold], Options)};
stream(Timeout) ->
    {?CREDIT, none, Timeout}.

credit(Parts) when is_integer(Parts), Parts > 0, Parts =< ?MAX_MS -> Parts;
credit(Other) -> error({bad_option, {credit, Other}}).

fold(none) -> none;
fold({Fun, Acc}) when is_function(Fun, 2) -> {Fun, Acc};
fold(Other) -> error({bad_option, {fold, Other}}).

request_map(Options) ->
    maps:from_list(lists:map(fun request_pair/1, lists:reverse(Options))).

request_pair({_, _} = Pair) -> Pair;
request_pair(Option) -> error({bad_option, {unknown, Option}}).

request_option(timeout, infinity) -> ok;
request_option(timeout, Ms) when is_integer(Ms), Ms >= 0, Ms =< ?MAX_MS -> ok;
request_option(key, Key) when is_integer(Key), Key >= 0, Key =< 16#ffffffff -> ok;
request_option(trace, Trace) when is_binary(Trace) -> ok;
request_option(Key, Value) -> error({bad_option, {Key, Value}}).

%% @doc A command as a client takes it: its number, or its name as a binary.
-spec command(term()) -> {ok, gen_driver_proto:command() | binary()} | bad_request.
command(Command) when is_integer(Command), Command >= 0, Command =< ?MAX_COMMAND -> {ok, Command};
command(Command) when is_atom(Command) -> {ok, atom_to_binary(Command)};
command(Command) when is_binary(Command) -> {ok, Command};
command(_) -> bad_request.
