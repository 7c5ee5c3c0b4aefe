from __future__ import annotations

import subprocess

import pytest

from edgekit import pip


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("", ""),
        ("\n  \n", ""),
        ("Looking around\nKilled\n", "Killed"),
        ("WARNING: old\nERROR: no such thing\nERROR: so nothing was done\nhint: …\n", "ERROR: no such thing"),
    ],
)
def test_the_line_that_says_what_went_wrong(said: str, line: str) -> None:
    assert pip.complaint(said) == line


def test_of_a_real_one() -> None:
    command = [*pip.COMMAND, "download", "--no-index", "no-such-package"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert pip.complaint(said).startswith("ERROR: Could not find a version that satisfies the requirement")
