%% SPDX-License-Identifier: MIT
%% A log handler that hands warnings, or all from a level on, to the test.
-module(gen_driver_test_log).

-export([start/1, start/2, stop/1, warning/1, warnings/0, log/2]).

start(Id) ->
    start(Id, warning).

start(Id, Level) ->
    ok = logger:add_handler(Id, ?MODULE, #{level => Level, config => self()}).

stop(Id) ->
    ok = logger:remove_handler(Id).

%% The next warning that this text is in.
warning(Text) ->
    receive
        {warning, Line} ->
            case string:find(Line, Text) of
                nomatch -> warning(Text);
                _ -> ok
            end
    after 5000 ->
        error({not_logged, Text})
    end.

%% All that have come.
warnings() ->
    receive {warning, Line} -> [Line | warnings()] after 0 -> [] end.

log(#{msg := {Format, Args}}, #{config := Test}) when is_list(Format) ->
    Test ! {warning, lists:flatten(io_lib:format(Format, Args))};
log(#{msg := Other}, #{config := Test}) ->
    Test ! {warning, lists:flatten(io_lib:format("~tp", [Other]))}.
