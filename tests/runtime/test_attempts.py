"""Proof with safer settings: what fails as declared is pinned to what holds, or refused with every reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgekit_runtime
from edgekit.signing import Signer
from edgekit_runtime import attempts, blackbox, bundle, golden, releases, switches
from edgekit_runtime.attempts import Outcome
from edgekit_runtime.engines import EngineOptions
from edgekit_runtime.errors import BundleError, EngineNotInstalled, InvalidInput, ProofFailed
from edgekit_runtime.home import compiled
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.prove import prove
from edgekit_runtime.setting import Setting, ladder, pinned
from tests.lab import distribution
from tests.runtime.bundles import (
    APP,
    MANIFEST,
    contents,
    install,
    linear,
    samples,
    tflite_contents,
    vectors,
    weights,
    write,
)
from tests.runtime.test_main import command, done

BRITTLE = '''
import os, sys
import numpy as np
from edgekit_runtime.errors import EngineError

def load(model, options):
    """An engine with kernels that go wrong, as the number of threads says, unless it is plain."""
    if options.threads == 2 and not options.plain:
        print("kernel 7 is about to fail", file=sys.stderr, flush=True)
        os.kill(os.getpid(), 11)
    if options.threads == 3 and not options.plain:
        raise EngineError("no such kernel")
    if options.providers == ("dead",):
        os.kill(os.getpid(), 9)
    return Brittle(options)

class Brittle:
    name, version, provider = "brittle", "1", "cpu"

    def __init__(self, options):
        self.wrong = options.threads == 4 and not options.plain
        self.options = options

    def run(self, feeds):
        weights = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
        return {"y": feeds["x"] @ weights + self.wrong}

    def close(self):
        pass
'''


@pytest.fixture
def brittle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of another distribution, which every process finds."""
    place = distribution.engine(tmp_path / "site", "brittle", BRITTLE)
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.syspath_prepend(str(place))


def tried(home: Path, signer: Signer, *needs: EngineNeed) -> tuple[releases.Release, Outcome]:
    release = install(write(home.parent / "b", signer, contents(1, engines=needs)), home)
    return release, attempts.prove(release)


ORT = EngineNeed("onnxruntime", "", ("CPUExecutionProvider",))


@pytest.mark.parametrize(
    ("threads", "why"),
    [
        (2, "the engine crashed (SIGSEGV)"),
        pytest.param(3, "no such kernel", marks=pytest.mark.slow),
        pytest.param(4, "outputs differ from the host's by 1, allowed", marks=pytest.mark.slow),
    ],
)
def test_what_fails_as_declared_is_pinned_to_what_holds(
    home: Path, signer: Signer, brittle: None, threads: int, why: str
) -> None:
    release, outcome = tried(home, signer, EngineNeed("brittle", threads=threads), ORT)
    proof = outcome.proof
    assert (proof["ok"], proof["engine"], proof["setting"]["plain"]) == (True, "brittle 1", True)
    assert proof["note"].startswith(f"pinned to brittle, plain, {threads} threads: as declared, {why}")
    assert outcome.failures[0].startswith(why)
    assert outcome.tail == (("kernel 7 is about to fail",) if threads == 2 else ())
    releases.judged(home, release, "proven", proof=proof)
    switches.activate(home, APP, release.digest)
    with edgekit_runtime.load(APP) as session:  # as declared it would end this process
        model = release.bundle.layer(bundle.MODEL_TYPE).digest
        options = EngineOptions(threads, (), True, precision="float32", cache=compiled(home, model))
        assert session.engine.options == options  # type: ignore[attr-defined]
        assert session.degraded == proof["note"]
        np.testing.assert_allclose(session.predict(samples()[0])["y"], samples()[0] @ weights(1), rtol=1e-5)


@pytest.mark.slow
def test_the_next_engine_is_tried_when_one_has_nothing_safe(home: Path, signer: Signer, brittle: None) -> None:
    release, _ = tried(home, signer, EngineNeed("brittle", "", ("dead",)), EngineNeed("tpu9000"), ORT)
    answer = done("prove", APP, release.digest)
    proof = answer["state"]["proof"]
    assert (answer["state"]["name"], proof["setting"]["name"]) == ("proven", "onnxruntime")
    assert proof["note"].startswith("pinned to onnxruntime, CPUExecutionProvider, 1 thread: as declared, the engine cr")
    event = blackbox.read(home, APP)[-1]
    assert (event.what, event.code) == ("pinned", "proof_failed")
    assert event.reason == "the engine crashed (SIGKILL); brittle, dead, plain, 1 thread: the engine crashed (SIGKILL)"


def test_what_nothing_makes_good_is_refused_with_every_reason(home: Path, signer: Signer, tmp_path: Path) -> None:
    bad = replace(contents(1, engines=(replace(ORT, threads=2),)), model=linear(3))
    release = install(write(tmp_path / "bad", signer, bad), home)
    answer = command("prove", APP, release.digest)
    assert answer.code == ProofFailed.code
    message = answer.document["error"]["message"]
    assert message.startswith(f"{APP}: not proven on this device: outputs differ from the host's")
    for setting in ("graph optimisations off, 2 threads: outputs", "graph optimisations off, 1 thread: outputs"):
        assert f"onnxruntime, CPUExecutionProvider, {setting}" in message
    state = releases.find(home, APP, release.digest).state
    assert (state.name, state.code, len(state.proof["reasons"])) == ("bad", "proof_failed", 3)
    assert blackbox.read(home, APP)[-1].what == "proof_failed"


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (contents(1, engines=(EngineNeed("tpu9000"),)), EngineNotInstalled),
        (replace(contents(1), golden=b"PK\3\4"), BundleError),
        (contents(1, proof=replace(MANIFEST.proof, vectors=9)), BundleError),
        (
            replace(contents(1), golden=golden.dump([replace(vectors(1)[0], inputs={"z": samples()[0]})] * 4)),
            InvalidInput,
        ),
    ],
)
def test_what_is_not_the_engine_s_fault_is_tried_once(
    home: Path, signer: Signer, tmp_path: Path, given: Any, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "ladder", lambda needs: pytest.fail("there is nothing to try"))
    with pytest.raises(kind):
        attempts.prove(install(write(tmp_path / "b", signer, given), home))


def test_an_attempt_that_does_not_end(home: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ALL_S", 0.0)
    _, outcome = tried(home, signer, ORT)
    assert (outcome.proof["ok"], outcome.failures[0]) == (False, "it did not end within 0 s")


@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_plain_engines_compute_the_same(signer: Signer, tmp_path: Path, engine: str) -> None:
    given = contents(1) if engine == "onnxruntime" else tflite_contents("litert")
    parcel = write(tmp_path / "b", signer, given)
    proof = prove(parcel, Setting(EngineNeed(engine), plain=True))
    assert (proof.ok, proof.agreement) == (True, 1.0)


def test_the_ladder_becomes_safer_step_by_step() -> None:
    jetson = EngineNeed("onnxruntime", "", ("Tensorrt", "CUDA", "CPU"), 4)
    assert list(map(str, ladder([jetson, EngineNeed("litert")]))) == [
        "onnxruntime, CUDA, 4 threads",
        "onnxruntime, CPU, 4 threads",
        "onnxruntime, CPU, graph optimisations off, 4 threads",
        "onnxruntime, CPU, graph optimisations off, 1 thread",
        "litert, 1 thread",
        "litert, XNNPACK off, 1 thread",
    ]


NEEDS = st.builds(EngineNeed, st.text(), st.text(), st.lists(st.text()).map(tuple), st.integers(1, 1024))


@given(st.builds(Setting, NEEDS, st.booleans()))
def test_a_setting_is_read_as_it_was_written(setting: Setting) -> None:
    assert pinned({"setting": json.loads(json.dumps(setting.as_dict()))}) == setting


@pytest.mark.parametrize("odd", [5, {}, {"name": "x"}, {"name": 1, "version": "", "providers": [], "threads": 1}])
def test_a_setting_that_cannot_be_read_does_not_serve_as_declared(odd: Any) -> None:
    with pytest.raises(BundleError, match="setting that was proven cannot be read"):
        pinned({"setting": odd})
    assert pinned({}) is None
    assert pinned({"setting": None}) is None
