%% SPDX-License-Identifier: MIT
%% @doc Makes the atoms that a driver declares, where a client asks for them, and no more than a node can spare.
%%
%% An atom is for ever, and a node whose table of them is full ends. What counts is what is made for one server and
%% instance while the node lives, by however many clients and connections: one that is ended and made anew begins no
%% new account. Names that the node has already cost nothing.
-module(gen_driver_atoms).

-export([make/2]).
-export_type([whose/0]).

-type whose() :: {gen_driver_options:address(), Instance :: binary()}.

%% Sixteen welcomes that are full of new ones.
-define(MAX_MADE, 4096).

%% @doc From now on replies that hold these can be decoded. `too_many_atoms': some were made, and no more will be.
-spec make([binary()], whose()) -> ok | {error, bad_welcome | {bad_welcome, too_many_atoms}}.
make(Names, Whose) ->
    Made = made(Whose),
    try lists:foreach(fun(Name) -> is_there(Name) orelse make_one(Name, Made) end, Names)
    catch
        throw:too_many_atoms -> {error, {bad_welcome, too_many_atoms}};
        error:_ -> {error, bad_welcome}         % it is too long, or no text
    end.

is_there(Name) ->
    try is_atom(binary_to_existing_atom(Name))
    catch error:_ -> false
    end.

%% Two that make the same one at once may count it twice.
make_one(Name, Made) ->
    case atomics:add_get(Made, 1, 1) > ?MAX_MADE of
        true ->
            ok = atomics:sub(Made, 1, 1),
            throw(too_many_atoms);
        false ->
            is_atom(binary_to_atom(Name))
    end.

made(Whose) ->
    Key = {?MODULE, Whose},
    case persistent_term:get(Key, none) of
        none ->
            ok = persistent_term:put(Key, atomics:new(1, [])),
            made(Whose);
        Made ->
            Made
    end.
