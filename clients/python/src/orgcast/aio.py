"""publish, record and revoke for asyncio.

Each call waits in a thread of the event loop's default executor, so the loop goes on meanwhile. A call that
is canceled is not taken back: the event may still go out.
"""

from __future__ import annotations

import asyncio
from typing import Optional

from . import publisher
from .names import Identifier
from .publisher import Event, Publisher, Receipt


async def publish(
    organization: Identifier, group: str, event: Event, *, via: Optional[Publisher] = None
) -> Receipt:
    """See Publisher.publish. via is what publishes; without it, what was given to orgcast.configure."""
    return await asyncio.to_thread((via or publisher.configured()).publish, organization, group, event)


async def record(
    organization: Identifier,
    group: str,
    event: Event,
    idempotency_key: Optional[str] = None,
    *,
    via: Optional[Publisher] = None,
) -> Receipt:
    """See Publisher.record."""
    chosen = via or publisher.configured()
    return await asyncio.to_thread(chosen.record, organization, group, event, idempotency_key)


async def revoke(message: Event, *, via: Optional[Publisher] = None) -> str:
    """See Publisher.revoke."""
    return await asyncio.to_thread((via or publisher.configured()).revoke, message)
