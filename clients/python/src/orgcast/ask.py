"""Questions to people. It needs the package redis.

A question belongs to the current organization, an execution and the index of a step in it. Whoever is in
another organization does not see it.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Optional

from .context import current_organization
from .names import is_id
from .space import Space

_MAX_INPUT, _MAX_PROMPT = 64 * 1024, 256 * 1024
_FIRST_LOOK, _LAST_LOOK = 0.05, 1.0


class AskNotFound(LookupError):
    """Never asked, over, or of another organization: they look alike."""


class AskAnswered(Exception):
    """Someone else in the organization answered first."""


class Asks:
    """Opens, answers and closes questions. It may be used by several threads."""

    def __init__(self, client: Any, prefix: str = "orgcast") -> None:
        """client is a redis.Redis or redis.RedisCluster with decode_responses and a socket_timeout."""
        self._space = Space(client, prefix)

    def open(self, execution: str, index: int, prompt: Any, life: float = 24 * 3600) -> bool:
        """Asks, for so many seconds. A question that was asked before stays as it is; the answer is False then."""
        text = json.dumps(prompt, allow_nan=False)
        if len(text) > _MAX_PROMPT:
            raise ValueError("orgcast: the prompt is too large")
        return bool(self._space.run("ask.v1", [self._key(execution, index)], [text, max(int(life * 1000), 1)]))

    def prompt(self, execution: str, index: int) -> Any:
        """Returns the prompt of an open question."""
        prompt, answer = self._read(execution, index)
        if answer is not None:
            raise AskAnswered()
        return prompt

    def answer(self, execution: str, index: int, text: str, key: str = "") -> None:
        """Answers an open question. The same answer again under the same key is no error."""
        if len(text.encode()) > _MAX_INPUT:
            raise ValueError("orgcast: the answer is too large")
        taken = self._space.run("answer.v1", [self._key(execution, index)], [text, key])
        if taken < 0:
            raise AskNotFound()
        if taken == 0:
            raise AskAnswered()

    def wait(
        self, execution: str, index: int, timeout: Optional[float] = None, stop: Optional[threading.Event] = None
    ) -> str:
        """Returns the answer as soon as there is one. stop ends the wait with InterruptedError."""
        deadline, pause = None if timeout is None else time.monotonic() + timeout, _FIRST_LOOK
        waiting = stop or threading.Event()
        while True:
            answer = self._read(execution, index)[1]
            if answer is not None:
                return answer
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError("orgcast: nobody has answered")
            if waiting.wait(left):
                raise InterruptedError("orgcast: the wait was stopped")
            pause = min(2 * pause, _LAST_LOOK)

    def close(self, execution: str, index: int) -> None:
        """Ends a question, answered or not."""
        self._space.client.delete(self._key(execution, index))

    def _key(self, execution: str, index: int) -> str:
        organization = current_organization()
        if not is_id(execution) or isinstance(index, bool) or not 0 <= index < 2**31:
            raise AskNotFound()
        return self._space.key(organization, f"ask:{execution}:{index}")

    def _read(self, execution: str, index: int) -> tuple[Any, Optional[str]]:
        prompt, answer = self._space.client.hmget(self._key(execution, index), "prompt", "input")
        if prompt is None:
            raise AskNotFound()
        return json.loads(prompt), answer
