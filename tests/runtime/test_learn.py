"""A device learns what a signed task asks for, once, and signs what it learned."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.federated import checks
from edgekit.signing import Signer
from edgekit_runtime import bundle as bundles
from edgekit_runtime import releases
from edgekit_runtime.releases import Release
from edgekit_runtime.session import of_release
from edgekit_train import __main__ as main
from edgekit_train import device_key, family, learning, update, words
from edgekit_train.clipping import norm
from edgekit_train.compression import Compression
from edgekit_train.normalization import MEAN, SQUARE
from edgekit_train.samples import Samples
from edgekit_train.trainer import Fitted, added
from tests.runtime import learning as learning_lab
from tests.runtime.bundles import go_live, write
from tests.runtime.learners import (
    APP,
    OTHER,
    ROUND,
    SIZE,
    a_task,
    born,
    contents,
    features,
    fitted,
    foggy_contents,
    keep,
    learned,
    live,
    read,
    seen,
    send,
    shipped,
)
from tests.runtime.learning import pictures

__all__ = ["born", "live"]  # fixtures
MOST = 1 << 20


def test_a_device_learns_what_the_task_asks_for(home: Path, live: Release, signer: Signer) -> None:
    send(home, a_task(live), signer)
    answer = words.learn(home, APP, ROUND)
    found, wanted = read(answer), fitted()
    assert (found.app, found.release, found.round, found.device) == (APP, live.digest, ROUND, "pi-1")
    assert answer["examples"] == found.examples == 60
    assert answer["bytes"] == Path(answer["path"]).stat().st_size
    assert answer["metrics"] == found.metrics
    assert found.metrics["loss_after"] < found.metrics["loss_before"] / 2
    assert answer["seconds"] == found.metrics["seconds"] >= 0
    line = json.loads((home / "audit.log").read_text().splitlines()[-1])
    assert (line["what"], line["app"], line["round"]) == ("learn", APP, ROUND)
    assert line["signer"] in signer.allowed_line()
    for name, array in wanted.delta.items():
        np.testing.assert_allclose(found.delta[name], array, atol=1e-4)


def test_what_is_live_tells_of_which_model_it_is(home: Path, live: Release, signer: Signer, tmp_path: Path) -> None:
    """The same for releases of one model for several targets; one that does not tell stands for itself."""
    assert words.live(home) == {"apps": [{"app": APP, "release": live.digest, "family": live.digest}]}
    model, inputs = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
    told, found = {"source": {"digest": model}, "preprocess": inputs}, set[str]()
    for target in ("pi", "jetson"):
        made = contents()
        made = replace(made, manifest=replace(made.manifest, provenance=told, target=target))
        go_live(write(tmp_path / target, signer, made), home)
        [now] = words.live(home)["apps"]
        assert now["family"] == family.named(model, inputs)
        found.add(now["release"])
        send(home, a_task(releases.current(home, APP), round=OTHER), signer, OTHER)
    assert len(found) == 2
    assert read(words.learn(home, APP, OTHER)).release == now["release"]


def test_an_app_that_is_damaged_is_told_as_such(home: Path, live: Release) -> None:
    bundles.blob_path(home, live.bundle.config.digest).write_bytes(b"{}")
    [now] = words.live(home)["apps"]
    assert (now["app"], now["error"]["code"]) == (APP, "digest_mismatch")


def test_the_update_is_signed_by_the_device_s_own_key(
    home: Path, live: Release, signer: Signer, tmp_path: Path
) -> None:
    send(home, a_task(live), signer)
    answer = words.learn(home, APP, ROUND)
    assert answer["public"] == words.key(home)["public"]
    assert stat.S_IMODE(device_key.file(home).stat().st_mode) == 0o600
    (tmp_path / "allowed").write_text(f'pi-1 namespaces="edgekit-update" {answer["public"]}\n')
    (tmp_path / "sig").write_text(answer["signature"])
    check = ["ssh-keygen", "-Y", "verify", "-n", "edgekit-update", "-I", "pi-1", "-s", tmp_path / "sig"]
    sha = subprocess.run(["sha256sum", answer["path"]], capture_output=True, text=True, check=True).stdout.split()[0]
    for said, status in ((f"sha256:{sha}\n", 0), (f"sha256:{'0' * 64}\n", 255)):
        done = subprocess.run([*check, "-f", tmp_path / "allowed"], input=said.encode(), capture_output=True)
        assert done.returncode == status, done.stderr


def test_asked_again_it_tells_the_same_and_does_not_learn(
    home: Path, live: Release, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(home, a_task(live), signer)
    first = words.learn(home, APP, ROUND)
    monkeypatch.setattr(learning, "learn", None)
    shutil.rmtree(home / "samples")
    assert words.learn(home, APP, ROUND) == first


def test_by_a_key_that_was_made_anew_an_update_is_signed_anew(home: Path, live: Release, signer: Signer) -> None:
    """As who follows the hint about a broken key will have it."""
    send(home, a_task(live), signer)
    first = words.learn(home, APP, ROUND)
    device_key.file(home).unlink()
    again = words.learn(home, APP, ROUND)
    assert again["public"] != first["public"]
    assert again["digest"] == first["digest"]
    assert device_key.fits(again["public"], again["digest"], again["signature"].encode())
    assert words.learn(home, APP, ROUND) == again


@pytest.mark.parametrize("what", ["changed", "another's"])
def test_what_the_device_has_not_learned_so_it_does_not_sign_anew(
    home: Path, live: Release, signer: Signer, what: str
) -> None:
    send(home, a_task(live), signer)
    first = words.learn(home, APP, ROUND)
    path = Path(first["path"])
    if what == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
    else:
        path.write_bytes(update.dump(replace(read(first), device="pi-2")))
        digest = device_key.digest_of(path.read_bytes())
        path.with_suffix(".sig").write_text(device_key.sign(home, digest))
    device_key.file(home).unlink()
    again = words.learn(home, APP, ROUND)
    assert not device_key.fits(again["public"], again["digest"], again["signature"].encode())


def test_two_that_ask_at_once_are_told_the_same(
    home: Path, live: Release, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(home, a_task(live), signer)
    times, answers, real = [], [], learning.learn

    def counted(*arguments: Any) -> Any:
        times.append(1)
        return real(*arguments)

    monkeypatch.setattr(learning, "learn", counted)
    both = [threading.Thread(target=lambda: answers.append(words.learn(home, APP, ROUND))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert answers[0] == answers[1]
    assert len(times) == 1


def test_samples_of_an_earlier_model_are_passed_over(home: Path, live: Release, signer: Signer) -> None:
    keep(home, [(np.zeros((1, 5), np.float32), 0), (np.zeros((1, 4), np.float32), 7)])
    keep(home, seen(5, seed=1))
    assert learned(home, signer, a_task(live)).examples == 65


def test_what_is_sent_is_no_longer_than_the_clip(home: Path, live: Release, signer: Signer) -> None:
    whole, length = fitted(), norm(fitted().delta)
    cut = learned(home, signer, a_task(live, clip=length / 4))
    assert norm(cut.delta) == pytest.approx(length / 4, rel=1e-3)
    assert cut.metrics["clipped"] == 1
    assert cut.delta["head.0.weight"] * 4 == pytest.approx(whole.delta["head.0.weight"], abs=1e-3)
    assert learned(home, signer, a_task(live, round=OTHER, clip=length * 2)).metrics["clipped"] == 0


def test_noise_is_added_on_the_device_and_no_figure_tells_around_it(home: Path, live: Release, signer: Signer) -> None:
    length = norm(fitted().delta)
    found = [
        learned(home, signer, a_task(live, round=place, clip=2 * length, noise=100.0)).delta for place in (ROUND, OTHER)
    ]
    assert set(read(words.learn(home, APP, OTHER)).metrics) == {"seconds"}
    noise = np.concatenate([each["head.0.weight"].ravel() for each in found])
    assert 60 < noise.std() < 140
    assert not np.array_equal(*(each["head.0.bias"] for each in found))


def test_biases_and_moments_are_trained_by_their_names(home: Path, live: Release, signer: Signer) -> None:
    biases = learned(home, signer, a_task(live, trainer="bias"))
    assert not biases.delta["head.0.weight"].any()
    assert biases.delta["head.0.bias"].all()
    found = learned(home, signer, a_task(live, round=OTHER, trainer="moments", weights={}))
    rows = np.concatenate([features(x) for x, _ in seen()])
    np.testing.assert_allclose(found.delta[MEAN], rows.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.delta[SQUARE], np.square(rows).mean(axis=0), rtol=1e-4)


def test_of_more_samples_than_a_host_takes_as_many_are_told(
    home: Path, live: Release, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = Fitted(fitted().delta, 100_001)
    monkeypatch.setattr(learning, "_fitted", lambda *_: many)
    found, limits = learned(home, signer, a_task(live)), checks.unclipped(shipped())
    assert found.examples == 100_000
    assert checks.reasons(found, shipped(), limits) == []
    assert checks.reasons(replace(found, examples=many.examples), shipped(), limits) != []


class TestCommand:
    """``python -m edgekit_train``."""

    @pytest.fixture(autouse=True)
    def at_its_own_pace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "nice", lambda _: 0)

    def ran(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *said: str) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "argv", ["edgekit-train", *said])
        status = main.main()
        return status, json.loads(capfd.readouterr().out)

    def test_each_word_prints_one_object(
        self, home: Path, live: Release, signer: Signer, monkeypatch: Any, capfd: Any
    ) -> None:
        status, told = self.ran(monkeypatch, capfd, "key")
        assert (status, told) == (0, {"schema_version": 1, "public": words.key(home)["public"]})
        send(home, a_task(live), signer)
        status, told = self.ran(monkeypatch, capfd, "learn", APP, ROUND)
        assert status == 0
        assert set(told) == {"schema_version", *words.learn(home, APP, ROUND)}
        assert self.ran(monkeypatch, capfd, "forget", APP, ROUND)[1]["forgotten"] is True

    def test_numpy_s_products_take_one_core(self, home: Path) -> None:
        """Where others serve, threads of one product wait for each other."""
        program = "import os, edgekit_train.__main__, numpy; print(len(os.listdir('/proc/self/task')))"
        environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
        assert done.stdout == b"1\n"

    def test_an_error_is_one_object(self, home: Path, monkeypatch: Any, capfd: Any) -> None:
        status, told = self.ran(monkeypatch, capfd, "learn", APP, ROUND)
        assert status == 1
        assert told["error"]["code"] == "training"
        status, told = self.ran(monkeypatch, capfd, "learn", APP, "x")
        assert (status, told["error"]["code"]) == (1, "device")

    def test_who_serves_goes_before(self, home: Path, monkeypatch: Any, capfd: Any) -> None:
        asked: list[int] = []
        monkeypatch.setattr(os, "nice", asked.append)
        self.ran(monkeypatch, capfd, "key")
        assert asked == [10]


def test_a_published_int8_backbone_learns_from_pictures_in_fog(home: Path, signer: Signer, tmp_path: Path) -> None:
    x, labels = pictures("test", fog=True)
    with Samples(APP, home) as kept:
        for picture, label in zip(x[:300], labels, strict=False):
            kept.keep(picture[None], label)
    release = go_live(write(tmp_path / "bundle", signer, foggy_contents(tmp_path)), home)
    asked = a_task(release, weights=learning_lab.shipped(), config={"epochs": 10, "rate": 0.02})
    found = learned(home, signer, replace(asked, compression=Compression()))
    others, start = learning_lab.rows().part(600, 1000), learning_lab.shipped()
    after = learning_lab.accuracy(added(start, found.delta), others)
    assert after > learning_lab.accuracy(start, others) + 0.08


def test_the_loop_of_the_guide_keeps_samples(home: Path, signer: Signer, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "federated-device.md").read_text()
    loop = guide.partition("## Keeping samples")[2].partition("```python\n")[2].partition("```")[0]
    whole = contents()
    go_live(write(tmp_path / "b", signer, replace(whole, manifest=replace(whole.manifest, app="shop"))), home)
    exec(f"import edgekit_runtime\n{loop}", {"camera": [x for x, _ in seen(7)], "label": 2})
    assert [y for _, y in Samples("shop", home)] == [2] * 7


def test_a_session_learns_by_the_release_as_it_serves(home: Path, live: Release, signer: Signer) -> None:
    """The features are those of the model that answers, and the training is not counted as a call."""
    with of_release(home, live) as session, Samples(APP, home) as kept:
        session.predict(seen(1)[0][0])
        kept.keep(seen(1, seed=9)[0][0], 0)
    reports = sorted(path.name for path in (home / "reports").rglob("*.ndjson"))
    assert learned(home, signer, a_task(live)).delta["head.0.weight"].shape == (SIZE, 3)
    assert sorted(path.name for path in (home / "reports").rglob("*.ndjson")) == reports
