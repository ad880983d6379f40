# SPDX-License-Identifier: MIT
"""What the admin socket answers to `reload` and `status`: the daemon's objects as plain values, texts bounded."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType

from gendriverd import __version__
from gendriverd.admin import Action, Answer, Question
from gendriverd.errors import ConfigError, UnknownInstance
from gendriverd.instance import Instance
from gendriverd.log import clean_text
from gendriverd.reload import Reloads
from gendriverd.reports import commands
from gendriverd.supervisor import Outcome, Supervisor
from gendriverd.tls import Tls

PROBLEMS_MAX = 100  # of a configuration; more are counted


class Answers:
    def __init__(self, reloads: Reloads, supervisor: Supervisor, tls: Tls) -> None:
        self._reloads = reloads
        self._supervisor = supervisor
        self._tls = tls
        self._began = time.monotonic()
        self.actions: Mapping[str, Action] = MappingProxyType(
            {
                "reload": Action(frozenset({"instance"}), self.reload),
                "status": Action(frozenset({"instance"}), self.status),
            }
        )

    async def reload(self, question: Question, peer: str) -> Answer:
        """Answers when every new host is ready or has failed."""
        name = question.get("instance")
        if not isinstance(name, str | None):
            return {"error": f"instance must be a name or null, not {name!r:.80}"}
        try:
            done = await self._reloads.reload(peer, name)
        except ConfigError as error:
            return {"problems": _problems(error), "exit_code": int(error.exit_code)}
        except UnknownInstance as error:
            return {"error": clean_text(str(error))}
        return {
            "instances": {name: _outcome(outcome) for name, outcome in sorted(done.outcomes.items())},
            "needs_restart": done.fixed,
        }

    async def status(self, question: Question, peer: str) -> Answer:  # noqa: ARG002 (as any action)
        """Of all instances, or of one alone, and then what its commands have cost."""
        only = question.get("instance")
        if not isinstance(only, str | None):
            return {"error": f"instance must be a name or null, not {only!r:.80}"}
        about = {"version": __version__, "pid": os.getpid(), "uptime": round(time.monotonic() - self._began, 3)}
        instances = sorted(self._supervisor.instances.items())
        if only is None:
            told = {name: self._instance(each) for name, each in instances}
            return {"daemon": about, "tls": self._tls.about(), "instances": told}
        if only not in self._supervisor.instances:
            known = ", ".join(name for name, _ in instances) or "none"
            return {"error": clean_text(f"there is no instance {only!r:.80}; the instances are: {known}")}
        instance = self._supervisor.instances[only]
        names = instance.ready.commands if instance.ready is not None else {}
        one = self._instance(instance) | {"commands": commands(await instance.statistics(), names)}
        return {"daemon": about, "instances": {only: one}}

    def _instance(self, instance: Instance) -> dict[str, object]:
        return {
            "state": instance.state.value,
            "generation": instance.generation,
            "driver": instance.config.driver,
            "deaths": instance.deaths,
            "last_exit": _bounded(instance.last_exit),
            "trouble": _bounded(instance.trouble),
            "hosts": self._supervisor.hosts(instance.name),
        }


def _outcome(outcome: Outcome) -> dict[str, object]:
    return {**asdict(outcome), "reason": _bounded(outcome.reason)}


def _bounded(text: str | None) -> str | None:
    return None if text is None else clean_text(text)


def _problems(error: ConfigError) -> list[str]:
    shown = [clean_text(problem) for problem in error.problems[:PROBLEMS_MAX]]
    more = len(error.problems) - len(shown)
    return [*shown, f"and {more} more"] if more else shown
