%% SPDX-License-Identifier: MIT
%% @doc Where the endpoints of a pool are said to be: a list, a function, or DNS (SRV, RFC 2782).
%%
%% Functions and DNS may block: they are asked in a process of its own, which is
%% killed when it takes too long.
-module(gen_driver_endpoints).

-export([is_source/1, is_fixed/1, ask/2, drop/1, read/1, distinct/1, of_srv/2, is_local/1]).
-export_type([source/0, endpoint/0, lookup/0]).

-type source() :: [address()] | fun(() -> [address()]) | {srv, Name :: string()} | {srv, Name :: string(), tcp | tls}.
-type address() :: string() | binary() | gen_driver_options:address().
-type endpoint() :: {Priority :: non_neg_integer(), Weight :: non_neg_integer(), address()}.
-type lookup() :: {pid(), reference(), Timer :: reference()}.

%% @doc Whether it looks like one; addresses are checked elsewhere.
-spec is_source(term()) -> boolean().
is_source(List) when is_list(List), length(List) > 0 -> not io_lib:printable_unicode_list(List);
is_source({srv, Name}) -> is_name(Name);
is_source({srv, Name, Kind}) -> is_name(Name) andalso (Kind =:= tcp orelse Kind =:= tls);
is_source(Fun) -> is_function(Fun, 0).

is_name(Name) -> Name =/= [] andalso io_lib:latin1_char_list(Name).

%% @doc Whether it never changes.
-spec is_fixed(source()) -> boolean().
is_fixed(Source) -> is_list(Source).

%% @doc Begin to read. The calling process gets `{gen_driver_endpoints, Pid, {ok, [endpoint()]} | {error, Reason}}',
%% or the process's DOWN: it ends by itself, or after `Timeout' ms.
-spec ask(source(), Timeout :: pos_integer()) -> lookup().
ask(Source, Timeout) ->
    Asker = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        %% Should nobody be there any more to drop it.
        {ok, _} = timer:kill_after(2 * Timeout),
        Asker ! {?MODULE, self(), read(Source)}
    end),
    {Pid, Monitor, erlang:send_after(Timeout, self(), {?MODULE, Pid, {error, timeout}})}.

%% @doc No more of it.
-spec drop(lookup()) -> ok.
drop({Pid, Monitor, Timer}) ->
    _ = erlang:cancel_timer(Timer),
    true = demonitor(Monitor, [flush]),
    true = exit(Pid, kill),
    ok.

%% @doc Read it here and now. That nothing was found is an error: a pool keeps what it has.
-spec read(source()) -> {ok, [endpoint(), ...]} | {error, Reason :: term()}.
read(Source) ->
    try found(Source) of
        {ok, []} -> {error, no_endpoints};
        {ok, Endpoints} -> {ok, Endpoints};
        {error, Reason} -> {error, Reason}
    catch
        Class:Reason -> {error, {Class, Reason}}
    end.

found(Addresses) when is_list(Addresses) -> {ok, [{0, 1, Address} || Address <- Addresses]};
found(Fun) when is_function(Fun, 0) -> found_by(Fun());
found({srv, Name}) -> found({srv, Name, tcp});
found({srv, Name, Kind}) ->
    case inet_res:getbyname(Name, srv) of
        {ok, HostEnt} -> {ok, of_srv(Kind, element(6, HostEnt))};
        {error, Reason} -> {error, Reason}
    end.

found_by(Addresses) when is_list(Addresses), length(Addresses) >= 0 -> found(Addresses);
found_by(Other) -> {error, {not_a_list, Other}}.

%% @doc Each address once: the first time that it is named.
-spec distinct([{Address, term(), term()}]) -> [{Address, term(), term()}].
distinct(Endpoints) ->
    {Distinct, _} = lists:foldl(fun({Address, _, _} = Endpoint, {Kept, Seen}) ->
        case Seen of
            #{Address := _} -> {Kept, Seen};
            #{} -> {[Endpoint | Kept], Seen#{Address => true}}
        end
    end, {[], #{}}, Endpoints),
    lists:reverse(Distinct).

%% @doc Records as inet_res gives them. A target "." says that there is no such service.
-spec of_srv(tcp | tls, [{Priority :: integer(), Weight :: integer(), inet:port_number(), Target :: string()}]) ->
    [endpoint()].
of_srv(Kind, Records) ->
    [{Priority, Weight, {Kind, Target, Port}} || {Priority, Weight, Port, Target} <- Records, Target =/= ".", Target =/= ""].

%% @doc Whether an address means another place on each machine.
-spec is_local(gen_driver_options:address()) -> boolean().
is_local({local, _}) -> true;
is_local({_, {127, _, _, _}, _}) -> true;
is_local({_, {0, 0, 0, 0, 0, 0, 0, 1}, _}) -> true;
is_local({_, Ip, _}) when is_tuple(Ip) -> false;
is_local({Kind, Name, Port}) when is_atom(Name) -> is_local({Kind, atom_to_list(Name), Port});
is_local({Kind, Name, Port}) ->
    case inet:parse_address(Name) of
        {ok, Ip} -> is_local({Kind, Ip, Port});
        {error, einval} -> Name =:= "localhost"
    end.
