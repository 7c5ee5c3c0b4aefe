"""Noising: what privacy costs at ε = 2, 4 and 8, in a fleet of 20 devices and in one of a thousand."""

from __future__ import annotations

from benchmarks.federated.shown.course import Course, Honest
from benchmarks.federated.shown.fleet import fleet, large
from benchmarks.federated.shown.part import Figure, Part, Table
from benchmarks.federated.shown.private import Privately
from benchmarks.federated.shown.scenes import EVEN
from edgekit_train.head_trainer import HeadTrainer

EPSILONS = (8.0, 4.0, 2.0)
CLIP = 0.5
MANY, EACH, RATE = 1000, 40, 0.1
"""Devices of the large fleet, pictures on each, and how likely each is in a round."""
SEEDS = (1, 2, 3)
"""Of the noise: it is told how much its chance matters."""
TOLD = (
    f"10 rounds with central noise, deltas clipped to {CLIP}; each three times, and the middle one is drawn. All "
    "devices of the small fleet are in each round (δ = 0.001), those of the large one with probability 0.1 "
    "(δ = 0.0001). Its pictures are drawn from the same 800: what it shows is less noise, not more data."
)
Runs = dict[str, list[Course]]
"""By how much privacy: a course for each of SEEDS, the worst first."""


def noising() -> Part:
    found = {name: _runs(each) for name, each in _fleets().items()}
    figures = tuple(
        Figure(f"privacy-{n}", name, "Accuracy by round.", {key: each[len(each) // 2] for key, each in runs.items()})
        for n, (name, runs) in enumerate(found.items())
    )
    columns = ("", "neither clipped nor noised", *(f"ε = {epsilon:g}" for epsilon in EPSILONS))
    rows = tuple((name, *map(_told, runs.values())) for name, runs in found.items())
    return Part("privacy", "Privacy", TOLD, figures, (Table("Accuracy after 10 rounds", columns, rows),))


def _fleets() -> dict[str, Privately]:
    small, biases = Honest(fleet(EVEN)), Honest(fleet(EVEN), HeadTrainer(only_bias=True))
    return {
        "20 devices, the whole head": Privately(small, 1.0, 1e-3, CLIP),
        "20 devices, biases only": Privately(biases, 1.0, 1e-3, CLIP),
        f"{MANY:,} devices, the whole head": Privately(Honest(large(MANY, EACH)), RATE, 1e-4, CLIP),
    }


def _runs(of: Privately) -> Runs:
    runs = {"no noise": [of.plain(seed) for seed in SEEDS]}
    runs |= {f"ε = {epsilon:g}": [of.noised(epsilon, seed) for seed in SEEDS] for epsilon in EPSILONS}
    return {name: sorted(each, key=lambda course: course.last) for name, each in runs.items()}


def _told(runs: list[Course]) -> str:
    first, middle, last = (f"{each.last:.2f}" for each in runs)
    return middle if first == last else f"{middle} ({first} to {last})"
