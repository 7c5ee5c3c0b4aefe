"""``edgekit build`` and ``edgekit bundle``: bad input is one line, an exit status, and nothing half-written."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgekit import cli
from edgekit_runtime.bundle import open_layout
from edgekit_runtime.session import load
from tests.lab.bundles import contents, flip, make_bundle, part_of
from tests.lab.models import DIGITS, UNEVEN, dense, onnx_model, tensorflow, uneven_digits
from tests.lab.project import EDGEKIT, Ran, project, started, tree

__all__ = ["project"]  # a fixture

Command = Callable[..., Ran]
KEYS = {
    "name",
    "format",
    "engine",
    "precision",
    "size_bytes",
    "samples",
    "agreement",
    "accuracy",
    "max_abs_error",
    "latency_ms",
    "calibrator",
    "float_layers",
    "memory_mib",
    "on_devices",
    "chosen",
}


@pytest.fixture
def here(project: Path) -> Path:
    """A project with the digits in it."""
    for name in ("digits.onnx", "calibration.npz", "evaluation.npz"):
        shutil.copy(DIGITS / name, project)
    (project / "edgekit.toml").write_text(
        'model = "digits.onnx"\ntargets = ["pi"]\n\n'
        '[data]\ncalibration = "calibration.npz"\nevaluation = "evaluation.npz"\n'
    )
    return project


@pytest.fixture
def run(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, which is quicker than one of its own; it has to end with that status."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    on_interrupt = signal.getsignal(signal.SIGINT)

    def call(*words: str | Path, status: int = 0) -> Ran:
        monkeypatch.setattr(sys, "argv", ["edgekit", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        signal.signal(signal.SIGINT, on_interrupt)
        out, err = capsys.readouterr()
        assert (ended.value.code or 0) == status, f"{ended.value.code}\n{out}\n{err}"
        return Ran(status, out, err)

    return call


@pytest.fixture
def refused(run: Command, here: Path) -> Callable[..., str]:
    """What a build that must fail says: one line, the same as JSON where that is asked for, and nothing is written."""

    def call(*words: str | Path, status: int = 1) -> str:
        before = tree(here)
        line = run("build", *words, status=status).line
        told = run("build", *words, "--json", status=status)
        error = told.document["error"]
        assert line == " ".join(
            f"edgekit: {error['message']}{' — ' if error['hint'] else ''}{error['hint'] or ''}".split()
        )
        assert told.line == line
        assert set(error) == {"code", "message", "hint"}
        assert tree(here) == before
        return line.removeprefix("edgekit: ")

    return call


def toml(here: Path, text: str) -> None:
    with (here / "edgekit.toml").open("a") as file:
        file.write(text)


class TestModel:
    @pytest.mark.parametrize(
        ("content", "name", "told"),
        [
            (
                None,
                "none.onnx",
                "none.onnx: no such model file — give the path of a .onnx, .tflite, .keras, .h5 or .pt2 file",
            ),
            (b"hello\n" * 9, "text.onnx", "text.onnx: not an ONNX model, or cut short — export or copy it again"),
            (b"", "empty.onnx", "empty.onnx: an ONNX model without a single node — export or copy it again"),
            (b"", "empty.tflite", "empty.tflite: not a TFLite model, or cut short — export or copy it again"),
            (b"hello\n" * 9, "text.tflite", "text.tflite: not a TFLite model, or cut short"),
            (b"", "empty.keras", "empty.keras: not a Keras model, or cut short — save it again with model.save()"),
            (b"hello\n" * 9, "text.keras", "text.keras: not a Keras model, or cut short"),
            (b"hello\n" * 9, "model.pt", "model.pt: a pickle may run code when it is loaded; it was not loaded — "),
        ],
    )
    def test_what_is_no_model_is_one_line(
        self, refused: Any, here: Path, content: bytes | None, name: str, told: str
    ) -> None:
        if content is not None:
            (here / name).write_bytes(content)
        assert refused(name).startswith(told)

    def test_a_folder_is_no_model(self, refused: Any, here: Path) -> None:
        (here / "folder.onnx").mkdir()
        assert refused("folder.onnx").startswith("folder.onnx: no such model file")
        assert refused(".", status=2).startswith(".: no app name can be made of it — give one with --app")

    @pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
    def test_a_model_cut_short_is_one_line(self, refused: Any, here: Path, share: float) -> None:
        whole = (DIGITS / "digits.onnx").read_bytes()
        (here / "cut.onnx").write_bytes(whole[: int(len(whole) * share)])
        assert refused("cut.onnx").startswith("cut.onnx: ")

    @pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname"])
    def test_weights_outside_of_the_models_folder_are_refused(self, refused: Any, here: Path, location: str) -> None:
        model = onnx.load(dense(here / "m.onnx"))
        onnx.save(model, here / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
        (here / "w.bin").rename(here.parent / "secret.bin")
        moved = onnx.load(here / "m.onnx", load_external_data=False)
        for tensor in moved.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        (here / "m.onnx").write_bytes(moved.SerializeToString())
        assert refused("m.onnx").startswith("m.onnx: refused: ")

    @pytest.mark.parametrize(
        "name", ["my model's (2).onnx", 'a "b".onnx', "a\nb.onnx", "Größe.onnx", "x" * 200 + ".onnx"]
    )
    def test_a_name_of_any_kind_is_taken(self, run: Command, here: Path, name: str) -> None:
        shutil.copy(here / "digits.onnx", here / name)
        made = run("build", name, "--precision", "float32", "--json").document
        opened, _ = open_layout(here / made["bundle"])
        assert opened.manifest.provenance["source"]["name"] == name
        assert len(opened.manifest.app) <= 64

    def test_a_name_without_a_letter_needs_an_app(self, refused: Any, run: Command, here: Path) -> None:
        shutil.copy(here / "digits.onnx", here / "模型.onnx")
        assert refused("模型.onnx", status=2).endswith("no app name can be made of it — give one with --app")
        run("build", "模型.onnx", "--app", "digits", "--precision", "float32")


class TestKerasFile:
    def test_a_layer_that_holds_code_is_refused_before_anything_is_loaded(self, refused: Any, here: Path) -> None:
        layer = {"class_name": "Lambda", "config": {"name": "trick", "function": "…"}}
        with zipfile.ZipFile(here / "m.keras", "w") as file:
            file.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}}))
        assert refused("m.keras").startswith("m.keras: layer 'trick' is a Lambda layer, which holds code; it was not")

    def test_without_the_extra_it_says_what_to_install(
        self, refused: Any, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with zipfile.ZipFile(here / "m.keras", "w") as file:
            file.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": []}}))
        (here / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
        for name in ("tensorflow", "h5py", "tf2onnx", "keras"):
            monkeypatch.setitem(sys.modules, name, None)
        for name in ("m.keras", "m.h5"):
            assert refused(name).endswith(" — pip install 'edgekit-sdk[tensorflow]'")

    @tensorflow
    @pytest.mark.slow
    def test_a_model_that_keras_refuses_is_one_line(self, refused: Any, here: Path) -> None:
        with zipfile.ZipFile(here / "m.keras", "w") as file:
            file.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": []}}))
        assert refused("m.keras").startswith("m.keras: Keras could not convert it: ")


class TestData:
    @pytest.mark.parametrize("role", ["calibration", "evaluation"])
    @pytest.mark.parametrize(
        ("arrays", "told"),
        [
            (
                {"x": np.zeros((3, 1, 4, 8), np.float32)},
                "bad.npz: sample 0: input image: float32 [N, 1, 8, 8]: got shape",
            ),
            ({"x": np.zeros((3, 1, 8, 8))}, "bad.npz: sample 0: input image: float32 [N, 1, 8, 8]: got dtype float64"),
            ({"x": np.full((3, 1, 8, 8), np.nan, np.float32)}, "bad.npz: sample 0: input 'image' has NaN or infinite"),
            ({"x": np.zeros((0, 1, 8, 8), np.float32)}, "bad.npz: no {role} samples in it — give at least a few dozen"),
            (
                {"y": np.zeros((3, 1, 8, 8), np.float32)},
                "bad.npz: sample 0: input 'image' is missing — the model takes",
            ),
            ({"x": np.array([None])}, "bad.npz: cannot be read as .npz: Object arrays cannot be loaded"),
            (
                {"x": np.zeros((3, 1, 8, 8), np.float32), "labels": np.arange(2)},
                "bad.npz: its arrays have different numbers of samples — one row a sample in each",
            ),
            (
                {"x": np.zeros((3, 1, 8, 8), np.float32), "labels": np.arange(3.0)},
                "bad.npz: labels are float64 [3] — write one integer a sample, the number of its class",
            ),
        ],
    )
    def test_what_the_model_cannot_take_is_one_line(
        self, refused: Any, here: Path, role: str, arrays: dict[str, Any], told: str
    ) -> None:
        np.savez(here / "bad.npz", **arrays)
        assert told.format(role=role) in refused(f"--{role}", "bad.npz")

    @pytest.mark.parametrize("role", ["calibration", "evaluation"])
    def test_what_is_no_data_is_one_line(self, refused: Any, here: Path, role: str) -> None:
        assert refused(f"--{role}", "none.npz").startswith(
            f"none.npz: no such {role} data — give an .npz file, a folder"
        )
        (here / "text.npz").write_text("hello")
        assert "text.npz: cannot be read as .npz: " in refused(f"--{role}", "text.npz")
        (here / "images").mkdir()
        (here / "images" / "broken.png").write_text("hello")
        assert "broken.png: cannot be read as an image: " in refused(f"--{role}", "images")
        (here / "images" / "labels.csv").write_text("name,class\nbroken.png,1\n")
        assert "row 1 has no file or no integer label" in refused(f"--{role}", "images")

    @pytest.mark.parametrize("role", ["calibration", "evaluation"])
    def test_an_error_of_the_persons_own_function_is_one_line_that_names_it(
        self, refused: Any, here: Path, role: str
    ) -> None:
        (here / f"my_{role}.py").write_text(
            "def samples():\n    raise LookupError('two\\nlines')\n    yield\n\nodd = 3\n"
        )
        line = refused(f"--{role}", f"my_{role}:samples")
        assert line.startswith(f"my_{role}:samples: LookupError: two lines ({here}/my_{role}.py:2) — ")
        assert (
            refused(f"--{role}", f"my_{role}:odd", status=2)
            == f"my_{role}:odd: odd is no function — name one that yields samples"
        )
        assert refused(f"--{role}", "my_missing:f", status=2).startswith("my_missing:f: No module named 'my_missing'")
        del sys.modules[f"my_{role}"]

    def test_a_label_that_the_model_does_not_have_is_one_line(self, refused: Any, here: Path) -> None:
        np.savez(here / "bad.npz", x=np.zeros((3, 1, 8, 8), np.float32), labels=np.arange(9, 12))
        assert refused("--evaluation", "bad.npz").startswith(
            "evaluation data: sample 1: label 10, the model has the classes 0 to 9"
        )

    def test_a_function_in_the_current_folder_is_found_by_the_installed_command(self, here: Path) -> None:
        (here / "my_digits.py").write_text(
            "import numpy as np\n\n\ndef samples():\n    with np.load('evaluation.npz') as data:\n"
            "        yield from zip(data['x'][:40], data['labels'][:40], strict=True)\n\n\n"
            "def others():\n    with np.load('calibration.npz') as data:\n        yield from data['x'][:40]\n"
        )
        script = Path(sys.executable).with_name("edgekit")
        command = [script, "build", "--calibration", "my_digits:others", "--evaluation", "my_digits:samples", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["baseline"]["samples"] == 40


class TestConfiguration:
    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["--target", "pie"], "no target profile 'pie' — did you mean 'pi'? known: generic-aarch64, "),
            (["--target", "mine.toml"], "mine.toml: no such file"),
            (["--budget", "max_size=1"], "--budget: max_size: unknown key — did you mean 'max_size_mib'?"),
            (["--budget", "max_size_mib"], "--budget max_size_mib: not KEY=VALUE"),
            (["--budget", "max_size_mib=big"], "--budget max_size_mib=big: 'big' is no number"),
            (["--budget", "max_size_mib=nan"], "--budget: max_size_mib: expected float > 0.0 — found NaN"),
            (["--budget", "max_p95_ms=inf"], "--budget: max_p95_ms: expected float <= "),
            (["--app", "My App"], "--app 'My App': no app name — use a-z, 0-9, '.', '_' and '-', at most 64"),
            (["--app", "../../x"], "--app '../../x': no app name"),
            (["--app", "a" * 65], f"--app '{'a' * 65}': no app name"),
            (["--app", ""], "--app '': no app name"),
            (
                ["--precision", "int4"],
                "Invalid value for '--precision': 'int4' is not one of 'float32', 'int8', 'mixed', ",
            ),
            (["--nope"], "No such option"),
        ],
    )
    def test_a_mistake_on_the_command_line_is_one_line_and_status_2(
        self, refused: Any, words: list[str], told: str
    ) -> None:
        assert refused(*words, status=2).startswith(told)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (
                "[budget]\nmax_accuracy_dorp = 1",
                "edgekit.toml: budget.max_accuracy_dorp: unknown key — did you mean 'max",
            ),
            (
                "[budget]\nmax_accuracy_drop = '1'",
                "edgekit.toml: budget.max_accuracy_drop: expected float, got str — write",
            ),
            (
                "[budget]\nmax_accuracy_drop = nan",
                "edgekit.toml: budget.max_accuracy_drop: expected float >= 0.0 — found",
            ),
            ("[preprocess.imag]\nscale = 1", "edgekit.toml: preprocess.imag: no such input — the model takes image"),
            (
                "[preprocess.image]\nlayuot = 'x'",
                "edgekit.toml: preprocess.image.layuot: unknown key — did you mean 'la",
            ),
            ("x =", "edgekit.toml: not TOML: "),
        ],
    )
    def test_a_mistake_in_edgekit_toml_names_the_key(self, refused: Any, here: Path, text: str, told: str) -> None:
        toml(here, text)
        assert told in refused(status=2)

    def test_what_is_missing_everywhere_is_asked_for(self, refused: Any, here: Path) -> None:
        (here / "edgekit.toml").unlink()
        assert refused(status=2) == "no model given — use edgekit build MODEL, or write it into edgekit.toml"
        assert refused("digits.onnx", status=2).startswith("no target given — use --target pi")
        assert refused("digits.onnx", "--target", "pi", status=2).startswith("no calibration data given")
        words = ["digits.onnx", "--target", "pi", "--calibration", "calibration.npz"]
        assert refused(*words, status=2).startswith("no evaluation data given")

    def test_a_missing_key_is_told_before_the_work(self, refused: Any, here: Path) -> None:
        (here / "edgekit.toml").write_text(f'signing_key = "none"\n{(here / "edgekit.toml").read_text()}')
        assert refused(status=2) == "none: no such signing key — make one with: ssh-keygen -t ed25519"

    @pytest.mark.slow
    def test_a_place_that_is_taken_is_told_before_the_work(self, refused: Any, here: Path) -> None:
        (here / "taken").mkdir()
        (here / "taken" / "mine.txt").write_text("mine")
        for place in ("taken", "digits.onnx", "."):
            assert (
                refused("--output", place)
                == f"{place}: not empty and not a bundle — choose another place with --output"
            )
        assert refused("--output", "digits.onnx/x").startswith("digits.onnx/x: cannot be written: Not a directory")


class TestResult:
    def test_json_has_the_documented_keys_and_nothing_else(self, run: Command, here: Path) -> None:
        document = run("build", "--json").document
        assert set(document) == {
            "schema_version",
            "target",
            "bundle",
            "digest",
            "verdict",
            "baseline",
            "candidates",
            "learned",
            "builds",
        }
        assert document["builds"] == [{key: document[key] for key in document.keys() - {"schema_version", "builds"}}]
        assert (document["target"], document["bundle"]) == ("raspberry-pi-5", "bundles/digits-raspberry-pi-5")
        assert document["digest"] == open_layout(here / document["bundle"])[0].digest
        assert set(document["verdict"]) == {"ok", "reasons", "notes"}
        assert document["verdict"]["ok"] is True
        assert all(set(each) == KEYS for each in (document["baseline"], *document["candidates"]))
        assert all(set(each["latency_ms"]) == {"p50", "p95", "p50_low", "p50_high"} for each in document["candidates"])
        assert document["baseline"] == document["candidates"][0]
        assert [(each["name"], each["chosen"]) for each in document["candidates"]] == [
            ("onnx-float32", False),
            ("onnx-int8", True),
        ]

    @pytest.mark.slow
    def test_several_targets_stand_in_builds_alone(self, run: Command, here: Path) -> None:
        document = run("build", "--target", "pi", "--target", "jetson", "--json").document
        assert set(document) == {"schema_version", "builds"}
        assert [each["bundle"] for each in document["builds"]] == [
            "bundles/digits-raspberry-pi-5",
            "bundles/digits-jetson-orin",
        ]

    def test_a_target_named_twice_is_built_once(self, run: Command, here: Path) -> None:
        document = run(
            "build", "--target", "pi", "--target", "raspberry-pi-5", "--precision", "int8", "--json"
        ).document
        assert len(document["builds"]) == 1

    def test_a_broken_budget_is_status_3_with_the_reasons_and_json_all_the_same(self, run: Command, here: Path) -> None:
        before = tree(here)
        document = run("build", "--budget", "max_size_mib=0.001", "--json", status=3).document
        assert (document["bundle"], document["digest"], document["verdict"]["ok"]) == (None, None, False)
        assert document["verdict"]["reasons"][0].startswith("onnx-float32: takes 0.22")
        assert tree(here) == before
        shown = run("build", "--budget", "max_size_mib=0.001", status=3).stdout
        assert "refused: nothing holds the budget" in shown
        assert all(reason in shown for reason in document["verdict"]["reasons"])

    def test_one_target_may_ship_and_another_not(self, run: Command, here: Path) -> None:
        (here / "odd.toml").write_text(
            (Path(cli.__file__).parents[2] / "targets" / "jetson-orin.toml")
            .read_text()
            .replace('name = "jetson-orin"', 'name = "odd"')
            .replace('aliases = ["jetson"]', "aliases = []")
            .replace('precisions = ["int8", "mixed", "float16", "float32"]', 'precisions = ["float32"]')
        )
        words = ["build", "--target", "pi", "--target", "odd.toml", "--budget", "max_size_mib=0.15", "--json"]
        document = run(*words, status=3).document
        assert [each["verdict"]["ok"] for each in document["builds"]] == [True, False]
        assert sorted(path.name for path in (here / "bundles").iterdir()) == ["digits-raspberry-pi-5"]

    def test_an_infinite_error_is_null_in_json_and_refuses_the_candidate(self, run: Command, here: Path) -> None:
        """Ranges from numbers of thousands make 0 of those around 1, and the model divides by them."""
        weights = {"w": np.eye(8, 4, dtype=np.float32)}
        nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Reciprocal", ["a"], ["y"])]
        onnx_model(here / "m.onnx", nodes, {"x": ["N", 8]}, {"y": ["N", 4]}, weights)
        for name, factor in (("large", 2000), ("small", 1)):
            np.savez(here / f"{name}.npz", x=(np.random.default_rng(0).random((9, 8), np.float32) / 2 + 0.5) * factor)
        words = ["m.onnx", "--calibration", "large.npz", "--evaluation", "small.npz"]
        words += ["--precision", "int8", "--precision", "float32"]
        document = run("build", *words, "--json").document
        assert [(each["max_abs_error"], each["chosen"]) for each in document["candidates"]] == [
            (0, True),
            (None, False),
        ]
        reason = "onnx-int8: gives NaN, or outputs of another shape than float"
        assert reason in document["verdict"]["reasons"]
        shown = run("build", *words).stdout
        assert reason in shown
        assert run("bundle", "show", document["bundle"], "--json").document["manifest"]["verdict"]["candidates"]

    def test_the_table_shows_every_candidate_and_where_the_bundle_is(self, run: Command, here: Path) -> None:
        shown = run("build").stdout
        assert all(word in shown for word in ("raspberry-pi-5", "onnx-float32", "onnx-int8", "chosen", "99.75%"))
        assert (
            f"bundles/digits-raspberry-pi-5  {open_layout(here / 'bundles' / 'digits-raspberry-pi-5')[0].digest}"
            in shown
        )

    def test_what_was_built_can_be_loaded(self, run: Command, here: Path) -> None:
        run("build", "--output", "out/mine")
        with load("out/mine") as session, np.load("evaluation.npz") as data:
            assert session.predict({"image": data["x"][:1]})["logits"].argmax() == data["labels"][0]

    def test_the_output_of_several_targets_is_a_folder_of_bundles(self, run: Command, here: Path) -> None:
        run("build", "--target", "pi", "--target", "jetson", "--output", "out", "--precision", "float32")
        assert sorted(path.name for path in (here / "out").iterdir()) == ["jetson-orin", "raspberry-pi-5"]

    def test_flags_go_over_variables_and_those_over_the_file(
        self, run: Command, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EDGEKIT_BUILD_TARGETS", "jetson")
        assert run("build", "--precision", "float32", "--json").document["target"] == "jetson-orin"
        assert run("build", "--target", "pi", "--precision", "float32", "--json").document["target"] == "raspberry-pi-5"

    @pytest.mark.slow
    def test_two_builds_in_two_processes_have_the_same_layers(self, here: Path) -> None:
        layers = []
        for place in ("one", "other"):
            started("build", "--target", "pi", "--output", place)
            layers.append(open_layout(here / place)[0].layers)
        assert layers[0] == layers[1]

    @pytest.mark.slow
    def test_nothing_of_the_person_is_touched_but_the_key(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Onnxruntime would leave an identifier in ~/.cache and in the temporary folder, and tell its maker."""
        (here / "temporary").mkdir()
        monkeypatch.setenv("TMPDIR", str(here / "temporary"))
        started("build")
        person = [path for path in (here.parent / "person").rglob("*") if path.is_file()]
        assert sorted(path.name for path in person) == ["signing_key", "signing_key.pub"]
        assert list((here / "temporary").iterdir()) == []

    @pytest.mark.slow
    def test_mixed_precision_saves_what_int8_ruins_and_both_are_told(self, run: Command, here: Path) -> None:
        uneven_digits(here / "m.onnx")
        refused = run("build", "m.onnx", "--precision", "int8", status=3).stdout
        assert re.search(r"onnx-int8: agrees with float on \d+\.\d\d%, needed are 90\.00%", refused)
        assert re.search(r"nearest is onnx-int8, which would hold max_accuracy_drop=0\.\d+", refused)
        words = ["build", "m.onnx", "--precision", "int8", "--precision", "mixed"]
        document = run(*words, "--json").document
        assert [each["float_layers"] for each in document["candidates"] if each["chosen"]] == [list(UNEVEN)]
        explained = run("bundle", "explain", document["bundle"]).stdout.splitlines()
        assert [line.split()[0] for line in explained if " float32 " in line] == list(UNEVEN)

    def test_only_a_calibrator_that_was_asked_for_is_used(self, run: Command, here: Path) -> None:
        document = run("build", "--precision", "int8", "--calibrator", "percentile", "--json").document
        assert [each["calibrator"] for each in document["candidates"]] == ["", "percentile"]


class TestInterrupted:
    @pytest.mark.parametrize("step", range(1, 6))
    def test_at_any_step_it_is_one_line_status_130_and_nothing_half_written(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, step: int
    ) -> None:
        """The steps: float, int8 and measuring for the Pi, float and int8 for the Jetson."""
        (here / "temporary").mkdir()
        monkeypatch.setenv("TMPDIR", str(here / "temporary"))
        before = tree(here)
        words = [*EDGEKIT, "build", "--target", "pi", "--target", "jetson"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            told = [process.stderr.readline() for _ in range(step)]
            process.send_signal(signal.SIGINT)
            said = [line for line in process.stderr if line.strip() and "XNNPACK" not in line]
        assert all(line.startswith(("raspberry-pi-5: ", "jetson-orin: ")) for line in told)
        assert (process.returncode, said[-1]) == (130, "edgekit: interrupted\n")
        assert all(line.startswith(("raspberry-pi-5: ", "jetson-orin: ")) for line in said[:-1])
        assert tree(here) == before
        assert list((here / "temporary").iterdir()) == []

    def test_with_json_it_is_an_object(self, here: Path) -> None:
        (here / "slow.py").write_text(
            "import time\n\n\ndef samples():\n    print('ready', flush=True)\n    time.sleep(60)\n    yield\n"
        )
        process = subprocess.Popen(
            [*EDGEKIT, "build", "--calibration", "slow:samples", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
        assert (process.returncode, json.loads(out)["error"]["code"]) == (130, "interrupted")


class TestBundleShow:
    @pytest.fixture
    def place(self, here: Path) -> Path:
        make_bundle(here / "bundle")
        return here / "bundle"

    def test_a_good_bundle_in_words_and_in_json(self, run: Command, place: Path) -> None:
        digest = open_layout(place)[0].digest
        shown = run("bundle", "show", place).stdout
        assert all(word in shown for word in (digest, "digits", "input image", "float32 [N, 1, 8, 8]", "golden.v1+npz"))
        document = run("bundle", "show", place, "--json").document
        facts = {"bundle", "digest", "signed", "manifest", "layers", "anatomy", "unfused"}
        assert set(document) == {"schema_version", *facts}
        assert (document["digest"], document["signed"], document["manifest"]["app"]) == (digest, True, "digits")
        assert [layer["mediaType"].rpartition("edgekit.")[2] for layer in document["layers"]] == [
            "model.v1+onnx",
            "golden.v1+npz",
            "calibration.v1+json",
        ]

    def test_the_layers_in_words_and_in_json(self, run: Command, place: Path) -> None:
        shown, document = run("bundle", "show", place).stdout, run("bundle", "show", place, "--json").document
        nodes = onnx.load_from_string(contents().model).graph.node
        layers = [node for node in nodes if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
        table = shown.splitlines()[-len(layers) :]
        assert [line.split()[:3] for line in table] == [[node.name, node.op_type, "int8"] for node in layers]
        assert [layer["name"] for layer in document["anatomy"]["layers"]] == [node.name for node in layers]
        assert (document["unfused"]["pairs"], document["unfused"]["ends"]) == (0, 2)
        assert "needs ai.onnx 17, ir_version 8 unfused Q/DQ none left by onnxruntime" in " ".join(shown.split())

    def test_names_in_a_model_do_not_steer_the_terminal(self, run: Command, here: Path) -> None:
        model = onnx.load_from_string(contents().model)
        for node in model.graph.node:
            node.name = f"evil\x1b[2J\n{node.name}"
        make_bundle(here / "bundle", replace(contents(), model=model.SerializeToString()))
        shown = run("bundle", "show", "bundle").stdout
        assert "evil\ufffd[2J " in shown
        assert "\x1b" not in shown

    def test_what_is_no_model_inside_is_one_line(self, run: Command, here: Path) -> None:
        make_bundle(here / "bundle", replace(contents(), model=b"no model at all"))
        for words in ((), ("--json",)):
            line = run("bundle", "show", "bundle", *words, status=1).line
            assert line.startswith("edgekit: bundle: its model cannot be read: ")

    def test_the_format_of_a_plug_in_is_shown_without_layers(self, run: Command, here: Path) -> None:
        make_bundle(here / "bundle", format="other")
        assert "operator" not in run("bundle", "show", "bundle").stdout
        document = run("bundle", "show", "bundle", "--json").document
        assert (document["anatomy"], document["unfused"]) == (None, None)

    def test_a_bundle_without_a_signature_says_so(self, run: Command, place: Path) -> None:
        index = json.loads((place / "index.json").read_bytes())
        index["manifests"] = index["manifests"][:1]
        (place / "index.json").write_text(json.dumps(index))
        assert run("bundle", "show", place, "--json").document["signed"] is False

    @pytest.mark.parametrize("nth", range(7))
    def test_one_changed_byte_anywhere_is_found(self, run: Command, place: Path, nth: int) -> None:
        path = sorted((place / "blobs" / "sha256").iterdir())[nth]
        if path.read_bytes() == b"{}":
            return  # the empty config of the signature, which nothing reads
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        for words in ((), ("--json",)):
            run("bundle", "show", place, *words, status=1).line  # noqa: B018 - it is one

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("index.json", b""),
            ("index.json", b"[]"),
            ("index.json", b'{"manifests": 3}'),
            ("index.json", b'{"manifests": []}'),
            ("index.json", b'{"manifests": [{"artifactType": "application/vnd.edgekit.bundle.v1"}]}'),
            ("index.json", b"\xff\xfe"),
        ],
    )
    def test_what_is_no_bundle_is_one_line(self, run: Command, place: Path, name: str, content: bytes) -> None:
        (place / name).write_bytes(content)
        assert run("bundle", "show", place, status=1).line

    @pytest.mark.parametrize("name", ["none", "digits.onnx", "."])
    def test_what_is_no_folder_of_one_is_one_line(self, run: Command, here: Path, name: str) -> None:
        line = run("bundle", "show", name, status=1).line
        assert line == f"edgekit: {name}: not a bundle (no index.json) — 'edgekit build' makes one"


class TestBundleExplain:
    LAYERS = [
        {"name": "conv", "precision": "int8", "sqnr_db": 31.46, "reason": "over 20 dB"},
        {"name": "head", "precision": "float32", "sqnr_db": None, "reason": "kept"},
    ]

    def test_each_layer_with_its_reason(self, run: Command, here: Path) -> None:
        make_bundle(here / "bundle", provenance={"layers": self.LAYERS})
        shown = [line.split() for line in run("bundle", "explain", "bundle").stdout.splitlines()]
        assert shown == [
            ["layer", "precision", "SQNR", "because"],
            ["conv", "int8", "31.5", "dB", "over", "20", "dB"],
            ["head", "float32", "kept"],
        ]
        assert run("bundle", "explain", "bundle", "--json").document["layers"] == self.LAYERS

    def test_a_bundle_without_reasons_says_so(self, run: Command, here: Path) -> None:
        make_bundle(here / "bundle", provenance={})
        shown = run("bundle", "explain", "bundle").stdout
        assert shown == "bundle: nothing was measured layer by layer when it was built\n"
        assert run("bundle", "explain", "bundle", "--json").document["layers"] == []

    def test_an_account_that_cannot_be_read_is_one_line(self, run: Command, here: Path) -> None:
        make_bundle(here / "bundle", provenance={"layers": [{}]})
        line = run("bundle", "explain", "bundle", status=1).line
        assert line == "edgekit: bundle: its account of the layers cannot be read: 'name' — build it again"


class TestBundleDiff:
    @pytest.fixture(autouse=True)
    def pair(self, here: Path) -> None:
        make_bundle(here / "int8")
        model = (DIGITS / "digits.onnx").read_bytes()
        make_bundle(here / "float", replace(contents(), model=model), precision="float32", verdict={}, arch="riscv64")

    def test_what_changes_in_words(self, run: Command) -> None:
        shown = run("bundle", "diff", "int8", "float").stdout
        words = [line.split() for line in shown.splitlines()]
        assert ["precision", "int8", "float32"] in words
        assert ["model", "bytes", str(len(contents().model)), str((DIGITS / "digits.onnx").stat().st_size)] in words
        assert ["candidate", "onnx-int8"] in words
        assert [each[:3] for each in words if each[:1] in (["A"], ["B"])] == [
            ["A", "16", "100.00%"],
            ["B", "16", "100.00%"],
        ]
        assert "p50 here: A " in shown
        assert shown.endswith("For another architecture than this host's, where times differ: B\n")

    def test_what_changes_in_json(self, run: Command, here: Path) -> None:
        document = run("bundle", "diff", "int8", "float", "--json").document
        digests = [open_layout(here / name)[0].digest for name in ("int8", "float")]
        assert [document[side]["digest"] for side in "ab"] == digests
        assert [each["what"] for each in document["changes"]] == ["arch", "precision"]
        assert (document["measured"]["a"]["name"], document["measured"]["b"]) == ("onnx-int8", None)
        assert document["foreign"] == ["b"]

    def test_nothing_changes_in_a_copy(self, run: Command, here: Path) -> None:
        shutil.copytree(here / "int8", here / "copy")
        document = run("bundle", "diff", "int8", "copy", "--json").document
        assert document["changes"] == []
        assert [(each["agreement"], each["max_abs_error"]) for each in document["behaviour"]] == [(1, 0), (1, 0)]

    def test_other_inputs_are_one_line(self, run: Command, here: Path) -> None:
        interface = contents().manifest.interface
        other = replace(interface, inputs=(replace(interface.inputs[0], name="picture"),))
        make_bundle(here / "other", interface=other)
        line = run("bundle", "diff", "int8", "other", "--json", status=1).line
        assert line == (
            "edgekit: int8 and other: take other inputs (image: float32 [N, 1, 8, 8]; picture: float32 [N, 1, 8, 8])"
            " — compare bundles of one app"
        )

    def test_a_bundle_that_is_damaged_or_none_is_one_line(self, run: Command, here: Path) -> None:
        assert run("bundle", "diff", "int8", "none", status=1).line.startswith("edgekit: none: not a bundle")
        flip(part_of(here / "float", "golden"))
        assert run("bundle", "diff", "int8", "float", status=1).line.startswith("edgekit: float: ")


def test_init_writes_what_build_then_reads(run: Command, here: Path) -> None:
    (here / "edgekit.toml").unlink()
    assert run("init", "--json").document["written"] == ["edgekit.toml", "fleet.toml"]
    words = ["--target", "pi", "--calibration", "calibration.npz", "--evaluation", "evaluation.npz"]
    run("build", "digits.onnx", *words, "--precision", "float32")
    assert "here already" in run("init", status=2).line


def test_a_disk_that_fails_is_one_line_and_no_mistake_of_edgekit(run: Command, here: Path) -> None:
    (here / "bundles").write_text("in the way")
    line = run("build", "--precision", "float32", status=1).line
    assert line.startswith("edgekit: bundles/digits-raspberry-pi-5: cannot be written: Not a directory")
    (here / "edgekit.toml").unlink()
    (here / "edgekit.toml").mkdir()
    assert "a mistake of edgekit" not in run("build", "digits.onnx", status=2).line


def test_a_bundle_expires_when_the_project_says_so(run: Command, here: Path) -> None:
    (here / "edgekit.toml").write_text(f"expires_days = 30\n{(here / 'edgekit.toml').read_text()}")
    place = run("build", "--precision", "float32", "--format", "onnx", "--json").document["bundle"]
    manifest = run("bundle", "show", place, "--json").document["manifest"]
    assert manifest["expires"] == manifest["sequence"] + 30 * 24 * 3600
