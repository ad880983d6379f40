%% SPDX-License-Identifier: MIT
%% Stands between a client and the daemon, and breaks what a script says: cuts, tears, stalls, drains.
%%
%% A process for each connection, and one that knows them. What a client sees of a broken link is the
%% same as of a network's; the host's side is always ended politely, by a half-close, and read to its
%% end: so when a connection's process is gone, the host has taken, and its calls have answered, all
%% that ever went through.
%%
%% A fault makes it a liar, for the test of the test: what the books must find is in faults/0.
-module(prop_relay).

-export([start/1, url/1, fault/2, faults/0]).
-export([door/2, flow/2, cut/3, tear/4, calm/1, chop/2, drain/1, noise/1, live/1, idle/1]).

-define(WAIT, 20000).

-record(relay, {port, fault = none, door = open, links = []}).
-record(link, {down, up, flow = true, fault, broken = false, tear = none, chop = whole, sent = <<>>, got = <<>>}).

%%% From the script

%% To a daemon at this address.
start(Daemon) ->
    Owner = self(),
    Pid = spawn_link(fun() -> init(Owner, Daemon) end),
    receive {Pid, started} -> Pid end.

url(Relay) -> ask(Relay, url).
fault(Relay, Fault) -> ask(Relay, {fault, Fault}).
%% shut: whoever connects is hung up on.
door(Relay, Door) -> ask(Relay, {door, Door}).
%% false: on the links that are there nothing passes, in neither direction, and nothing is lost.
flow(Relay, Flow) -> ask(Relay, {flow, Flow}).
%% Oldest or all; close, reset or half_close towards the client.
cut(Relay, Which, How) -> ask(Relay, {cut, Which, How}).
%% The newest is cut K bytes into what next goes up, or into the next frame that comes down.
tear(Relay, Direction, K, How) -> ask(Relay, {newest, {tear, {Direction, K, How}}}).
%% From now on the newest gets what comes down in pieces of so many bytes.
chop(Relay, Bytes) -> ask(Relay, {newest, {chop, Bytes}}).
%% No tear waits any more.
calm(Relay) -> ask(Relay, calm).
%% The host seems to ask the newest to leave.
drain(Relay) -> ask(Relay, {newest, {say, [{goodbye, draining}]}}).
%% What a client ignores.
noise(Relay) ->
    Terms = [{note, [noise]}, {pong, 7}, {part, 0, piece}, {reply, 16#7fffffff, {ok, 0}}, {failed, 16#7ffffffe, crashed}],
    ask(Relay, {newest, {say, Terms}}).
%% The clients' ports of the links that are whole.
live(Relay) -> ask(Relay, live).
%% No connection is left.
idle(Relay) -> ask(Relay, idle).

ask(Pid, What) ->
    Monitor = monitor(process, Pid),
    Pid ! {ask, self(), Monitor, What},
    receive
        {Monitor, Answer} -> demonitor(Monitor, [flush]), Answer;
        {'DOWN', Monitor, _, _, _} -> gone
    after ?WAIT ->
        error({relay_does_not_answer, What})
    end.

%%% The one that knows them

init(Owner, Daemon) ->
    process_flag(trap_exit, true),
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}, {backlog, 64}, {nodelay, true},
                                        {exit_on_close, false}]),
    {ok, Port} = inet:port(Listener),
    Self = self(),
    spawn_link(fun() -> accept(Self, Listener, Daemon) end),
    Owner ! {self(), started},
    serve(#relay{port = Port}, []).

accept(Relay, Listener, Daemon) ->
    {ok, Down} = gen_tcp:accept(Listener),
    Pid = spawn(fun() -> receive go -> link(Relay, Down, Daemon) end end),
    ok = gen_tcp:controlling_process(Down, Pid),
    Pid ! go,
    accept(Relay, Listener, Daemon).

serve(Relay = #relay{links = []}, [_ | _] = Waiting) ->
    [From ! {Ref, ok} || {From, Ref} <- Waiting],
    serve(Relay, []);
serve(Relay = #relay{links = Links}, Waiting) ->
    receive
        {ask, From, Ref, idle} ->
            serve(Relay, [{From, Ref} | Waiting]);
        {ask, From, Ref, What} ->
            {Answer, Next} = served(What, From, Relay),
            From ! {Ref, Answer},
            serve(Next, Waiting);
        {'DOWN', _, process, Pid, _} ->
            serve(Relay#relay{links = Links -- [Pid]}, Waiting);
        {'EXIT', _, Reason} ->
            exit(Reason)
    end.

served(url, _, Relay) -> {"tcp://127.0.0.1:" ++ integer_to_list(Relay#relay.port), Relay};
served({fault, Fault}, _, Relay) -> {ok, Relay#relay{fault = Fault}};
served({door, Door}, _, Relay) -> {ok, Relay#relay{door = Door}};
served({flow, Flow}, _, Relay) -> {[ask(Link, {flow, Flow}) || Link <- Relay#relay.links], Relay};
served({cut, all, How}, _, Relay) -> {[ask(Link, {cut, How}) || Link <- Relay#relay.links], Relay};
served({cut, oldest, How}, _, Relay = #relay{links = Links}) ->
    {[ask(Link, {cut, How}) || Link <- lists:nthtail(max(0, length(Links) - 1), Links)], Relay};
served(calm, _, Relay) -> {[ask(Link, {tear, none}) || Link <- Relay#relay.links], Relay};
served({newest, What}, _, Relay) -> {[ask(Link, What) || Link <- lists:sublist(Relay#relay.links, 1)], Relay};
served(live, _, Relay) -> {[Port || Link <- Relay#relay.links, Port <- [ask(Link, live)], is_integer(Port)], Relay};
served(hello, _, Relay = #relay{door = shut}) -> {shut, Relay};
served(hello, Pid, Relay = #relay{fault = Fault, links = Links}) ->
    monitor(process, Pid),
    {{open, Fault}, Relay#relay{links = [Pid | Links]}}.

%%% One connection

link(Relay, Down, {Host, Port}) ->
    case ask(Relay, hello) of
        {open, Fault} ->
            {ok, Up} = gen_tcp:connect(Host, Port, [binary, {active, false}, {nodelay, true}, {exit_on_close, false}]),
            pass(armed(#link{down = Down, up = Up, fault = Fault}));
        shut ->
            gen_tcp:close(Down)
    end.

armed(Link = #link{flow = Flow, down = Down, up = Up}) ->
    [inet:setopts(Socket, [{active, once}]) || Flow, Socket <- [Down, Up]],
    Link.

pass(Link = #link{down = Down, up = Up, flow = Flow}) ->
    receive
        {ask, From, Ref, What} ->
            {Answer, Next} = told(What, Link),
            From ! {Ref, Answer},
            pass(Next);
        {tcp, Down, Bytes} when Flow ->
            pass(armed(upwards(Bytes, Link)));
        {tcp, Up, Bytes} when Flow ->
            pass(armed(downwards(Bytes, Link)));
        {tcp_closed, Down} when Flow ->
            gen_tcp:shutdown(Up, write),
            pass(Link);
        {tcp_error, Down, _} ->
            pass(Link);
        {tcp_closed, Up} when Flow ->
            gen_tcp:close(Down)
    end.

told({flow, _}, Link = #link{broken = true}) -> {ok, Link};
told({flow, Flow}, Link) -> {ok, armed(Link#link{flow = Flow})};
told({cut, How}, Link) -> {ok, armed(cut(How, Link))};
told({tear, Tear}, Link) -> {ok, Link#link{tear = Tear}};
told({chop, Bytes}, Link) -> {ok, Link#link{chop = Bytes}};
told({say, Terms}, Link = #link{broken = false, down = Down}) ->
    {gen_tcp:send(Down, [frame(term_to_binary(Term)) || Term <- Terms]), Link};
told(live, Link = #link{broken = false, down = Down}) ->
    case inet:peername(Down) of
        {ok, {_, Port}} -> {Port, Link};
        {error, _} -> {gone, Link}
    end;
told(_, Link) -> {gone, Link}.

cut(_How, Link = #link{broken = true}) ->
    Link;
cut(How, Link = #link{down = Down, up = Up}) ->
    ended(How, Down),
    gen_tcp:shutdown(Up, write),
    Link#link{broken = true, flow = true, tear = none}.

ended(close, Socket) -> gen_tcp:close(Socket);
ended(half_close, Socket) -> gen_tcp:shutdown(Socket, write);
ended(reset, Socket) ->
    inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket).

%% The host sees whole frames, but for those that are torn.
upwards(_Bytes, Link = #link{broken = true}) ->
    Link;
upwards(Bytes, Link = #link{up = Up, tear = {up, K, How}}) ->
    gen_tcp:send(Up, binary:part(Bytes, 0, min(K, byte_size(Bytes)))),
    cut(How, Link);
upwards(Bytes, Link = #link{up = Up, fault = Fault, sent = Rest}) ->
    {Frames, Left} = frames(<<Rest/binary, Bytes/binary>>, []),
    gen_tcp:send(Up, [frame(F) || Frame <- Frames, F <- asked(Fault, Frame)]),
    Link#link{sent = Left}.

downwards(_Bytes, Link = #link{broken = true}) ->
    Link;
downwards(Bytes, Link = #link{got = Rest}) ->
    {Frames, Left} = frames(<<Rest/binary, Bytes/binary>>, []),
    lists:foldl(fun down/2, Link#link{got = Left}, Frames).

down(_Frame, Link = #link{broken = true}) ->
    Link;
down(Frame, Link = #link{down = Down, tear = {down, K, How}}) ->
    gen_tcp:send(Down, binary:part(frame(Frame), 0, min(K, byte_size(Frame) + 3))),
    cut(How, Link);
down(Frame, Link = #link{down = Down, fault = Fault, chop = Chop}) ->
    pieces(frame(answered(Fault, Frame)), Chop, Down),
    Link.

pieces(Bytes, Chop, Down) when is_integer(Chop), byte_size(Bytes) > Chop ->
    {Piece, Rest} = split_binary(Bytes, Chop),
    gen_tcp:send(Down, Piece),
    erlang:yield(),                             % so that the client has it before the next, as a rule
    pieces(Rest, Chop, Down);
pieces(Bytes, _Chop, Down) ->
    gen_tcp:send(Down, Bytes).

frame(Bytes) ->
    <<(byte_size(Bytes)):32, Bytes/binary>>.

frames(<<Size:32, Frame:Size/binary, Rest/binary>>, Frames) -> frames(Rest, [Frame | Frames]);
frames(Rest, Frames) -> {lists:reverse(Frames), Rest}.

%%% Lies

%% Each, and what the books say of it.
faults() ->
    [{lie, "never started"}, {crash, "nothing explains"}, {other, "wrong answer"}, {lose, "casts were taken"}, {again, "times"},
     {late, "order"}].

answered(Fault, Frame) when Fault =:= lie; Fault =:= crash; Fault =:= other ->
    case {Fault, binary_to_term(Frame)} of
        {lie, {reply, Id, {ok, _}}} -> term_to_binary({failed, Id, not_run});
        {crash, {reply, Id, {ok, _}}} -> term_to_binary({failed, Id, crashed});
        {other, {reply, Id, {ok, N}}} -> term_to_binary({reply, Id, {ok, N + 1}});
        _ -> Frame
    end;
answered(_Fault, Frame) ->
    Frame.

asked(Fault, Frame) when Fault =:= lose; Fault =:= again; Fault =:= late ->
    case {Fault, element(1, binary_to_term(Frame))} of
        {lose, cast} -> [];
        {again, cast} -> [Frame, Frame];
        {late, cast} ->
            Before = case get(late) of undefined -> []; Kept -> Kept end,
            put(late, [Frame | Before]),
            case length(Before) of 1 -> [Frame | Before]; _ -> [] end;
        _ -> [Frame]
    end;
asked(_Fault, Frame) ->
    [Frame].
