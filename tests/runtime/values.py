"""Any value of the wire formats, and documents that are almost one."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from edgekit_runtime.agreement import BY, COLUMNS, CORNERS, Agreement
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed, Manifest, ProofLimits
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import DTYPES, TensorSpec
from edgekit_runtime.windows import Window

WHOLE = st.integers(0, 2**63 - 1)
NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
LABEL = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp", "Zs", "Cf", "Co", "Cn"]), min_size=1, max_size=12
)
NAME = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,10}[a-z0-9])?", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
TABLE = st.dictionaries(TEXT, JSON, max_size=3)
ODD: st.SearchStrategy[Any] = (
    st.sampled_from(
        [
            None,
            True,
            False,
            -1,
            0,
            1.5,
            2**63,
            10**400,
            "",
            "..",
            "../../x",
            "a/b",
            "\0",
            "\ud800",
            [],
            [[]],
            {},
            {"a": []},
        ]
    )
    | JSON
)
"""What stands where something else should."""

SPECS = st.builds(
    TensorSpec,
    TEXT,
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.none() | st.integers(0, 4096), max_size=5).map(tuple),
    TEXT,
)
SIZE = st.integers(1, 16384)
STD = NUMBER.filter(bool)
STEPS = st.builds(
    Preprocess,
    st.lists(SIZE, max_size=2).map(tuple),
    st.just(()) | st.tuples(SIZE, SIZE),
    st.sampled_from(["rgb", "bgr"]),
    NUMBER,
    st.lists(NUMBER, min_size=1, max_size=4).map(tuple),
    st.lists(STD, min_size=1, max_size=4).map(tuple),
    st.sampled_from(["NHWC", "NCHW"]),
    st.sampled_from(sorted(DTYPES)),
)


def agreements(names: st.SearchStrategy[str]) -> st.SearchStrategy[Agreement]:
    """They name outputs of these names."""
    return st.builds(
        Agreement,
        st.sampled_from(BY),
        st.integers(-8, 7),
        st.sampled_from(CORNERS),
        st.sampled_from(COLUMNS),
        st.just("") | names,
        st.just("") | names,
        NUMBER,
    )


@st.composite
def interfaces(draw: st.DrawFn) -> Interface:
    inputs, outputs = (
        tuple(draw(st.lists(SPECS, min_size=1, max_size=3, unique_by=lambda spec: spec.name))) for _ in range(2)
    )
    names = draw(st.lists(st.sampled_from([spec.name for spec in inputs]), unique=True))
    given = st.sampled_from([spec.name for spec in outputs])
    agreement = draw(st.dictionaries(given, agreements(given), max_size=2))
    return Interface(inputs, outputs, {name: draw(STEPS) for name in names}, agreement)


ENGINES = st.builds(EngineNeed, TEXT, TEXT, st.lists(TEXT, max_size=3).map(tuple), st.integers(1, 1024))
MANIFESTS = st.builds(
    Manifest,
    app=NAME,
    version=TEXT,
    sequence=WHOLE,
    target=TEXT,
    arch=TEXT,
    format=NAME,
    precision=TEXT,
    engines=st.lists(ENGINES, min_size=1, max_size=3).map(tuple),
    interface=interfaces(),
    proof=st.builds(ProofLimits, WHOLE, NUMBER, NUMBER),
    budget=TABLE,
    verdict=TABLE,
    provenance=TABLE,
    expires=st.none() | WHOLE,
)
COUNTS = st.integers(0, 2**40)
WORD = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)
BUCKETS = st.dictionaries(st.integers(0, 2500), COUNTS, max_size=6)
MOMENT = st.floats(0, 1e11) | st.integers(0, 10**11)
WINDOWS = st.builds(
    lambda start_s, end_s, **rest: Window(start_s=min(start_s, end_s), end_s=max(start_s, end_s), **rest),
    app=LABEL,
    release=LABEL,
    session=LABEL,
    seq=st.integers(0, 2**31 - 1),
    start_s=MOMENT,
    end_s=MOMENT,
    buckets=BUCKETS,
    errors=st.dictionaries(WORD, COUNTS, max_size=3),
    stages=st.dictionaries(WORD, BUCKETS, max_size=3),
    counters=st.dictionaries(WORD, COUNTS, max_size=3),
    conditions=st.dictionaries(WORD, st.floats(-1e12, 1e12), max_size=3),
    drift=st.dictionaries(LABEL, st.lists(COUNTS, max_size=4).map(tuple), max_size=3),
)


@st.composite
def almost(draw: st.DrawFn, document: Any) -> str:
    """The JSON of a document in which one value, somewhere, has been replaced or removed."""
    broken = copy.deepcopy(document)
    *way, last = draw(st.sampled_from(list(_places(broken))))
    inner = broken
    for key in way:
        inner = inner[key]
    if draw(st.booleans()):
        inner[last] = draw(ODD)
    else:
        del inner[last]
    return json.dumps(broken)


def _places(document: Any) -> Iterator[tuple[Any, ...]]:
    keys = document.keys() if isinstance(document, dict) else range(len(document))
    for key in keys:
        yield (key,)
        if isinstance(document[key], (dict, list)):
            yield from ((key, *rest) for rest in _places(document[key]))


GARBAGE = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"7",
    b'"text"',
    b"NaN",
    b"{}",
    b'{"schema_version": 1}',
    b'{"schema_version": NaN}',
    b'{"schema_version": 1e999}',
    b'{"schema_version": 1, "app": "\xed\xa0\x80"}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b"9" * 100_000,
]
