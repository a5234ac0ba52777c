"""What every way of publishing can do, and the one that the module's functions use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, Protocol

from .names import Identifier

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Receipt:
    """What became of an event."""

    #: how many nodes of the gateway heard it
    nodes: int = 0
    #: its position in the history of its group, if it was recorded
    id: Optional[str] = None
    #: the idempotency key had been used before, and nothing was published
    repeated: bool = False


class Publisher(Protocol):
    """Publishes and revokes. Gateway and Direct are the two."""

    def publish(self, organization: Identifier, group: str, event: Event) -> Receipt:
        """Sends an event to the members of a group who are connected now. It is tried once."""

    def record(
        self, organization: Identifier, group: str, event: Event, idempotency_key: Optional[str] = None
    ) -> Receipt:
        """The same, and keeps the event in the group's history. Repeating it does no harm."""

    def revoke(self, message: Event) -> str:
        """Ends the right to be connected. Returns "revoked" or "announced"."""


_configured: Optional[Publisher] = None


def configure(publisher: Optional[Publisher]) -> None:
    """Sets what publish, record and revoke use in this process. None takes it away."""
    global _configured
    _configured = publisher


def configured() -> Publisher:
    """Returns what was given to configure."""
    if _configured is None:
        raise RuntimeError("orgcast: call orgcast.configure(orgcast.Gateway(url, key)) first")
    return _configured


def publish(organization: Identifier, group: str, event: Event) -> Receipt:
    """Sends an event to the members of a group who are connected now. It is tried once."""
    return configured().publish(organization, group, event)


def record(
    organization: Identifier, group: str, event: Event, idempotency_key: Optional[str] = None
) -> Receipt:
    """Sends an event and keeps it in the group's history.

    Of several events of a group with one idempotency key, the first is published.
    """
    return configured().record(organization, group, event, idempotency_key)


def revoke(message: Event) -> str:
    """Ends the right to be connected: {"type": "user.disabled", "user_id": "ada"}."""
    return configured().revoke(message)
