"""TFLite artifacts on tflite-runtime and LiteRT: each operator's version, and whether its types ran there.

Converters stamp version 1 on operators that need more, so a stamp can refuse an artifact and never clears it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgekit.compat import tflite_kernels
from edgekit.compat.fingerprint import Fingerprint, Operator
from edgekit.compat.verdict import Finding, minor

REBUILD = "convert or quantize it with other types"


def versions(name: str) -> tuple[str, ...]:
    """The measured releases of that engine, the oldest first."""
    return tuple(version for engine, version in tflite_kernels.runtimes() if engine == name)


def findings(name: str, fingerprint: Fingerprint, at: int) -> Iterator[Finding]:
    """What stands against the artifact on that engine's release, given by its index."""
    for flex in fingerprint.flex:
        fix = "convert without SELECT_TF_OPS, or replace what needs it"
        yield Finding("refused", f"{flex} is TensorFlow's own operator, which needs the Flex delegate", fix)
    for custom in fingerprint.custom:
        if not tflite_kernels.brings(custom):
            yield Finding("refused", f"{custom} is a custom operator", "write it with standard operators")
    for operator in fingerprint.operators:
        if operator.domain != "custom":
            yield from _operator(name, operator, at)


def _operator(name: str, operator: Operator, at: int) -> Iterator[Finding]:
    label = f"{operator.name} with {', '.join(kind or '-' for kind in operator.inputs)}"
    if operator.traits:
        label = f"{label} ({', '.join(operator.traits)})"
    has = tflite_kernels.newest(operator.name, _index(name, at))
    if has is None:
        yield Finding("unknown", f"{operator.name}: an operator that is newer than what was measured")
    elif operator.version > has:
        what = f"{operator.name} version {operator.version}"
        yield _refused(name, what, lambda each: _stamped(name, operator, each), "convert it with an older converter")
    elif (ran := _ran(name, operator, at)) is None:
        yield Finding("unknown", f"{label}: was not measured")
    elif not ran:
        yield _refused(name, label, lambda each: _ran(name, operator, each) is True, REBUILD)


def _stamped(name: str, operator: Operator, at: int) -> bool:
    return (tflite_kernels.newest(operator.name, _index(name, at)) or 0) >= operator.version


def _ran(name: str, operator: Operator, at: int) -> bool | None:
    return tflite_kernels.ran(operator, _index(name, at))


def _index(name: str, at: int) -> int:
    return tflite_kernels.runtimes().index((name, versions(name)[at]))


def _refused(name: str, what: str, loads: Callable[[int], bool], otherwise: str) -> Finding:
    known = versions(name)
    first = None
    for at in reversed(range(len(known))):
        if not loads(at):
            break
        first = known[at]
    if first is None:
        return Finding("refused", f"{what}: does not run on any {name} up to {known[-1]}", otherwise)
    least = f"{name} >= {minor(first)}"
    return Finding("refused", f"{what} needs {least}", f"{otherwise}, or install {least}")
