"""A manifest's law: what is written is read back, in one form; and nothing else is read as one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_runtime import manifest
from edgekit_runtime.errors import BundleError
from edgekit_runtime.manifest import Manifest, canonical, dump, parse
from tests.runtime.bundles import MANIFEST
from tests.runtime.values import GARBAGE, JSON, MANIFESTS, almost

DOCUMENT = json.loads(dump(MANIFEST))


@settings(deadline=None)
@given(MANIFESTS)
def test_parse_gives_what_was_dumped_and_dumping_that_the_same_bytes(m: Manifest) -> None:
    dumped = dump(m)
    assert parse(dumped) == m
    assert dump(parse(dumped)) == dumped


@given(JSON)
def test_the_order_of_keys_does_not_change_the_bytes(value: object) -> None:
    pairs = [("b", value), ("a", 1)]
    assert canonical(dict(pairs)) == canonical(dict(reversed(pairs)))


def test_the_canonical_form_is_this_one() -> None:
    assert (
        canonical({"é": [1.5, None, True], "a": {"z": "", "b": 0}})
        == '{"a":{"b":0,"z":""},"é":[1.5,null,true]}'.encode()
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_there_is_no_form_for_what_is_no_number(number: float) -> None:
    with pytest.raises(ValueError):
        dump(replace(MANIFEST, budget={"deep": [number]}))


@settings(deadline=None)
@given(almost(DOCUMENT))
def test_almost_a_manifest_is_read_exactly_or_refused(text: str) -> None:
    try:
        found = parse(text.encode())
    except BundleError:
        return
    assert parse(dump(found)) == found


@given(st.binary(max_size=60))
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        parse(data)


def test_without_a_date_it_is_as_it_always_was() -> None:
    assert "expires" not in DOCUMENT
    assert json.loads(dump(replace(MANIFEST, expires=5)))["expires"] == 5


@pytest.mark.parametrize("data", GARBAGE, ids=lambda data: repr(data[:12]))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        parse(data)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("app", "Digits"),
        ("app", "../digits"),
        ("app", "a/b"),
        ("app", "a" * 65),
        ("app", 5),
        ("version", None),
        ("format", "../../onnx"),
        ("format", "onnx/x"),
        ("sequence", -1),
        ("sequence", 2**63),
        ("sequence", True),
        ("engines", []),
        ("engines", [{"name": "onnxruntime", "version": "", "providers": [], "threads": 0}]),
        ("engines", [{"name": "onnxruntime", "version": "", "providers": "CPU", "threads": 1}]),
        ("engines", ["onnxruntime"]),
        ("proof", {"vectors": 4, "max_abs_error": None, "min_agreement": 0.9}),
        ("proof", {"vectors": 4, "max_abs_error": 0.1, "min_agreement": "0.9"}),
        ("proof", {"vectors": "4", "max_abs_error": 0.1, "min_agreement": 0.9}),
        ("proof", {"vectors": 4, "max_abs_error": 0.1}),
        ("budget", []),
        ("expires", None),
        ("expires", -1),
        ("expires", "2099-01-01"),
        ("extra", 1),
    ],
)
def test_a_wrong_value_is_refused(key: str, value: object) -> None:
    with pytest.raises(BundleError, match="manifest cannot be read"):
        parse(canonical({**DOCUMENT, key: value}))


@pytest.mark.parametrize("limit", ["NaN", "Infinity", "1e999"])
@pytest.mark.parametrize("key", ["max_abs_error", "min_agreement"])
def test_limits_that_would_let_everything_pass_are_refused(key: str, limit: str) -> None:
    text = canonical({**DOCUMENT, "proof": {**DOCUMENT["proof"], key: "HERE"}}).replace(b'"HERE"', limit.encode())
    with pytest.raises(BundleError):
        parse(text)


def test_a_newer_manifest_says_what_to_do() -> None:
    with pytest.raises(BundleError, match="newer runtime") as caught:
        parse(canonical({**DOCUMENT, "schema_version": manifest.SCHEMA_VERSION + 1}))
    assert "device setup" in (caught.value.hint or "")


def test_what_is_wrong_is_told_in_one_line() -> None:
    """As the fuzzer found: a name that nobody knows is told, and may hold anything."""
    spec = {**DOCUMENT["interface"]["inputs"][0], "a\n\x1b" + "b" * 9999: 1}
    with pytest.raises(BundleError) as told:
        parse(canonical({**DOCUMENT, "interface": {**DOCUMENT["interface"], "inputs": [spec]}}))
    assert str(told.value).isprintable() and len(str(told.value)) < 400
