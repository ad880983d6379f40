%% SPDX-License-Identifier: MIT
%% One request on its way through the client: what a caller hands in, what
%% waits in the queue, what a link takes.

-record(request, {
    %% {ack, ..}: a cast whose sender is told when it has left, or why not.
    from = cast :: cast | {ack, gen_server:from()} | gen_driver_answer:to(),
    %% plain: gen_server:call({port, ..}); the server decodes, the caller gets the term.
    %% own: gen_driver_tcp's; the caller gets the frame and decodes it itself.
    %% stream: the same, and frames of parts before it, under an alias of its own.
    style = plain :: plain | own | stream,
    ref = none :: none | reference(),           % what a cancel or credit names; plain ones have none
    command = 0 :: gen_driver_proto:command() | binary(),
    params = none :: gen_driver_proto:params(),
    options = #{} :: gen_driver_proto:options(),
    shape = small :: gen_driver_params:shape(),
    size = 0 :: non_neg_integer(),              % bytes of params
    placed = false :: boolean(),                % holds a place in gen_driver_places
    %% Monotonic milliseconds; {in, Ms}: sent from another node, whose clock is not ours.
    deadline = infinity :: infinity | integer() | {in, non_neg_integer()},
    patience = infinity :: infinity | integer() % until when it waits for a link
}).
