"""The name under which a session is announced."""

from __future__ import annotations

import base64
import hashlib


def session_id(cookie: str) -> str:
    """Returns the session_id of a session cookie. It cannot be used to log in."""
    digest = hashlib.sha256(b"orgcast-session-id:" + cookie.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
