"""Nothing is learned where something is wrong with the task, the samples, the trainer or the training; it is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.signing import Signer
from edgekit_runtime.errors import BundleError, InvalidInput, NotInstalled, SignatureError, UnknownSigner
from edgekit_runtime.releases import Release
from edgekit_train import trainers, words
from edgekit_train.trainer import Fitted, TrainingFailed
from edgekit_train.trainers import Kind
from tests.runtime.bundles import make_key
from tests.runtime.learners import (
    APP,
    OTHER,
    ROUND,
    a_task,
    born,
    keep,
    learned,
    live,
    seen,
    send,
    shipped,
)

__all__ = ["born", "live"]  # fixtures
Array = NDArray[Any]


class TestRefused:
    """Nothing is learned, and the reason is told."""

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, home: Path, live: Release) -> Any:
        yield
        assert not list(home.rglob("update.*"))

    def refused(self, home: Path, kind: type[Exception], said: str, place: str = ROUND) -> None:
        with pytest.raises(kind, match=said) as caught:
            words.learn(home, APP, place)
        assert "bundle" not in str(caught.value)

    def test_without_a_task(self, home: Path) -> None:
        self.refused(home, TrainingFailed, "no task of round 0a0a0a0a is here")

    def test_a_task_of_a_stranger(self, home: Path, live: Release, tmp_path: Path) -> None:
        send(home, a_task(live), make_key(tmp_path / "stranger"))
        self.refused(home, UnknownSigner, "the task is signed by a key that this device does not trust")
        line = json.loads((home / "audit.log").read_text().splitlines()[-1])
        assert (line["what"], line["code"], line["round"]) == ("learn refused", "unknown_signer", ROUND)

    def test_a_task_that_was_changed_on_its_way(self, home: Path, live: Release, signer: Signer) -> None:
        send(home, a_task(live), signer)
        file = home / "rounds" / APP / ROUND / "task.safetensors"
        file.write_bytes(file.read_bytes().replace(b'"pi-1"', b'"pi-2"'))
        self.refused(home, SignatureError, "does not fit this task")

    def test_a_task_without_a_signature(self, home: Path, live: Release, signer: Signer) -> None:
        send(home, a_task(live), signer)
        file = home / "rounds" / APP / ROUND / "task.sig"
        file.write_text("")
        self.refused(home, SignatureError, "the task is not signed")
        file.unlink()
        self.refused(home, TrainingFailed, "no task")

    @pytest.mark.parametrize("change", [{"round": OTHER}, {"app": "other"}])
    def test_a_task_in_another_s_place(self, home: Path, live: Release, signer: Signer, change: Any) -> None:
        send(home, a_task(live, **change), signer)
        self.refused(home, TrainingFailed, f"the task of {APP} is of")

    def test_a_task_for_another_model(self, home: Path, live: Release, signer: Signer) -> None:
        send(home, a_task(live, family="sha256:" + "0" * 64), signer)
        self.refused(home, TrainingFailed, f"live here is model {live.digest[:19]}")

    def test_a_signed_file_that_is_no_task(self, home: Path, live: Release, signer: Signer) -> None:
        send(home, a_task(live), signer)
        folder = home / "rounds" / APP / ROUND
        (folder / "task.safetensors").write_bytes(b"")
        (folder / "task.sig").write_text(
            signer.sign("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        )
        self.refused(home, ValueError, "no safetensors file")

    def test_without_samples(self, home: Path, live: Release, signer: Signer) -> None:
        shutil.rmtree(home / "samples")
        send(home, a_task(live), signer)
        self.refused(home, TrainingFailed, "has kept no samples")

    def test_samples_that_are_all_of_another_model(self, home: Path, live: Release, signer: Signer) -> None:
        shutil.rmtree(home / "samples")
        keep(home, [(np.zeros((1, 5), np.float32), 0), (np.zeros((1, 4), np.float32), 3)])
        send(home, a_task(live), signer)
        self.refused(home, TrainingFailed, "none of 2 samples fits the model")

    def test_a_trainer_that_is_not_here(self, home: Path, live: Release, signer: Signer) -> None:
        send(home, a_task(live, trainer="magic"), signer)
        with pytest.raises(TrainingFailed, match="no trainer 'magic'") as caught:
            words.learn(home, APP, ROUND)
        assert caught.value.hint == "known: bias, head, mlp, moments, signature"

    def test_a_setting_that_the_trainer_does_not_know(self, home: Path, live: Release, signer: Signer) -> None:
        send(home, a_task(live, config={"speed": 1}), signer)
        self.refused(home, InvalidInput, "unknown setting 'speed'")

    def test_training_that_leaves_the_finite_numbers(self, home: Path, live: Release, signer: Signer) -> None:
        weights = {name: np.full_like(array, 3e38) for name, array in shipped().items()}
        send(home, a_task(live, weights=weights), signer)
        self.refused(home, TrainingFailed, "left the finite numbers")

    def test_an_app_that_is_not_live(self, home: Path, live: Release, signer: Signer) -> None:
        (home / "apps" / APP / "current").unlink()
        send(home, a_task(live), signer)
        self.refused(home, NotInstalled, f"no app '{APP}'")

    @pytest.mark.parametrize(("app", "place"), [("..", ROUND), (APP, "../x"), (APP, "0" * 31), ("a/b", ROUND)])
    def test_names_that_leave_the_folder(self, home: Path, app: str, place: str) -> None:
        for word in (words.learn, words.forget):
            with pytest.raises((BundleError, ValueError)):
                word(home, app, place)


class Brought:
    """Somebody's own trainer, which takes the inputs of the model."""

    def init(self, session: Any) -> dict[str, Array]:
        return {"mean": np.zeros(4, np.float32)}

    def fit(self, weights: dict[str, Array], data: Any, config: Any) -> Fitted:
        rows = np.concatenate([x for x, _ in data])
        return Fitted({"mean": rows.mean(axis=0).astype(np.float32)}, len(rows) * config.get("times", 1))


class Entry:
    def __init__(self, found: Any) -> None:
        self.name, self.found = "brought", found

    def load(self) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_a_trainer_may_be_brought(home: Path, live: Release, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "_brought", lambda: [Entry(Kind(lambda session, bundle: Brought(), features=False))])
    found = learned(home, signer, a_task(live, trainer="brought", weights={}))
    mean = np.concatenate([x for x, _ in seen()]).mean(axis=0)
    np.testing.assert_allclose(found.delta["mean"], mean, rtol=1e-5)
    with pytest.raises(TrainingFailed, match="gave is no update"):
        learned(home, signer, a_task(live, round=OTHER, trainer="brought", weights={}, config={"times": 0}))
    with pytest.raises(TrainingFailed, match="known: bias, brought, head"):
        trainers.named("magic")


@pytest.mark.parametrize("found", [ImportError("no module named magic"), Brought()], ids=["missing", "no kind"])
def test_a_trainer_that_is_none_is_told(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "_brought", lambda: [Entry(found)])
    with pytest.raises(TrainingFailed, match="trainer 'brought'"):
        trainers.named("brought")


def test_entry_points_are_asked() -> None:
    assert trainers._brought() == []
