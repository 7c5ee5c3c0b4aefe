"""policy.toml: what it adds and changes, and how its mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import ConfigError
from edgekit.fleet import Device
from edgekit.rules import rulebook
from edgekit.rules.judging import Rule
from edgekit.rules.rulebook import DEFAULTS

FLEET = (Device("kitchen", "ssh://k", "pi", ("site=berlin",)), Device("pole", "ssh://p", "pi"))


def rules(folder: Path, text: str) -> dict[str, Rule]:
    (folder / "policy.toml").write_text(text)
    return {rule.name: rule for rule in rulebook.load(folder, FLEET)}


def test_without_a_file_the_rules_of_edgekit(tmp_path: Path) -> None:
    assert rulebook.load(tmp_path, FLEET) == DEFAULTS


def test_one_that_comes_with_edgekit_is_changed(tmp_path: Path) -> None:
    changed = rules(tmp_path, '[rules.slower]\nabove = 2\ndo = "roll back"\nto = "site=berlin"\nlevel = "critical"\n')
    known = next(rule for rule in DEFAULTS if rule.name == "slower")
    new = changed["slower"]
    assert (new.above, new.do, new.devices, new.level) == (2.0, "roll back", frozenset({"kitchen"}), "critical")
    assert (new.metric, new.during_s, new.least) == (known.metric, known.during_s, known.least)
    assert len(changed) == len(DEFAULTS)


def test_one_of_ones_own_and_one_off(tmp_path: Path) -> None:
    text = '[rules.too-slow]\nmetric = "p99_ms"\nabove = 50\nduring = "2h"\nleast_calls = 500\ndo = "hold"\napp = "a"\n'
    found = rules(tmp_path, f"{text}[rules.hot]\noff = true\n")
    assert found["too-slow"] == Rule("too-slow", "p99_ms", above=50.0, during_s=7200.0, least=500, do="hold", app="a")
    assert "hot" not in found


def test_the_other_side_of_a_threshold(tmp_path: Path) -> None:
    found = rules(tmp_path, '[rules.idle]\nmetric = "p50_ms"\nbelow = 1\n')["idle"]
    assert (found.above, found.below, found.threshold) == (None, 1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[rules.slower]\nabvoe = 2", "policy.toml: rules.slower.abvoe: unknown key", "did you mean 'above'?"),
        ("[rule.slower]\nabove = 2", "policy.toml: rule: unknown key", "did you mean 'rules'?"),
        ("[rules.mine]\nabove = 2", "policy.toml: rules.mine.metric: missing", "known: p50_ms, "),
        ('[rules.mine]\nmetric = "p95ms"\nabove = 2', "policy.toml: rules.mine.metric: no metric 'p95ms'", "'p95_ms'"),
        ('[rules.mine]\nmetric = "p95_ms"', "policy.toml: rules.mine: neither above nor below", "give one"),
        ("[rules.hot]\nabove = 1\nbelow = 2", "policy.toml: rules.hot: both above and below", "give one"),
        ('[rules.hot]\nabove = "80"', "policy.toml: rules.hot.above: expected float, got str", "without quotes"),
        ('[rules.hot]\nduring = "1d"', "policy.toml: rules.hot.during: '1d' is no duration", "write 90s"),
        ('[rules.hot]\nduring = "200h"', "policy.toml: rules.hot.during: '200h' is not up to a week", "168h"),
        ('[rules.hot]\nto = "berlin"', "policy.toml: rules.hot.to: no device 'berlin' in fleet.toml", ""),
        ('[rules.hot]\ndo = "rollback"', 'policy.toml: rules.hot.do: "rollback" is not one of alert, hold, roll', ""),
        ('[rules.silent]\ndo = "hold"', "policy.toml: rules.silent.do: 'hold' of a device that tells nothing", "alert"),
        ("[rules.'HOT!']\nabove = 1", 'policy.toml: rules."HOT!": ', ""),
    ],
)
def test_a_mistake_is_named_with_what_there_is(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules(tmp_path, text)
    assert caught.value.message.startswith(message)
    assert hint in (caught.value.hint or "")
