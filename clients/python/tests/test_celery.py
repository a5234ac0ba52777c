"""Celery tasks run under the organization for which they were started. The worker and its broker are real."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

import pytest
from celery import Celery, chain, group
from celery.contrib.testing.worker import start_worker

import orgcast
from orgcast.celery import OrganizationTask

from conftest import PATIENCE

Who = tuple[Optional[str], Optional[str]]


def who() -> Who:
    try:
        return orgcast.current_organization(), orgcast.current_user()
    except orgcast.NoOrganization:
        return None, orgcast.current_user()


@pytest.fixture(params=["threads", "solo"])
def app(redis_url: str, request: pytest.FixtureRequest) -> Iterator[Celery]:
    app = Celery("test", broker=redis_url, backend=redis_url, task_cls=OrganizationTask, set_as_current=False)
    app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)

    task: Any = app.task

    @task(name="who")
    def report(*_earlier: Any) -> Who:
        return who()

    @task(name="starts")
    def starts() -> Any:
        return report.delay().id

    @task(name="fails", bind=True, max_retries=1)
    def fails(self: Any) -> Who:
        if self.request.retries == 0:
            raise self.retry(countdown=0, exc=ValueError("the first time"))
        return who()

    with start_worker(app, pool=request.param, concurrency=4, perform_ping_check=False, shutdown_timeout=PATIENCE):
        yield app


def result(pending: Any) -> Any:
    return pending.get(timeout=PATIENCE, disable_sync_subtasks=False)


def test_tasks(app: Celery) -> None:
    report, starts, fails = app.tasks["who"], app.tasks["starts"], app.tasks["fails"]
    with orgcast.organization_context("acme", "ada"):
        mine = report.delay()
        inner = starts.delay()
        retried = fails.delay()
        chained = chain(report.s(), report.s(), report.s()).apply_async()
        grouped = group(report.s(), report.s()).apply_async()
    with orgcast.organization_context("globex"):
        theirs = report.apply_async(headers={"other": "header"})
    assert result(mine) == ["acme", "ada"]
    assert result(theirs) == ["globex", None]
    assert result(app.AsyncResult(result(inner))) == ["acme", "ada"]
    assert result(retried) == ["acme", "ada"]
    assert result(chained) == ["acme", "ada"]
    assert result(grouped) == [["acme", "ada"], ["acme", "ada"]]
    assert who() == (None, None)


def test_a_task_without_an_organization_does_not_start(app: Celery) -> None:
    with pytest.raises(orgcast.NoOrganization):
        app.tasks["who"].delay()


def test_a_message_without_an_organization_does_not_run(app: Celery) -> None:
    with orgcast.organization_context("acme"):
        assert result(app.tasks["who"].delay()) == ["acme", None]  # and leaves nothing behind
    with pytest.raises(orgcast.NoOrganization):
        result(app.send_task("who", task_cls=None))


def test_a_message_of_an_unknown_organization_does_not_run(app: Celery) -> None:
    with pytest.raises(orgcast.UnknownOrganization):
        result(app.send_task("who", headers={"orgcast_organization": "a}:b"}))


def test_called_as_a_function(app: Celery) -> None:
    with pytest.raises(orgcast.NoOrganization):
        app.tasks["who"]()
    with orgcast.organization_context("acme"):
        assert app.tasks["who"]() == ("acme", None)


def test_eager(app: Celery) -> None:
    app.conf.task_always_eager = True
    with pytest.raises(orgcast.NoOrganization):
        app.tasks["who"].delay()
    with orgcast.organization_context("acme", "ada"):
        assert app.tasks["who"].delay().get(disable_sync_subtasks=False) == ("acme", "ada")
        assert app.tasks["who"].apply().get(disable_sync_subtasks=False) == ("acme", "ada")
