# SPDX-License-Identifier: MIT
"""Verdicts of the guard in Python for crosscheck.erl: packets and codes as tests/unit_c/etf_verdict.c has them."""

from __future__ import annotations

import sys

from gendriverd.etf_guard import EtfError, Limits, check

LIMITS = Limits(*map(int, sys.argv[1:4]))
CODES = {
    reason: code
    for code, reason in enumerate(
        ["ok", "bad_term", "compressed", "trailing_bytes", "too_deep", "too_many_terms", "bignum_too_large"]
    )
}


def verdict(term: bytes) -> int:
    try:
        check(term, LIMITS)
    except EtfError as error:
        return CODES[error.reason]
    return 0


def verdicts(packet: bytes) -> bytes:
    found = bytearray()
    at = 0
    while at < len(packet):
        end = at + 4 + int.from_bytes(packet[at : at + 4], "big")
        found.append(verdict(packet[at + 4 : end]))
        at = end
    return bytes(found)


def main() -> None:
    while head := sys.stdin.buffer.read(4):
        found = verdicts(sys.stdin.buffer.read(int.from_bytes(head, "big")))
        sys.stdout.buffer.write(len(found).to_bytes(4, "big") + found)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
