"""The worker, questions and tools, with a real Redis. internal/task tests the worker against the gateway's own parts."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, Optional

import pytest

import orgcast
from orgcast.ask import AskAnswered, AskNotFound, Asks
from orgcast.space import connect
from orgcast.tools import Refused, Store, Tools, UnknownTool, run_tool
from orgcast.worker import GiveUp, Job, Options, Worker

from conftest import PATIENCE

OPTIONS = Options(attempts=2, backoff=0.01, takeover=2, poll=0.05)


@pytest.fixture
def client(redis_url: str) -> Any:
    client = connect(redis_url, timeout=PATIENCE)
    for organization in ("acme", "globex"):
        client.hset(f"orgcast:{{{organization}}}:org", "status", "active")
        client.hset(f"orgcast:{{{organization}}}:member:ada", "status", "active")
    client.hset("orgcast:{closed}:org", "status", "suspended")
    return client


def eventually(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.005)


def dispatch(client: Any, organization: str, identifier: str, payload: object = None, user: str = "") -> None:
    entry = {
        "organization_id": organization, "kind": "test", "id": identifier, "group": "jobs",
        "user_id": user, "payload": json.dumps(payload),
    }
    client.xadd("orgcast:tasks:test", entry)


def is_empty(client: Any) -> bool:
    return bool(client.exists("orgcast:tasks:test")) and int(client.xlen("orgcast:tasks:test")) == 0


@contextmanager
def working(client: Any, handler: Any, **more: Any) -> Iterator[None]:
    worker = Worker(client, "test", handler, OPTIONS, **more)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
        eventually("all tasks have ended", lambda: is_empty(client))
    finally:
        worker.stop()
        thread.join(PATIENCE)
    assert not thread.is_alive()


def events(client: Any, organization: str, group: str = "jobs") -> list[dict[str, Any]]:
    entries = client.xrange(f"orgcast:{{{organization}}}:history:{group}")
    return [{k: v for k, v in json.loads(fields["event"]).items() if k != "organization_id"} for _, fields in entries]


def test_a_task_runs_under_its_organization(client: Any) -> None:
    def handler(job: Job) -> orgcast.Event:
        job.progress({"type": "began"})
        return {"type": "done", "who": [orgcast.current_organization(), orgcast.current_user()], "payload": job.payload}

    with working(client, handler):
        for organization in ("acme", "globex"):
            dispatch(client, organization, "1", {"of": organization}, user="ada" if organization == "acme" else "")
    assert events(client, "acme") == [{"type": "began"}, {"type": "done", "who": ["acme", "ada"], "payload": {"of": "acme"}}]
    assert events(client, "globex") == [{"type": "began"}, {"type": "done", "who": ["globex", None], "payload": {"of": "globex"}}]


def test_a_handler_may_be_a_coroutine_function(client: Any) -> None:
    async def handler(job: Job) -> Optional[orgcast.Event]:
        await asyncio.to_thread(job.progress, {"type": "began", "organization": orgcast.current_organization()})
        return None

    with working(client, handler):
        dispatch(client, "acme", "1")
    assert events(client, "acme") == [{"type": "began", "organization": "acme"}, {"type": "task_complete", "task_id": "1"}]


def raising(error: Exception) -> Callable[[Job], None]:
    def handler(_job: Job) -> None:
        raise error

    return handler


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (raising(GiveUp("no_text")), "no_text"),
        (raising(ValueError("secret")), "failed"),
        (raising(Refused("not_a_member")), "refused"),
        (lambda job: {"no": "type"}, "bad_result"),
        (lambda job: {"type": "done", "organization_id": "globex"}, "bad_result"),
        (lambda job: "text", "bad_result"),
        (lambda job: job.publish("jobs", {"type": "note", "organization_id": "globex"}), "failed"),
        (lambda job: job.publish("a}:group:b", {"type": "note"}), "failed"),
    ],
)
def test_a_task_that_fails_has_a_code(client: Any, handler: Any, code: str) -> None:
    with working(client, handler):
        dispatch(client, "acme", "1")
    assert events(client, "acme") == [{"type": "task_failed", "task_id": "1", "code": code}]
    assert events(client, "globex") == []
    dead = client.xrange("orgcast:tasks:test:dead")
    assert [fields["dead_reason"] for _, fields in dead] == [code]


def test_a_task_is_tried_again(client: Any) -> None:
    attempts: list[int] = []

    def handler(job: Job) -> None:
        attempts.append(job.attempt)
        if job.attempt == 1:
            raise ValueError("the first time")

    with working(client, handler):
        dispatch(client, "acme", "1")
    assert attempts == [1, 2]
    assert events(client, "acme") == [{"type": "task_complete", "task_id": "1"}]


def test_what_may_not_run_does_not(client: Any) -> None:
    ran: list[str] = []
    with working(client, lambda job: ran.append(job.organization)):
        for organization in ("closed", "nowhere", "a}:b", "", "acme"):
            dispatch(client, organization, "1")
    assert ran == ["acme"]
    assert events(client, "closed") == [{"type": "task_failed", "task_id": "1", "code": "refused"}]
    reasons = [fields["dead_reason"] for _, fields in client.xrange("orgcast:tasks:test:dead")]
    assert sorted(reasons) == ["no_organization", "no_organization", "organization_suspended", "organization_unknown"]


def test_a_person_of_the_organization_answers(client: Any) -> None:
    asks = Asks(client)

    def handler(job: Job) -> orgcast.Event:
        answer = job.ask(0, {"question": "Go on?"}, {"type": "human_input_request", "execution_id": job.id, "task_index": 0})
        return {"type": "done", "answer": answer}

    with working(client, handler):
        dispatch(client, "acme", "run", user="ada")
        eventually("it asks", lambda: len(events(client, "acme")) == 1)
        with orgcast.organization_context("globex"), pytest.raises(AskNotFound):
            asks.answer("run", 0, "of globex")
        with orgcast.organization_context("acme"):
            assert asks.prompt("run", 0) == {"question": "Go on?"}
            asks.answer("run", 0, "yes", key="click")
            asks.answer("run", 0, "yes", key="click")
            with pytest.raises(AskAnswered):
                asks.answer("run", 0, "no")
    assert events(client, "acme")[-1] == {"type": "done", "answer": "yes"}


def test_a_question_that_was_not_told_is_told(client: Any) -> None:
    asks = Asks(client)
    with orgcast.organization_context("acme"):
        asks.open("run", 0, {"question": "Go on?"})  # by an attempt that died then
        asks.open("done", 0, {"question": "Go on?"})
        asks.answer("done", 0, "no")

    def handler(job: Job) -> orgcast.Event:
        return {"type": "done", "answer": job.ask(0, {"question": "Go on?"}, {"type": "asked", "run": job.id})}

    with working(client, handler):
        dispatch(client, "acme", "done")
        dispatch(client, "acme", "run")
        eventually("it tells", lambda: {"type": "asked", "run": "run"} in events(client, "acme"))
        with orgcast.organization_context("acme"):
            asks.answer("run", 0, "yes")
    assert events(client, "acme") == [
        {"type": "done", "answer": "no"}, {"type": "asked", "run": "run"}, {"type": "done", "answer": "yes"},
    ]


def test_questions_need_an_organization(client: Any) -> None:
    asks = Asks(client)
    with pytest.raises(orgcast.NoOrganization):
        asks.open("run", 0, {})
    with orgcast.organization_context("acme"):
        for execution, index in (("a}:b", 0), ("run", -1), ("run", True), ("", 0)):
            with pytest.raises(AskNotFound):
                asks.prompt(execution, index)
        assert asks.open("run", 1, "?") and not asks.open("run", 1, "again")
        with pytest.raises(TimeoutError):
            asks.wait("run", 1, timeout=0.01)
        asks.close("run", 1)
        with pytest.raises(AskNotFound):
            asks.wait("run", 1)


def remember(store: Store, value: Any) -> Any:
    before = store.get("value")
    store.set("value", json.dumps(value))
    return before and json.loads(before)


def test_tools_keep_organizations_apart(client: Any) -> None:
    def handler(job: Job) -> orgcast.Event:
        return {"type": "done", "before": run_tool("remember", job.payload)}

    with working(client, handler, tools={"remember": remember}):
        for number, organization in enumerate(("acme", "globex", "acme")):
            dispatch(client, organization, str(number), {"of": organization})
    assert sorted(event["before"] is None for event in events(client, "acme")) == [False, True]
    assert {"type": "done", "before": {"of": "acme"}} in events(client, "acme")
    assert events(client, "globex") == [{"type": "done", "before": None}]


def test_tools_ask_the_directory(client: Any) -> None:
    tools = Tools(client, {"remember": remember})
    with pytest.raises(orgcast.NoOrganization):
        tools.run("remember")
    with pytest.raises(orgcast.NoOrganization):
        run_tool("remember")
    for organization, user in (("closed", None), ("nowhere", None), ("acme", "eve")):
        with orgcast.organization_context(organization, user), pytest.raises(Refused):
            tools.run("remember")
    with orgcast.organization_context("acme", "ada"):
        assert tools.run("remember", [1]) is None
        with pytest.raises(UnknownTool):
            tools.run("forget")
        store = Store(tools._space)
        assert store.set_new("name", "1") and not store.set_new("name", "2") and store.get("name") == "1"
        store.delete("name")
        with pytest.raises(ValueError):
            store.get("a}:b")
    with orgcast.organization_context("globex"), pytest.raises(orgcast.NoOrganization):
        store.get("value")
