"""Serving: what runs a model, and by how much less than its bundle demands; never silently. And a model loaded late."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import edgekit_runtime
from edgekit.signing import Signer
from edgekit_runtime import attempts, blackbox, engines, releases, serving, switches
from edgekit_runtime.bundle import MODEL_TYPE, Bundle, blob_path
from edgekit_runtime.engines import ort
from edgekit_runtime.errors import DigestMismatch, EngineError
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.prove import prove
from edgekit_runtime.releases import Release
from edgekit_runtime.setting import Setting
from tests.runtime.bundles import (
    APP,
    Parcels,
    contents,
    go_live,
    install,
    samples,
    tflite_contents,
    weights,
    write,
)

CPU, CUDA, AZURE = "CPUExecutionProvider", "CUDAExecutionProvider", "AzureExecutionProvider"
X = samples()[0]


def bundle_of(place: Path, signer: Signer, *providers: str, seed: int = 1) -> Bundle:
    return write(place / str(seed), signer, contents(seed, engines=(EngineNeed("onnxruntime", "", providers),)))


def live(home: Path, bundle: Bundle) -> Release:
    """Proven, as a push does it, and current."""
    release = attempts.settle(home, install(bundle, home))
    return switches.activate(home, APP, release.digest)


def noted(home: Path) -> list[tuple[str, str]]:
    kinds = (serving.DEGRADED, serving.RESTORED)
    return [(event.what, event.reason) for event in blackbox.read(home, APP) if event.what in kinds]


class TestBelow:
    """The rule by itself."""

    def below(self, tmp_path: Path, signer: Signer, providers: tuple[str, ...], ran: str, share: float | None) -> str:
        engine: Any = SimpleNamespace(name="onnxruntime", provider=ran)
        return serving.below(bundle_of(tmp_path, signer, *providers), engine, share)

    @pytest.mark.parametrize(
        ("providers", "ran", "share", "why"),
        [
            ((CUDA, CPU), CUDA, 1.0, ""),
            ((CUDA, CPU), CUDA, 0.5, ""),
            ((CUDA, CPU), CUDA, None, ""),
            ((CUDA, CPU), CUDA, 0.12, f"{CUDA} runs 12% of the model's nodes"),
            ((CUDA, CPU), CUDA, 0.0, f"{CUDA} runs 0% of the model's nodes"),
            ((CUDA, CPU), CPU, 1.0, f"{CPU} runs it, {CUDA} did not start"),
            ((CPU,), CPU, 1.0, ""),
            ((), CPU, 0.1, ""),
        ],
    )
    def test_the_first_provider_is_to_run_half_of_the_nodes(
        self, tmp_path: Path, signer: Signer, providers: tuple[str, ...], ran: str, share: float | None, why: str
    ) -> None:
        assert self.below(tmp_path, signer, providers, ran, share) == why

    def test_an_engine_that_the_bundle_does_not_name_has_nothing_to_fall_below(
        self, tmp_path: Path, signer: Signer
    ) -> None:
        engine: Any = SimpleNamespace(name="mine", provider="npu")
        assert serving.below(bundle_of(tmp_path, signer, CUDA), engine, 0.1) == ""


class TestProof:
    def test_a_provider_that_takes_nothing_is_known_by_its_share(self, tmp_path: Path, signer: Signer) -> None:
        proof = prove(bundle_of(tmp_path, signer, AZURE, CPU))
        assert (proof.ok, proof.provider, proof.share) == (True, AZURE, 0.0)
        assert proof.degraded == f"{AZURE} runs 0% of the model's nodes"

    def test_a_provider_that_this_build_has_not(self, tmp_path: Path, signer: Signer) -> None:
        proof = prove(bundle_of(tmp_path, signer, CUDA, CPU))
        assert (proof.ok, proof.provider, proof.share) == (True, CPU, 1.0)
        assert proof.degraded == f"{CPU} runs it, {CUDA} did not start"

    def test_as_declared_nothing_is_degraded(self, tmp_path: Path, signer: Signer) -> None:
        proof = prove(bundle_of(tmp_path, signer, CPU))
        assert (proof.share, proof.degraded) == (1.0, "")

    def test_xnnpack_is_told_with_its_share_and_demanded_where_a_target_names_it(
        self, tmp_path: Path, signer: Signer
    ) -> None:
        given = tflite_contents("litert")
        bundle = write(tmp_path / "b", signer, given)
        proof = prove(bundle)
        assert (proof.provider, proof.share, proof.degraded) == ("XNNPACK", 1.0, "")
        plain = prove(bundle, Setting(EngineNeed("litert"), plain=True))
        assert (plain.provider, plain.share, plain.degraded) == ("cpu", 1.0, "")
        manifest = replace(given.manifest, engines=(EngineNeed("litert", "", ("XNNPACK",)),))
        asks = write(tmp_path / "c", signer, replace(given, manifest=manifest))
        assert prove(asks).degraded == ""
        less = prove(asks, Setting(EngineNeed("litert"), plain=True))
        assert less.degraded == "cpu runs it, XNNPACK did not start"


class TestLoad:
    def test_a_provider_that_is_gone_is_warned_of_and_noted_once(
        self, home: Path, tmp_path: Path, signer: Signer, caplog: pytest.LogCaptureFixture
    ) -> None:
        release = live(home, bundle_of(tmp_path, signer, CPU))
        proof = {**release.state.proof, "provider": CUDA}  # a driver ago
        releases.mark(release, release.state.name, proof=proof)
        why = f"onnxruntime {CPU} runs it, proven was onnxruntime {CUDA}"
        for _ in range(2):
            with caplog.at_level(logging.WARNING), edgekit_runtime.load(APP) as session:
                np.testing.assert_allclose(session.predict(X)["y"], X @ weights(1), rtol=1e-5)
                assert session.degraded == why
        assert [record.getMessage() for record in caplog.records] == [f"{APP} is degraded: {why}"] * 2
        assert noted(home) == [("degraded", why)]
        assert serving.told(home, release) == why
        releases.mark(release, release.state.name, proof=release.state.proof)  # and it is there again
        with edgekit_runtime.load(APP) as session:
            assert session.degraded == ""
        assert noted(home) == [("degraded", why), ("restored", "")]
        assert serving.told(home, release) == ""

    def test_what_was_degraded_at_the_proof_is_known_and_no_news(
        self, home: Path, tmp_path: Path, signer: Signer, caplog: pytest.LogCaptureFixture
    ) -> None:
        release = live(home, bundle_of(tmp_path, signer, AZURE, CPU))
        with edgekit_runtime.load(APP) as session:
            assert session.degraded == serving.told(home, release) == f"{AZURE} runs 0% of the model's nodes"
        assert len(caplog.records) == 1
        assert noted(home) == []

    def test_a_proof_of_an_older_runtime_says_nothing_of_its_provider(self, home: Path, parcels: Parcels) -> None:
        release = releases.mark(go_live(parcels.one, home), "good", proof={"engine": "onnxruntime 1", "provider": "x"})
        with edgekit_runtime.load(APP) as session:
            assert session.degraded == ""
        assert serving.told(home, release) == ""

    def test_a_provider_that_fails_to_start_leaves_the_others(
        self, home: Path, tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        live(home, bundle_of(tmp_path, signer, AZURE, CPU))
        really = ort._session

        def session(model: bytes, options: engines.EngineOptions, profile: str = "") -> Any:
            if AZURE in options.providers:  # as onnxruntime-gpu does it where the TensorRT libraries are missing
                raise RuntimeError("Please install TensorRT libraries")
            return really(model, options, profile)

        monkeypatch.setattr(ort, "_session", session)
        with edgekit_runtime.load(APP) as serving_it:
            assert serving_it.engine.provider == CPU
            assert "Please install TensorRT libraries" in serving_it.degraded
        (event,) = noted(home)
        assert event[1].startswith(f"{CPU} runs it: onnxruntime")

    def test_a_bundle_in_a_folder_is_degraded_too(self, tmp_path: Path, signer: Signer) -> None:
        with edgekit_runtime.load(bundle_of(tmp_path, signer, CUDA, CPU).root) as session:
            assert session.degraded == f"{CPU} runs it, {CUDA} did not start"

    def test_a_model_that_nothing_loads_is_refused(self, tmp_path: Path, signer: Signer) -> None:
        bad = replace(contents(1, engines=(EngineNeed("onnxruntime", "", (AZURE, CPU)),)), model=b"junk")
        with pytest.raises(EngineError, match="cannot load the model"):
            edgekit_runtime.load(write(tmp_path / "b", signer, bad).root)


class TestLazy:
    def test_the_model_is_read_for_the_first_call(self, home: Path, parcels: Parcels) -> None:
        release = go_live(parcels.one, home)
        with edgekit_runtime.load(APP, lazy=True) as session:
            assert session._engine is None
            np.testing.assert_allclose(session.predict(X)["y"], X @ weights(1), rtol=1e-5)
        path = blob_path(home, release.bundle.layer(MODEL_TYPE).digest)
        path.write_bytes(b"\0" + path.read_bytes()[1:])
        with edgekit_runtime.load(APP, lazy=True) as session, pytest.raises(DigestMismatch):
            session.predict(X)

    def test_warm_up_loads_it(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        with edgekit_runtime.load(APP, lazy=True) as session:
            session.warm_up()
            assert session._engine

    def test_many_threads_load_it_once(self, home: Path, parcels: Parcels, monkeypatch: pytest.MonkeyPatch) -> None:
        go_live(parcels.one, home)
        really, loads = engines.load, list[int]()
        monkeypatch.setattr(engines, "load", lambda *given: (loads.append(1), really(*given))[1])
        with edgekit_runtime.load(APP, lazy=True) as session, ThreadPoolExecutor(8) as pool:
            assert len({id(each) for each in pool.map(lambda _: session.engine, range(8))}) == 1
        assert loads == [1]

    def test_closed_before_it_was_needed_it_stays_closed(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        session = edgekit_runtime.load(parcels.one.root, lazy=True)
        session.close()
        with pytest.raises(EngineError, match="closed"):
            session.predict(X)
