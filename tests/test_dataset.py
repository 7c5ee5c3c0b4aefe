from __future__ import annotations

import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.data.dataset import Dataset, open_dataset
from edgekit.errors import ConfigError, DataError
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec
from tests.lab.models import DIGITS, shared

IMAGE = TensorSpec("image", "float32", (None, 1, 8, 8))
ONE = Interface((IMAGE,), ())
PICTURE = Interface((TensorSpec("photo", "float32", (None, 4, 4, 3)),), (), {"photo": Preprocess(resize=(4, 4))})
TWO = Interface((TensorSpec("left", "float32", (None, 4)), TensorSpec("right", "int32", (None,))), ())
X = np.random.default_rng(0).random((6, 1, 8, 8), np.float32)
LABELS = np.arange(6)


def dataset(path: Path | str, interface: Interface = ONE, role: str = "evaluation", base: Path = Path()) -> Dataset:
    return open_dataset(str(path), role, interface, base)


def line(path: Path | str, interface: Interface = ONE, role: str = "evaluation", base: Path = Path()) -> str:
    """The one line that reading it ends with."""
    with pytest.raises(DataError) as caught:
        list(dataset(path, interface, role, base))
    assert caught.value.exit_code == 1
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestNpz:
    def test_samples_by_input_name_or_x_with_their_labels(self, tmp_path: Path) -> None:
        for name in ("image", "x"):
            np.savez(tmp_path / "d.npz", labels=LABELS, **{name: X})
            samples = list(dataset(tmp_path / "d.npz"))
            assert [sample.label for sample in samples] == [0, 1, 2, 3, 4, 5]
            assert all(sample.inputs["image"].shape == (1, 1, 8, 8) for sample in samples)
            assert (samples[3].inputs["image"][0] == X[3]).all()

    def test_several_inputs_and_no_labels(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", left=np.zeros((3, 4), np.float32), right=np.arange(3, dtype=np.int32))
        samples = list(dataset(tmp_path / "d.npz", TWO))
        assert [(sample.inputs["right"].tolist(), sample.label) for sample in samples] == [
            ([i], None) for i in range(3)
        ]

    def test_samples_that_have_their_batch_axis_keep_it(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=X[:, np.newaxis])
        assert next(iter(dataset(tmp_path / "d.npz"))).inputs["image"].shape == (1, 1, 8, 8)

    def test_a_model_input_that_is_called_x(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=np.zeros((2, 3), np.float32))
        interface = Interface((TensorSpec("x", "float32", (None, 3)),), ())
        assert list(next(iter(dataset(tmp_path / "d.npz", interface))).inputs) == ["x"]

    def test_it_can_be_read_again(self) -> None:
        data = dataset(DIGITS / "evaluation.npz")
        assert sum(1 for _ in data) == sum(1 for _ in data) == 400

    def test_its_digest_is_that_of_the_file(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=X)
        np.savez(tmp_path / "b.npz", x=X + 1)
        one, other = (dataset(tmp_path / f"{name}.npz").source.digest for name in "ab")
        assert one.startswith("sha256:")
        assert one != other

    @pytest.mark.parametrize(
        ("arrays", "told"),
        [
            ({"x": X[:, :, :4]}, "sample 0: input image: float32 [N, 1, 8, 8]: got shape [1, 1, 4, 8]"),
            ({"x": X.astype("f8")}, "sample 0: input image: float32 [N, 1, 8, 8]: got dtype float64 — convert it with"),
            ({"x": X[:0]}, "no evaluation samples in it"),
            ({}, "no evaluation samples in it"),
            ({"labels": LABELS}, "no evaluation samples in it"),
            ({"x": np.float32(3)}, "no evaluation samples in it"),
            ({"y": X}, "sample 0: input 'image' is missing — the model takes image"),
            ({"x": X, "y": X}, "is missing"),
            ({"image": X, "more": X}, "input 'more' is unknown — the model takes image"),
            ({"image": X, "more": X[:3]}, "different numbers of samples"),
            ({"x": X, "labels": LABELS[:3]}, "different numbers of samples"),
            ({"x": X, "labels": LABELS.astype("f4")}, "labels are float32 [6] — write one integer a sample"),
            ({"x": X, "labels": np.eye(6)}, "labels are float64 [6, 6]"),
            ({"x": X, "labels": np.eye(6, dtype=int)}, "labels are int64 [6, 6]"),
            ({"x": X, "labels": np.array(list("abcdef"))}, "labels are str"),
            ({"x": X, "labels": np.int64(3)}, "labels are int64 []"),
            ({"x": np.array([1, "a", None], dtype=object)}, "Object arrays cannot be loaded"),
        ],
    )
    def test_what_the_model_cannot_take_is_named(self, tmp_path: Path, arrays: dict[str, Any], told: str) -> None:
        np.savez(tmp_path / "bad.npz", **arrays)
        said = line(tmp_path / "bad.npz")
        assert f"{tmp_path / 'bad.npz'}: " in said
        assert told in said

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_no_number_is_named_with_its_sample(self, tmp_path: Path, value: float) -> None:
        x = X.copy()
        x[4, 0, 3, 3] = value
        np.savez(tmp_path / "bad.npz", x=x)
        assert "sample 4: input 'image' has NaN or infinite values" in line(tmp_path / "bad.npz")

    def test_a_pickle_is_never_loaded(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / "ran",)

        np.savez(tmp_path / "bad.npz", x=np.array([Bomb()], dtype=object))
        line(tmp_path / "bad.npz")
        assert not (tmp_path / "ran").exists()
        np.load(tmp_path / "bad.npz", allow_pickle=True)["x"]
        assert (tmp_path / "ran").exists()

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + b"\x00" * 100, b"\x93NUMPY\x01\x00"])
    def test_what_is_no_npz_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bad.npz").write_bytes(content)
        assert "cannot be read as .npz" in line(tmp_path / "bad.npz")

    def test_a_single_array_under_the_name_of_an_npz(self, tmp_path: Path) -> None:
        with (tmp_path / "bad.npz").open("wb") as file:
            np.save(file, X)
        assert "cannot be read as .npz: File is not a zip file — write it with numpy.savez" in line(
            tmp_path / "bad.npz"
        )

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_cut_short_or_changed_anywhere(self, tmp_path: Path, save: Any) -> None:
        save(tmp_path / "good.npz", x=X, labels=LABELS)
        whole, path = (tmp_path / "good.npz").read_bytes(), tmp_path / "bad.npz"
        for at in range(0, len(whole), 41):
            path.write_bytes(whole[:at])
            line(path)
            path.write_bytes(whole[:at] + bytes(20) + whole[at + 20 :])
            try:
                list(dataset(path))
            except DataError as error:
                assert "bad.npz" in str(error)

    def test_a_header_that_asks_for_more_memory_than_there_is(self, tmp_path: Path) -> None:
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**15},), }}\n".encode()
        with zipfile.ZipFile(tmp_path / "bad.npz", "w") as file:
            file.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        assert "cannot be read as .npz" in line(tmp_path / "bad.npz")

    def test_it_is_read_from_its_base_folder(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=X)
        assert sum(1 for _ in dataset("d.npz", base=tmp_path)) == 6


class TestFolder:
    def picture(self, path: Path, value: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 6), (value, 0, 0)).save(path)

    def listed(self, folder: Path, *rows: str) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "labels.csv").write_text("\n".join(rows))
        return folder

    def test_labels_csv_with_splits_gives_each_role_its_own(self, tmp_path: Path) -> None:
        for index in range(4):
            self.picture(tmp_path / f"{index}.png", index)
        rows = ["file,label,split", "0.png,7,calib", "1.png,8,test", "2.png,9,train", "3.png,1,"]
        self.listed(tmp_path, *rows)
        samples = list(dataset(tmp_path, PICTURE))
        assert [sample.label for sample in samples] == [8, 1]
        assert [sample.inputs["photo"][0, 0, 0, 0] for sample in samples] == [1, 3]
        assert [sample.label for sample in dataset(tmp_path, PICTURE, "calibration")] == [7, 9, 1]

    def test_labels_csv_without_splits_gives_all_to_both(self, tmp_path: Path) -> None:
        self.picture(tmp_path / "a.png")
        self.listed(tmp_path, "file,label", "a.png,3")
        assert [
            sample.label for role in ("calibration", "evaluation") for sample in dataset(tmp_path, PICTURE, role)
        ] == [3, 3]

    def test_a_subfolder_a_class_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        for name in ("dog/1.png", "cat/2.jpg", "cat/deeper/3.png", "dog/notes.txt"):
            if name.endswith("txt"):
                (tmp_path / name).write_text("no image")
            else:
                self.picture(tmp_path / name)
        assert [sample.label for sample in dataset(tmp_path, PICTURE)] == [0, 0, 1]

    def test_images_without_classes_have_no_labels(self, tmp_path: Path) -> None:
        self.picture(tmp_path / "a.png")
        assert [sample.label for sample in dataset(tmp_path, PICTURE)] == [None]

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
    def test_any_image_becomes_rgb(self, tmp_path: Path, mode: str) -> None:
        suffix = "tif" if mode == "CMYK" else "png"
        Image.new(mode, (5, 6)).save(tmp_path / f"a.{suffix}", format="TIFF" if mode == "CMYK" else None)
        (tmp_path / f"a.{suffix}").rename(tmp_path / "b.png")
        (sample,) = dataset(tmp_path, PICTURE)
        assert (sample.inputs["photo"].shape, sample.inputs["photo"].dtype) == ((1, 6, 5, 3), np.uint8)

    def test_pretrained_data_has_its_splits(self) -> None:
        folder = shared("data/vww96")
        interface = Interface((TensorSpec("x", "float32", (None, 96, 96, 3)),), (), {"x": Preprocess()})
        assert sum(1 for _ in dataset(folder, interface, "calibration")) == 20
        assert sum(1 for _ in dataset(folder, interface)) == 80

    @pytest.mark.parametrize(
        ("rows", "told"),
        [
            (["name,label", "a.png,1"], "row 1 has no file or no integer label — its columns: file,label[,split]"),
            (["file,class", "a.png,1"], "row 1 has no file or no integer label"),
            (["file,label", "a.png"], "row 1 has no file or no integer label"),
            (["file,label", "a.png,1", "a.png,cat"], "row 2 has no file or no integer label"),
            (["file,label", "a.png,1.5"], "row 1 has no file or no integer label"),
            (["file,label", "missing.png,1"], "missing.png: cannot be read as an image"),
            (["file,label", ",1"], "cannot be read as an image"),
            (["file,label,split", "a.png,1,nowhere"], "no evaluation samples in it"),
            (["file,label"], "no evaluation samples in it"),
            ([], "no evaluation samples in it"),
        ],
    )
    def test_a_mistake_in_labels_csv_is_named(self, tmp_path: Path, rows: list[str], told: str) -> None:
        self.picture(tmp_path / "a.png")
        assert told in line(self.listed(tmp_path, *rows), PICTURE)

    @pytest.mark.parametrize("content", [b"file,label\n\xff\xfe,1\n", b'"' + b"x" * 200_000])
    def test_a_labels_csv_that_is_no_text_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "labels.csv").write_bytes(content)
        assert "labels.csv: cannot be read: " in line(tmp_path, PICTURE)

    def test_a_folder_without_images(self, tmp_path: Path) -> None:
        assert "no calibration samples in it" in line(tmp_path, PICTURE, "calibration")

    @pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp"])
    def test_a_broken_image_is_named(self, tmp_path: Path, suffix: str) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"good.{suffix}")
        whole, path = (tmp_path / f"good.{suffix}").read_bytes(), tmp_path / f"a.{suffix}"
        (tmp_path / f"good.{suffix}").unlink()
        refusals = 0
        for at in range(0, len(whole), len(whole) // 30):
            for content in (whole[:at], whole[:at] + bytes(9) + whole[at + 9 :]):
                path.write_bytes(content)
                try:
                    list(dataset(tmp_path, PICTURE))
                except DataError as error:
                    refusals += f"{path}: cannot be read as an image" in str(error)
        assert refusals > 3

    def test_an_image_that_is_a_folder_or_empty_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").mkdir()
        assert "a.png: cannot be read as an image" in line(tmp_path, PICTURE)
        (tmp_path / "a.png").rmdir()
        (tmp_path / "a.png").touch()
        assert "a.png: cannot be read as an image" in line(tmp_path, PICTURE)

    def test_images_for_a_model_of_several_inputs(self, tmp_path: Path) -> None:
        self.picture(tmp_path / "a.png")
        assert "one array a sample, the model has inputs left, right" in line(tmp_path, TWO)

    def test_its_digest_changes_with_a_file(self, tmp_path: Path) -> None:
        self.picture(tmp_path / "a.png")
        before = dataset(tmp_path, PICTURE).source.digest
        self.picture(tmp_path / "b.png")
        assert dataset(tmp_path, PICTURE).source.digest != before


SAMPLES = """
import sys
import numpy as np

GOOD = np.zeros((1, 8, 8), np.float32)

def plain():
    for _ in range(3):
        yield GOOD

def pairs():
    for label in (4, np.int64(5), np.array(6), True):
        yield GOOD, label

def dicts():
    yield {"image": GOOD}, 1

def lists():
    yield {"left": [0.0] * 4, "right": 1}

def rows():
    return np.zeros((5, 1, 8, 8), np.float32)

def raises():
    yield GOOD
    raise KeyError("several\\nlines")

def at_once(): raise RuntimeError
def leaves(): sys.exit(3)
def nothing(): return None
def number(): return 3
def wants(n): yield n
def words(): yield "hello"
def ragged(): yield [[1, 2], [3]]
def none(): yield None
def things(): yield object()
def named(): yield GOOD, "cat"
def half(): yield GOOD, 0.5
def triple(): yield GOOD, 1, 2
value = 3
"""


class TestFunction:
    @pytest.fixture
    def base(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """A folder with a module ``own_samples`` in it, forgotten afterwards."""
        monkeypatch.setattr(sys, "path", [*sys.path])
        (tmp_path / "own_samples.py").write_text(SAMPLES)
        yield tmp_path
        for name in [name for name in sys.modules if name.startswith("own_")]:
            del sys.modules[name]

    def test_a_module_of_the_current_folder_is_found(self, base: Path) -> None:
        assert sum(1 for _ in dataset("own_samples:plain", base=base)) == 3

    def test_a_file_there_hides_no_module_that_is_needed_later(self, base: Path) -> None:
        (base / "colorsys.py").write_text("raise SystemExit('the wrong one')")
        dataset("own_samples:plain", base=base)
        sys.modules.pop("colorsys", None)
        assert __import__("colorsys").rgb_to_hsv

    def test_pairs_have_labels_of_any_integer_kind(self, base: Path) -> None:
        assert [sample.label for sample in dataset("own_samples:pairs", base=base)] == [4, 5, 6, 1]

    def test_dicts_by_input_name(self, base: Path) -> None:
        (sample,) = dataset("own_samples:dicts", base=base)
        assert (list(sample.inputs), sample.label) == (["image"], 1)
        assert "sample 0: input left: float32 [N, 4]: got dtype float64" in line("own_samples:lists", TWO, base=base)

    def test_anything_that_can_be_iterated(self, base: Path) -> None:
        assert sum(1 for _ in dataset("own_samples:rows", base=base)) == 5

    @pytest.mark.parametrize(
        ("function", "told"),
        [
            ("raises", "own_samples:raises: KeyError: 'several\\nlines' ({base}/own_samples.py:"),
            ("at_once", "own_samples:at_once: RuntimeError ({base}/own_samples.py:"),
            ("leaves", "own_samples:leaves: SystemExit: 3 ({base}/own_samples.py:"),
            ("nothing", "own_samples:nothing: TypeError: 'NoneType' object is not iterable"),
            ("number", "own_samples:number: TypeError: 'int' object is not iterable"),
            ("wants", "own_samples:wants: TypeError: wants() missing 1 required positional argument"),
            ("words", "own_samples:words: sample 0: input image: float32 [N, 1, 8, 8]: got dtype"),
            ("ragged", "own_samples:ragged: sample 0: setting an array element with a sequence"),
            ("none", "own_samples:none: sample 0: input image: float32 [N, 1, 8, 8]: got dtype object"),
            ("things", "own_samples:things: sample 0: input image: float32 [N, 1, 8, 8]: got dtype object"),
            ("named", "own_samples:named: sample 0: 'str' object cannot be interpreted as an integer"),
            ("half", "own_samples:half: sample 0: 'float' object cannot be interpreted as an integer"),
            ("triple", "own_samples:triple: sample 0: setting an array element with a sequence"),
        ],
    )
    def test_whatever_goes_wrong_in_it_is_one_line_that_names_it(self, base: Path, function: str, told: str) -> None:
        assert told.format(base=base) in line(f"own_samples:{function}", base=base)

    @pytest.mark.parametrize(
        ("source", "told"),
        [
            ("own_missing:f", "own_missing:f: No module named 'own_missing' — its folder must be the current one"),
            ("own_samples:missing", "module 'own_samples' has no attribute 'missing'"),
            ("own_samples:", "module 'own_samples' has no attribute ''"),
            (":plain", "Empty module name"),
            ("own_samples:value", "value is no function"),
            ("own_syntax:f", "own_syntax:f: cannot be imported: SyntaxError"),
            ("own_error:f", "own_error:f: cannot be imported: ValueError: at import ({base}/own_error.py:1)"),
            ("own_exit:f", "own_exit:f: cannot be imported: SystemExit: 4"),
        ],
    )
    def test_what_cannot_be_imported_is_a_mistake_of_configuration(self, base: Path, source: str, told: str) -> None:
        (base / "own_syntax.py").write_text("def f(:\n")
        (base / "own_error.py").write_text("raise ValueError('at import')\n")
        (base / "own_exit.py").write_text("raise SystemExit(4)\n")
        with pytest.raises(ConfigError) as caught:
            dataset(source, base=base)
        assert caught.value.exit_code == 2
        assert told.format(base=base) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_an_error_of_who_asks_is_not_taken_for_one_of_the_function(self, base: Path) -> None:
        with pytest.raises(ZeroDivisionError):
            sum(1 / 0 for _ in dataset("own_samples:plain", base=base))

    def test_samples_are_streamed(self, base: Path) -> None:
        """5,000 samples of 0.25 MiB would be 1.2 GiB."""
        (base / "own_stream.py").write_text(
            "import numpy as np\n\n\ndef many():\n    return (np.zeros((256, 256), np.float32) for _ in range(5000))\n"
        )
        interface = Interface((TensorSpec("x", "float32", (None, 256, 256)),), ())
        data = dataset("own_stream:many", interface, base=base)
        tracemalloc.start()
        try:
            count = sum(1 for _ in data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert count == 5000
        assert peak < 4 * 2**20


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("none.npz", "none.npz: no such evaluation data — give an .npz file, a folder of images, or package.module:fu"),
        ("some.npy", "some.npy: not evaluation data that edgekit reads — give an .npz file"),
        ("some.csv", "some.csv: not evaluation data that edgekit reads"),
        ("none/folder:x", "none/folder:x: no such evaluation data"),
    ],
)
def test_what_is_no_data_is_told_with_what_would_be(tmp_path: Path, source: str, told: str) -> None:
    for name in ("some.npy", "some.csv"):
        (tmp_path / name).touch()
    assert told in line(source, base=tmp_path)
