"""The way to a Raspberry Pi 5, emulated: its own Debian, its own wheels, and models proven on ARM's own kernels."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit import bundle, fleet, signing, target, transports
from edgekit import simulate as simulating
from edgekit.cli.places import DEVICES
from edgekit.lab import board as boards
from edgekit_runtime import golden
from edgekit_runtime.bundle import GOLDEN_TYPE, MODEL_TYPE, Bundle, open_layout
from edgekit_runtime.session import Session
from edgekit_runtime.states import SERVED
from tests.lab.emulated import CACHE, Said, needs_a_board, setup, simulate
from tests.lab.models import DIGITS, RESNET8, shared
from tests.lab.project import EDGEKIT, document, edgekit, settle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), needs_a_board]

NAME = "kitchen"
BOARD = boards.of(target.load("pi"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose one device is an emulated board, as it comes out of the box; its tree and wheels are cached."""
    with pytest.MonkeyPatch.context() as patch:
        folder = settle(tmp_path_factory.mktemp("arm64"), CACHE, patch)
        try:
            simulate(NAME)
            yield folder
        finally:
            simulating.stop(NAME, folder / DEVICES)


@pytest.fixture(scope="module")
def litert(project: Path) -> Said:
    return setup(NAME)


@pytest.fixture(scope="module")
def onnxruntime(litert: Said) -> Said:
    return setup(NAME, "--engine", "onnxruntime")


@pytest.fixture(scope="module")
def resnet8(project: Path) -> Said:
    """ResNet-8 of MLPerf Tiny, its bundle."""
    model = shared(RESNET8.model)
    RESNET8.data(project)
    return build(model, "resnet8", project)


@pytest.fixture(scope="module")
def digits(onnxruntime: Said) -> Said:
    """The digits, built, pushed and live."""
    built = build(DIGITS / "digits.onnx", "digits", DIGITS)
    return {"build": built, "push": push(built["bundle"])}


def build(model: Path, app: str, data: Path) -> Said:
    samples: list[str | Path] = ["--calibration", data / "calibration.npz", "--evaluation", data / "evaluation.npz"]
    built = document("build", model, "--target", "pi", "--app", app, "--precision", "int8", *samples)
    assert built["verdict"]["ok"]
    return built


def push(place: str) -> Said:
    [pushed] = document("push", place)["devices"]
    assert pushed["ok"]
    said: Said = pushed
    return said


def tell(name: str, proof: Said, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        numbers = f"largest error {proof['max_abs_error']:.3g}, agreement {proof['agreement']:.0%}"
        print(f"\n{name} on {BOARD.processor.name}, {proof['engine']}: {proof['vectors']} golden vectors, {numbers}")


def live(app: str) -> Said:
    """The release of an app that serves on the board."""
    [device] = document("status")["devices"]
    [current] = [each["current"] for each in device["apps"] if each["app"] == app]
    found: Said = current
    return found


def test_probe_tells_a_raspberry_pi_with_nothing_on_it(project: Path) -> None:
    facts = document("device", "probe")["facts"]
    assert (facts["arch"], facts["model"], facts["cpus"]) == ("aarch64", BOARD.model, BOARD.cores)
    assert (facts["emulated"], facts["memory_mib"]) == (True, BOARD.memory_mib)
    assert facts["libc"].startswith("glibc 2.")
    assert facts["os"].startswith("Debian GNU/Linux 12")
    assert "asimddp" in facts["cpu_flags"]
    assert set(facts["engines"].values()) == {None}


def test_it_has_no_more_memory_than_the_board(project: Path) -> None:
    if "MiB of memory" not in simulate(NAME)["note"]:
        pytest.skip("this machine limits no memory")
    with transports.connect(fleet.find(project, None).uri) as link:
        told = {
            mib: link.run(["python3", "-c", f"len(b'x' * ({mib} << 20))"]).status for mib in (100, BOARD.memory_mib)
        }
    assert told == {100: 0, BOARD.memory_mib: 137}  # killed


def test_setup_brings_wheels_for_arm_from_this_host(litert: Said) -> None:
    assert (litert["engine"], litert["installed"], litert["trusted"]) == ("ai-edge-litert", True, True)
    facts = document("device", "probe")["facts"]
    assert facts["engines"]["ai-edge-litert"] == litert["engine_version"]
    assert facts["python_executable"] == f"{facts['home']}/env/bin/python"


def test_an_int8_tflite_model_is_proven_on_arm_by_litert(
    litert: Said, resnet8: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed = push(resnet8["bundle"])
    tell("resnet8", pushed["proof"], capsys)
    assert pushed["release"] == live("resnet8")["digest"] == resnet8["digest"]
    assert pushed["proof"]["engine"] == f"litert {litert['engine_version']}"
    assert pushed["proof"]["agreement"] == 1.0


def test_another_engine_joins_the_first(onnxruntime: Said) -> None:
    assert (onnxruntime["engine"], onnxruntime["installed"], onnxruntime["trusted"]) == ("onnxruntime", True, False)
    engines = document("device", "probe")["facts"]["engines"]
    assert engines["onnxruntime"] == onnxruntime["engine_version"]
    assert engines["ai-edge-litert"]


def test_an_int8_onnx_model_is_proven_on_arm_by_onnxruntime(
    onnxruntime: Said, digits: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    proof = digits["push"]["proof"]
    tell("digits", proof, capsys)
    assert digits["push"]["release"] == live("digits")["digest"] == digits["build"]["digest"]
    assert proof["engine"] == f"onnxruntime {onnxruntime['engine_version']}"
    assert proof["agreement"] == 1.0


def test_the_loop_on_the_device_reports_its_calls_and_no_latencies(project: Path, digits: Said) -> None:
    [chosen] = [candidate for candidate in digits["build"]["candidates"] if candidate["chosen"]]
    assert loop(project) == f"accuracy {chosen['accuracy']:.4f} over 400 samples\n"
    told = document("report")
    assert told["failures"] == []
    [row] = [row for row in told["reports"] if row["app"] == "digits"]
    assert (row["release"], row["count"], row["errors"]) == (digits["build"]["digest"], 400, {})
    assert row["emulated"]
    assert set(row["latency_ms"].values()) == {None}


def test_its_times_choose_no_candidate(digits: Said) -> None:
    words: list[str | Path] = ["--target", "pi", "--app", "digits", "--calibration", DIGITS / "calibration.npz"]
    words += ["--evaluation", DIGITS / "evaluation.npz"]
    refused = edgekit("build", DIGITS / "digits.onnx", *words, "--on", "kitchen", status=1)
    assert "kitchen is emulated: its times are no latencies" in refused.line


def loop(project: Path) -> str:
    """Run examples/digits/loop.py on the device, with the device's own environment."""
    with transports.connect(fleet.find(project, None).uri) as link:
        home = document("device", "probe")["facts"]["home"]
        for file in ("loop.py", "evaluation.npz"):
            link.put(DIGITS / file, f"{home}/{file}")
        program = [f"{home}/env/bin/python", f"{home}/loop.py", f"{home}/evaluation.npz"]
        return link.run(program).check().stdout.decode()


def test_a_model_that_computes_something_else_there_is_refused_and_the_old_release_serves_on(digits: Said) -> None:
    forged = with_outputs_of_another_model(Path(digits["build"]["bundle"]), Path("forged"))
    [pushed] = document("push", forged, status=1)["devices"]
    assert (pushed["ok"], pushed["error"]["code"]) == (False, "proof_failed")
    assert "outputs differ from the host's" in pushed["error"]["message"]
    current = live("digits")
    assert current["digest"] == digits["build"]["digest"]
    assert current["state"]["name"] in SERVED
    with np.load(DIGITS / "evaluation.npz") as samples:
        np.savez("one.npz", x=samples["x"][:1])
        label = samples["labels"][0]
    answer = document("run", "--app", "digits", "--input", "one.npz")
    assert int(np.argmax(answer["outputs"]["logits"]["data"])) == label
    assert answer["latency_ms"] is None


def test_a_power_cut_leaves_the_release_that_was_live(digits: Said) -> None:
    """Its card is cut off while the next bundle goes over: it comes up with the old release, or with the new one."""
    following = with_the_next_number(Path(digits["build"]["bundle"]), Path("next"))
    with subprocess.Popen([*EDGEKIT, "push", "next"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if "proving" in line:
                break
        simulate(NAME, "--fault", "cut")
        process.communicate(timeout=120)
    assert live("digits")["digest"] in (digits["build"]["digest"], following.digest)
    assert push("next")["release"] == live("digits")["digest"] == following.digest


def with_the_next_number(place: Path, destination: Path) -> Bundle:
    """A bundle like this one, signed, that is newer."""
    opened, _ = open_layout(place)
    manifest = replace(opened.manifest, sequence=opened.manifest.sequence + 2)
    model, told = (opened.read(opened.layer(kind)) for kind in (MODEL_TYPE, GOLDEN_TYPE))
    return bundle.write(bundle.Contents(manifest, model, told), destination, signing.signer(None))


def with_outputs_of_another_model(place: Path, destination: Path) -> Path:
    """A bundle like this one, signed, whose golden vectors expect what another model gives."""
    opened, _ = open_layout(place)
    with Session(another_model(), opened.manifest.interface, opened.manifest.engines) as other:
        vectors = golden.parse(opened.read(opened.layer(GOLDEN_TYPE)))
        told = golden.dump([replace(each, expected=other.predict(each.inputs)) for each in vectors])
    manifest = replace(opened.manifest, sequence=opened.manifest.sequence + 1)
    contents = bundle.Contents(manifest, opened.read(opened.layer(MODEL_TYPE)), told)
    bundle.write(contents, destination, signing.signer(None))
    return destination


def another_model() -> bytes:
    """The digits with the last layer's weights turned round."""
    model = onnx.load(DIGITS / "digits.onnx")
    [weights] = [tensor for tensor in model.graph.initializer if tensor.name == model.graph.node[-1].input[1]]
    weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), weights.name))
    data: bytes = model.SerializeToString()
    return data
