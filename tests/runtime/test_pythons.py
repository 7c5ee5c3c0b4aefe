"""The wheel on every Python that it is for, each in an environment of its own with a real engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit import wheels
from edgekit.signing import Signer
from edgekit_train import update
from edgekit_train.compression import Compression
from tests.runtime import learners
from tests.runtime.bundles import APP, Parcels, go_live, install, tflite_contents, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PYENV = Path.home() / ".pyenv" / "versions"
PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")

PREDICT = """
import sys, numpy, edgekit_runtime
with edgekit_runtime.load(sys.argv[1]) as session:
    spec, = session.interface.accepts.values()
    x = numpy.ones([size or 2 for size in spec.shape], spec.dtype)
    scores, = session.predict(x).values()
    print(session.engine.name, len(scores))
"""

KEEP = """
import sys, numpy
from edgekit_train.samples import Samples
with Samples(sys.argv[1]) as samples:
    for seed in range(30):
        samples.keep(numpy.random.RandomState(seed).randn(1, 4).astype("float32"), seed % 3)
print(len(list(Samples(sys.argv[1]))))
"""


def find(version: str) -> str:
    """A Python of this machine, or the test is skipped."""
    installed = sorted(PYENV.glob(f"{version}.*/bin/python"))
    found = str(installed[-1]) if installed else shutil.which(f"python{version}")
    if not found or subprocess.run([found, "-c", "import venv"], capture_output=True, check=False).returncode:
        pytest.skip(f"no Python {version} here")
    return found


@dataclass(frozen=True)
class Environment:
    """A fresh virtual environment."""

    python: Path

    def install(self, *packages: str) -> bool:
        """Whether the index has wheels of these for this Python; the test is skipped where there is no index."""
        pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        done = subprocess.run([*pip, "--only-binary=:all:", *packages], capture_output=True, text=True, check=False)
        if "No matching distribution" not in done.stderr and done.returncode:
            pytest.skip(f"the package index is out of reach: {done.stderr.strip()[-200:]}")
        return not done.returncode

    def run(self, *arguments: str) -> str:
        """What a program prints, warnings being errors."""
        command = [str(self.python), "-W", "error", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="class")
def environment(tmp_path_factory: pytest.TempPathFactory, wheel: Path, version: str) -> Environment:
    """One with the runtime, for the Python of the tests."""
    place = tmp_path_factory.mktemp("env")
    subprocess.run([find(version), "-m", "venv", str(place)], check=True)
    made = Environment(place / "bin" / "python")
    assert made.install(str(wheel))
    return made


@pytest.mark.parametrize("version", PYTHONS, scope="class")
class TestEveryPython:
    def test_an_onnx_bundle_is_proven_and_serves(
        self, environment: Environment, version: str, home: Path, parcels: Parcels
    ) -> None:
        assert environment.install("onnxruntime")
        assert environment.run("-c", PREDICT, str(parcels.one.root)) == "onnxruntime 2\n"
        release = install(parcels.one, home)
        proven = json.loads(environment.run("-m", "edgekit_runtime", "prove", APP, release.digest))
        assert (proven["state"]["name"], proven["state"]["proof"]["ok"]) == ("proven", True)
        json.loads(environment.run("-m", "edgekit_runtime", "activate", APP, release.digest))
        assert environment.run("-c", PREDICT, APP) == "onnxruntime 2\n"
        (window,) = json.loads(environment.run("-m", "edgekit_runtime", "report"))["windows"]
        assert sum(window["buckets"].values()) == 1

    def test_a_tflite_bundle_is_proven_and_serves(
        self, environment: Environment, version: str, home: Path, signer: Signer, tmp_path: Path
    ) -> None:
        if not environment.install("ai-edge-litert"):
            pytest.skip(f"no ai-edge-litert for Python {version}")
        parcel = write(tmp_path / "bundle", signer, tflite_contents("litert"))
        assert environment.run("-c", PREDICT, str(parcel.root)) == "litert 2\n"
        release = install(parcel, home)
        proven = json.loads(environment.run("-m", "edgekit_runtime", "prove", APP, release.digest))
        assert proven["state"]["proof"]["ok"] is True

    def test_a_push_goes_through_its_commands(
        self, environment: Environment, version: str, home: Path, parcels: Parcels
    ) -> None:
        go_live(parcels.one, home)
        go_live(parcels.two, home)
        status = json.loads(environment.run("-m", "edgekit_runtime", "status"))
        assert status["apps"][0]["current"]["digest"] == parcels.two.digest
        back = json.loads(environment.run("-m", "edgekit_runtime", "rollback", APP))
        assert back["digest"] == parcels.one.digest

    def test_it_learns_from_what_it_has_kept(
        self, environment: Environment, version: str, home: Path, signer: Signer, tmp_path: Path
    ) -> None:
        assert environment.install("onnxruntime", str(wheels.own("edgekit_train")))
        live = go_live(write(tmp_path / "bundle", signer, learners.contents()), home)
        assert environment.run("-c", KEEP, learners.APP) == "30\n"
        learners.send(home, learners.a_task(live, compression=Compression(0.5)), signer)
        told = json.loads(environment.run("-m", "edgekit_train", "learn", learners.APP, learners.ROUND))
        found = update.parse(Path(told["path"]).read_bytes(), 1 << 20)
        assert (found.examples, set(found.delta)) == (30, set(learners.shipped()))
        assert found.metrics["loss_after"] < found.metrics["loss_before"]
        again = json.loads(environment.run("-m", "edgekit_train", "learn", learners.APP, learners.ROUND))
        assert again == told

    def test_errors_are_json_too(self, environment: Environment, version: str, home: Path) -> None:
        command = [str(environment.python), "-m", "edgekit_runtime", "push", APP]
        for stdin in (b"\n", b"[" * 100_000, b'{"a":' * 100_000, b"{}", b"9" * 100_000):
            done = subprocess.run(command, input=stdin, capture_output=True, check=False)
            assert done.returncode == 1
            assert json.loads(done.stdout.splitlines()[-1])["error"]["code"] == "device"


LOAD_TFLITE = """
import sys, edgekit_runtime
from edgekit_runtime.errors import EngineNotInstalled
try:
    edgekit_runtime.load(sys.argv[1])
except EngineNotInstalled as error:
    print(error)
"""


@pytest.mark.parametrize("version", ["3.11"], scope="class")
class TestTfliteRuntime:
    """The forerunner of LiteRT, for boards with an older system: its last release was built for numpy 1."""

    def test_with_numpy_1_it_serves(
        self, environment: Environment, version: str, signer: Signer, tmp_path: Path, home: Path
    ) -> None:
        if not environment.install("tflite-runtime==2.14.0", "numpy<2"):
            pytest.skip(f"no tflite-runtime for {os.uname().machine}")
        parcel = write(tmp_path / "bundle", signer, tflite_contents("tflite"))
        assert environment.run("-c", PREDICT, str(parcel.root)) == "tflite 2\n"
        release = install(parcel, home)
        proven = json.loads(environment.run("-m", "edgekit_runtime", "prove", APP, release.digest))
        assert (proven["state"]["proof"]["ok"], proven["state"]["proof"]["engine"]) == (True, "tflite 2.14.0")

    def test_with_numpy_2_it_says_what_is_wrong(
        self, environment: Environment, version: str, signer: Signer, tmp_path: Path
    ) -> None:
        if not environment.install("tflite-runtime==2.14.0", "numpy>=2"):
            pytest.skip(f"no tflite-runtime for {os.uname().machine}")
        parcel = write(tmp_path / "bundle", signer, tflite_contents("tflite"))
        said = environment.run("-c", LOAD_TFLITE, str(parcel.root))
        assert "tflite-runtime does not work with numpy 2" in said
        assert said.endswith("pip install 'numpy<2'\n")
