%% SPDX-License-Identifier: MIT
%% A cluster of real nodes, for tests. They are steered over their standard input, so that the test needs no name and
%% they end with it; among each other they use distribution, without epmd: each writes its port to a file, where the
%% others find it. So nothing is fixed and nothing stays behind. The module is both sides: what a test calls, and the
%% nodes' own way of finding each other (-epmd_module).
-module(gen_driver_nodes).

-export([new/0, start/2, start/3, node_of/1, connect/1, call/4, up/2, down/2, kill/1, stop/1, stop/2]).
-export([await/2]).
-export([start_link/0, register_node/3, address_please/3, listen_port_please/2, names/1]).

-define(WAIT, 30000).

%%% The test's side

%% A cluster without members yet: a directory, which is their home as well, and so holds their cookie.
new() ->
    Unique = [os:getpid(), "-", integer_to_list(erlang:unique_integer([positive]))],
    Directory = filename:join("/tmp", lists:append(["gen_driver_nodes-" | Unique])),
    ok = file:make_dir(Directory),
    ok = file:change_mode(Directory, 8#700),
    Directory.

start(Cluster, Name) ->
    start(Cluster, Name, #{}).

%% `host': its address, an IPv4 string; `under': a command that starts it, as `["ip", "netns", "exec", Namespace]';
%% `args': for erl; `erl': another release's, for a cluster of two. A name can be started again after kill/1.
start(Cluster, Name, Options) ->
    Host = maps:get(host, Options, "127.0.0.1"),
    {ok, Address} = inet:parse_address(Host),
    Kernel = ["-kernel", "inet_dist_use_interface", lists:flatten(io_lib:format("~w", [Address])),
              "-kernel", "logger_level", "critical"],
    Own = ["-start_epmd", "false", "-epmd_module", ?MODULE_STRING, "-" ?MODULE_STRING, Cluster],
    Code = lists:append([["-pa", filename:dirname(code:which(Module))] || Module <- [?MODULE, gen_driver_tcp]]),
    Ours = filename:join([code:root_dir(), "bin", "erl"]),
    {ok, Peer, Node} = peer:start_link(#{
        name => atom_to_list(Name) ++ "-" ++ os:getpid(), host => Host, longnames => true, connection => standard_io,
        exec => under(maps:get(under, Options, []), maps:get(erl, Options, Ours)),
        env => [{"HOME", Cluster}], args => Own ++ Code ++ Kernel ++ maps:get(args, Options, [])}),
    #{node => Node, peer => Peer, os_pid => peer:call(Peer, os, getpid, [])}.

under([], Erl) -> Erl;
under([Command | Args], Erl) -> {os:find_executable(Command), Args ++ [Erl]}.

node_of(#{node := Node}) -> Node.

%% Each to each.
connect(Members) ->
    [true = call(One, net_kernel, connect_node, [node_of(Other)]) || One <- Members, Other <- Members, One =/= Other],
    ok.

call(#{peer := Peer}, Module, Function, Args) ->
    peer:call(Peer, Module, Function, Args, ?WAIT + 5000).

%% `ok' once this member sees, or no longer sees, the other.
up(Member, Other) -> call(Member, ?MODULE, await, [nodeup, node_of(Other)]).
down(Member, Other) -> call(Member, ?MODULE, await, [nodedown, node_of(Other)]).

%% With SIGKILL; returns when it is gone.
kill(#{peer := Peer, os_pid := OsPid}) ->
    Monitor = monitor(process, Peer),
    "" = os:cmd("kill -KILL " ++ OsPid),
    receive {'DOWN', Monitor, process, Peer, _} -> ok end.

stop(#{peer := Peer}) ->
    ok = peer:stop(Peer).

%% All that still run, and what they have written.
stop(Cluster, Members) ->
    [ok = stop(Member) || #{peer := Peer} = Member <- Members, is_process_alive(Peer)],
    ok = file:del_dir_r(Cluster).

%%% On a member

await(Event, Node) ->
    ok = net_kernel:monitor_nodes(true),
    case lists:member(Node, nodes()) =:= (Event =:= nodeup) of
        true -> ok;
        false -> receive {Event, Node} -> ok after ?WAIT -> {error, {still, nodes()}} end
    end.

%%% A member's epmd

start_link() -> ignore.

%% Raw: distribution starts before the file server does.
register_node(Name, Port, _Family) ->
    ok = file:write_file(file(Name), integer_to_list(Port), [raw]),
    {ok, rand:uniform(1 bsl 31) + 3}.

address_please(Name, Host, _Family) ->
    case {inet:parse_address(Host), file:read_file(file(Name))} of
        {{ok, Address}, {ok, Port}} -> {ok, Address, binary_to_integer(Port), 6};
        {_, _} -> {error, nxdomain}
    end.

listen_port_please(_Name, _Host) -> {ok, 0}.

names(_Host) -> {error, address}.

file(Name) ->
    {ok, [[Cluster]]} = init:get_argument(?MODULE),
    filename:join(Cluster, lists:flatten(io_lib:format("~s.port", [Name]))).
