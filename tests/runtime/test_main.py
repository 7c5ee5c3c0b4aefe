"""The commands that a host calls on a device: one JSON object each, whatever happens."""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

import edgekit_runtime
from edgekit.signing import Signer
from edgekit_runtime import arrays, releases
from edgekit_runtime.__main__ import main
from edgekit_runtime.bundle import Bundle, blob_path
from edgekit_runtime.home import default_home
from edgekit_runtime.interface import Interface
from edgekit_runtime.tensors import TensorSpec
from tests.runtime import bundles
from tests.runtime.bundles import (
    APP,
    INTERFACE,
    Parcels,
    blobs,
    contents,
    go_live,
    linear,
    linear_by,
    make_key,
    samples,
    serves,
    weights,
    write,
)
from tests.runtime.hosts import host

DIGEST = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Answer:
    status: int
    document: dict[str, Any]
    stderr: str

    @property
    def code(self) -> str:
        """What kind of error it was, which has a message for people, too."""
        assert self.status != 0
        assert set(self.document) == {"schema_version", "error"}
        error: dict[str, str] = self.document["error"]
        assert set(error) == {"code", "message", "hint"}
        assert error["message"]
        assert "\n" not in error["message"]
        return error["code"]


def command(*words: str, stdin: bytes | dict[str, Any] = b"") -> Answer:
    """What a command answers, in a process of its own."""
    data = stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode()
    ran = subprocess.run([sys.executable, "-m", "edgekit_runtime", *words], input=data, capture_output=True, timeout=60)
    return read(ran.returncode, ran.stdout, ran.stderr)


Inside = Callable[..., Answer]


@pytest.fixture
def inside(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """The same in this process, which is faster."""

    def call(*words: str, stdin: bytes = b"") -> Answer:
        monkeypatch.setattr(sys, "argv", ["edgekit-runtime", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        status = main()
        return read(status, *capfdbinary.readouterr())

    return call


def read(status: int, stdout: bytes, stderr: bytes) -> Answer:
    """Standard output holds JSON objects, a line each, and no NaN; the last one is the answer."""
    assert stdout.endswith(b"\n"), stderr.decode()
    assert b"Traceback" not in stderr
    document = [json.loads(line, parse_constant=no_number) for line in stdout.splitlines()][-1]
    assert document["schema_version"] == 1
    return Answer(status, document, stderr.decode())


def no_number(text: str) -> NoReturn:
    raise AssertionError(f"{text} is no JSON")


def done(*words: str, stdin: bytes | dict[str, Any] = b"") -> dict[str, Any]:
    answer = command(*words, stdin=stdin)
    assert answer.status == 0, answer.document
    return answer.document


def push(parcel: Bundle) -> dict[str, Any]:
    """What is missing is sent, and installed; both answers as one."""
    with host() as other:
        lacking = other.offers(parcel)
        digests = [blob.digest for blob in blobs(parcel)]
        other.sends(parcel, *(digests.index(digest) for digest in lacking["missing"]))
        return {**lacking, **other.orders(parcel)}


def test_a_host_that_only_asks(home: Path, parcels: Parcels, inside: Inside) -> None:
    with host() as other:
        assert (other.met["runtime"], other.met["app"]) == (edgekit_runtime.__version__, None)
        assert other.met["facts"]["arch"] == platform.machine()
    go_live(parcels.one, home)
    assert inside("push", APP).document == {"schema_version": 1}
    with host() as other:
        assert other.met["app"] == done("status")["apps"][0]


def test_a_whole_life_on_a_device(home: Path, parcels: Parcels, tmp_path: Path) -> None:
    assert done("status")["apps"] == []
    installed = push(parcels.one)
    assert len(installed["missing"]) == 4
    facts = {key: installed[key] for key in ("digest", "app", "version", "sequence", "format", "precision")}
    assert facts == {
        "digest": parcels.one.digest,
        "app": APP,
        "version": "1",
        "sequence": 1,
        "format": "onnx",
        "precision": "float32",
    }
    assert installed["state"]["name"] == "installed"
    assert push(parcels.one)["missing"] == []
    proven = done("prove", APP, parcels.one.digest)
    assert (proven["state"]["name"], proven["state"]["proof"]["vectors"]) == ("proven", 4)
    assert done("activate", APP, parcels.one.digest)["state"]["name"] == "trial"

    x = samples()[0]
    (tmp_path / "in.npz").write_bytes(arrays.dump({"x": x}))
    ran = done("run", APP, "--input", str(tmp_path / "in.npz"), "--output", str(tmp_path / "out.npz"))
    assert (ran["app"], ran["engine"]["name"], ran["engine"]["provider"]) == (
        APP,
        "onnxruntime",
        "CPUExecutionProvider",
    )
    assert ran["latency_ms"] > 0
    with np.load(tmp_path / "out.npz") as outputs:
        np.testing.assert_allclose(outputs["y"], x @ weights(1), rtol=1e-5)
    (window,) = done("report")["windows"]
    assert (window["app"], window["release"], sum(window["buckets"].values())) == (APP, parcels.one.digest, 1)

    assert done("confirm", APP)["state"]["name"] == "good"

    push(parcels.two)
    done("prove", APP, parcels.two.digest)
    done("activate", APP, parcels.two.digest)
    (app,) = done("status")["apps"]
    assert (app["current"]["state"]["name"], app["current"]["trial"]["calls"], app["left"]) == ("trial", 0, None)
    assert app["current"]["trial"]["until"] == "100 inferences or 10 minutes of service"
    (app,) = done("status")["apps"]
    assert (app["app"], app["current"]["version"], app["previous"]["version"]) == (APP, "2", "1")
    assert done("rollback", APP)["version"] == "1"
    (app,) = done("status")["apps"]
    assert app["current"]["digest"] == parcels.one.digest
    assert (app["left"]["release"], app["left"]["code"]) == (parcels.two.digest, "by_hand")
    assert done("status")["home"] == str(home)
    (app,) = done("why", APP)["apps"]
    assert [event["what"] for event in app["events"]] == ["activated", "confirmed", "activated", "rolled_back"]
    assert app["latency"]["calls"] == 1
    assert done("why")["apps"] == [app]


def test_a_signer_is_added_once(home: Path, parcels: Parcels, tmp_path: Path, signer: Signer) -> None:
    line = make_key(tmp_path / "another").allowed_line()
    assert done("trust", stdin={"line": line})["added"] is True
    assert done("trust", stdin={"line": line})["added"] is False
    assert (home / "trust" / "allowed_signers").read_text().splitlines() == [signer.allowed_line(), line]
    assert command("trust", stdin={"line": "junk"}).code == "signature"


class TestErrors:
    def test_a_model_that_is_not_proven(self, home: Path, parcels: Parcels, signer: Signer, tmp_path: Path) -> None:
        go_live(parcels.one, home)
        bad = write(tmp_path / "bad", signer, replace(contents(2), model=linear(3)))
        push(bad)
        answer = command("prove", APP, bad.digest)
        assert answer.code == "proof_failed"
        assert "outputs differ from the host's" in answer.document["error"]["message"]
        assert command("activate", APP, bad.digest).code == "device"
        state = releases.find(home, APP, bad.digest).state
        assert (state.name, state.proof["ok"]) == ("bad", False)
        assert state.reason.startswith("outputs differ")
        assert serves(parcels.one)

    def test_a_model_that_gives_no_numbers(self, home: Path, signer: Signer, tmp_path: Path, inside: Inside) -> None:
        model = linear_by(weights(1) * np.float32(np.nan))
        bad = bundles.install(write(tmp_path / "bad", signer, replace(contents(1), model=model)), home)
        assert inside("prove", APP, bad.digest).code == "proof_failed"
        assert releases.find(home, APP, bad.digest).state.proof["max_abs_error"] is None

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["prove", "nonsense", DIGEST], "not_installed"),
            (["activate", "nonsense", DIGEST], "not_installed"),
            (["rollback", "nonsense"], "not_installed"),
            (["rollback", "../.."], "bundle"),
            (["prove", "No Name", DIGEST], "bundle"),
            (["prove", APP, "sha256:../../.."], "bundle"),
            (["run", "nonsense", "--input", "IN", "--output", "/dev/null"], "not_installed"),
            (["run", APP, "--input", "/nowhere.npz", "--output", "/dev/null"], "device"),
            (["run", APP, "--input", "/dev/null", "--output", "/dev/null"], "invalid_input"),
            (["run", APP, "--input", "NPY", "--output", "/dev/null"], "invalid_input"),
            (["run", APP, "--input", "WRONG", "--output", "/dev/null"], "invalid_input"),
            (["run", APP, "--input", "IN", "--output", "/nowhere/out.npz"], "device"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else value,
    )
    def test_what_is_not_there(
        self, home: Path, parcels: Parcels, tmp_path: Path, inside: Inside, words: list[str], code: str
    ) -> None:
        go_live(parcels.one, home)
        (tmp_path / "IN").write_bytes(arrays.dump({"x": samples()[0]}))
        (tmp_path / "WRONG").write_bytes(arrays.dump({"z": samples()[0]}))
        np.save(tmp_path / "NPY", samples()[0])
        (tmp_path / "NPY.npy").rename(tmp_path / "NPY")
        names = {"IN", "WRONG", "NPY"}
        assert inside(*(str(tmp_path / word) if word in names else word for word in words)).code == code

    @pytest.mark.parametrize("words", [["push", APP], ["trust"]], ids=" ".join)
    @pytest.mark.parametrize(
        "stdin",
        [
            b"\n",
            b"\xff",
            b"null",
            b"[]",
            b"{}",
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"blobs": 5, "digest": 5, "signature": 5, "line": 5}',
            b'{"blobs": [5], "digest": null, "signature": null, "line": null}',
            b'{"blobs": ["x"], "digest": [], "signature": {}, "line": []}',
            b'{"blobs": [{"mediaType": "x", "digest": "sha256:../..", "size": 1}]}',
            b'{"blobs": [{}], "digest": "sha256:../..", "signature": "x", "line": "../.."}',
            b'{"blobs": [{"mediaType": "x", "digest": "' + DIGEST.encode() + b'", "size": NaN}], "digest": NaN}',
            b'{"blobs": {}, "digest": "\\ud800", "signature": "\\ud800", "line": "\\ud800"}',
        ],
        ids=lambda stdin: repr(stdin[:30]),
    )
    def test_bad_input(self, home: Path, inside: Inside, words: list[str], stdin: bytes) -> None:
        assert inside(*words, stdin=stdin).code in ("device", "bundle", "signature")

    def test_input_nested_too_deeply(self, home: Path) -> None:
        assert command("push", APP, stdin=b'{"blobs":' * 100_000).code == "device"

    @pytest.mark.parametrize("fill", [b" ", b"["])
    def test_nine_megabytes_of_input(self, home: Path, fill: bytes) -> None:
        answer = command("push", APP, stdin=b'{"blobs": []' + fill * (9 << 20) + b"}")
        assert answer.code == "device"
        assert answer.document["error"]["message"] == "standard input holds more than 8 MiB"

    def test_an_unsigned_bundle(self, home: Path, parcels: Parcels, inside: Inside) -> None:
        asked = {"blobs": [blob.as_dict() for blob in blobs(parcels.one)]}
        order = {"digest": parcels.one.digest, "signature": ""}
        assert (
            inside("push", APP, stdin=b"%s\n%s\n" % (json.dumps(asked).encode(), json.dumps(order).encode())).code
            == "signature"
        )
        assert list((home / "incoming").iterdir()) == []

    def test_damaged_releases_are_named_and_do_not_hide_others(self, home: Path, parcels: Parcels) -> None:
        for parcel in (parcels.one, parcels.two, parcels.other):
            go_live(parcel, home)
        model = blob_path(home, parcels.two.layers[0].digest)
        model.write_bytes(bytes(model.stat().st_size))
        blob_path(home, parcels.one.digest).unlink()
        other, scores = done("status")["apps"]
        assert other["current"]["version"] == "3"
        assert (scores["current"]["digest"], scores["current"]["error"]["code"]) == (
            parcels.two.digest,
            "digest_mismatch",
        )
        assert (scores["previous"]["digest"], scores["previous"]["error"]["code"]) == (parcels.one.digest, "bundle")

    def test_a_home_that_cannot_be_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "file" / "home"))
        assert command("push", APP, stdin={"blobs": []}).code == "device"

    def test_a_pointer_that_is_none(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        (home / "apps" / APP / "current").unlink()
        (home / "apps" / APP / "current").mkdir()
        assert command("rollback", APP).code == "device"
        assert done("status")["apps"] == []

    @pytest.mark.parametrize("words", [[], ["nonsense"], ["prove"], ["run", APP]])
    def test_a_command_that_is_none_is_told_by_its_exit_status(self, words: list[str]) -> None:
        ran = subprocess.run([sys.executable, "-m", "edgekit_runtime", *words], capture_output=True, text=True)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "usage: edgekit-runtime" in ran.stderr


def test_what_litert_says_stays_off_standard_output(home: Path, signer: Signer, tmp_path: Path) -> None:
    """(The library below it announces its delegate when it loads a model.)"""
    release = bundles.install(write(tmp_path / "b", signer, bundles.tflite_contents("litert")), home)
    answer = command("prove", APP, release.digest)
    assert answer.status == 0
    proof = answer.document["state"]["proof"]
    assert (proof["ok"], proof["vectors"], proof["engine"].split()[0]) == (True, 3, "litert")
    words = [sys.executable, "-m", "edgekit_runtime.attempts", APP, release.digest]
    ran = subprocess.run(words, input=b'{"setting": null}', capture_output=True)
    assert b"XNNPACK" in ran.stderr
    assert json.loads(ran.stdout.splitlines()[0])["proof"]["ok"]


def test_an_output_may_have_any_name(home: Path, signer: Signer, tmp_path: Path, inside: Inside) -> None:
    interface = Interface(INTERFACE.inputs, (TensorSpec("file", "float32", (None, 3), "y"),))
    parcel = write(tmp_path / "b", signer, contents(1, interface=interface))
    (tmp_path / "in").write_bytes(arrays.dump({"x": samples()[0]}))
    inside("run", str(parcel.root), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"))
    assert list(arrays.load((tmp_path / "out").read_bytes())) == ["file"]


def test_the_home_is_that_of_the_user_unless_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_home() == tmp_path / ".local/share/edgekit"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_home() == Path("/var/lib/edgekit")
