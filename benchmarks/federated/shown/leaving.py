"""Leaving: rounds whose devices drop out before they answer, answer too late, or leave in the midst of a secure sum."""

from __future__ import annotations

from benchmarks.federated.shown.course import LIARS, Course, Source, Terms, course, honest
from benchmarks.federated.shown.dropping import Late, Masked, Missing
from benchmarks.federated.shown.fleet import Fleet, fleet
from benchmarks.federated.shown.part import Figure, Part, Table, outcome, why_refused
from benchmarks.federated.shown.scenes import UNEVEN
from edgekit.federated import strategies


def leaving() -> Part:
    devices = fleet(UNEVEN)
    told = (
        "Who never gets its task, dies while it trains or is cut off before its update is fetched leaves the host with "
        "the same: nothing. In the secure sum the others take back the masks of those that leave; six of twenty may, "
        "at any stage."
    )
    means, robust = _means(devices), _robust(devices)
    figure = Figure("drop-outs", "FedAvg with drop-outs", "Accuracy by round; other devices each time.", means)
    rows = tuple((name, outcome(each)) for name, each in {**means, **robust}.items())
    table = Table("Accuracy at the end", ("", "accuracy"), rows, why_refused(robust.values()))
    return Part("drop-outs", "Drop-outs", told, (figure,), (table,))


def _means(devices: Fleet) -> dict[str, Course]:
    terms = Terms(strategies.fedavg())
    told = honest(devices, terms)
    sources: dict[str, Source] = {
        "all 20 answer": told,
        "6 missing": Missing(told, 6),
        "12 missing": Missing(told, 12),
        "always the same 12 missing": Missing(told, 12, always=True),
        "6 a round late, aged": Late(told, 6),
        "secure sum, 6 leave at each stage in turn": Masked(told, 6),
    }
    return {name: course(devices, terms, source) for name, source in sources.items()}


def _robust(devices: Fleet) -> dict[str, Course]:
    terms = Terms(strategies.multi_krum(LIARS))
    told = honest(devices, terms)
    return {
        f"{terms.name} ({LIARS} may lie), {n} missing": course(devices, terms, Missing(told, n)) for n in (6, 9, 10)
    }
