%% SPDX-License-Identifier: MIT
%% What the macro ?config of ct.hrl calls, where there is no Common Test.
-module(test_server).

-export([lookup_config/2]).

lookup_config(Key, Config) -> proplists:get_value(Key, Config).
