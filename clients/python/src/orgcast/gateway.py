"""Publishing through the gateway's HTTP API, with the standard library only."""

from __future__ import annotations

import http.client
import json
import random
import time
import urllib.error
import urllib.request
import uuid
from typing import Any, Optional

from .errors import OrgcastError
from .names import Identifier
from .publisher import Event, Receipt

#: How often record and revoke are tried. Repeating them does no harm.
ATTEMPTS = 3
_MAX_ANSWER = 64 * 1024


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key must not travel to another address."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


class Gateway:
    """The gateway's private listener. It may be used by several threads."""

    def __init__(self, url: str, key: str, timeout: float = 5.0, attempts: int = ATTEMPTS) -> None:
        """key is the gateway's --publish-key, timeout the seconds that each of the attempts waits for it."""
        if not url.startswith(("http://", "https://")):
            raise ValueError("orgcast: the URL must begin with http:// or https://")
        if not key:
            raise ValueError("orgcast: the key is empty")
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._timeout, self._attempts = timeout, attempts
        no_proxy = urllib.request.ProxyHandler({})  # none from the environment
        self._opener = urllib.request.build_opener(no_proxy, _NoRedirect())

    def publish(self, organization: Identifier, group: str, event: Event) -> Receipt:
        """Sends an event to the members of a group who are connected now. It is tried once."""
        body = {"organization_id": organization, "group": group, "event": event}
        return Receipt(nodes=self._post("publish", body, 1)["nodes"])

    def record(
        self, organization: Identifier, group: str, event: Event, idempotency_key: Optional[str] = None
    ) -> Receipt:
        """The same, and keeps the event in the group's history. Repeating it does no harm."""
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        body = {"organization_id": organization, "group": group, "event": event, "record": True, "idempotency_key": key}
        result = self._post("publish", body, self._attempts)
        return Receipt(result.get("nodes", 0), result["id"], result.get("repeated", False))

    def revoke(self, message: Event) -> str:
        """Ends the right to be connected. Returns "revoked" or "announced"."""
        return str(self._post("revoke", message, self._attempts)["status"])

    def _post(self, call: str, body: Event, attempts: int) -> dict[str, Any]:
        text = json.dumps(dict(body), allow_nan=False).encode()
        for attempt in range(1, attempts + 1):
            try:
                return self._try(call, text)
            except OrgcastError as error:
                if attempt == attempts or 0 < error.status < 500:
                    raise
                time.sleep(0.1 * 2**attempt * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    def _try(self, call: str, body: bytes) -> dict[str, Any]:
        request = urllib.request.Request(f"{self._url}/v1/{call}", body, self._headers, method="POST")
        try:
            try:
                with self._opener.open(request, timeout=self._timeout) as response:
                    status, text = response.status, response.read(_MAX_ANSWER)
            except urllib.error.HTTPError as response:
                with response:
                    status, text = response.code, response.read(_MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise OrgcastError(call, 0, "unreachable") from error
        result = _result(text)
        if status == 200 and result.get("status") in ("published", "revoked", "announced"):
            return result
        code = result.get("code")
        raise OrgcastError(call, status, code if isinstance(code, str) else "bad_answer")


def _result(text: bytes) -> dict[str, Any]:
    """Returns the one result of an answer, {} if it has none."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if isinstance(answer, dict) and isinstance(answer.get("results"), list) and answer["results"]:
        answer = answer["results"][0]
    return answer if isinstance(answer, dict) else {}
