%% SPDX-License-Identifier: MIT
%% One of those that a call may go to.

-record(member, {
    id :: term(),                               % the same as long as the member is meant, whatever its process
    hash :: 0..16#ffffffff,                     % of the id
    pid :: pid(),
    priority = 0 :: non_neg_integer(),          % the lowest first, as SRV's
    weight = 1 :: number()                      % among those of its tier; more than 0
}).
