"""The fragments of README.md run. clients_test.go runs its program."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import celery
import pytest

import orgcast
from orgcast.celery import OrganizationTask

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FRAGMENTS = re.findall(r"^```py\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_there_are_fragments() -> None:
    assert len(FRAGMENTS) >= 3


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_fragment(fragment: str) -> None:
    names: dict[str, Any] = {"celery": celery, "orgcast": orgcast}
    exec(fragment, names)
    if "app" in names:
        assert issubclass(names["app"].Task, OrganizationTask)
    if "summarize" in names:
        check_worker(names)


def check_worker(names: dict[str, Any]) -> None:
    """Runs the handler of the README with a job that needs no Redis."""
    calls: list[Any] = []
    job = SimpleNamespace(id="1", payload={"url": "u"}, progress=calls.append, ask=lambda *_asked: "yes")
    store = SimpleNamespace(get=lambda name: f"stored under {name}")
    names["run_tool"] = lambda name, value: names[name](store, value)
    assert names["summarize"](job)["summary"] == "stored under page"
    assert len(calls) == 1
    job.ask = lambda *_asked: "no"
    with pytest.raises(names["GiveUp"]):
        names["summarize"](job)
