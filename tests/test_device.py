"""What the host hears from a device; here one that answers whatever a test wants, as its runtime is a script."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import answer as answering
from edgekit import device, errors, transports
from edgekit.errors import BundleError, CommandError, DeviceError, EdgekitError, SignatureError
from edgekit.simulate import Simulated
from edgekit.transports import Transport
from edgekit_runtime import errors as runtime_errors
from tests.lab.sshd import device as simulated
from tests.lab.sshd import needs_sshd

__all__ = ["simulated"]  # a fixture


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Transport]:
    with transports.connect(f"local:{tmp_path / 'home'}") as opened:
        yield opened


def answers(home: Path, output: bytes | str, status: int = 0) -> None:
    """Let the device's runtime print this and end so."""
    (home / "env/bin").mkdir(parents=True, exist_ok=True)
    (home / "output").write_bytes(output if isinstance(output, bytes) else output.encode())
    script = home / "env/bin/python"
    script.write_text(f'#!/bin/sh\ncat "$EDGEKIT_HOME/output"; echo last words >&2; exit {status}\n')
    script.chmod(0o755)


class TestScratch:
    def test_a_folder_that_lasts_as_long_as_the_block(self, tmp_path: Path, link: Transport) -> None:
        home = tmp_path / "home" / "not yet"
        with device.scratch(link, str(home), "run") as one, device.scratch(link, str(home), "run") as other:
            assert {str(path) for path in home.glob("run-*")} == {one, other}
            Path(one, "file").touch()
        assert list(home.iterdir()) == []

    def test_it_goes_when_the_block_fails(self, tmp_path: Path, link: Transport) -> None:
        with pytest.raises(DeviceError, match="no"), device.scratch(link, str(tmp_path), "time") as place:
            assert Path(place).is_dir()
            raise DeviceError("no")
        assert not Path(place).exists()

    def test_one_that_cannot_be_made(self, tmp_path: Path, link: Transport) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(CommandError, match="mkdir"), device.scratch(link, str(tmp_path / "file"), "run"):
            raise AssertionError


class TestCall:
    def test_what_goes_in_and_what_comes_back(self, tmp_path: Path, link: Transport) -> None:
        answers(tmp_path / "home", "")
        script = tmp_path / "home/env/bin/python"
        script.write_text(
            f"#!{sys.executable}\nimport json, sys\n"
            "print(json.dumps({'argv': sys.argv[1:], 'stdin': json.load(sys.stdin)}))\n"
        )
        answer = device.call(link, "install", "a b", "$HOME", stdin={"line": "é\n"})
        assert answer == {"argv": ["-I", "-m", "edgekit_runtime", "install", "a b", "$HOME"], "stdin": {"line": "é "}}

    def test_not_set_up(self, link: Transport) -> None:
        with pytest.raises(DeviceError, match="edgekit is not set up on this device") as caught:
            device.call(link, "status")
        assert caught.value.hint == "run 'edgekit device setup' for it"

    @pytest.mark.parametrize(
        "output",
        [
            b"",
            b"Segmentation fault\n",
            b"[1, 2]",
            b'{"cut": ',
            b'{"n": NaN}',
            b'{"n": 1e999}',
            b"\xff\xfe{}",
            b"1" * 5000,
        ],
    )
    def test_what_is_no_json_object(self, tmp_path: Path, link: Transport, output: bytes) -> None:
        answers(tmp_path / "home", output, status=3)
        with pytest.raises(CommandError, match="the device's status ended with status 3: last words") as caught:
            device.call(link, "status")
        assert "edgekit device setup" in (caught.value.hint or "")

    def test_an_answer_nested_without_end(self, tmp_path: Path, link: Transport) -> None:
        answers(tmp_path / "home", '{"a": ' * 100_000 + "1" + "}" * 100_000)
        with pytest.raises(CommandError):
            device.call(link, "status")

    def test_a_runtime_that_says_nothing(self, tmp_path: Path, link: Transport) -> None:
        answers(tmp_path / "home", "")
        (tmp_path / "home/env/bin/python").write_text("#!/bin/sh\nexit 9\n")
        with pytest.raises(CommandError, match="ended with status 9, and said nothing"):
            device.call(link, "status")

    def test_what_a_conversation_has_said_is_no_reason_of_its_end(self, tmp_path: Path, link: Transport) -> None:
        answers(tmp_path / "home", '{"letter": "AAAA"}\n')
        script = tmp_path / "home/env/bin/python"
        script.write_text(script.read_text().replace("echo last words >&2; exit 0", "exit 9"))
        with (
            pytest.raises(CommandError, match="ended with status 9, and said nothing"),
            device.conversing(link, "secure") as there,
        ):
            assert there.hear() == {"letter": "AAAA"}
            there.hear()
        answers(tmp_path / "home", '{"letter": "AAAA"}\nSegmentation fault\n')
        script.write_text(script.read_text().replace("echo last words >&2; exit 0", "exit 9"))
        with (
            pytest.raises(CommandError, match="ended with status 9: Segmentation fault"),
            device.conversing(link, "secure") as there,
        ):
            there.hear()
            there.hear()

    def test_a_runtime_that_was_killed(self, tmp_path: Path, link: Transport) -> None:
        """The log of an engine is no reason."""
        answers(tmp_path / "home", "")
        (tmp_path / "home/env/bin/python").write_text("#!/bin/sh\necho INFO: all is well >&2; kill -KILL $$\n")
        with pytest.raises(CommandError, match="^the device.s status was killed there — .* memory"):
            device.call(link, "status")

    def test_a_runtime_that_does_not_know_the_command_is_older(self, tmp_path: Path, link: Transport) -> None:
        real = [sys.executable, "-m", "edgekit_runtime"]
        answers(tmp_path / "home", "")
        (tmp_path / "home/env/bin/python").write_text(f'#!/bin/sh\nshift 3\nexec {shlex.join(real)} "$@"\n')
        with pytest.raises(DeviceError, match="of an older edgekit") as caught:
            device.call(link, "fly")
        assert "edgekit device setup" in (caught.value.hint or "")
        with pytest.raises(DeviceError, match="of an older edgekit"), device.conversing(link, "fly", "away") as there:
            there.hear()

    def test_a_runtime_that_no_longer_hears(self, tmp_path: Path, link: Transport) -> None:
        """The shell that it ran in was killed: sshd ends its input, and hears it still."""
        answers(tmp_path / "home", '{"schema_version": 1, "app": null}\n{"schema_version": 1}\n')
        with (
            pytest.raises(CommandError, match="^the device.s push was cut off from this host — try again$"),
            device.conversing(link, "push", "digits") as there,
        ):
            assert there.hear()["app"] is None
            there.ask({"blobs": []})

    def test_a_runtime_of_another_edgekit(self, tmp_path: Path, link: Transport) -> None:
        answers(tmp_path / "home", '{"schema_version": 1, "apps": [{"app": "digits"}]}')
        with pytest.raises(DeviceError, match="^this device answers without 'current' — .*edgekit device setup"):
            device.call(link, "status")["apps"][0]["current"]

    def test_nothing_steers_the_terminal(self, tmp_path: Path, link: Transport) -> None:
        evil = "\x1b]0;owned\x07\r\n\u202e\x9b31m ü — ✓"
        answers(tmp_path / "home", json.dumps({"apps": [{evil: [evil]}], "n": 1}))
        answer = device.call(link, "status")
        assert str(answer).isprintable()
        assert str(answer).count("ü — ✓") == 2
        assert answer["n"] == 1
        answers(tmp_path / "home", json.dumps({"error": {"code": "device", "message": evil, "hint": evil}}), 1)
        with pytest.raises(DeviceError) as caught:
            device.call(link, "status")
        assert str(caught.value).isprintable()


class TestReported:
    def test_every_error_of_the_runtime_comes_back_as_itself(self) -> None:
        kinds = [kind for kind in vars(runtime_errors).values() if isinstance(kind, type)]
        kinds = [kind for kind in kinds if issubclass(kind, EdgekitError)]
        assert len(kinds) > 10
        for kind in kinds:
            error = answering.reported(kind("what", "to do").as_dict())
            assert (type(error), error.message, error.hint) == (kind, "what", "to do")

    def test_no_error_that_only_a_host_can_have(self) -> None:
        own = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EdgekitError)]
        for kind in own:
            error = answering.reported({"code": kind.code, "message": "x", "hint": None})
            assert type(error).__module__ == "edgekit_runtime.errors"
            assert error.exit_code == 1

    @pytest.mark.parametrize("said", [None, "words", [], {}, {"code": []}, {"code": "x", "message": {}, "hint": 1}])
    def test_any_other_shape_is_an_error_of_the_device(self, said: object) -> None:
        error = answering.reported(said)
        assert type(error) is DeviceError
        assert error.message not in ("", "None")

    def test_a_subclass_is_caught_as_its_kind(self, tmp_path: Path, link: Transport) -> None:
        answers(tmp_path / "home", json.dumps({"error": SignatureError("x").as_dict()}), 1)
        with pytest.raises(BundleError):
            device.call(link, "install")

    def test_endless_words_are_cut(self) -> None:
        error = answering.reported({"code": "device", "message": "x" * 10**7, "hint": "y" * 10**7})
        assert len(str(error)) < 3000


class TestProbe:
    def test_before_anything_is_set_up(self, tmp_path: Path, link: Transport) -> None:
        facts = device.probe(link)
        assert (facts["arch"], facts["home"]) == (os.uname().machine, str(tmp_path / "home"))
        assert facts["packages"]["edgekit-runtime"] is None

    @needs_sshd
    def test_over_ssh(self, simulated: Simulated) -> None:
        with transports.connect(simulated.uri) as link:
            assert device.probe(link)["home"] == str(simulated.home)

    def test_without_python(self, tmp_path: Path, link: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
        only = tmp_path / "bin"
        only.mkdir()
        for program in ("sh", "id"):
            (only / program).symlink_to(shutil.which(program) or "")
        monkeypatch.setenv("PATH", str(only))
        with pytest.raises(DeviceError, match="there is no python3 on this device") as caught:
            device.probe(link)
        assert caught.value.hint == "install Python 3.8 or newer"

    def test_an_environment_whose_python_is_gone(self, tmp_path: Path, link: Transport) -> None:
        (tmp_path / "home/env/bin").mkdir(parents=True)
        (tmp_path / "home/env/bin/python").symlink_to("/usr/bin/python2.6")
        assert device.probe(link)["python"].startswith("3.")
        with pytest.raises(DeviceError, match="not set up"):
            device.call(link, "status")
