"""Updates: what is written is read again to the bit, and what is no update is told as that."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_train import tensor_file
from edgekit_train.packed import Packed
from edgekit_train.update import AT, Update, dump, parse
from tests.runtime.values import GARBAGE, LABEL, WORD, almost

MOST = 1 << 20
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
NAMES = LABEL.filter(lambda name: not name.endswith(AT) and name != tensor_file.METADATA)


def bits(draw: st.DrawFn, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    size = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)


@st.composite
def packs(draw: st.DrawFn) -> Packed:
    """Of any bits: NaN and infinities, too."""
    dtype, shape = draw(st.sampled_from(["f4", "f2", "i1"])), draw(SHAPES)
    scale = draw(st.floats(0, 1e36)) if dtype == "i1" else None
    if draw(st.booleans()):
        return Packed(bits(draw, dtype, shape), shape, scale)
    places = draw(st.sets(st.integers(0, max(0, int(np.prod(shape, dtype=int)) - 1)), max_size=4))
    at = np.array(sorted(places) if np.prod(shape, dtype=int) else [], np.uint32)
    return Packed(bits(draw, dtype, at.shape), shape, scale, at)


@st.composite
def written(draw: st.DrawFn) -> tuple[Update, dict[str, Packed]]:
    packed = draw(st.dictionaries(NAMES, packs(), max_size=3))
    update = Update(
        app=draw(WORD),
        release=draw(LABEL),
        round=draw(st.from_regex(r"[0-9a-f]{32}", fullmatch=True)),
        device=draw(WORD),
        examples=draw(st.integers(1, 1 << 40)),
        delta={name: each.unpacked() for name, each in packed.items()},
        metrics=draw(st.dictionaries(WORD, st.floats(allow_nan=False, allow_infinity=False), max_size=3)),
    )
    return update, packed


KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)
UPDATE = Update("digits", "sha256:" + "a" * 64, "0" * 32, "pi-1", 7, {"kernel": KERNEL}, {"loss": 0.5})
SPARSE = Packed(np.array([1, -2], np.int8), (2, 3), 0.5, np.array([1, 4], np.uint32))
FILE = dump(replace(UPDATE, delta={"kernel": SPARSE.unpacked(), "bias": KERNEL[0]}), {"kernel": SPARSE})


def opened(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the numbers of a file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def closed(header: bytes, numbers: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + numbers


def is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse(data, MOST)


@settings(max_examples=50, deadline=None)
@given(written())
def test_what_is_written_is_read_again(case: tuple[Update, dict[str, Packed]]) -> None:
    update, packed = case
    data = dump(update, packed)
    assert parse(data, MOST) == update
    assert dump(update, dict(reversed(packed.items()))) == data
    assert parse(dump(update), MOST) == update


@settings(max_examples=30, deadline=None)
@given(written(), st.data())
def test_a_cut_file_is_refused(case: tuple[Update, dict[str, Packed]], data: st.DataObject) -> None:
    whole = dump(*case)
    with pytest.raises(ValueError):
        parse(whole[: data.draw(st.integers(0, len(whole) - 1))], MOST)
    with pytest.raises(ValueError):
        parse(whole + b"\0", MOST)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(FILE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_changed_file_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(FILE)
    for place, byte in changes:
        data[place] = byte
    is_read_or_refused(bytes(data))


@settings(max_examples=300)
@given(almost(opened(FILE)[0]))
def test_a_header_that_is_almost_one_is_read_or_refused(header: str) -> None:
    is_read_or_refused(closed(header.encode("utf-8", "surrogatepass"), opened(FILE)[1]))


@pytest.mark.parametrize("key", ["metrics", "packed", "examples"])
@given(data=st.data())
def test_a_note_that_is_almost_one_is_read_or_refused(key: str, data: st.DataObject) -> None:
    header, numbers = opened(FILE)
    note = {key: json.loads(header["__metadata__"][key])}
    changed = json.loads(data.draw(almost(note)).replace("\\ud800", "")).get(key, "")
    header["__metadata__"][key] = json.dumps(changed)
    is_read_or_refused(closed(json.dumps(header).encode(), numbers))


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_is_none_is_refused(garbage: bytes) -> None:
    for data in (garbage, closed(garbage, b""), (1 << 63).to_bytes(8, "little") + garbage):
        with pytest.raises(ValueError):
            parse(data, MOST)


def edited(**changes: Any) -> bytes:
    header, numbers = opened(FILE)
    for name, change in changes.items():
        header[name.replace("_at", AT)].update(change)
    return closed(json.dumps(header).encode(), numbers)


@pytest.mark.parametrize(
    "data",
    [
        edited(kernel={"data_offsets": [0, 2]}),
        edited(kernel={"shape": [3]}),
        edited(kernel={"shape": [2, 1 << 40]}),
        edited(kernel={"dtype": "F64"}),
        edited(kernel={"more": 1}),
        edited(bias={"dtype": "I8"}),
        edited(__metadata__={"schema_version": "2"}),
        edited(__metadata__={"more": ""}),
        edited(__metadata__={"examples": "0"}),
        edited(__metadata__={"device": "../x"}),
        edited(__metadata__={"round": "0" * 31}),
        edited(__metadata__={"metrics": '{"loss": NaN}'}),
        edited(__metadata__={"packed": "{}"}),
        edited(__metadata__={"packed": '{"kernel": {"shape": [2, 3]}}'}),
        edited(__metadata__={"packed": '{"kernel": {"shape": [2, 2], "scale": 1}}'}),
        edited(__metadata__={"packed": '{"kernel": {"shape": [2, 3], "scale": 1e38}}'}),
        edited(__metadata__={"packed": '{"kernel": {"shape": [2, 3], "scale": 1}, "gone": {}}'}),
    ],
)
def test_what_contradicts_itself_is_refused(data: bytes) -> None:
    parse(edited(), MOST)
    with pytest.raises(ValueError):
        parse(data, MOST)


@pytest.mark.parametrize("at", [[4, 1], [1, 1], [1, 6]])
def test_places_rise_and_lie_inside(at: list[int]) -> None:
    header, numbers = opened(FILE)
    begin, end = header["kernel" + AT]["data_offsets"]
    changed = numbers[:begin] + np.array(at, "<u4").tobytes() + numbers[end:]
    with pytest.raises(ValueError, match="place"):
        parse(closed(json.dumps(header).encode(), changed), MOST)


def test_a_small_file_does_not_unpack_to_a_large_one() -> None:
    note = json.dumps({"kernel": {"shape": [1 << 15, 1 << 15], "scale": 0.5}})
    with pytest.raises(ValueError, match="unpacked"):
        parse(edited(__metadata__={"packed": note}), MOST)
    with pytest.raises(ValueError, match="at most"):
        parse(FILE, len(FILE) - 1)


@pytest.mark.parametrize(
    "update",
    [
        replace(UPDATE, examples=0),
        replace(UPDATE, device="a b"),
        replace(UPDATE, round="x"),
        replace(UPDATE, release=""),
        replace(UPDATE, metrics={"loss": float("nan")}),
        replace(UPDATE, delta={"kernel": KERNEL.astype(float)}),
        replace(UPDATE, delta={"kernel" + AT: KERNEL}),
        replace(UPDATE, delta={"__metadata__": KERNEL}),
    ],
)
def test_what_could_not_be_read_is_not_written(update: Update) -> None:
    with pytest.raises(ValueError):
        dump(update)


def test_updates_are_equal_by_their_bits() -> None:
    nan, zero = np.full(2, np.nan, np.float32), np.zeros(2, np.float32)
    assert replace(UPDATE, delta={"a": nan}) == replace(UPDATE, delta={"a": nan.copy()})
    assert replace(UPDATE, delta={"a": zero}) != replace(UPDATE, delta={"a": -zero})
    assert replace(UPDATE, delta={"a": zero}) != replace(UPDATE, delta={"b": zero})
    assert replace(UPDATE, examples=8) != UPDATE
    assert len({UPDATE, parse(dump(UPDATE), MOST)}) == 1


def test_numbers_are_aligned_whatever_the_names() -> None:
    delta = {"a": SPARSE.unpacked(), "b": KERNEL, "z": KERNEL}
    header, _ = opened(dump(replace(UPDATE, delta=delta), {"a": SPARSE}))
    for name in ("b", "z", "a" + AT):
        assert header[name]["data_offsets"][0] % 4 == 0


READ = """
import json, sys
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
with safe_open(sys.argv[1], "np") as file:
    metadata = file.metadata()
arrays = load_file(sys.argv[1])
save_file(arrays, sys.argv[2], metadata)
print(json.dumps({name: [str(each.dtype), list(each.shape), each.tobytes().hex()] for name, each in arrays.items()}))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_original_reader_reads_the_same_and_what_it_writes_is_read(tmp_path: Path) -> None:
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", "safetensors", "numpy"]
    if subprocess.run(pip, capture_output=True, check=False).returncode:
        pytest.skip("the package index is out of reach")
    delta = {"kernel": SPARSE.unpacked(), "bias": KERNEL[0], "nothing": np.zeros((0, 3), np.float32)}
    update = replace(UPDATE, delta={**delta, "half": KERNEL, "one": np.array(2, np.float32)})
    half = Packed(KERNEL.astype(np.float16), KERNEL.shape)
    (tmp_path / "ours").write_bytes(dump(update, {"kernel": SPARSE, "half": half}))
    files = [str(tmp_path / name) for name in ("ours", "theirs")]
    done = subprocess.run([str(python), "-c", READ, *files], capture_output=True, text=True, check=True)
    ours, _ = tensor_file.parse((tmp_path / "ours").read_bytes())
    seen = {name: [str(each.dtype), list(each.shape), each.tobytes().hex()] for name, each in ours.items()}
    assert json.loads(done.stdout) == seen
    assert parse((tmp_path / "theirs").read_bytes(), MOST) == update
