"""The script that compares the example site under Channels and under Orgcast."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMPARE = Path(__file__).parents[3] / "examples" / "django" / "compare.py"


def test_compare() -> None:
    """It measures every figure, and Orgcast delivers everything and closes after a logout."""
    done = subprocess.run(
        [
            *(sys.executable, str(COMPARE), "--gateway", os.environ["GATEWAY_BINARY"], "--servers", "daphne,orgcast"),
            *("--rounds", "1", "--sockets", "10", "--seconds", "1", "--fast", "40", "--logout", "2"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = {cells[1]: cells[2:4] for cells in ([cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines()[2:])}
    assert len(rows) == 8, done.stdout
    assert rows["delivered of those sent, 20 events/s"][1].startswith("100 %"), done.stdout
    assert rows["from logout to closed"][0] == "stays open", done.stdout
    assert rows["from logout to closed"][1] != "stays open", done.stdout
