"""ONNX artifacts on onnxruntime's CPU kernels: IR version, operator sets, and each operator with its types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from edgekit.compat import ort_kernels
from edgekit.compat.fingerprint import SHARED_AXIS, Fingerprint, Operator
from edgekit.compat.verdict import Finding, minor, number

INTERNAL = ("com.microsoft.", "com.ms.", "ai.onnx.")
"""Domains that onnxruntime has operators in, for a processor or a build, of which the table says nothing."""

UNFUSABLE = frozenset({"float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "int2", "uint2"})
"""Measured: a convolution between Q/DQ nodes of these is made a QLinearConv, which has no kernel for them."""
COPIES_AXIS = (1, 17, 0)
"""Measured: 1.16.3 loses the axis of a DequantizeLinear that it copies, 1.17.3 keeps it."""


def versions() -> tuple[str, ...]:
    """The releases whose kernels are known, the oldest first."""
    return tuple(release.version for release in ort_kernels.releases())


def findings(fingerprint: Fingerprint, at: int) -> Iterator[Finding]:
    """What stands against the artifact on that release, given by its index."""
    release, opsets = ort_kernels.releases()[at], dict(fingerprint.opsets)
    if fingerprint.external:
        yield Finding("refused", "keeps weights in other files", "save it as one file: onnx.save(onnx.load(…), …)")
    if fingerprint.ir_version > release.ir_version:
        need = _since(lambda each: ort_kernels.releases()[each].ir_version >= fingerprint.ir_version)
        yield _too_new(f"IR version {fingerprint.ir_version}", need, f"write it with ir_version {release.ir_version}")
    for domain, newest in (("", release.opset), ("ai.onnx.ml", release.ml_opset)):
        if opsets.get(domain, 0) > newest:
            yield _newer_opset(domain, opsets[domain], newest)
    for operator in fingerprint.operators:
        yield from _operator(operator, at)
        yield from _fused(operator, at)


def _newer_opset(domain: str, opset: int, newest: int) -> Finding:
    def loads(at: int) -> bool:
        release = ort_kernels.releases()[at]
        return (release.ml_opset if domain else release.opset) >= opset

    label = f"{domain} opset {opset}" if domain else f"opset {opset}"
    return _too_new(label, _since(loads), f"rebuild with opset {newest}")


def _operator(operator: Operator, at: int) -> Iterator[Finding]:
    answer, label = has(operator, at), f"{operator.label} (opset {operator.version})"
    types = f"with {', '.join(kind or '-' for kind in operator.inputs)}"
    if answer is None and operator.domain in ort_kernels.DOMAINS:
        yield Finding("unknown", f"{label}: nothing tells the types that it is used with", "export it with its types")
    elif answer is None:
        yield Finding("unknown", f"{label}: an operator that only some builds of onnxruntime have")
    elif not answer and operator.domain not in ort_kernels.DOMAINS:
        yield Finding("refused", f"{label} is a custom operator", "write it with standard operators")
    elif not answer:
        need = _since(lambda each: has(operator, each) is True)
        yield _too_new(f"{label} {types}", need, "use other types, or write it with other operators")


def _fused(operator: Operator, at: int) -> Iterator[Finding]:
    """What onnxruntime's optimizer makes of a Q/DQ node that it has a kernel for."""
    if operator.name not in ("QuantizeLinear", "DequantizeLinear"):
        return
    if SHARED_AXIS in operator.traits and (number(versions()[at]) or COPIES_AXIS) < COPIES_AXIS:
        yield Finding(
            "refused",
            "DequantizeLinear along an axis, taken by more than one node, fails in onnxruntime before 1.17",
            "quantize it per tensor, or install onnxruntime >= 1.17",
        )
    for kind in sorted(UNFUSABLE & {*operator.inputs, *operator.outputs}):
        reason = f"{operator.label} with {kind}: onnxruntime may fuse it into an operator that takes no {kind}"
        yield Finding("unknown", reason, "quantize to 8 bits")


def _too_new(what: str, need: str | None, otherwise: str) -> Finding:
    if need is None:
        return Finding("refused", f"{what}: no onnxruntime up to {versions()[-1]} has it on the CPU", otherwise)
    least = f"onnxruntime >= {minor(need)}"
    return Finding("refused", f"{what} needs {least}", f"{otherwise}, or install {least}")


def _since(loads: Callable[[int], bool]) -> str | None:
    """The release since which all load it."""
    first = None
    for at in reversed(range(len(versions()))):
        if not loads(at):
            break
        first = versions()[at]
    return first


def has(operator: Operator, at: int) -> bool | None:
    """Whether a release runs the operator: by a kernel, taken apart by its definition, or in float32 for float16.

    None where a type is unknown, or the table does not cover its domain.
    """
    if operator.domain not in ort_kernels.DOMAINS:
        return None if operator.domain.startswith(INTERNAL) else False
    if operator.name == "Constant" and not operator.domain:
        return True  # read as a weight
    found = ort_kernels.has(operator, at)
    if found is False and operator.body and ort_kernels.opens(operator, at):
        parts = {has(part, at) for part in operator.body}
        found = False if False in parts else None if None in parts else True
    if found is False and "float16" in operator.inputs:
        found = ort_kernels.has(_in_float32(operator), at)
    return found


def _in_float32(operator: Operator) -> Operator:
    """As onnxruntime casts a node for which it has no kernel in float16 (InsertCastTransformer)."""
    inputs, outputs = (
        tuple("float" if kind == "float16" else kind for kind in row) for row in (operator.inputs, operator.outputs)
    )
    return replace(operator, inputs=inputs, outputs=outputs)
