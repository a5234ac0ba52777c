"""Which organizations are active, and who is an active member. It needs the package redis."""

from __future__ import annotations

from typing import Any, Optional

from .names import user_in_key


class Refused(LookupError):
    """The organization or the user may have nothing done. Its text is a stable reason."""


class Directory:
    """The directory in Redis; or, with trusting, one in which everybody is active (--directory=session)."""

    def __init__(self, client: Any, prefix: str, trusting: bool = False) -> None:
        self._client, self._prefix, self._trusting = client, prefix, trusting

    def admit(self, organization: str, user: Optional[str] = None) -> None:
        """Raises Refused unless the organization is active, and the user, if there is one, an active member."""
        if self._trusting:
            return
        space = f"{self._prefix}:{{{organization}}}"
        status = self._client.hget(f"{space}:org", "status")
        if status is None:
            raise Refused("organization_unknown")
        if status != "active":
            raise Refused("organization_suspended")
        if user is not None and self._client.hget(f"{space}:member:{user_in_key(user)}", "status") != "active":
            raise Refused("not_a_member")
