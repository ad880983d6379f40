%% SPDX-License-Identifier: MIT
%% The state of a client's process: gen_driver_client and its parts, and nobody else.

-record(state, {
    options :: gen_driver_options:checked(),
    places :: gen_driver_places:places(),

    %% Requests: gen_driver_flow.
    queue = gen_driver_queue:new() :: gen_driver_queue:queue(),
    messages = 0 :: non_neg_integer(),          % since something could first be sent
    now = none :: none | integer(),             % ms, since the last send
    cancels = #{} :: #{reference() => true},
    sweep = none :: none | reference(),
    tick = 0 :: non_neg_integer(),
    dropped = 0 :: non_neg_integer(),           % casts
    tidying = none :: none | {{integer(), integer()}, Timer :: reference()},   % places that nobody may hold
    drops = none :: none | {Told :: non_neg_integer(), Timer :: reference()},

    %% Links, kept under their sockets: gen_driver_links. There is one, `current', except
    %% while a host is being drained: then the old one still answers beside it.
    links = #{} :: #{gen_driver_link:socket() => gen_driver_link:link()},
    current = none :: none | gen_driver_link:socket(),
    dialer = none :: none | pid() | {pause, reference()},
    refused = no :: no | gen_driver_handshake:refusal(),
    trouble = none :: none | term(),            % why there is no link; logged when it changes
    backoff :: gen_driver_backoff:backoff(),
    waiters = [] :: [gen_server:from()],        % for the outcome of the attempt
    leave = none :: none | reference(),
    pulse = none :: none | reference(),
    connects = 0 :: non_neg_integer(),
    notes = none :: none | gen_driver_notes:notes(),   % its process knows the subscribers
    noting = false :: boolean()                 % there are some
}).
