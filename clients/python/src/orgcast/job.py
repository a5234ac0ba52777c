"""One task, bound to its organization. It needs the package redis."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from typing import Any, NoReturn, Optional

from .ask import AskAnswered, Asks
from .directory import Refused
from .names import is_group, is_id, is_user_id
from .publisher import Event
from .space import DAY_MS, HISTORY, Space, complete

_MAX_PAYLOAD = 256 * 1024
_REMEMBER_END = 7 * DAY_MS


class GiveUp(Exception):
    """The task cannot be done, however often it is tried. Its text is a stable code for clients."""


class Lost(Exception):
    """The task has ended, or another worker has it: there is no point in going on."""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and the like are not JSON


def earlier(fields: Mapping[str, str]) -> int:
    """Returns how often an entry was delivered before it was put back into its line."""
    before = fields.get("delivered_before", "")
    return int(before) if re.fullmatch("[0-9]{1,6}", before) else 0


class Job:
    """What a handler is given."""

    def __init__(self, space: Space, kind: str, fields: Mapping[str, str], attempt: int) -> None:
        """Raises Refused if the entry breaks the rules of docs/tasks.md."""
        self.kind, self.attempt = kind, attempt
        self.organization = fields.get("organization_id", "")
        if not is_id(self.organization):
            raise Refused("no_organization")
        self.id, self.group = fields.get("id", ""), fields.get("group", "")
        user, payload = fields.get("user_id", ""), fields.get("payload") or "null"
        if (
            fields.get("kind") != kind
            or not is_id(self.id)
            or not is_group(self.group)
            or not is_group(fields.get("idempotency_key") or self.id)
            or (user and not is_user_id(user))
            or len(payload.encode("utf-8", "surrogateescape")) > _MAX_PAYLOAD
        ):
            raise Refused("malformed")
        self.user: Optional[str] = user or None
        try:
            payload.encode()  # surrogates stand for bytes that were not UTF-8
            self.payload: Any = json.loads(payload, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise Refused("malformed") from None
        #: set once the task has ended elsewhere or another worker has it
        self.lost = threading.Event()
        self._space = space
        self.end_key = space.key(self.organization, f"task:{kind}:{self.id}")

    def progress(self, event: Event) -> None:
        """Records and publishes an event in the task's group. Raises Lost if there is no point in going on."""
        self.publish(self.group, event)

    def publish(self, group: str, event: Event) -> None:
        """The same in another group of the organization."""
        text = complete("publish", self.organization, group, event)
        if self.lost.is_set() or not self._record("progress.v1", group, text):
            raise Lost()

    def ask(self, index: int, prompt: Event, event: Event, timeout: Optional[float] = None) -> str:
        """Asks a person of the organization and returns the answer.

        The execution is the task's id. event tells the group about the question. A task that is tried again
        finds the answer that was given meanwhile.
        """
        asks = Asks(self._space.client, self._space.prefix)
        asks.open(self.id, index, dict(prompt))
        try:
            # An earlier attempt may have ended between the question and the event, so it is told again.
            asks.prompt(self.id, index)
            self.progress(event)
        except AskAnswered:
            pass
        try:
            return asks.wait(self.id, index, timeout, self.lost)
        except InterruptedError:
            raise Lost() from None

    def complete(self, event: Event) -> str:
        """Returns the payload of an event of this task."""
        return complete("publish", self.organization, self.group, event)

    def failure(self, code: str) -> str:
        """Returns the terminal event of a task that has failed."""
        return self.complete({"type": "task_failed", "task_id": self.id, "code": code})

    def finish(self, how: str, terminal: str) -> str:
        """Ends the task, or learns that it has ended. Returns how."""
        return str(self._record("finish.v1", self.group, terminal, how, _REMEMBER_END))

    def _record(self, script: str, group: str, event: str, *rest: Any) -> Any:
        keys = [self.end_key, self._space.history(self.organization, group)]
        args = [self._space.channel(self.organization, group), event, *HISTORY, *rest]
        return self._space.run_in_time(script, keys, args)
