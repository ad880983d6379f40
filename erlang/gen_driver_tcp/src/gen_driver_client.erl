%% SPDX-License-Identifier: MIT
%% @doc The process of a client: many callers, one socket, nothing that waits in one for the other.
%%
%% Here is what it hears, and who is asked to do it: `gen_driver_flow' for requests, on
%% their way in, waiting and out; `gen_driver_sweep' for those whose time has passed;
%% `gen_driver_links' for sockets, made, replaced and lost.
%% Every callback returns through `gen_driver_flow:asked/1' or `next/1'.
%%
%% It traps exits so that a supervisor's shutdown is answered to every caller.
-module(gen_driver_client).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").
-include("gen_driver_request.hrl").
-include("gen_driver_client.hrl").

-export([start_link/1, start_link/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, code_change/3, format_status/1]).

-import(gen_driver_flow, [next/1]).

%% @doc A client without a name, with options already checked.
-spec start_link(gen_driver_options:checked()) -> gen_server:start_ret().
start_link(Options) ->
    gen_server:start_link(?MODULE, Options, []).

%% @doc The same under a name.
-spec start_link(gen_server:server_name(), gen_driver_options:checked()) -> gen_server:start_ret().
start_link(Name, Options) ->
    gen_server:start_link(Name, ?MODULE, Options, []).

-spec init(gen_driver_options:checked()) -> {ok, #state{}}.
init(Options = #{instance := Instance, connect := Connect, max_queued := Bounds, backoff := Range}) ->
    process_flag(trap_exit, true),
    process_flag(message_queue_data, off_heap),
    logger:update_process_metadata(#{instance => Instance, connect => Connect}),
    {ok, gen_driver_links:dial(#state{options = Options, places = gen_driver_places:open(self(), Bounds),
                                      backoff = gen_driver_backoff:new(Range)})}.

%%% Requests

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {noreply, #state{}} | {noreply, #state{}, 0}.
handle_call({port, Command}, From, State) ->
    asked(gen_driver_flow:plain(From, Command, none, State));
handle_call({port, Command, Params}, From, State) ->
    asked(gen_driver_flow:plain(From, Command, {params, Params}, State));
handle_call(Request = #request{from = cast}, From, State) ->
    asked(gen_driver_flow:taken(Request#request{from = sender(Request, From)}, State));
handle_call(await, From, State) ->
    next(gen_driver_links:await(From, State));
handle_call(ping, From, State) ->
    next(gen_driver_links:ping(From, State));
handle_call({subscribe, Pid}, From, State) ->
    next(gen_driver_links:subscribe(Pid, From, State));
handle_call({unsubscribe, Ref}, From, State) ->
    next(gen_driver_links:unsubscribe(Ref, From, State));
handle_call(info, From, State) ->
    gen_server:reply(From, info(State)),
    next(State);
handle_call(_Unknown, {Pid, _} = From, State) ->
    ?LOG_WARNING("unknown call from ~tp refused", [Pid]),
    gen_server:reply(From, {error, {failed, bad_request}}),
    next(State).

asked(State) ->
    gen_driver_flow:asked(gen_driver_sweep:on(State)).

%% A cast that is called wants to be told that it left.
sender(#request{style = plain}, From) -> {ack, From};
sender(#request{}, From) -> From.

-spec handle_cast(term(), #state{}) ->
    {noreply, #state{}} | {noreply, #state{}, 0} | {stop, normal, #state{}}.
handle_cast({port, Command}, State) ->
    asked(gen_driver_flow:plain(cast, Command, none, State));
handle_cast({port, Command, Params}, State) ->
    asked(gen_driver_flow:plain(cast, Command, {params, Params}, State));
handle_cast(Request = #request{}, State) ->
    asked(gen_driver_flow:taken(Request, State));
handle_cast({cancel, Ref}, State = #state{cancels = Cancels}) ->
    next(State#state{cancels = Cancels#{Ref => true}});
handle_cast({credit, Ref, Parts}, State) ->
    next(gen_driver_flow:credit(Ref, Parts, State));
handle_cast(stop, State) ->
    {stop, normal, State};
handle_cast(_Unknown, State) ->
    ?LOG_WARNING("unknown cast ignored"),
    next(State).

%%% Sockets, timers, and whoever died

-spec handle_info(term(), #state{}) ->
    {noreply, #state{}} | {noreply, #state{}, 0} | {stop, term(), #state{}}.
handle_info(timeout, State) ->
    gen_driver_flow:idle(State);
handle_info({Kind, Socket, Data}, State = #state{links = Links})
  when Kind =:= tcp orelse Kind =:= ssl, is_map_key(Socket, Links) ->
    next(gen_driver_links:data(Socket, Data, State));
handle_info({Kind, Socket}, State = #state{links = Links})
  when Kind =:= tcp_passive orelse Kind =:= ssl_passive, is_map_key(Socket, Links) ->
    next(gen_driver_links:activate(Socket, State));
handle_info({Kind, Socket}, State = #state{links = Links})
  when Kind =:= tcp_closed orelse Kind =:= ssl_closed, is_map_key(Socket, Links) ->
    next(gen_driver_links:closed(Socket, State));
handle_info({Kind, Socket, Reason}, State = #state{links = Links})
  when Kind =:= tcp_error orelse Kind =:= ssl_error, is_map_key(Socket, Links) ->
    next(gen_driver_links:lost(Socket, Reason, disconnected, State));
handle_info({gen_driver_writer, Socket, Outcome}, State = #state{links = Links}) when is_map_key(Socket, Links) ->
    next(gen_driver_links:written(Socket, Outcome, State));
handle_info({gen_driver_dialer, Dialer, Outcome}, State = #state{dialer = Dialer}) ->
    next(gen_driver_links:dialed(Outcome, State#state{dialer = none}));
handle_info({gen_driver_notes, Notes, Change}, State = #state{notes = Notes}) ->
    next(gen_driver_links:notes(Change, State));
handle_info({timeout, Timer, dial}, State = #state{dialer = {pause, Timer}}) ->
    next(gen_driver_links:dial(State#state{dialer = none}));
handle_info({timeout, Timer, leave}, State = #state{leave = Timer}) ->
    next(gen_driver_links:leave(State#state{leave = none}));
handle_info({timeout, Timer, pulse}, State = #state{pulse = Timer}) ->
    next(gen_driver_links:pulse(State#state{pulse = none}));
handle_info({timeout, Timer, sweep}, State = #state{sweep = Timer}) ->
    next(gen_driver_sweep:sweep(State#state{sweep = none}));
handle_info({timeout, Timer, tidy}, State = #state{tidying = {_, Timer}}) ->
    next(gen_driver_sweep:tidied(State));
handle_info({timeout, Timer, drops}, State = #state{drops = {_, Timer}}) ->
    next(gen_driver_flow:drops(State));
handle_info({'DOWN', Monitor, process, _, _}, State) ->
    next(gen_driver_links:down(Monitor, State));
%% Dialers end when they are done; a port whose socket closed says so to its owner.
handle_info({'EXIT', _, normal}, State) ->
    next(State);
handle_info({'EXIT', Port, _}, State) when is_port(Port) ->
    next(State);
handle_info({'EXIT', _, Reason}, State) ->
    {stop, Reason, State};
%% A link that was given up: nobody waits for what it still says.
handle_info(Message, State)
  when element(1, Message) =:= tcp; element(1, Message) =:= tcp_passive; element(1, Message) =:= tcp_closed;
       element(1, Message) =:= tcp_error; element(1, Message) =:= ssl; element(1, Message) =:= ssl_passive;
       element(1, Message) =:= ssl_closed; element(1, Message) =:= ssl_error;
       element(1, Message) =:= gen_driver_writer ->
    next(State);
handle_info({timeout, _OldTimer, _}, State) ->
    next(State);
handle_info(Unknown, State) ->
    ?LOG_WARNING("unknown message ignored: ~tP", [Unknown, 6]),
    next(State).

%%% The end, and looking in

-spec terminate(term(), #state{}) -> ok.
terminate(Reason, State) ->
    gen_driver_ending:terminate(Reason, State).

-spec code_change(term(), #state{}, term()) -> {ok, #state{}}.
code_change(_Old, State, _Extra) ->
    {ok, State}.

%% Parameters, keys and what waits stay out of reports.
-spec format_status(gen_server:format_status()) -> gen_server:format_status().
format_status(Status) ->
    maps:map(fun(state, State = #state{}) -> info(State);
                (message, _) -> hidden;
                (log, _) -> [];
                (_, Value) -> Value
             end, Status).

info(State = #state{options = Options, queue = Queue, links = Links, current = Current}) ->
    maps:merge(
      #{instance => maps:get(instance, Options),
        connect => maps:get(connect, Options),
        status => status(State),
        trouble => State#state.trouble,
        in_flight => lists:sum([gen_driver_link:in_flight(Link) || Link <- maps:values(Links)]),
        queued => gen_driver_queue:size(Queue),
        queued_bytes => gen_driver_queue:bytes(Queue),
        links => map_size(Links),
        connects => State#state.connects,
        casts_dropped => State#state.dropped},
      case Links of
          #{Current := Link} -> #{welcome => gen_driver_link:welcome(Link)};
          #{} -> #{}
      end).

status(#state{current = none, refused = no}) -> connecting;
status(#state{current = none, refused = Refusal}) -> {refused, Refusal};
status(#state{}) -> up.
