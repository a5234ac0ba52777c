"""Names and tokens."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import orgcast

VECTORS = json.loads((Path(__file__).parents[2] / "vectors.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vector", VECTORS["user_group"])
def test_user_group(vector: dict[str, str]) -> None:
    assert orgcast.user_group(vector["user"]) == vector["group"]


def test_no_user_has_no_group() -> None:
    with pytest.raises(ValueError):
        orgcast.user_group("")


@pytest.mark.parametrize("vector", VECTORS["sign_group"])
def test_sign_group(vector: dict[str, Any]) -> None:
    token = vector.pop("token")
    assert orgcast.sign_group(**vector) == token


@pytest.mark.parametrize("vector", VECTORS["sign_group_refused"])
def test_sign_group_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        orgcast.sign_group(**vector)


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(orgcast.OrgcastError("publish", 503, "unavailable")))
    assert (error.call, error.status, error.code) == ("publish", 503, "unavailable")
