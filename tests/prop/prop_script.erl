%% SPDX-License-Identifier: MIT
%% What happens in one case: the client's options, and a list of steps. Generated here, run by prop_case.
%%
%% A script of our own instead of proper_statem's commands: what is checked is no command's result but
%% the books of the whole case, since a call's answer comes while later steps run, and what it may be
%% depends on all of them. And every step makes sense in every state (kill the 9th caller of 3: modulo),
%% so there are no preconditions, and any part of a script is a script: shrinking is leaving out.
-module(prop_script).

-include_lib("proper/include/proper.hrl").

-export([script/0, text/1]).

script() ->
    {options(), list(step())}.

%% The first of each is what shrinking tends to.
options() ->
    ?LET({InFlight, Queued, Wait, Plain},
         {oneof([4096, 1, 2]), frequency([{4, 10000}, {1, 3}]), oneof([1000, 5]), frequency([{4, infinity}, {1, 10}])},
         #{max_in_flight => InFlight, max_queued => Queued, connect_wait => Wait, plain_timeout => Plain}).

step() ->
    frequency([{12, call()},
               {2, {burst, integer(2, 20), style()}},
               {6, {cast, style(), patience(), key(), work()}},
               {2, {kill, integer(0, 9)}},
               {2, {cut, frequency([{4, all}, {1, oldest}]), ending()}},
               {1, {tear, oneof([down, up]), integer(0, 40), ending()}},
               {2, drain},
               {2, {handover, integer(0, 2)}},
               {1, noise},
               {1, {chop, integer(1, 9)}},
               {1, starve},
               {1, stall}, {1, flow},
               {1, shut}, {1, open},
               {2, release},
               {1, hear},
               {2, await}]).

%% handover: a drain while a request with that key is on its way, until the client has the new link.
%% starve: no link any more, and none comes, until everybody has been told, one more caller too.
%% hear: until all callers whose time is short have been told.
%% {call, own, Timeout, Key, Work}: gen_driver_tcp:call. {call, plain, Patience, none, Work}: gen_server:call.
call() ->
    oneof([{call, own, patience(), key(), work()}, {call, plain, patience(), none, work()}]).

style() -> oneof([own, plain]).

%% Milliseconds. Beyond its own a caller waits 100 ms for the host's word: few are so short as to pass.
patience() -> frequency([{14, none}, {4, 5000}, {3, integer(0, 20)}]).

key() -> frequency([{2, none}, {3, integer(0, 2)}]).

%% held: it runs until the next release.
work() -> frequency([{4, free}, {1, held}]).

ending() -> oneof([close, reset, half_close]).

%% One step a line.
-spec text({map(), [term()]}) -> iodata().
text({Options, Steps}) ->
    [io_lib:format("  client ~0p~n", [Options])
     | [io_lib:format("  ~2b ~0p~n", [I, Step]) || {I, Step} <- lists:zip(lists:seq(1, length(Steps)), Steps)]].
