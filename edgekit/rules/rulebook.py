"""The rulebook: the rules that come with edgekit, and what ``policy.toml`` adds to them and changes.

Each threshold that comes with edgekit has its reason in docs/rules.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgekit import drift, selector, waves
from edgekit.config import decode, dotted, nearest, read_toml
from edgekit.errors import ConfigError
from edgekit.fleet import Device
from edgekit.policy import LATENCY_RISE
from edgekit.rules.judging import DAY_S, WEEK_S, Rule
from edgekit.rules.metrics import HOUR_S, METRICS
from edgekit_runtime.home import NAME
from edgekit_runtime.trial import TrialPolicy

FILE = "policy.toml"
SOME_HOURS_S = 6 * HOUR_S
"""Long enough for a device that is called every three minutes to make a hundred calls."""

DEFAULTS = (
    Rule("slower", "p95_rise", above=LATENCY_RISE, during_s=SOME_HOURS_S),
    Rule("over-budget", "p95_of_budget", above=1.0, during_s=SOME_HOURS_S, level="critical"),
    Rule("errors", "error_rate", above=TrialPolicy.error_rate, during_s=SOME_HOURS_S, level="critical"),
    Rule("drift", "drift", above=drift.LARGE, during_s=DAY_S, least=drift.LEAST_CALLS),
    Rule("clipped", "clipped_share", above=0.05, during_s=DAY_S),
    Rule("disagrees", "shadow_agreement", below=0.9, during_s=WEEK_S, least=50),
    Rule("hot", "temperature_c", above=80.0, least=0),
    Rule("throttled", "throttled_share", above=0.25, during_s=SOME_HOURS_S, least=0),
    Rule("silent", "silent_h", above=24.0, least=0),
)

RuleName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z")]
Threshold = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class RuleTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[rules.NAME]``: a rule of one's own, or what is other about one that comes with edgekit."""

    metric: str | None = None
    above: Threshold | None = None
    below: Threshold | None = None
    during: str | None = None
    least_calls: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    level: Literal["warning", "critical"] | None = None
    do: Literal["alert", "hold", "roll back"] | None = None
    app: Annotated[str, msgspec.Meta(pattern=rf"^{NAME.pattern}\Z")] | None = None
    to: str | None = None
    off: bool = False


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of policy.toml."""

    rules: dict[RuleName, RuleTable] = {}


def load(folder: Path, devices: Sequence[Device]) -> tuple[Rule, ...]:
    """The rules in force for a fleet: those of edgekit, with a folder's policy.toml over them. Raises: ConfigError."""
    path, known = folder / FILE, {rule.name: rule for rule in DEFAULTS}
    document = decode(read_toml(path), Document, Path(FILE)) if path.exists() else Document()
    changed = {name: _rule(name, table, known.get(name), devices) for name, table in document.rules.items()}
    off = {name for name, table in document.rules.items() if table.off}
    return tuple(rule for name, rule in {**known, **changed}.items() if name not in off)


def _rule(name: str, table: RuleTable, known: Rule | None, devices: Sequence[Device]) -> Rule:
    rule = known or Rule(name, _given(table.metric, name, "metric"), level="warning")
    if table.above is not None or table.below is not None:
        rule = replace(rule, above=table.above, below=table.below)
    others: Mapping[str, str | int | None] = {
        "metric": table.metric,
        "least": table.least_calls,
        "level": table.level,
        "do": table.do,
        "app": table.app,
    }
    rule = replace(rule, **{key: value for key, value in others.items() if value is not None})  # type: ignore[arg-type]
    if table.during is not None:
        rule = replace(rule, during_s=_during(name, table.during))
    if table.to is not None:
        rule = replace(rule, devices=_devices(name, table.to, devices))
    _check(rule)
    return rule


def _check(rule: Rule) -> None:
    """Raises: ConfigError for what no rule can be."""
    if rule.metric not in METRICS:
        near = nearest(rule.metric, METRICS)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(METRICS)}"
        raise ConfigError(f"{_where(rule.name, 'metric')}: no metric {rule.metric!r}", hint)
    if (rule.above is None) == (rule.below is None):
        what = "both above and below" if rule.above is not None else "neither above nor below"
        raise ConfigError(f"{_where(rule.name)}: {what}", "give one of them")
    if rule.metric == "silent_h" and rule.do != "alert":
        hint = "it may only alert: nobody knows what a silent device runs"
        raise ConfigError(f"{_where(rule.name, 'do')}: {rule.do!r} of a device that tells nothing", hint)


def _during(name: str, text: str) -> float:
    try:
        seconds = waves.duration(text)
    except ConfigError as error:
        raise ConfigError(f"{_where(name, 'during')}: {error.message}", error.hint) from error
    if not 0 < seconds <= WEEK_S:
        raise ConfigError(f"{_where(name, 'during')}: {text!r} is not up to a week", "write 1h, 24h or 168h")
    return seconds


def _devices(name: str, to: str, devices: Sequence[Device]) -> frozenset[str]:
    try:
        return frozenset(device.name for device in selector.select(devices, to))
    except ConfigError as error:
        raise ConfigError(f"{_where(name, 'to')}: {error.message}", error.hint) from error


def _given(metric: str | None, name: str, key: str) -> str:
    if metric is None:
        hint = (
            f"known: {', '.join(METRICS)}; or one of edgekit's rules was meant: {', '.join(r.name for r in DEFAULTS)}"
        )
        raise ConfigError(f"{_where(name, key)}: missing", hint)
    return metric


def _where(*keys: str) -> str:
    return f"{FILE}: {dotted(('rules', *keys))}"
