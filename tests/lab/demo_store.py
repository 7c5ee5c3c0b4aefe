"""A fleet that has been at work: days of windows of many devices, as plausible as they are made up.

    python -m tests.lab.demo_store sqlite:////tmp/demo.db --devices 40 --days 7

Afternoons are hot and throttle the devices of one site; a release is slower and fails more often, and is rolled back;
some devices have fallen silent; and the names of some mean harm to a page.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from edgekit.federated.paired import Paired
from edgekit.federated.rounds.book import Book as RoundBook
from edgekit.federated.rounds.gate_store import Gated, Gates
from edgekit.federated.rounds.round import CAME, DONE, HALTED, OFFLINE, Result, Round, Subject
from edgekit.federated.rounds.round import Part as RoundPart
from edgekit.federated.rounds.round import Plan as RoundPlan
from edgekit.policy import Decision
from edgekit.rollout import Part, Plan
from edgekit.rollout_store import Book
from edgekit.store import Alert, Clock, Store
from edgekit_runtime.histogram import index
from edgekit_runtime.windows import Window

DAY_S = 86400
HOSTILE = (
    "</script><script>window.broken=1</script>",
    "<img src=x onerror=window.broken=1>",
    '" onmouseover="window.broken=1" x="',
    "'; window.broken=1; '\u2028\\",
)
SITES = ("berlin", "hamburg", "wien")


@dataclass(frozen=True)
class Fleet:
    """How large, how long, until when, and how often a window; ``hostile`` devices bear HOSTILE names."""

    devices: int = 40
    days: float = 7
    end_s: float = 0.0
    hostile: bool = True
    every_s: float = 3600.0
    apps: tuple[str, ...] = ("number-plates", "brakes")

    @property
    def names(self) -> list[str]:
        harmful = [*HOSTILE] if self.hostile else []
        return [*harmful, *(f"{SITES[i % 3]}-{i:03d}" for i in range(self.devices - len(harmful)))]


def digest(word: str) -> str:
    return f"sha256:{hashlib.sha256(word.encode()).hexdigest()}"


def fill(store: Store, fleet: Fleet) -> int:
    """How many windows that made."""
    total = 0
    for place, device in enumerate(fleet.names):
        chance = random.Random(device)
        silent_s = chance.choice((2, 3)) * DAY_S if place % 13 == 7 else 0
        for app in fleet.apps[: 1 + place % len(fleet.apps)]:
            windows = list(_windows(device, app, fleet, chance, silent_s))
            total += store.add(device, windows, Clock(fleet.end_s, fleet.end_s))
    store.raise_alerts(alerts(fleet))
    roll_out(store, fleet)
    learn(store, fleet)
    return total


def roll_out(store: Store, fleet: Fleet) -> None:
    """The bad release, which halted, and the good one, which is under way."""
    book = Book(store)
    for word, states in (
        ("second", ("done", "failed", "waiting")),
        ("third", ("done", "pushed", "offline", "waiting")),
    ):
        parts = [
            Part(name, 1 + i // 8, fleet.apps[0], digest(word), "", states[min(i // 9, len(states) - 1)])
            for i, name in enumerate(fleet.names)
        ]
        begun = book.begin(f"/srv/{HOSTILE[1]}", Plan((1, len(parts) - 1)), parts)
        if word == "second":
            reasons = ("9 of 18 devices passed, 9 failed, 0 offline", "halted: more than 10% of a wave failed")
            book.turn(book.decide(begun, Decision(2, False, reasons)), "halted")


def learn(store: Store, fleet: Fleet) -> None:
    """A round that was shipped, and one that has too few devices."""
    book, subject = RoundBook(store), Subject(f"/srv/{HOSTILE[1]}", fleet.apps[0], digest("third"), "head")
    parts = tuple(RoundPart(name) for name in fleet.names)
    for state, key in ((DONE, "1" * 32), (HALTED, "2" * 32)):
        begun = book.begin(Round(0, key, subject, RoundPlan(), "", 0.0, "the model", parts))
        went = [replace(part, state=CAME if i % 4 and state == DONE else OFFLINE) for i, part in enumerate(parts)]
        noted = book.note(begun, *went)
        if state == HALTED:
            book.turn(noted, HALTED, f"0 of {len(parts)} updates; {HOSTILE[0]}")
            continue
        result = Result(len(parts), 3240, 0.5, 0.91, 0.94, 100)
        book.finish(book.choose(noted, ()), result)
        Gates(store).note(begun.number, Gated("", Paired(100, 89, 2, 5), {"raspberry-pi-5": digest("fourth")}), "")


def alerts(fleet: Fleet) -> list[Alert]:
    """One of each level, and one about whoever means harm."""
    app, release, at = fleet.apps[0], digest("third"), fleet.end_s - 5400
    told = [
        ("berlin-003", "p95_ms", "critical", "p95 is 61.2 ms; 40 ms are allowed"),
        ("berlin-000", "throttled_share", "warning", "throttled in 38 % of the windows of the last hour"),
        (fleet.names[0], "silent_h", "warning", "<b>silent</b> for 52 h; </script>"),
    ]
    return [Alert(at, device, app, release, rule, level, 61.2, 40.0, line) for device, rule, level, line in told]


def _windows(device: str, app: str, fleet: Fleet, chance: random.Random, silent_s: float) -> Iterator[Window]:
    begin = fleet.end_s - fleet.days * DAY_S
    speed, session = math.exp(chance.gauss(0, 0.18)), hashlib.sha256(f"{device}{app}".encode()).hexdigest()[:32]
    for seq, start in enumerate(_starts(begin, fleet.end_s - silent_s, fleet)):
        release, slower = _release(device, (start - begin) / (fleet.days * DAY_S))
        warm = _temperature(device, start, chance)
        held = warm > 79
        base = (14.0 if app == "number-plates" else 4.5) * speed * slower * (1.55 if held else 1.0)
        yield _window(Window(app, digest(release), session, seq, start, start + 60), base, warm, chance)


def _starts(begin: float, end: float, fleet: Fleet) -> Iterator[float]:
    """Every so often; on the last day more often."""
    while begin < end:
        yield begin
        begin += fleet.every_s / 4 if begin > fleet.end_s - DAY_S else fleet.every_s


def _window(named: Window, base_ms: float, warm: float, chance: random.Random) -> Window:
    hour = named.start_s % DAY_S / 3600
    calls = max(3, int(60 * (0.35 + max(0.0, math.sin((hour - 5) / 14 * math.pi))) * chance.uniform(0.8, 1.2)))
    times = [base_ms * math.exp(chance.gauss(0, 0.10)) * (2.4 if chance.random() < 0.02 else 1.0) for _ in range(calls)]
    shares = {"queue": 0.05, "preprocess": 0.17, "infer": 0.68, "postprocess": 0.10}
    bad = named.release == digest("second")
    failed = sum(chance.random() < (0.03 if bad else 0.0008) for _ in range(calls))
    return Window(
        named.app, named.release, named.session, named.seq, named.start_s, named.end_s, _buckets(times),
        {"timeout": failed} if failed and chance.random() < 0.7 else {"invalid_input": failed} if failed else {},
        {stage: _buckets([value * share for value in times]) for stage, share in shares.items()},
        {"inputs_checked": calls, "inputs_clipped": sum(chance.random() < 0.012 for _ in range(calls)),
         "cache_hits": calls // 4, "cache_misses": calls - calls // 4},
        {"temperature_c": round(warm, 1), "frequency_mhz": 1100.0 if warm > 79 else 1800.0,
         "throttled": float(warm > 79), "under_voltage": float(chance.random() < 0.004)},
        _drift(calls, 0.35 if bad else 0.02 * math.sin(hour), chance),
    )  # fmt: skip


def _drift(calls: int, moved: float, chance: random.Random) -> dict[str, tuple[int, ...]]:
    """Counts per bin of a calibration profile, and what the profile has there."""
    expected = [0.05, 0.15, 0.3, 0.3, 0.15, 0.05]
    shares = [share * (1 + moved * (place - 2.5) * chance.uniform(0.9, 1.1)) for place, share in enumerate(expected)]
    counts = tuple(int(64 * calls * share) for share in shares)
    return {"input:image": counts, "expected:input:image": tuple(int(10000 * share) for share in expected)}


def _release(device: str, done: float) -> tuple[str, float]:
    """Which release, and how much slower it is: the second is bad, and half of the fleet had it for a day."""
    early = hashlib.sha256(device.encode()).digest()[0] % 2
    if 0.45 < done < 0.6 and early:
        return "second", 1.45
    return ("third", 0.86) if done > (0.75 if early else 0.82) else ("first", 1.0)


def _temperature(device: str, at_s: float, chance: random.Random) -> float:
    warmer = 12 if device.startswith("berlin") else 0
    return 55 + warmer + 13 * math.sin((at_s % DAY_S / 3600 - 9) / 24 * 2 * math.pi) + chance.gauss(0, 1.8)


def _buckets(times_ms: list[float]) -> dict[int, int]:
    found: dict[int, int] = {}
    for value in times_ms:
        bucket = index(int(value * 1e6))
        found[bucket] = found.get(bucket, 0) + 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--devices", type=int, default=40)
    parser.add_argument("--days", type=float, default=7)
    asked = parser.parse_args()
    with Store(asked.url) as store:
        print(fill(store, Fleet(asked.devices, asked.days, time.time())), "windows")


if __name__ == "__main__":
    main()
