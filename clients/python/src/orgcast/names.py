"""The forms of identifiers and names, and tokens for groups."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Union

Identifier = Union[str, int]

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_GROUP = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_TYPE = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_ROLE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_KEY = re.compile(r"[!-~]{1,128}")
# Python calls these printable, but they draw nothing, or stand for what nobody could read.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\ufffd\U000e0100-\U000e01ef ]"
)


def as_text(identifier: object) -> str:
    """Returns an identifier as text; integers count as their digits. Anything else names nothing: ""."""
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        return str(identifier)
    return identifier if isinstance(identifier, str) else ""


def is_id(text: str) -> bool:
    """Whether text can identify an organization, a session or a task."""
    return _ID.fullmatch(text) is not None


def is_group(text: str) -> bool:
    """Whether text can name a group."""
    return _GROUP.fullmatch(text) is not None


def is_type(text: str) -> bool:
    """Whether text can be the type of an event."""
    return _TYPE.fullmatch(text) is not None


def is_role(text: str) -> bool:
    """Whether text can name a role."""
    return _ROLE.fullmatch(text) is not None


def is_idempotency_key(text: str) -> bool:
    """Whether text can be an idempotency key: 1 to 128 visible ASCII characters."""
    return _KEY.fullmatch(text) is not None


def is_user_id(text: str) -> bool:
    """Whether text can identify a user: 1 to 128 bytes of printable UTF-8 without spaces."""
    return text.isprintable() and 0 < len(text.encode("utf-8", "surrogatepass")) <= 128 and not _UNSEEN.search(text)


def user_group(user: Identifier) -> str:
    """Returns the name of a user's own group."""
    text = as_text(user)
    if not text:
        raise ValueError("orgcast: the user id is empty")
    if is_id(text):
        return f"user.{text}"
    return "user.." + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def user_in_key(user: str) -> str:
    """Returns a user id as it is spelled in the names of keys."""
    return re.sub(rb"[^A-Za-z0-9_-]", lambda byte: b"%%%02X" % ord(byte[0]), user.encode()).decode()


def sign_group(key: str, organization: Identifier, group: str, expires: int) -> str:
    """Returns the token with which a page may subscribe to a group until expires, in Unix seconds.

    key is the gateway's --signing-key.
    """
    org = as_text(organization)
    if len(key.encode()) < 32:
        raise ValueError("orgcast: the signing key must have at least 32 bytes")
    if not is_id(org):
        raise ValueError("orgcast: invalid organization")
    if not is_group(group):
        raise ValueError("orgcast: invalid group")
    if not 0 < expires < 10**11:
        raise ValueError("orgcast: expires must be Unix seconds")
    text = f"orgcast.v1.group\n{org}\n{group}\n{expires}"
    return f"{expires}.{hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()}"
