"""Arrays in an .npz: what is written is read back, the bytes are always the same ones, and nothing harmful is read."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.typing import NDArray

from edgekit_runtime import arrays, golden
from edgekit_runtime.errors import BundleError
from edgekit_runtime.golden import Vector
from edgekit_runtime.tensors import DTYPES
from tests.runtime.values import TEXT

ARRAYS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda dtype: nps.arrays(dtype, nps.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
PARTS = st.dictionaries(TEXT, ARRAYS, max_size=3)
VECTORS = st.lists(st.builds(Vector, PARTS, PARTS, PARTS), max_size=3)
VECTOR = Vector({"x": np.arange(6, dtype=np.float32).reshape(2, 3)}, {"y": np.ones(2)}, {"y": np.zeros(2)})
GOLDEN = golden.dump([VECTOR])


def same(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    """The same names in the same order, and the same arrays to the bit, NaN included."""
    return list(one) == list(other) and all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in zip(one.values(), other.values(), strict=True)
    )


@settings(deadline=None)
@given(VECTORS)
def test_parse_gives_the_vectors_that_were_dumped_and_the_same_vectors_the_same_bytes(vectors: list[Vector]) -> None:
    dumped = golden.dump(vectors)
    again = [Vector(*({name: a.copy() for name, a in part.items()} for part in _parts(v))) for v in vectors]
    assert golden.dump(again) == dumped
    read = golden.parse(dumped)
    assert len(read) == len(vectors)
    for got, want in zip(read, vectors, strict=True):
        assert same(got.inputs, want.inputs)
        assert same(got.expected, want.expected)
        assert same(got.reference, want.reference)


def _parts(vector: Vector) -> tuple[dict[str, NDArray[Any]], ...]:
    return vector.inputs, vector.expected, vector.reference


def test_the_bytes_do_not_depend_on_how_an_array_lies_in_memory() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    wide = np.zeros((2, 3, 8), np.float32)
    wide[:, :, ::2] = x
    assert {arrays.dump({"x": each}) for each in (x, np.asfortranarray(x), wide[:, :, ::2], x.astype(">f4"))} == {
        arrays.dump({"x": x})
    }


def test_numpy_reads_what_was_dumped() -> None:
    with np.load(io.BytesIO(arrays.dump({"file": np.arange(3), "a/b": np.ones((), bool)})), allow_pickle=False) as file:
        assert {name: file[name].tolist() for name in file.files} == {"file": [0, 1, 2], "a/b": True}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saved_is_read(save: Any) -> None:
    file = io.BytesIO()
    save(file, x=np.arange(3), y=np.asfortranarray(np.eye(3)))
    read = arrays.load(file.getvalue())
    assert same(read, {"x": np.arange(3), "y": np.eye(3)})


@pytest.mark.parametrize(
    "array",
    [np.array([{}]), np.array(["a"]), np.array([1j]), np.zeros(2, [("a", "f4")]), np.array(["2020"], "M8[D]")],
    ids=lambda array: str(array.dtype),
)
def test_only_numbers_travel(array: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="holds no numbers"):
        arrays.dump({"x": array})
    file = io.BytesIO()
    np.savez(file, x=array)
    with pytest.raises(ValueError, match=r"holds no numbers|Object arrays cannot be loaded"):
        arrays.load(file.getvalue())


class Harm:
    """What a pickle of it would do when it is read."""

    done = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Harm, "done", True))


def test_no_pickle_is_ever_read() -> None:
    file = io.BytesIO()
    np.savez(file, x=np.array([Harm()], dtype=object))
    for data in (file.getvalue(), archive(pickle.dumps(Harm())), pickle.dumps(Harm())):
        with pytest.raises(ValueError):
            arrays.load(data)
    assert not Harm.done


def archive(member: bytes, name: str = "x.npy", method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        target.writestr(name, member)
    return file.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin1") + data


HEADER = "{'descr': %s, 'fortran_order': %s, 'shape': %s}"
BROKEN = {
    "nothing": b"",
    "an .npy": npy(HEADER % ("'<f4'", "False", "(1,)"), bytes(4)),
    "no member": archive(b""),
    "no header": archive(b"\x93NUMPY"),
    "version 9": archive(b"\x93NUMPY\x09\x00"),
    "header cut short": archive(npy("{'descr': '<f4', ")),
    "header of code": archive(npy("__import__('os').abort()")),
    "deep header": archive(npy("(" * 5000)),
    "long header": archive(npy(" " * 60_000)),
    "too few bytes": archive(npy(HEADER % ("'<f4'", "False", "(4,)"), bytes(15))),
    "negative shape": archive(npy(HEADER % ("'<f4'", "False", "(-4,)"), bytes(16))),
    "shape of text": archive(npy(HEADER % ("'<f4'", "False", "('a',)"), bytes(16))),
    "no shape": archive(npy(HEADER % ("'<f4'", "False", "None"), bytes(16))),
    "overflowing shape": archive(npy(HEADER % ("'<f4'", "False", f"({2**62}, 8)"), bytes(16))),
    "endless shape": archive(npy(HEADER % ("'<f4'", "False", f"({10**40},)"), bytes(16))),
    "huge shape": archive(npy(HEADER % ("'<f4'", "False", f"({2**44},)"), bytes(16))),
    "unknown dtype": archive(npy(HEADER % ("'<q9'", "False", "(1,)"), bytes(16))),
    "dtype of nothing": archive(npy(HEADER % ("None", "False", "(1,)"), bytes(16))),
    "objects": archive(npy(HEADER % ("'|O'", "False", "(1,)"), pickle.dumps([1]))),
    "lzma": archive(npy(HEADER % ("'<f4'", "False", "(1,)"), bytes(4)), method=zipfile.ZIP_LZMA),
    "encrypted": archive(b"x" * 40)
    .replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01")
    .replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        arrays.load(data)
    with pytest.raises(BundleError):
        golden.parse(data)


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = archive(npy(HEADER % ("'|u1'", "False", "(9000000,)"), bytes(9_000_000)), method=zipfile.ZIP_DEFLATED)
    assert arrays.load(bomb)["x"].size == 9_000_000
    monkeypatch.setattr(arrays, "MOST_BYTES", 8 << 20)
    with pytest.raises(ValueError, match="more than 8 MiB"):
        arrays.load(bomb)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(GOLDEN) - 1), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
@example([(len(GOLDEN) - 1, 0)], True)
def test_damaged_vectors_are_read_or_refused(changes: list[tuple[int, int]], cut: bool) -> None:
    damaged = bytearray(GOLDEN)
    for place, value in changes:
        damaged[place] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            golden.parse(bytes(damaged[: changes[0][0]] if cut else damaged))
        except BundleError:
            return


NAMES = [
    b"",
    b"null",
    b"7",
    b'{"a": 1}',
    b"[[]]",
    b'[[["x"], ["y"]]]',
    b'[[["x"], ["y"], ["y"], ["y"]]]',
    b'[[["x"], ["y"], [5]]]',
    b'[[["x"], ["y"], ["y", "z"]]]',
    b'[[["x"], ["y"], {"y": 1}]]',
    b'["xyz"]',
    b"[" * 100_000,
    b"\xff",
]


@pytest.mark.parametrize("names", NAMES, ids=lambda names: repr(names[:24]))
def test_names_that_do_not_fit_are_refused(names: bytes) -> None:
    file = {**arrays.load(GOLDEN), "names": np.frombuffer(names, np.uint8)}
    with pytest.raises(BundleError, match="golden vectors cannot be read"):
        golden.parse(arrays.dump(file))
