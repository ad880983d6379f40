# SPDX-License-Identifier: MIT
"""Commands by name: the driver's table, as the welcome told it."""

from __future__ import annotations

from gendriverd.client.outcomes import Failed, UnknownCommand
from gendriverd.client.protocol import COMMAND_MAX, Welcome


def command_number(cmd: int | str, welcome: Welcome) -> int:
    """The integer behind cmd. UnknownCommand names what there is; Failed('bad_request'): a number out of range."""
    if isinstance(cmd, int):
        if not 0 <= cmd <= COMMAND_MAX:
            raise Failed("bad_request")
        return int(cmd)
    number = welcome.commands.get(cmd)
    if number is None:
        if not welcome.commands:
            raise UnknownCommand(f"instance {welcome.instance!r} names no commands: use a number, not {cmd!r}")
        known = ", ".join(sorted(welcome.commands))
        raise UnknownCommand(f"instance {welcome.instance!r} has no command {cmd!r}; it has: {known}")
    return number
