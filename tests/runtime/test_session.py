"""Sessions: what ``load`` finds, what ``predict`` takes, and what is written down of it."""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit_runtime
from edgekit.signing import Signer
from edgekit_runtime import bundle, engines
from edgekit_runtime.bundle import blob_path
from edgekit_runtime.engines import EngineOptions
from edgekit_runtime.errors import (
    BundleError,
    DigestMismatch,
    EngineError,
    EngineNotInstalled,
    InvalidInput,
    NotInstalled,
)
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.spool import Spool
from edgekit_runtime.tensors import TensorSpec
from tests.runtime.bundles import (
    APP,
    INTERFACE,
    Parcels,
    contents,
    go_live,
    samples,
    tflite_contents,
    weights,
    write,
)

X = samples()[0]


def counted(home: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for window in Spool(home / "reports" / APP).windows():
        found.update(window.errors)
        found["calls"] += window.count
    return found


class TestLoad:
    def test_an_app_by_its_name(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        with edgekit_runtime.load(APP) as session:
            np.testing.assert_allclose(session.predict(X)["y"], X @ weights(1), rtol=1e-5)

    @pytest.mark.parametrize("kind", [str, Path])
    def test_a_bundle_by_its_folder(self, home: Path, parcels: Parcels, kind: type) -> None:
        with edgekit_runtime.load(kind(parcels.two.root)) as session:
            np.testing.assert_allclose(session.predict({"x": X})["y"], X @ weights(2), rtol=1e-5)
        assert not (home / "reports").exists()

    def test_an_app_comes_before_a_folder_of_its_name(
        self, home: Path, parcels: Parcels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / APP).symlink_to(parcels.two.root)
        monkeypatch.chdir(tmp_path)
        with edgekit_runtime.load(APP) as session:
            np.testing.assert_allclose(session.predict(X)["y"], X @ weights(2), rtol=1e-5)
        go_live(parcels.one, home)
        with edgekit_runtime.load(APP) as session:
            np.testing.assert_allclose(session.predict(X)["y"], X @ weights(1), rtol=1e-5)

    @pytest.mark.parametrize(
        "name", ["nonsense", "no/such/folder", "/nowhere", "Nonsense!", "..\n", "a\0b", "x" * 5000]
    )
    def test_nonsense_is_not_installed(self, home: Path, parcels: Parcels, name: str) -> None:
        go_live(parcels.one, home)
        with pytest.raises(NotInstalled) as caught:
            edgekit_runtime.load(name)
        assert f"live apps: {APP}" in (caught.value.hint or "")

    def test_a_folder_without_a_bundle(self, home: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(BundleError, match="not a bundle"):
            edgekit_runtime.load(tmp_path / "empty")

    def test_a_release_that_is_gone(self, home: Path, parcels: Parcels) -> None:
        release = go_live(parcels.one, home)
        release.folder.rename(home / "elsewhere")
        with pytest.raises(NotInstalled, match="is not on this device") as caught:
            edgekit_runtime.load(APP)
        assert caught.value.hint == "push it"

    @pytest.mark.parametrize("part", ["image", "config", "model"])
    def test_a_damaged_release_does_not_serve(self, home: Path, parcels: Parcels, part: str) -> None:
        release = go_live(parcels.one, home)
        model = release.bundle.layer(bundle.MODEL_TYPE).digest
        digest = {"image": release.digest, "config": release.bundle.config.digest, "model": model}[part]
        with blob_path(home, digest).open("r+b") as file:
            file.write(b"\0")
        with pytest.raises(DigestMismatch) as caught:
            edgekit_runtime.load(APP)
        assert caught.value.hint == "push the bundle again"

    def test_an_engine_that_is_missing(self, signer: Signer, tmp_path: Path) -> None:
        given = contents(1, engines=(EngineNeed("tpu9000"),))
        with pytest.raises(EngineNotInstalled, match="tpu9000"):
            edgekit_runtime.load(write(tmp_path / "b", signer, given).root)

    def test_threads_and_providers_come_from_the_manifest(
        self, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[EngineOptions] = []
        really = engines._loader

        def loader(name: str) -> Any:
            def load(model: bytes, options: EngineOptions) -> Any:
                seen.append(options)
                return really(name)(model, options)

            return load

        monkeypatch.setattr(engines, "_loader", loader)
        need = EngineNeed("onnxruntime", ">=1.17", ("CPUExecutionProvider",), 3)
        edgekit_runtime.load(write(tmp_path / "b", signer, contents(1, engines=(need,))).root).close()
        assert seen == [EngineOptions(3, ("CPUExecutionProvider",), precision="float32")]


class TestPredict:
    @pytest.mark.parametrize(
        ("inputs", "message", "hint"),
        [
            ({"z": X}, "input 'x' is missing|input 'z' is unknown", "the model takes x"),
            ({}, "input 'x' is missing", "the model takes x"),
            ({"x": X, "z": X}, "input 'z' is unknown", "the model takes x"),
            (X[0], r"got shape \[4\]", "add the batch dimension: x[numpy.newaxis]"),
            (X.T, r"got shape \[4, 1\]", "reorder its axes: x.transpose(1, 0)"),
            (X[:, :3], r"got shape \[1, 3\]", "bring it to [N, 4]"),
            (X[:0], r"got shape \[0, 4\]", "bring it to [N, 4]"),
            (X.astype(np.float64), "got dtype float64", "convert it with .astype('float32')"),
            (X.astype(">f4"), "got dtype >f4", "convert it with .astype('float32')"),
            (X.tolist(), "is a list", "give a numpy array"),
            ("text", "is a str", "give a numpy array"),
            (None, "is a NoneType", "give a numpy array"),
            ({"x": np.float32(1)}, "is a float32", "give a numpy array"),
            (np.array([["a"] * 4]), "got dtype", "convert it with .astype('float32')"),
            (np.array([[None] * 4]), "got dtype object", "convert it with .astype('float32')"),
        ],
    )
    def test_wrong_inputs_are_refused_with_a_hint(self, parcels: Parcels, inputs: Any, message: str, hint: str) -> None:
        with edgekit_runtime.load(parcels.one.root) as session:
            with pytest.raises(InvalidInput, match=message) as caught:
                session.predict(inputs)
            assert caught.value.hint == hint
            np.testing.assert_allclose(session.predict(X)["y"], X @ weights(1), rtol=1e-5)

    def test_a_model_with_several_inputs_wants_names(self, signer: Signer, tmp_path: Path) -> None:
        interface = Interface((*INTERFACE.inputs, TensorSpec("z", "float32", (1,))), INTERFACE.outputs)
        with edgekit_runtime.load(write(tmp_path / "b", signer, contents(1, interface=interface)).root) as session:
            with pytest.raises(InvalidInput, match="several inputs") as caught:
                session.predict(X)
            assert caught.value.hint == "give a dict with x, z"

    def test_tensors_go_by_the_names_of_the_source(self, signer: Signer, tmp_path: Path) -> None:
        interface = Interface(
            (TensorSpec("image", "float32", (None, 4), "x"),), (TensorSpec("scores", "float32", (None, 3), "y"),)
        )
        with edgekit_runtime.load(write(tmp_path / "b", signer, contents(1, interface=interface)).root) as session:
            np.testing.assert_allclose(session.predict({"image": X})["scores"], X @ weights(1), rtol=1e-5)

    def test_an_interface_that_does_not_fit_the_model_is_an_engine_error(self, signer: Signer, tmp_path: Path) -> None:
        interface = Interface(INTERFACE.inputs, (TensorSpec("scores", "float32", (None, 3)),))
        with (
            edgekit_runtime.load(write(tmp_path / "b", signer, contents(1, interface=interface)).root) as session,
            pytest.raises(EngineError, match="no output 'scores'"),
        ):
            session.predict(X)

    def test_images_are_preprocessed(self, signer: Signer, tmp_path: Path) -> None:
        given = tflite_contents("litert")
        interface = replace(given.manifest.interface, preprocess={"image": Preprocess((32, 32))})
        given = replace(given, manifest=replace(given.manifest, interface=interface))
        parcel = write(tmp_path / "b", signer, given)
        image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
        with edgekit_runtime.load(parcel.root) as session:
            one = session.predict(image)["scores"]
            four = session.predict(np.stack([image] * 4))["scores"]
        assert (one.shape, four.shape) == ((1, 10), (4, 10))
        np.testing.assert_allclose(four, np.repeat(one, 4, axis=0), atol=1e-6)
        assert one.sum() == pytest.approx(1, abs=1e-4)


class TestReporting:
    def test_calls_and_errors_are_in_the_spool(self, home: Path, parcels: Parcels) -> None:
        release = go_live(parcels.one, home)
        with edgekit_runtime.load(APP) as session:
            for _ in range(5):
                session.predict(X)
            wrong: list[Any] = [X[0], None, {}]
            for inputs in wrong:
                with pytest.raises(InvalidInput):
                    session.predict(inputs)
        assert counted(home) == {"calls": 5, "invalid_input": 3}
        (window,) = Spool(home / "reports" / APP).windows()
        assert (window.app, window.release) == (APP, release.digest)

    def test_calls_of_many_threads_are_all_counted(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        start = threading.Barrier(8)
        with edgekit_runtime.load(APP) as session, ThreadPoolExecutor(8) as pool:

            def work(_: int) -> None:
                start.wait()
                for _ in range(50):
                    session.predict(X)

            list(pool.map(work, range(8)))
        assert counted(home) == {"calls": 400}

    def test_a_spool_that_cannot_be_written_does_not_stop_it(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        (home / "reports").write_text("in the way")
        with edgekit_runtime.load(APP) as session:
            np.testing.assert_allclose(session.predict(X)["y"], X @ weights(1), rtol=1e-5)

    def test_a_full_disk_does_not_stop_it(self, home: Path, parcels: Parcels, monkeypatch: pytest.MonkeyPatch) -> None:
        go_live(parcels.one, home)
        with edgekit_runtime.load(APP) as session:
            with monkeypatch.context() as patch:
                patch.setattr(os, "write", lambda handle, data: 0)
                session.predict(X)
                assert session.recorder is not None
                session.recorder.flush()
                session.predict(X)
            assert counted(home) == {}
        assert counted(home) == {"calls": 2}

    def test_a_closed_session_says_so(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        session = edgekit_runtime.load(APP)
        session.predict(X)
        session.close()
        session.close()
        with pytest.raises(EngineError, match="closed"):
            session.predict(X)

    def test_switching_does_not_disturb_a_session_that_is_open(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        with edgekit_runtime.load(APP) as before:
            go_live(parcels.two, home)
            np.testing.assert_allclose(before.predict(X)["y"], X @ weights(1), rtol=1e-5)
            with edgekit_runtime.load(APP) as after:
                np.testing.assert_allclose(after.predict(X)["y"], X @ weights(2), rtol=1e-5)
        assert {window.release for window in Spool(home / "reports" / APP).windows()} == {
            parcels.one.digest,
            parcels.two.digest,
        }
