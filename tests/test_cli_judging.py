from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edgekit.cli import judging, watching
from edgekit.cli.watching import Judged
from edgekit.errors import ConfigError, EdgekitError
from edgekit.rules.watch import Watched
from edgekit.store import Alert, Store
from tests.lab.project import project

__all__ = ["project"]  # fixture

ALERT = Alert(1.7e9, "kitchen", "digits", "sha256:" + "a" * 64, "slower", "warning", 2.0, 1.25, "p95 is 2 times that")


def test_what_is_new_is_said_again_and_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EdgekitError("the store cannot be read"), Judged(Watched((), raised=(ALERT,), closed=(ALERT,)))]
    over, said = threading.Event(), list[str]()

    def judged(*arguments: object) -> Judged:
        if not found:
            over.set()
            return Judged(Watched(()))
        answer = found.pop(0)
        if isinstance(answer, EdgekitError):
            raise answer
        return answer

    monkeypatch.setattr(judging, "EVERY_S", 0.01)
    monkeypatch.setattr(watching, "judged", judged)
    with Store() as store, judging.judging(store, said.append):
        assert over.wait(60)
    line = "kitchen: digits sha256:aaaaaaaaaaaa: slower: p95 is 2 times that"
    assert said == ["the store cannot be read", f"warning: {line}", f"closed: {line}"]
    assert "edgekit-judging" not in {thread.name for thread in threading.enumerate()}


def test_rules_that_are_wrong_are_told_before_it_begins(project: Path) -> None:
    (project / "policy.toml").write_text("[rules.slower]\ndo = 5\n")
    with Store() as store, pytest.raises(ConfigError), judging.judging(store, print):
        pytest.fail("it began")
