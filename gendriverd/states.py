# SPDX-License-Identifier: MIT
"""The life of a host's keeper: one table, pure. A missing pair is a bug of ours, and the KeyError says which.

STOPPED, then STARTING, then RUNNING until STOPPING. A host that dies leads to BACKOFF and back to STARTING; a driver
that refuses, or whose host died too often, leads to FATAL: a reload puts another instance in its place.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    FATAL = "fatal"


class Event(Enum):
    START = "start"  # the daemon wants it
    READY = "ready"  # its host said so
    EXITED = "exited"  # its host is reaped, or could not be made
    REFUSED = "refused"  # its driver cannot be used
    TIMER = "timer"  # the backoff is over
    GIVE_UP = "give_up"  # its host has died too often
    STOP = "stop"  # the daemon does not want it any more


NEXT = {
    (State.STOPPED, Event.START): State.STARTING,
    (State.STOPPED, Event.STOP): State.STOPPED,
    (State.STARTING, Event.READY): State.RUNNING,
    (State.STARTING, Event.EXITED): State.BACKOFF,
    (State.STARTING, Event.REFUSED): State.FATAL,
    (State.STARTING, Event.STOP): State.STOPPING,
    (State.RUNNING, Event.EXITED): State.BACKOFF,
    (State.RUNNING, Event.STOP): State.STOPPING,
    (State.BACKOFF, Event.TIMER): State.STARTING,
    (State.BACKOFF, Event.GIVE_UP): State.FATAL,
    (State.BACKOFF, Event.STOP): State.STOPPED,
    (State.STOPPING, Event.READY): State.STOPPING,  # its word crossed ours
    (State.STOPPING, Event.STOP): State.STOPPING,
    (State.STOPPING, Event.REFUSED): State.STOPPED,
    (State.STOPPING, Event.EXITED): State.STOPPED,
    (State.FATAL, Event.STOP): State.STOPPED,
}

HOPELESS = frozenset({State.STOPPED, State.STOPPING, State.FATAL})  # no host will come: refuse clients at once
