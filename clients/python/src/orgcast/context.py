"""The organization for which something is done, as a context variable.

Each thread and each asyncio task has its own. A new thread has none until it is given one; asyncio tasks
and asyncio.to_thread begin with that of the code that starts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Callable, Optional

from .errors import NoOrganization, UnknownOrganization
from .names import Identifier, as_text, is_id, is_user_id

_organization: ContextVar[Optional[str]] = ContextVar("orgcast_organization", default=None)
_user: ContextVar[Optional[str]] = ContextVar("orgcast_user", default=None)
_is_known: Optional[Callable[[str], bool]] = None


def know_organizations(is_known: Optional[Callable[[str], bool]]) -> None:
    """Sets the function that organization_context asks, such as one that looks into your database.

    Without one, every well-formed identifier counts as known.
    """
    global _is_known
    _is_known = is_known


@contextmanager
def organization_context(organization: Identifier, user: Optional[Identifier] = None) -> Iterator[str]:
    """Makes the organization the current one for the block, and the user, if there is one, the current user.

    Raises UnknownOrganization before the block runs. After it, also after an error, the previous ones are
    current again.
    """
    org = as_text(organization)
    if not is_id(org) or (_is_known is not None and not _is_known(org)):
        raise UnknownOrganization(org)
    name = None if user is None else as_text(user)
    if name is not None and not is_user_id(name):
        raise ValueError("orgcast: invalid user id")
    organization_before, user_before = _organization.set(org), _user.set(name)
    try:
        yield org
    finally:
        _user.reset(user_before)
        _organization.reset(organization_before)


def current_organization() -> str:
    """Returns the current organization, or raises NoOrganization."""
    org = _organization.get()
    if org is None:
        raise NoOrganization("orgcast: no current organization: use organization_context")
    return org


def current_user() -> Optional[str]:
    """Returns the user for whom something is done, or None."""
    return _user.get()
