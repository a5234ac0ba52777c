"""The script that measures many sockets whose sessions the gateway asks the example site about."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCALE = Path(__file__).parents[3] / "examples" / "django" / "scale.py"


def test_scale() -> None:
    """It spoils answers, ends the sockets of deleted sessions, and no others."""
    done = subprocess.run(
        [
            *(sys.executable, str(SCALE), "--gateway", os.environ["GATEWAY_BINARY"]),
            *("--sockets", "50", "--rest", "8", "--spoiled", "25", "--deleted", "5"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = {cells[1]: cells[2:5] for cells in ([cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines()[2:])}
    assert len(rows) == 15, done.stdout
    assert int(rows["answers spoiled"][2]) > 0, done.stdout
    assert rows["sockets of 5 deleted sessions that stayed longer than 30 s"][2] == "0", done.stdout
    assert rows["other sockets that were logged out"][2] == "0", done.stdout
