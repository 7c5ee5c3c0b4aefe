"""An emulated Raspberry Pi for tests: started, and set up from this host.

A test file makes its project with ``settle(folder, CACHE, patch)``: the tree and the wheels of boards are kept there
from one run of the tests to the next.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import platformdirs
import pytest

from edgekit.lab import requirements
from tests.lab.project import EDGEKIT

CACHE = platformdirs.user_cache_path("edgekit-lab")  # read before a test moves the caller's home
SETUP_TIMEOUT_S = 600.0  # pip, emulated
WHY = requirements.lacking(emulated=True)
needs_a_board = pytest.mark.skipif(WHY is not None, reason=str(WHY))
Said = dict[str, Any]


def simulate(name: str, *words: str) -> Said:
    """`edgekit device simulate --target pi`; skips where Debian's packages cannot be fetched."""
    done = _run("device", "simulate", name, "--target", "pi", *words)
    if "are Debian's packages in reach?" in done.stderr or "this machine's apt has no Debian" in done.stderr:
        pytest.skip(done.stderr.strip())
    return _said(done)


def setup(name: str, *words: str) -> Said:
    """`edgekit device setup --offline`; skips where no package index answers."""
    done = _run("device", "setup", name, "--offline", *words, timeout=SETUP_TIMEOUT_S)
    if "no wheels for" in done.stderr and not index_answers():
        pytest.skip(f"no package index answers: {done.stderr.strip()}")
    return _said(done)


def index_answers() -> bool:
    pip = [EDGEKIT[0], "-m", "pip", "--retries", "0", "download", "--quiet", "--no-deps", "--dest", "trial", "six"]
    return subprocess.run(pip, capture_output=True, check=False).returncode == 0


def _run(*words: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    command = [*EDGEKIT, *words, "--json"]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False
    )


def _said(done: subprocess.CompletedProcess[str]) -> Said:
    assert not done.returncode, done.stderr
    said: Said = json.loads(done.stdout)
    return said
