%% SPDX-License-Identifier: MIT
%% @doc CPU time of a process of the operating system, as /proc has it: in steps of 10 ms, so that it takes a window of a
%% second to say something.
-module(bench_cpu).

-export([micros/1]).

-define(TICK, 10000).           % us: USER_HZ is 100 on every Linux

%% @doc User and system time so far, in microseconds.
-spec micros(OsPid :: non_neg_integer()) -> non_neg_integer().
micros(OsPid) ->
    {ok, Stat} = file:read_file("/proc/" ++ integer_to_list(OsPid) ++ "/stat"),
    [_, Behind] = re:split(Stat, <<"^.*\\) ">>, [{return, binary}]),
    Fields = binary:split(Behind, <<" ">>, [global]),
    (binary_to_integer(lists:nth(12, Fields)) + binary_to_integer(lists:nth(13, Fields))) * ?TICK.
