%% SPDX-License-Identifier: MIT
%% @doc Options checked and given their defaults, before anything is started or sent. Pure.
-module(gen_driver_options).

-export([client/1, request/1, command/1]).
-export_type([options/0, option/0, checked/0, address/0, bad_option/0, request_options/0]).

-type option() ::
    {connect, string() | binary() | address()}
  | {instance, binary() | string() | atom()}
  | {connect_timeout, pos_integer()}
  | {connect_wait, non_neg_integer()}
  | {plain_timeout, pos_integer() | infinity}
  | {max_in_flight, pos_integer()}
  | {max_queued, pos_integer() | {Calls :: pos_integer(), Bytes :: pos_integer()}}
  | {max_frame, pos_integer()}
  | {backoff, gen_driver_backoff:range()}
  | {driver_atoms, boolean()}
  | {undecodable, term()}
  | {tcp_options, [gen_tcp:connect_option()]}.
-type options() :: [option()] | #{atom() => term()}.
-type address() :: {tcp, inet:hostname() | inet:ip_address(), inet:port_number()}
                 | {local, Path :: string() | binary()}.
-type checked() :: #{
    connect := address(), instance := binary(), connect_timeout := pos_integer(),
    connect_wait := non_neg_integer(), plain_timeout := pos_integer() | infinity,
    max_in_flight := pos_integer(), max_queued := {pos_integer(), pos_integer()},
    max_frame := pos_integer(), backoff := gen_driver_backoff:range(),
    driver_atoms := boolean(), undecodable := term(),
    tcp_options := [gen_tcp:connect_option()]
}.
-type bad_option() :: {bad_option, {Key :: term(), Value :: term()} | {unknown | missing, Key :: term()}}.
-type request_options() ::
    timeout()
  | [{timeout, timeout()} | {key, 0..16#ffffffff} | {trace, binary()}]
  | #{timeout => timeout(), key => 0..16#ffffffff, trace => binary()}.

%% Bytes of a unix socket's path: sockaddr_un.
-define(MAX_PATH, 107).
-define(MAX_MS, 16#ffffffff).
-define(MAX_COMMAND, 16#3fffffff).

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
      backoff => {100, 5000},
      driver_atoms => false,
      undecodable => {error, {failed, undecodable}},
      tcp_options => []}.

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
check(backoff, {First, Max})
  when is_integer(First), First > 0, is_integer(Max), Max >= First, Max =< ?MAX_MS -> {First, Max};
check(driver_atoms, Flag) when is_boolean(Flag) -> Flag;
check(undecodable, Term) -> Term;
check(tcp_options, List) when is_list(List) ->
    lists:foreach(fun(Option) -> tcp_option(Option, List) end, List),
    List;
check(Key, Value) -> bad(Key, Value).

-spec bad(term(), term()) -> no_return().
bad(Key, Value) ->
    case maps:is_key(Key, defaults()) orelse Key =:= instance of
        true -> throw({bad_option, {Key, Value}});
        false -> throw({bad_option, {unknown, Key}})
    end.

%% What decides how bytes become messages is ours.
tcp_option({Key, _}, _List)
  when Key =:= keepalive; Key =:= nodelay; Key =:= sndbuf; Key =:= recbuf; Key =:= ip;
       Key =:= ifaddr; Key =:= tos; Key =:= tclass; Key =:= priority -> ok;
tcp_option({raw, _, _, _}, _List) -> ok;
tcp_option(Family, _List) when Family =:= inet; Family =:= inet6 -> ok;
tcp_option(_, List) -> throw({bad_option, {tcp_options, List}}).

address({tcp, Host, Port} = Address) when is_integer(Port), Port > 0, Port < 65536 ->
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
url(<<"tcp://", Rest/binary>>, Url) ->
    case uri_string:parse(<<"tcp://", Rest/binary>>) of
        #{host := Host, port := Port} = Parts
          when Host =/= <<>>, is_integer(Port), Port > 0, Port < 65536 ->
            case maps:get(path, Parts) of
                Path when Path =:= <<>>; Path =:= <<"/">> -> {tcp, host(binary_to_list(Host)), Port};
                _ -> throw({bad_option, {connect, Url}})
            end;
        _ ->
            throw({bad_option, {connect, Url}})
    end;
url(_, Url) ->
    throw({bad_option, {connect, Url}}).

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
to_map(Options) ->
    throw({bad_option, {unknown, Options}}).

pair({_Key, _Value} = Pair) -> Pair;
pair(Key) when is_atom(Key) -> {Key, true};
pair(Option) -> throw({bad_option, {unknown, Option}}).

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
    request(maps:from_list(lists:map(fun request_pair/1, lists:reverse(Options))));
request(Other) ->
    error({bad_option, {timeout, Other}}).

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
