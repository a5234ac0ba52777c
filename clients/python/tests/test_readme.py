"""The fragments of README.md run. clients_test.go runs its program."""

from __future__ import annotations

import re
from pathlib import Path

import celery
import pytest

import orgcast
from orgcast.celery import OrganizationTask

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FRAGMENTS = re.findall(r"^```py\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_there_are_fragments() -> None:
    assert len(FRAGMENTS) >= 2


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_fragment(fragment: str) -> None:
    names = {"celery": celery, "orgcast": orgcast}
    exec(fragment, names)
    if "app" in names:
        assert names["app"].Task is OrganizationTask or issubclass(names["app"].Task, OrganizationTask)
