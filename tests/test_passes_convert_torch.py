from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit import target as targets
from edgekit.build import Outcome, build
from edgekit.building.order import Order
from edgekit.errors import ConversionError, DataError, ExtraNotInstalled
from edgekit.model import Format, Model, open_model
from edgekit.passes import convert_torch, freeze
from edgekit.passes.references import layers_by
from edgekit.precision import Precision
from edgekit_runtime.preprocess import Preprocess
from tests.lab.models import CIFAR, RESNET20_PT2, context, outputs_of, samples, shared, torch

STATE = "resnet20_cifar10/resnet20_cifar10_state_dict.pt"
NETS = Path(__file__).parent / "lab" / "nets.py"
MAKE = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from torch.export import Dim
folder = Path(sys.argv[1])
sys.path.append(str(folder))
import nets

def save(name, model, args, kwargs=None, free=None):
    program = torch.export.export(model.eval(), args, kwargs, dynamic_shapes=free)
    torch.export.save(program, folder / f"{name}.pt2")

batch = {0: Dim.AUTO}
right, left, word = torch.zeros(2, 4), torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
free = {name: batch for name in ("right", "word", "left", "unused")}
save("several", nets.several(), (right, word), {"left": left, "unused": torch.zeros(2, 2)}, free)
save("image", nets.image(), (torch.zeros(2, 3, 21, 17),), free={"image": {0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO}})
save("fixed", nets.one_by_one(), (torch.zeros(1, 4),))
for name in ("several", "image", "one_by_one"):
    model = getattr(nets, name)()
    torch.save(model.state_dict(), folder / f"{name}.pt")
    save_file(model.state_dict(), folder / f"{name}.safetensors")
torch.save(nets.image(), folder / "whole.pt")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of programs, weights and the code that they belong to."""
    folder = tmp_path_factory.mktemp("torch models")
    shutil.copy(NETS, folder / "nets.py")
    done = subprocess.run([sys.executable, "-c", MAKE, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def converted(source: Path, work: Path, form: Format, target: str = "pi") -> Model:
    run = {Format.ONNX: convert_torch.run_onnx, Format.TFLITE: convert_torch.run_tflite}[form]
    return run(open_model(source), context(work, target, Order("app", "", "", "", work, 1)))


def of_sizes(
    source: Path, work: Path, form: Format, shapes: dict[str, tuple[int | None, ...]], **sizes: tuple[int, ...]
) -> Model:
    """Converted as in a build in which shapes are asked for, with samples of these sizes."""
    run = {Format.ONNX: convert_torch.run_onnx, Format.TFLITE: convert_torch.run_tflite}[form]
    data, model = samples(work / "data.npz", **sizes), open_model(source)
    for number, step in enumerate((freeze.run, run, freeze.run)):
        (work / f"{number}").mkdir()
        given = context(work / f"{number}", "pi", Order("app", "", data, data, work, 1))
        model = step(model, replace(given, shapes=shapes))
    return model


def exported(made: Path, factory: str, weights: str, work: Path, data: str, **steps: Preprocess) -> Model:
    """The program of a factory in the made folder, which has to be the current one."""
    order = Order("app", "", data, data, work, 1, preprocess=steps)
    return convert_torch.run_export(open_model(Path(f"nets:{factory}"), made / weights), context(work, "pi", order))


both = pytest.mark.parametrize("form", [Format.TFLITE, Format.ONNX], ids=lambda form: form.value)


def test_without_the_extra_it_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "litert_torch"):
        monkeypatch.setitem(sys.modules, name, None)
    model = Model(tmp_path / "m.pt2", Format.TORCH, (), (), "")
    order = Order("app", "", "", "", tmp_path, 1)
    with pytest.raises(
        ExtraNotInstalled, match=r"m.pt2: PyTorch models need torch — pip install 'edgekit-sdk\[torch\]'"
    ):
        convert_torch.run_tflite(model, context(tmp_path, "pi", order))


@torch
@pytest.mark.slow
class TestConversion:
    @both
    def test_several_inputs_and_outputs_keep_names_types_and_order(
        self, made: Path, tmp_path: Path, form: Format
    ) -> None:
        model = converted(made / "several.pt2", tmp_path, form)
        n = "N" if form is Format.ONNX else 1
        assert [str(spec) for spec in (*model.inputs, *model.outputs)] == [
            f"right: float32 [{n}, 4]",
            f"word: int64 [{n}]",
            f"left: float32 [{n}, 4]",
            f"unused: float32 [{n}, 2]",
            f"zeta: float32 [{n}, 3]",
            f"alpha_0: float32 [{n}, 3]",
            f"alpha_1: float32 [{n}, 4]",
        ]
        ones, zeros = np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32)
        rest = {"word": np.array([3]), "unused": np.zeros((1, 2), np.float32)}
        one, other, same = (
            outputs_of(model, {"right": right, "left": left, **rest})
            for right, left in ((ones, zeros), (zeros, ones), (ones, ones))
        )
        assert np.allclose(one["zeta"] + other["zeta"], 2 * same["zeta"], atol=1e-5)
        assert np.allclose(one["alpha_0"], other["alpha_0"])
        assert np.allclose(one["alpha_1"], 2)

    def test_onnx_keeps_the_sizes_that_are_free(self, made: Path, tmp_path: Path) -> None:
        model = converted(made / "image.pt2", tmp_path, Format.ONNX)
        assert [str(spec) for spec in model.inputs] == ["image: float32 [N, 3, N, N]"]
        for sizes in ((1, 3, 16, 16), (5, 3, 33, 20)):
            (given,) = outputs_of(model, {"image": np.zeros(sizes, np.float32)}).values()
            assert given.shape == (sizes[0], 2)

    def test_tflite_has_the_sizes_of_the_export_and_a_batch_of_1(self, made: Path, tmp_path: Path) -> None:
        model = of_sizes(made / "image.pt2", tmp_path, Format.TFLITE, {}, image=(3, 21, 17))
        assert [str(spec) for spec in model.inputs] == ["image: float32 [1, 3, 21, 17]"]

    def test_where_the_data_are_of_other_sizes_the_line_to_write_is_told(self, made: Path, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r'leaves axes 2, 3 free, .*: shape = \["N", 3, 20, 24\]'):
            of_sizes(made / "image.pt2", tmp_path, Format.TFLITE, {}, image=(3, 20, 24))

    @both
    def test_free_sizes_become_those_that_are_asked_for(self, made: Path, tmp_path: Path, form: Format) -> None:
        shapes = {"image": (None, 3, 20, 24)}
        model = of_sizes(made / "image.pt2", tmp_path, form, shapes, image=(3, 20, 24))
        batch = None if form is Format.ONNX else 1
        assert [spec.shape for spec in (*model.inputs, *model.outputs)] == [(batch, 3, 20, 24), (batch, 2)]
        assert [spec.shape for spec in open_model(model.path).inputs] == [(batch, 3, 20, 24)]

    @pytest.mark.parametrize("target", ["pi", "jetson"])
    def test_onnx_is_written_as_the_target_reads_it_and_tells_nothing_of_its_source(
        self, made: Path, tmp_path: Path, target: str
    ) -> None:
        path = converted(made / "image.pt2", tmp_path, Format.ONNX, target).path
        document = onnx.load(path)
        onnx.checker.check_model(document, full_check=True)
        assert document.ir_version == 8
        assert [(each.domain, each.version) for each in document.opset_import] == [("", 17)]
        for word in (b"nets.py", b"torch.export", str(made).encode()):
            assert word not in path.read_bytes()

    def test_nothing_of_the_person_is_touched(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("person", "work"):
            (tmp_path / name).mkdir()
        monkeypatch.setenv("HOME", str(tmp_path / "person"))
        for form in (Format.ONNX, Format.TFLITE):
            converted(made / "fixed.pt2", tmp_path / "work", form)
        assert list((tmp_path / "person").iterdir()) == []

    def test_the_first_layer_that_differs_can_be_named(self, made: Path, tmp_path: Path) -> None:
        model, work = open_model(made / "image.pt2"), context(tmp_path, "pi", Order("app", "", "", "", tmp_path, 1))
        order = {**convert_torch._order(model, work, Format.ONNX), "batches": [1, 3]}
        layers = layers_by(convert_torch._child(), order, 1)
        assert layers[0].name == "conv2d"
        assert layers[-1].value.shape == (3, 2)
        assert layers[-1].inputs == (layers[-2].name,)


@torch
@pytest.mark.slow
class TestFactory:
    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    def test_its_module_is_exported_with_a_sample_and_a_free_batch(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
    ) -> None:
        monkeypatch.chdir(made)
        np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).integers(0, 255, (4, 19, 18, 3)).astype(np.uint8))
        step = Preprocess(crop=(16, 16), layout="NCHW")
        model = exported(made, "image", f"image{suffix}", tmp_path, "d.npz", image=step)
        assert [str(spec) for spec in model.inputs] == ["image: float32 [N, 3, 16, 16]"]
        assert model.lineage == ("torch-export",)
        work = context(tmp_path, "pi", Order("app", "", "", "", tmp_path, 1))
        x = {"image": np.random.default_rng(0).random((1, 3, 16, 16), np.float32)}
        known = converted(made / "image.pt2", tmp_path, Format.ONNX)
        (want,), (got,) = (outputs_of(each, x).values() for each in (known, convert_torch.run_onnx(model, work)))
        assert np.allclose(want, got, atol=1e-5)

    def test_several_inputs_are_found_by_their_names(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(made)
        four = np.zeros((3, 4), np.float32)
        np.savez(tmp_path / "d.npz", word=np.arange(3), left=four, right=four, unused=four[:, :2])
        model = exported(made, "several", "several.pt", tmp_path, "d.npz")
        told = ["right: float32 [N, 4]", "word: int64 [N]", "left: float32 [N, 4]", "unused: float32 [N, 2]"]
        assert sorted(str(spec) for spec in model.inputs) == sorted(told)

    def test_a_module_for_a_batch_of_1_has_one(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(made)
        data = samples(tmp_path / "d.npz", x=(4,))
        model = exported(made, "one_by_one", "one_by_one.pt", tmp_path, data)
        assert [str(spec) for spec in model.inputs] == ["x: float32 [1, 4]"]

    @pytest.mark.parametrize(
        ("factory", "weights", "told"),
        [
            ("image", "whole.pt", "it holds more than tensors, or is cut short, and was not loaded"),
            ("image", "several.pt", "Missing key"),
            ("nothing", "image.pt", "nets:nothing gave a dict"),
            ("missing", "image.pt", "has no attribute 'missing'"),
        ],
    )
    def test_what_cannot_be_loaded_is_one_line(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, weights: str, told: str
    ) -> None:
        monkeypatch.chdir(made)
        data = samples(tmp_path / "d.npz", image=(3, 16, 16))
        with pytest.raises(ConversionError, match=f"^{weights}: PyTorch could not convert it: .*{told}") as caught:
            exported(made, factory, weights, tmp_path, data)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500

    def test_without_a_sample_there_is_no_shape(self, made: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=np.zeros((0, 4)))
        with pytest.raises(DataError, match="no calibration samples in it"):
            exported(made, "image", "image.pt", tmp_path, "d.npz")


def built(source: Model, folder: Path, target: str) -> Outcome:
    only = (Precision.INT8, Precision.FLOAT32)
    return build(source, targets.load(target), RESNET20_PT2.order(folder, precisions=only), print)


@torch
@pytest.mark.slow
class TestResNet20:
    """The published network: float is as good as published in every format, and int8 of it within a point."""

    @pytest.mark.parametrize("target", ["pi", "jetson"])
    def test_its_program(self, tmp_path: Path, target: str) -> None:
        outcome = built(open_model(shared(RESNET20_PT2.model)), tmp_path, target)
        floats = {each.format: each.accuracy for each in outcome.measured if each.name.endswith("float32")}
        assert floats.keys() == ({"tflite", "onnx"} if target == "pi" else {"onnx"})
        assert list(floats.values()) == pytest.approx([RESNET20_PT2.accuracy] * len(floats), abs=0.001)
        (chosen,) = [each for each in outcome.measured if each.chosen]
        assert chosen.accuracy is not None
        assert chosen.accuracy >= RESNET20_PT2.accuracy - 0.01

    def test_its_weights_and_code_from_the_command_line(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        shutil.copy(NETS, tmp_path / "nets.py")
        CIFAR(tmp_path)
        (tmp_path / "edgekit.toml").write_text(
            f'model = "nets:resnet20"\nweights = "{shared(STATE)}"\n[data]\ncalibration = "calibration.npz"\n'
            'evaluation = "evaluation.npz"\n[preprocess.x]\nscale = 0.00392156862745098\nlayout = "NCHW"\n'
            "mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n"
        )
        command = [sys.executable, "-m", "edgekit", "build", "--target", "jetson", "--precision", "float32"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "82.40%" in done.stdout
        assert (tmp_path / "bundles" / "resnet20-jetson-orin").is_dir()
