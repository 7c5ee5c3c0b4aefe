from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from edgekit.budget import Budget
from edgekit.errors import ConfigError
from edgekit.project import Data, PreprocessTable, Project, load
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.preprocess import Preprocess

FULL = """
app = "digits"
version = "1.0"
model = "digits.onnx"
targets = ["pi", "my.toml"]
signing_key = "~/.ssh/id_ed25519"
expires_days = 90

[data]
calibration = "calibration.npz"
evaluation = "own:samples"

[budget]
max_accuracy_drop = 0
max_size_mib = 2

[inputs.image]
shape = ["N", 200, 200, 3]

[preprocess.image]
resize = [224]
crop = [200, 200]
color = "bgr"
scale = 0.5
mean = [1, 2, 3]
std = [0.5]
layout = "NCHW"
dtype = "float32"
"""


def line(folder: Path, text: str) -> str:
    (folder / "edgekit.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_without_a_file_there_is_an_empty_project(tmp_path: Path) -> None:
    assert load(tmp_path) == Project()


def test_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "edgekit.toml").write_text(FULL)
    project = load(tmp_path)
    assert (project.app, project.targets, project.data) == (
        "digits",
        ["pi", "my.toml"],
        Data("calibration.npz", "own:samples"),
    )
    assert project.expires_days == 90
    assert project.budget == Budget(0.0, 0.9, 2.0)
    assert project.inputs["image"].sizes() == (None, 200, 200, 3)
    assert project.preprocess["image"].value() == Preprocess(
        (224,), (200, 200), "bgr", 0.5, (1.0, 2.0, 3.0), (0.5,), "NCHW", "float32"
    )


def test_an_empty_table_changes_nothing_of_an_image() -> None:
    assert PreprocessTable().value() == Preprocess()


def test_when_answers_agree_is_said_by_output(tmp_path: Path) -> None:
    text = """
[agreement.embedding]
by = "cosine"

[agreement."serving:0"]
by = "boxes"
corners = "yxyx"
scores = "how sure"
classes = "which"
min_score = 1
"""
    (tmp_path / "edgekit.toml").write_text(text)
    declared = {name: table.value() for name, table in load(tmp_path).agreement.items()}
    boxes = Agreement("boxes", corners="yxyx", scores="how sure", classes="which", min_score=1.0)
    assert declared == {"embedding": Agreement("cosine"), "serving:0": boxes}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("axis = 1", "agreement.y.by: missing"),
        ('by = "iou"', 'agreement.y.by: "iou" is not one of top1, cosine, kl, boxes, none'),
        ('by = "boxes"\ncorners = "cxcy"', 'agreement.y.corners: "cxcy" is not one of xyxy, yxyx, xywh, cxcywh'),
        ('by = "boxes"\ncolumns = "class"', "agreement.y.columns: "),
        ('by = "kl"\naxes = 1', "agreement.y.axes: unknown key — did you mean 'axis'?"),
    ],
)
def test_a_mistake_in_an_agreement_is_named(tmp_path: Path, text: str, told: str) -> None:
    assert line(tmp_path, f"[agreement.y]\n{text}").startswith(f"edgekit.toml: {told}")


def test_the_template_is_a_project_and_so_is_all_that_it_comments_on(tmp_path: Path) -> None:
    template = files("edgekit").joinpath("templates", "edgekit.toml").read_text()
    (tmp_path / "edgekit.toml").write_text(template)
    assert load(tmp_path) == Project()
    lines = [text.removeprefix("# ") if " = " in text or "# [" in text else text for text in template.splitlines()]
    (tmp_path / "edgekit.toml").write_text("\n".join(lines))
    assert load(tmp_path).preprocess["image"].std == [0.229, 0.224, 0.225]
    assert load(tmp_path).budget.max_p95_ms == 40
    tables = {"data", "inputs", "preprocess", "agreement", "budget"}
    assert {name for name in Project.__struct_fields__ if f"\n# {name} = " not in template} == tables


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ap = 'x'", "ap: unknown key — did you mean 'app'?"),
        ("[dat]", "dat: unknown key — did you mean 'data'?"),
        ("[data]\ncalibraton = 'x'", "data.calibraton: unknown key — did you mean 'calibration'?"),
        ("targets = 'pi'", 'targets: expected array, got str — write ["pi"], in brackets'),
        ("targets = [3]", 'targets[0]: expected str, got int — write "3", in quotes'),
        ("version = 1.0", 'version: expected str, got float — write "1.0", in quotes'),
        ("app = 'A b'", "app: expected str matching regex"),
        ("app = ''", "app: expected str matching regex"),
        ("app = '../x'", "app: expected str matching regex"),
        (f"app = '{'a' * 65}'", "app: expected str matching regex"),
        ("[budget]\nmin_agreement = 90", "budget.min_agreement: expected float <= 1.0 — found 90"),
        ("[budget]\nmax_accuracy_drop = nan", "budget.max_accuracy_drop: expected float >= 0.0 — found NaN"),
        ("[budget]\nmax_accuracy_drop = inf", "budget.max_accuracy_drop: expected float <= 1.0 — found Infinity"),
        ("[inputs.image]\nshape = [0]", "inputs.image.shape[0]: expected int >= 1"),
        ("[inputs.image]\nshape = []", "inputs.image.shape: expected array of length >= 1"),
        ("[inputs.image]\nshape = ['M', 3]", 'inputs.image.shape[0]: "M" is not one of N'),
        ("[inputs.image]\nsize = [3]", "inputs.image.size: unknown key — known: shape"),
        ("[preprocess]\nimage = 3", "preprocess.image: expected table, got int — found 3"),
        ("[preprocess.image]\nlayout = 'HWC'", 'preprocess.image.layout: "HWC" is not one of NHWC, NCHW'),
        ("[preprocess.image]\ndtype = 'uint9'", 'preprocess.image.dtype: "uint9" is not one of uint8, int8, float32'),
        ("[preprocess.image]\nscale = nan", "preprocess.image.scale: expected float >= "),
        ("[preprocess.image]\nscale = inf", "preprocess.image.scale: expected float <= "),
        ("[preprocess.image]\nmean = [nan]", "preprocess.image.mean[0]: expected float >= "),
        ("[preprocess.image]\nmean = []", "preprocess.image.mean: expected array of length >= 1"),
        (
            "[preprocess.image]\nmean = 0.5",
            "preprocess.image.mean: expected array, got float — write [0.5], in brackets",
        ),
        ("[preprocess.image]\nstd = [0]", "preprocess.image.std[0]: expected float > 0.0 — found 0"),
        ("[preprocess.image]\nstd = [inf]", "preprocess.image.std[0]: expected float <= "),
        ("[preprocess.image]\nstd = [nan]", "preprocess.image.std[0]: expected float > 0.0 — found NaN"),
        ("[preprocess.image]\nresize = [1, 2, 3]", "preprocess.image.resize: expected array of length <= 2"),
        ("[preprocess.image]\nresize = [0]", "preprocess.image.resize[0]: expected int >= 1 — found 0"),
        ("[preprocess.image]\ncrop = [4]", "preprocess.image.crop: expected array of length >= 2"),
    ],
)
def test_a_mistake_is_named_by_its_key(tmp_path: Path, text: str, told: str) -> None:
    assert line(tmp_path, text).startswith(f"edgekit.toml: {told}")


def test_what_is_no_toml_is_named_with_the_line(tmp_path: Path) -> None:
    assert "edgekit.toml: not TOML: " in line(tmp_path, "app = \n")
    assert "line 1" in line(tmp_path, "app = \n")
