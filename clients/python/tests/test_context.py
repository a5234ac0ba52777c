"""The current organization."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Optional

import pytest

import orgcast


@pytest.fixture(autouse=True)
def no_lookup() -> Iterator[None]:
    yield
    orgcast.know_organizations(None)


def current() -> Optional[str]:
    try:
        return orgcast.current_organization()
    except orgcast.NoOrganization:
        return None


def test_none_at_first() -> None:
    with pytest.raises(orgcast.NoOrganization):
        orgcast.current_organization()
    assert orgcast.current_user() is None


def test_nested_blocks_restore() -> None:
    with orgcast.organization_context(7, "ada"):
        assert (current(), orgcast.current_user()) == ("7", "ada")
        with orgcast.organization_context("globex"):
            assert (current(), orgcast.current_user()) == ("globex", None)
        assert (current(), orgcast.current_user()) == ("7", "ada")
    assert current() is None


def test_errors_keep_their_identity() -> None:
    failure = RuntimeError("of the block")
    with pytest.raises(RuntimeError) as raised, orgcast.organization_context("acme"):
        raise failure
    assert raised.value is failure
    assert current() is None


@pytest.mark.parametrize("organization", ["", "a}:b", "acme\n", True, None, 7.0, ["acme"]])
def test_what_names_no_organization(organization: object) -> None:
    ran = False
    with pytest.raises(orgcast.UnknownOrganization), orgcast.organization_context(organization):  # type: ignore[arg-type]
        ran = True
    assert not ran and current() is None


def test_an_unknown_organization_is_an_error_before_the_block() -> None:
    orgcast.know_organizations(lambda organization: organization == "acme")
    ran = False
    with orgcast.organization_context("acme"):
        with pytest.raises(orgcast.UnknownOrganization), orgcast.organization_context("initech"):
            ran = True
        assert current() == "acme"
    assert not ran


def test_a_thread_has_no_organization_of_another() -> None:
    seen: list[Optional[str]] = []
    with orgcast.organization_context("acme"):
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_threads_do_not_meet() -> None:
    barrier, seen = threading.Barrier(2, timeout=60), {}

    def run(organization: str) -> None:
        with orgcast.organization_context(organization):
            barrier.wait()  # both are in their blocks
            seen[organization] = current()
            barrier.wait()

    threads = [threading.Thread(target=run, args=(name,)) for name in ("acme", "globex")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"acme": "acme", "globex": "globex"}


def test_asyncio_tasks_do_not_meet() -> None:
    async def run(organization: str, barrier: list[asyncio.Event], mine: int) -> tuple[Optional[str], Optional[str]]:
        with orgcast.organization_context(organization):
            barrier[mine].set()
            await barrier[1 - mine].wait()
            return current(), await asyncio.to_thread(current)

    async def main() -> list[tuple[Optional[str], Optional[str]]]:
        barrier = [asyncio.Event(), asyncio.Event()]
        return list(await asyncio.gather(run("acme", barrier, 0), run("globex", barrier, 1)))

    assert asyncio.run(main()) == [("acme", "acme"), ("globex", "globex")]
    assert current() is None
