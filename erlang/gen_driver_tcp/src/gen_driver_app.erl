%% SPDX-License-Identifier: MIT
%% @doc The application: what gen_driver_cluster needs, and nothing that a client needs.
-module(gen_driver_app).
-behaviour(application).

-export([start/2, stop/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    gen_driver_sup:start_link().

-spec stop(term()) -> ok.
stop(_State) ->
    ok.
