"""A server that is lied to: it answers, goes on, and is there for who is honest."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.project import until
from tests.runtime.bundles import Parcels, go_live, weights
from tests.runtime.server.crowd import crowd
from tests.runtime.server.honest import Waits, asking
from tests.runtime.server.liars import HANGS_S, SLACK_S, Tally, tell_all
from tests.runtime.server.lies import KINDS, X, lie, truth
from tests.runtime.server.test_serve import Server, running

LIES = int(os.environ.get("EDGEKIT_LIES", "10000"))
ROUNDS = 4
MOST_TIMES, PER_S = 2, 100
"""What an honest client may wait beside a crowd and beside a hundred lies a second, where alone it waits once; and
beside as many lies as liars can tell, where beside true requests of theirs it waits once: on two cores these, too, take
the processor from the server.
"""
QUIET_S = 3


@pytest.fixture
def server(home: Path, parcels: Parcels, tmp_path: Path) -> Iterator[Server]:
    go_live(parcels.one, home)
    with running(tmp_path) as found:
        yield found


class Spans(defaultdict[str, list[tuple[float, float]]]):
    """Spans of time, by what went on in them."""

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self[name].append((began, time.monotonic()))


def hold(tally: Tally) -> None:
    assert tally.longest_s < HANGS_S + SLACK_S
    assert {status for status in tally.statuses if status >= 500} <= {501, 503, 505}
    assert sum(count for status, count in tally.statuses.items() if status >= 400) > sum(tally.kinds.values()) / 3


def test_some_hundred_lies(server: Server) -> None:
    front, (worker,) = server.process.pid, server.workers
    tally = tell_all(("127.0.0.1", server.port), [lie(seed) for seed in range(20 * len(KINDS))], X @ weights(1))
    hold(tally)
    assert (server.process.pid, server.workers) == (front, [worker])


@pytest.mark.slow
@pytest.mark.timeout(300 + LIES // 20)
def test_lies_beside_a_crowd_and_somebody_honest(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """``make lies``."""
    address, whole, spans = ("127.0.0.1", server.port), Tally(), Spans(list)
    (worker,), files = server.workers, server.takes()[1]
    with asking(server.port) as honest:
        for number in range(ROUNDS):
            seeds = range(number * LIES // ROUNDS, (number + 1) * LIES // ROUNDS)
            with spans.of("alone"):
                time.sleep(QUIET_S)
            with spans.of("truths"):
                tell_all(address, list(map(truth, seeds[: QUIET_S * 500])), X @ weights(1))
            with crowd(address):
                with spans.of("crowd"):
                    time.sleep(QUIET_S)
                with spans.of("some lies"):
                    whole.add(tell_all(address, list(map(lie, seeds[: QUIET_S * PER_S])), X @ weights(1), PER_S))
                with spans.of("lies"):
                    whole.add(tell_all(address, list(map(lie, seeds)), X @ weights(1)))
    with capsys.disabled():
        print(f"\n{LIES} lies, longest {whole.longest_s:.2f} s: {dict(sorted(whole.statuses.items()))}")
        for line in waits(honest, spans):
            print(line)
    assert server.process.poll() is None
    assert server.workers == [worker]
    until(lambda: server.takes()[1] <= files)
    hold(whole)
    assert honest.longest_s < HANGS_S + SLACK_S


def waits(honest: Waits, spans: Spans) -> Iterator[str]:
    """Figures, which a busy machine may spoil: the quietest round of each kind counts."""
    for name, each in spans.items():
        told = ", ".join(f"p{part} {honest.ms(part, each):.2f}" for part in (50, 90, 99))
        yield f"{name} {sum(end - start for start, end in each):.1f} s, an honest client waits ms: {told}"
    least = {name: min(honest.ms(99, [span]) for span in each) for name, each in spans.items()}
    for name, beside in (("crowd", "alone"), ("some lies", "alone"), ("lies", "truths")):
        times = least[name] / least[beside]
        yield f"{'yes' if times < MOST_TIMES else 'NO '}  p99 by {name} over {beside}: {times:.2f}, under {MOST_TIMES}"
