# SPDX-License-Identifier: MIT
"""The parts of one call, for plain blocking code: an iterator on a connection of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from gendriverd.client import protocol
from gendriverd.client.credit import Credit
from gendriverd.client.outcomes import CallTimeout, Failed
from gendriverd.client.protocol import Answered, Part, ProtocolError
from gendriverd.client.sync_link import BlockingLink, EndedError, StuckError
from gendriverd.etf import Term


class Stream(Iterator[Term]):
    """Made by a client's `stream`. One thread at a time; as a context it is closed at the end."""

    result: Term = None  # what the driver said at last, when all parts were read

    def __init__(self, link: BlockingLink, call: bytes, window: int, timeout: float | None) -> None:
        self._link: BlockingLink | None = link
        self._credit = Credit(window)
        self._timeout = timeout
        self._id = 0  # the first of its connection
        self._tell(link, call)

    def __next__(self) -> Term:
        if self._link is None:
            raise StopIteration
        try:
            event = self._link.next_of(self._id, self._until())
        except TimeoutError as exc:
            self.close()
            if exc.errno is not None:  # the kernel's: it has given the connection up
                raise Failed("disconnected") from None
            raise CallTimeout(f"no part within {self._timeout} s") from None
        except EndedError as exc:
            self.close()
            raise Failed(exc.reason) from None
        except ProtocolError as exc:  # what it was is said along
            self.close()
            raise Failed("disconnected") from exc
        except OSError:
            self.close()
            raise Failed("disconnected") from None
        return self._take(event)

    def close(self) -> None:
        """Whatever has not come yet does not matter any more: the driver is told. Idempotent."""
        if self._link is not None:
            self._link.close()
        self._link = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, event: Part | Answered) -> Term:
        if event.failed is not None:
            self.close()
            raise Failed(event.failed)
        if isinstance(event, Answered):
            self.result = event.term
            self.close()
            raise StopIteration
        if (more := self._credit.took_one()) and self._link is not None:
            self._tell(self._link, protocol.credit(self._id, more))
        return event.term

    def _tell(self, link: BlockingLink, frame: bytes) -> None:
        try:
            link.send(frame, self._until())
        except (OSError, StuckError):
            self.close()
            raise Failed("disconnected") from None

    def _until(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout
