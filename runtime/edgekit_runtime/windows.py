"""Window: what one session did between two points in time, as one line of JSON.

A line comes from a disk or from another machine, so ``parse`` takes nothing on trust: what it returns is bounded in
size, and holds only what a runtime can have counted, every database can keep and every page can show.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Callable, TypeVar

from edgekit_runtime import fields
from edgekit_runtime.histogram import summed

Key = TypeVar("Key")
Value = TypeVar("Value")

SCHEMA_VERSION = 2
"""A line of version 1 has no stages, counters, conditions and drift; and its clock may have been set back in it."""
EMULATED = "emulated-"
"""Begins the name of a session whose times are an emulator's: they are no latencies of anything."""
EXPECTED = "expected:"
"""Begins a key of ``drift``: what the calibration profile has in the bins of the key behind it, of 10000."""
FLAGS = ("throttled", "under_voltage", "frequency_capped", "soft_temperature_limit")
"""Conditions that are 1 where it was so at any moment of the window, else 0."""
STAGES = ("queue", "preprocess", "infer", "postprocess")

MOST_BYTES = 1 << 20
MOST_BUCKET = 2500
"""γ^2500 nanoseconds are more than 10,000 years."""
MOST_COUNT = 1 << 40
MOST_SEQ = (1 << 31) - 1
MOST_NAMES, MOST_BINS = 100, 256
LATEST_S, LARGEST = 1e11, 1e12
_SAID_IF_ANY = ("stages", "counters", "conditions", "drift")
_WORD, _BUCKET = re.compile(r"[A-Za-z0-9_.-]{1,64}"), re.compile("0|[1-9][0-9]{0,3}")


@dataclass(frozen=True)
class Window:
    """Seconds are since 1970 by the device's clock when the window began; ``end_s`` lies never before ``start_s``.

    ``buckets`` counts whole calls by ``histogram.index``, ``stages`` the same of each of STAGES where it is known.
    ``session`` and ``seq`` together name a window once and for all.

    ``counters``: cache_hits, cache_misses, inputs_checked, inputs_clipped, outputs_checked, outputs_clipped,
    shadow_runs, shadow_agreed. ``conditions``: what ``sensors.read`` said at the window's end. ``drift``: how many
    values lay in each bin of the bundle's calibration profile, by "input:NAME", "detail:NAME", "confidence:NAME",
    "entropy:NAME"; and what is to be expected there, see EXPECTED.
    """

    app: str
    release: str
    session: str
    seq: int
    start_s: float
    end_s: float
    buckets: dict[int, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    stages: dict[str, dict[int, int]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    conditions: dict[str, float] = field(default_factory=dict)
    drift: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(self.buckets.values())

    @property
    def holds_anything(self) -> bool:
        return any((self.buckets, self.errors, self.stages, self.counters, self.drift))

    @property
    def emulated(self) -> bool:
        return self.session.startswith(EMULATED)


def joined(first: Window, then: Window) -> Window:
    """Two that follow each other as one, which goes by the first one's name and ends when the other does.

    The clock may have been set in between, so its start is counted back. FLAGS hold where they do in either.
    """
    seconds = first.end_s - first.start_s + then.end_s - then.start_s
    was = {key: value for key, value in first.conditions.items() if key in FLAGS and value}
    names, keys = {**first.stages, **then.stages}, {**first.drift, **then.drift}
    return replace(
        first,
        start_s=max(0.0, then.end_s - seconds),
        end_s=then.end_s,
        buckets=summed([first.buckets, then.buckets]),
        errors=summed([first.errors, then.errors]),
        stages={name: summed([first.stages.get(name, {}), then.stages.get(name, {})]) for name in names},
        counters=summed([first.counters, then.counters]),
        conditions={**first.conditions, **then.conditions, **was},
        drift={key: _added(first.drift.get(key, ()), then.drift.get(key, ())) for key in keys},
    )


def _added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other)) if one and other else one or other


def dump(window: Window) -> str:
    """One line of JSON, without what is empty and need not be said; and without drift by names that nobody can say."""
    drift = dict([item for item in window.drift.items() if _is_short(item[0])][:MOST_NAMES])
    said = {
        key: value for key, value in asdict(replace(window, drift=drift)).items() if value or key not in _SAID_IF_ANY
    }
    return json.dumps({"schema_version": SCHEMA_VERSION, **said}, separators=(",", ":"))


def parse(line: str) -> Window:
    """Raises: ValueError for a line that is no window. ``parse(dump(w)) == w``."""
    if len(line) > MOST_BYTES:
        raise ValueError("a line too long")
    try:
        return _window(fields.load(line))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no window: {error}") from error


def _window(document: dict[str, Any]) -> Window:
    fields.count(document.pop("schema_version"), 1, SCHEMA_VERSION)
    texts = {key: _short(document.pop(key)) for key in ("app", "release", "session")}
    start, end = (_between(document.pop(key), 0, LATEST_S) for key in ("start_s", "end_s"))
    window = Window(
        **texts,
        seq=fields.count(document.pop("seq"), 0, MOST_SEQ),
        start_s=start,
        end_s=max(start, end),
        buckets=_buckets(document.pop("buckets")),
        errors=_each(document.pop("errors"), _word, _count),
        stages=_each(document.pop("stages", {}), _word, _buckets),
        counters=_each(document.pop("counters", {}), _word, _count),
        conditions=_each(document.pop("conditions", {}), _word, _condition),
        drift=_each(document.pop("drift", {}), _short, _bins),
    )
    if document:
        raise ValueError(f"unknown: {min(document)[:80]!r}")
    return window


def _each(
    value: object, name: Callable[[str], Key], inner: Callable[[object], Value], most: int = MOST_NAMES
) -> dict[Key, Value]:
    table = fields.table(value)
    if len(table) > most:
        raise ValueError(f"{len(table)} entries where at most {most} can be")
    return {name(key): inner(each) for key, each in table.items()}


def _buckets(value: object) -> dict[int, int]:
    return _each(value, _index, _count, MOST_BUCKET + 1)


def _index(key: str) -> int:
    if not _BUCKET.fullmatch(key):
        raise ValueError(f"no bucket: {key[:80]!r}")
    return fields.count(int(key), 0, MOST_BUCKET)


def _bins(value: object) -> tuple[int, ...]:
    bins = fields.items(value)
    if len(bins) > MOST_BINS:
        raise ValueError(f"{len(bins)} bins")
    return tuple(_count(each) for each in bins)


def _count(value: object) -> int:
    return fields.count(value, 0, MOST_COUNT)


def _condition(value: object) -> float:
    return _between(value, -LARGEST, LARGEST)


def _between(value: object, least: float, most: float) -> float:
    number = fields.number(value)
    if not least <= number <= most:
        raise ValueError(f"{number!r:.80} is not from {least:g} to {most:g}")
    return number


def _word(value: str) -> str:
    if not _WORD.fullmatch(value):
        raise ValueError(f"no word: {value[:80]!r}")
    return value


def _short(value: object) -> str:
    text = fields.text(value)
    if not _is_short(text):
        raise ValueError(f"no short text: {text[:80]!r}")
    return text


def _is_short(text: str) -> bool:
    return 0 < len(text) < 200 and text.isprintable()


__all__ = ["EMULATED", "EXPECTED", "FLAGS", "STAGES", "Window", "dump", "joined", "parse"]
