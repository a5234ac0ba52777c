"""The errors of this package."""

from __future__ import annotations


class OrgcastError(Exception):
    """A call that was refused or failed.

    code is one of the codes of docs/protocol.md; "unreachable" if no answer came, or "bad_answer" if the
    answer is not Orgcast's. status is the HTTP status, 0 without one.
    """

    def __init__(self, call: str, status: int, code: str) -> None:
        super().__init__(f"orgcast {call}: {code} (status {status})")
        self.call = call
        self.status = status
        self.code = code

    def __reduce__(self) -> tuple[type[OrgcastError], tuple[str, int, str]]:
        return type(self), (self.call, self.status, self.code)


class NoOrganization(LookupError):
    """There is no current organization, and what was asked for needs one."""


class UnknownOrganization(LookupError):
    """No such organization, or it is not active: they look alike."""
