# SPDX-License-Identifier: MIT
"""How long to wait before a host is started again: at once first, then doubling, forgiven after a healthy life."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Times in seconds. `jitter` is a share of the delay: 0.2 makes 10 s anything from 8 to 12 s."""

    first: float = 0.1
    factor: float = 2.0
    max: float = 30.0
    healthy_after: float = 60.0
    jitter: float = 0.2

    def failures(self, before: int, lived: float) -> int:
        """How many deaths count after one more; `lived` is how long that host was ready."""
        return 1 if lived > 0 and lived >= self.healthy_after else before + 1

    def delay(self, failures: int, chance: float) -> float:
        """Seconds before the next start; `chance` is a random number in [0, 1). Never above `max`, jitter or not."""
        if failures <= 1:
            return 0.0
        doublings = min(failures - 2, 64)  # beyond that any delay has met max, and a float would overflow
        plain = min(self.max, self.first * self.factor**doublings)
        return min(self.max, plain * (1 + self.jitter * (2 * chance - 1)))
