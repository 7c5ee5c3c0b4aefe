"""Compat: whether an engine will load an artifact — loads, refused with the reason and the fix, or unknown.

Pure: a fingerprint and an engine's version in, a verdict out. What no table decides is unknown, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from edgekit.compat import ort as compat_ort
from edgekit.compat import tflite as compat_tflite
from edgekit.compat.fingerprint import Fingerprint
from edgekit.compat.verdict import Answer, Engine, Finding, Number, Verdict, holds, minor, number, of_findings
from edgekit.model import Format


@dataclass(frozen=True)
class Rules:
    """What is known of an engine: the format it loads, its releases, and what stands against an artifact on each."""

    format: Format
    versions: Callable[[], tuple[str, ...]]
    findings: Callable[[Fingerprint, int], Iterator[Finding]]

    def at(self, fingerprint: Fingerprint, release: int) -> Verdict:
        return of_findings(self.findings(fingerprint, release))


RULES = {
    "litert": Rules(
        Format.TFLITE, partial(compat_tflite.versions, "litert"), partial(compat_tflite.findings, "litert")
    ),
    "onnxruntime": Rules(Format.ONNX, compat_ort.versions, compat_ort.findings),
    "tflite": Rules(
        Format.TFLITE, partial(compat_tflite.versions, "tflite"), partial(compat_tflite.findings, "tflite")
    ),
}


PREFERRED: tuple[Answer, ...] = ("loads", "unknown", "refused")


def judge(fingerprint: Fingerprint, engine: Engine) -> Verdict:
    """Whether that engine loads and runs the artifact on the CPU.

    A release of the same minor as a known one is taken for it. Between two known ones, both must agree; older than
    all, only a refusal holds, as releases gain and do not lose; newer than all, only that it loads.
    """
    rules, version = RULES.get(engine.name), number(engine.version)
    if rules is None or version is None:
        return Verdict("unknown", (Finding("unknown", f"nothing is known of {engine}"),))
    if fingerprint.format is not rules.format:
        reason = f"{engine.name} loads {rules.format.value}, not {fingerprint.format.value}"
        return Verdict("refused", (Finding("refused", reason, f"build a .{rules.format.value}"),))
    near = [rules.at(fingerprint, release) for release in _nearest(version, rules.versions())]
    agreed = {verdict.answer for verdict in near}
    beyond = len(near) == 1 and _beyond(version, rules.versions())
    if len(agreed) > 1 or (beyond and agreed != {beyond}):
        return Verdict("unknown", (Finding("unknown", f"{engine} was not measured, and its neighbours differ"),))
    return near[0]


def _nearest(version: Number, known: tuple[str, ...]) -> list[int]:
    """The release of the same minor, or the one before and the one after; by index."""
    minors = [(number(each) or (0, 0, 0))[:2] for each in known]
    if version[:2] in minors:
        return [minors.index(version[:2])]
    before = [at for at, minor in enumerate(minors) if minor < version[:2]]
    after = [at for at, minor in enumerate(minors) if minor > version[:2]]
    return before[-1:] + after[:1]


def _beyond(version: Number, known: tuple[str, ...]) -> str:
    """The answer that reaches past the ends of what is known; empty within."""
    minors = [(number(each) or (0, 0, 0))[:2] for each in known]
    if version[:2] > minors[-1]:
        return "loads"
    return "refused" if version[:2] < minors[0] else ""


def within(fingerprint: Fingerprint, name: str, versions: str) -> Verdict:
    """Whether any release of that engine in a range (PEP 440) loads the artifact.

    Refused when every known one there refuses it, with what the newest of them says; unknown when none is known there.
    """
    rules = RULES.get(name)
    inside = [at for at, version in enumerate(rules.versions()) if holds(version, versions)] if rules else []
    if rules is None or not inside:
        return Verdict("unknown", (Finding("unknown", f"no release of {name} {versions} was measured"),))
    newest_first = [judge(fingerprint, Engine(name, rules.versions()[at])) for at in reversed(inside)]
    return min(newest_first, key=lambda each: PREFERRED.index(each.answer))


def narrowed(fingerprint: Fingerprint, name: str, versions: str) -> str:
    """A range of an engine's versions, begun later where it lets in known ones that do not load the artifact."""
    rules = RULES.get(name)
    need = needs(fingerprint, name) if rules else None
    if rules is None or need is None:
        return versions
    if all(holds(each, need) for each in rules.versions() if holds(each, versions)):
        return versions
    return f"{versions},{need}" if versions else need


def needs(fingerprint: Fingerprint, name: str) -> str | None:
    """The range (PEP 440) of that engine's known releases that load the artifact; None where the newest does not.

    It has no upper end: it begins after the last release that does not load it, or of which it is unknown.
    """
    rules = RULES[name]
    if fingerprint.format is not rules.format:
        return None
    first = None
    for release in reversed(range(len(rules.versions()))):
        if rules.at(fingerprint, release).answer != "loads":
            break
        first = release
    return None if first is None else f">={minor(rules.versions()[first])}"
