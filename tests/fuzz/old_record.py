# SPDX-License-Identifier: MIT
"""A recorder's memory as a host leaves it that has died of a request: what fuzz_recorder writes over."""

from __future__ import annotations

import os
import struct

from gendriverd import recorder as layout
from gendriverd import statistics
from gendriverd.recorder import CONN, HEADER, SLOT, Recorder, State

USED = 3  # slots
WORDS = 720  # of the head, its bytes that mean something


def spots(recorder: Recorder) -> list[int]:
    """Where the bytes are that a reader looks at."""
    return [*range(WORDS), *range(HEADER, HEADER + recorder.connections * CONN + USED * SLOT)]


def old_record(recorder: Recorder) -> bytearray:
    """Two connections, a request that waits, the one that it died of, and one that is answered."""
    image = bytearray(HEADER + recorder.connections * CONN + recorder.slots * SLOT)
    head = (layout.MAGIC, layout.LAYOUT, recorder.slots, recorder.connections, recorder.size)
    layout._HEAD.pack_into(image, 0, *head, recorder._key, recorder.seats)
    layout._DEATH.pack_into(image, layout._DEATH_AT, 1, 1, 11, 1, 1, 1, 64, 4096, 77, 2, 5, 0)
    layout._LOOP.pack_into(image, layout._LOOP_AT, 1)
    layout._USED.pack_into(image, layout._USED_AT, USED, layout._tag(USED) ^ recorder._key)
    layout._COMMANDS.pack_into(image, layout._COMMANDS_AT, 1, 1, *[0] * (statistics.COMMANDS - 1))
    for index, number in enumerate((5, 6)):
        layout._CONN.pack_into(image, HEADER + index * CONN, number, 100 << 3 | 5, 20, 20)
    for index, state in enumerate((State.QUEUED, State.RUNNING, State.DONE)):
        slot = (index + 1, 5, 10, 20, 0, 5, state | 1 << 3, index, 1, 1, 0, 50)
        layout._SLOT.pack_into(image, _slot_at(recorder, index), *slot)
    sign(recorder, image)
    return image


def sign(recorder: Recorder, image: bytearray) -> None:
    """Tags and checks as a host makes them for what stands there: so what is wrong with it is found by nothing else."""
    for index in range(USED):
        at = _slot_at(recorder, index)
        number, conn, *_, word, id_, command, _, _, _ = layout._SLOT.unpack_from(image, at)
        check = recorder._check(number, conn, command, id_)
        tag = (layout._tag(index) ^ recorder._key) << layout._TAG_SHIFT & 0xFFFFFFFF
        struct.pack_into("<I", image, at + layout._WORD_AT, word & (1 << layout._TAG_SHIFT) - 1 | tag)
        struct.pack_into("<I", image, at + layout._WORD_AT + 16, check)


def write(recorder: Recorder, image: bytearray) -> None:
    os.pwrite(recorder.fd, image, 0)


def _slot_at(recorder: Recorder, index: int) -> int:
    return HEADER + recorder.connections * CONN + index * SLOT
