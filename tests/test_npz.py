from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from edgekit.data import npz
from edgekit.errors import DataError

X = np.random.default_rng(0).random((6, 1, 8, 8), np.float32)
DTYPES = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(endianness="?"),
    arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    arrays.complex_number_dtypes(),
    arrays.unicode_string_dtypes(max_len=5),
    arrays.byte_string_dtypes(max_len=5),
    arrays.datetime64_dtypes(),
    st.just(np.dtype([("a", "<i2"), ("b", "<f4", (2,))])),
)
ARRAYS = arrays.arrays(DTYPES, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))


def told(path: Path) -> str:
    """The one line that walking through it ends with."""
    with pytest.raises(DataError) as caught:
        list(npz.rows(path))
    assert f"{path}: cannot be read as .npz: " in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return str(caught.value)


def laid(array: NDArray[Any], order: str) -> NDArray[Any]:
    """The same array in C or Fortran order, or of another's memory."""
    return np.repeat(array, 2, axis=0)[::2] if order == "strided" else np.asarray(array, order=order)  # type: ignore[call-overload]


class TestRows:
    @settings(max_examples=150, deadline=None)
    @given(array=ARRAYS, order=st.sampled_from(["C", "F", "strided"]), packed=st.booleans())
    def test_are_those_that_numpy_loads(self, array: NDArray[Any], order: str, packed: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "d.npz"
            (np.savez_compressed if packed else np.savez)(path, x=laid(array, order))
            with np.load(path) as file:
                want = file["x"]
            header = npz.headers(path)["x"]
            assert (header.dtype, header.shape) == (want.dtype, want.shape)
            have = [row["x"] for row in npz.rows(path)]
        assert len(have) == len(want)
        for row, wanted in zip(have, (want[index, ...] for index in range(len(want))), strict=True):
            assert (row.dtype, row.shape) == (wanted.dtype, wanted.shape)
            assert row.tobytes() == wanted.tobytes()
            assert row.flags.writeable

    @pytest.mark.parametrize("block", [1, 64, 1000])
    def test_an_array_in_fortran_order_is_turned_in_blocks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
    ) -> None:
        monkeypatch.setattr(npz, "BLOCK", block)
        x = np.arange(7 * 3 * 5 * 2, dtype=np.int16).reshape(7, 3, 5, 2)
        np.savez_compressed(tmp_path / "d.npz", x=np.asfortranarray(x))
        assert npz.headers(tmp_path / "d.npz")["x"].fortran
        assert all((row["x"] == want).all() for row, want in zip(npz.rows(tmp_path / "d.npz"), x, strict=True))

    def test_of_several_arrays_come_together(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", left=X, right=np.asfortranarray(X[:, 0]), labels=np.arange(6))
        for index, row in enumerate(npz.rows(tmp_path / "d.npz")):
            assert list(row) == ["left", "right", "labels"]
            assert (row["left"] == X[index]).all() and (row["right"] == X[index, 0]).all()
            assert row["labels"].shape == () and int(row["labels"]) == index

    def test_are_as_many_as_the_shortest_array_has(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=X, y=X[:4])
        assert sum(1 for _ in npz.rows(tmp_path / "d.npz")) == 4
        np.savez(tmp_path / "d.npz", x=X, y=np.float32(3))
        assert list(npz.rows(tmp_path / "d.npz")) == []
        np.savez(tmp_path / "d.npz")
        assert list(npz.rows(tmp_path / "d.npz")) == []

    def test_can_be_left_half_way(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=X)
        walk = npz.rows(tmp_path / "d.npz")
        assert (next(walk)["x"] == X[0]).all()
        walk.close()  # type: ignore[attr-defined]

    def test_an_error_of_who_reads_is_not_taken_for_one_of_the_file(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=X)
        with pytest.raises(ValueError, match="mine"):
            for _ in npz.rows(tmp_path / "d.npz"):
                raise ValueError("mine")

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_a_file_larger_than_memory(self, tmp_path: Path, order: str) -> None:
        """230 MiB, walked through by a process that may not have 200 of data (what is mapped from files apart)."""
        header = {"descr": "<f4", "fortran_order": order == "F", "shape": (400, 224, 224, 3)}
        packed = zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        with packed as file, file.open("x.npy", "w") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for _ in range(400):
                stream.write(bytes(224 * 224 * 3 * 4))
        code = (
            "import resource, sys; from pathlib import Path; from edgekit.data import npz\n"
            "resource.setrlimit(resource.RLIMIT_DATA, (200 << 20, 200 << 20))\n"
            "print(sum(1 for row in npz.rows(Path(sys.argv[1]))))"
        )
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "d.npz"], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("400\n", "")


class TestBad:
    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + b"\x00" * 100, b"\x93NUMPY\x01\x00"])
    def test_what_is_no_zip(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bad.npz").write_bytes(content)
        told(tmp_path / "bad.npz")

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        assert "No such file" in told(tmp_path / "none.npz")

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_a_changed_byte_of_the_data_is_noticed_at_the_latest_with_the_last_row(
        self, tmp_path: Path, save: Any, order: Any
    ) -> None:
        save(tmp_path / "good.npz", x=np.asarray(X[:, 0], order=order))
        whole, path = (tmp_path / "good.npz").read_bytes(), tmp_path / "bad.npz"
        with zipfile.ZipFile(tmp_path / "good.npz") as file:
            size = file.infolist()[0].compress_size
        for at in range(60, size, 53):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            told(path)
        for at in range(0, len(whole), 41):
            path.write_bytes(whole[:at])
            told(path)

    @pytest.mark.parametrize("fortran", [False, True])
    @pytest.mark.parametrize(
        ("shape", "reason"),
        [
            ("(1000000000000000,)", "it ends before its last row"),
            ("(1000000000000000, 1000)", ""),
            ("(3, 1000000000000000)", ""),
            ("(1 << 80, 2)", ""),
            ("(9, 9)", "it ends before its last row"),
            ("(-1, 2)", "x.npy has the shape (-1, 2)"),
            ("'abc'", "shape is not valid"),
        ],
    )
    def test_a_header_that_promises_what_does_not_come(
        self, tmp_path: Path, shape: str, reason: str, fortran: bool
    ) -> None:
        header = f"{{'descr': '<f4', 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
        self.write(tmp_path / "bad.npz", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8))
        assert reason in told(tmp_path / "bad.npz")

    def test_what_is_no_array(self, tmp_path: Path) -> None:
        self.write(tmp_path / "bad.npz", b"hello")
        told(tmp_path / "bad.npz")
        self.write(tmp_path / "bad.npz", b"\x93NUMPY\x03\x00" + bytes(100))
        assert "x.npy is of .npy version 3.0" in told(tmp_path / "bad.npz")

    def test_a_pickle_is_never_loaded(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / "ran",)

        np.savez(tmp_path / "bad.npz", x=np.array([Bomb()], dtype=object))
        assert "Object arrays cannot be loaded" in told(tmp_path / "bad.npz")
        assert not (tmp_path / "ran").exists()

    def test_too_little_disk_for_an_array_in_fortran_order(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        np.savez(tmp_path / "bad.npz", x=np.asfortranarray(X[:, 0]))
        usage = shutil.disk_usage(tmp_path)._replace(free=100)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        assert "in Fortran order, which needs 0 MiB of disk in " in told(tmp_path / "bad.npz")

    def write(self, path: Path, content: bytes) -> None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x.npy", content)
