from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

import edgekit_runtime
from edgekit import device as devices
from edgekit import provision, signing, target, transports
from edgekit.brought import Brought
from edgekit.errors import ConfigError, DeviceError, EdgekitError
from edgekit.fleet import Device
from edgekit.provision import Provisioned
from edgekit.simulate import Simulated
from edgekit.target import EngineChoice, Target
from edgekit.transports import Transport
from tests.lab.bundles import TARGET
from tests.lab.project import (
    EDGEKIT,
    INTERRUPTED,
    FirstDevice,
    desk,
    edgekit,
    first_device,
    had_begun,
    pi,
    project,
    until,
)
from tests.lab.sshd import needs_sshd

__all__ = ["desk", "pi", "project"]  # fixtures

PI = target.load("raspberry-pi-5")
OURS = target.load(TARGET)


def setup(link: Transport, profile: Target = OURS, engine: str | None = None, **brought: bool) -> Provisioned:
    chosen, tell = provision.choose_engine(profile, engine), (lambda line: None)
    wanted = Brought(**brought)
    return provision.setup(link, profile, chosen, signing.signer(None), tell, offline=True, brought=wanted)


@pytest.fixture
def link(desk: Device) -> Iterator[Transport]:
    with transports.connect(desk.uri) as opened:
        yield opened


def other_kit() -> Target:
    """This machine's target with a range that reads otherwise, so that an environment has to be made."""
    first, *rest = OURS.engines
    return replace_engines(replace_version(first, f"{first.version},<999"), *rest)


def replace_version(engine: EngineChoice, version: str) -> EngineChoice:
    return msgspec.structs.replace(engine, version=version)


def replace_engines(*engines: EngineChoice) -> Target:
    return msgspec.structs.replace(OURS, engines=engines)


class TestCheck:
    FACTS: ClassVar = {"arch": "aarch64", "python": "3.11.2", "ssh_keygen": "/usr/bin/ssh-keygen"}

    def test_what_a_pi_says(self) -> None:
        provision.check(self.FACTS, PI)

    @pytest.mark.parametrize("python", ["3.8.0", "3.13.1", "3.14.0rc1"])
    def test_pythons_that_do(self, python: str) -> None:
        provision.check({**self.FACTS, "python": python}, PI)

    @pytest.mark.parametrize(
        ("facts", "told"),
        [
            ({"arch": "x86_64"}, "the device is x86_64, raspberry-pi-5 is aarch64 — write the right target"),
            ({"arch": "armv7l"}, "the device is armv7l"),
            ({"python": "3.7.16"}, "the device has Python 3.7.16 — the runtime needs Python 3.8 or newer"),
            ({"python": "2.7.18"}, "the device has Python 2.7.18"),
            ({"ssh_keygen": None}, "ssh-keygen is missing on the device — install OpenSSH there"),
        ],
    )
    def test_what_can_never_run(self, facts: dict[str, Any], told: str) -> None:
        with pytest.raises(DeviceError) as caught:
            provision.check({**self.FACTS, **facts}, PI)
        assert told in str(caught.value)


class TestEngines:
    def test_the_one_of_that_name_or_the_first(self) -> None:
        assert provision.choose_engine(PI, None).name == "litert"
        assert provision.choose_engine(PI, "onnxruntime").name == "onnxruntime"

    def test_one_that_the_target_does_not_have(self) -> None:
        with pytest.raises(ConfigError, match="raspberry-pi-5 has no engine 'torch'") as caught:
            provision.choose_engine(PI, "torch")
        assert (caught.value.hint or "").startswith("it has litert, onnxruntime")

    def test_nothing_but_the_one_is_installed(self) -> None:
        fresh = {"engines": {}, "packages": {"edgekit-runtime": None}}
        of_the_system = {"engines": {"onnxruntime": "1.22"}, "packages": {"edgekit-runtime": None}}
        for facts in (fresh, of_the_system):
            assert provision.requirements(facts, PI, PI.engines[0]) == ("ai-edge-litert>=2.1",)

    def test_one_that_an_earlier_setup_brought_stays_in_the_order_of_the_target(self) -> None:
        facts = {"engines": {"onnxruntime": "1.22", "x": "1"}, "packages": {"edgekit-runtime": "0.1.0"}}
        both = ("ai-edge-litert>=2.1", "onnxruntime>=1.19")
        assert provision.requirements(facts, PI, PI.engines[0]) == both
        facts["engines"]["ai-edge-litert"] = "2.1"
        assert provision.requirements(facts, PI, PI.engines[1]) == both

    def test_tflite_runtime_gets_the_numpy_that_it_works_with(self) -> None:
        old = replace_version(PI.engines[0], ">=2.14")
        old = type(old)(
            "tflite", "tflite-runtime", *[getattr(old, name) for name in ("version", "format", "providers")]
        )
        fresh = {"engines": {}, "packages": {"edgekit-runtime": None}}
        assert provision.requirements(fresh, replace_engines(old), old) == ("tflite-runtime>=2.14", "numpy<2")


@pytest.fixture
def bare(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FirstDevice, Transport]]:
    """The device that all others here have their environment from."""
    first = first_device(tmp_path_factory.getbasetemp())
    with transports.connect(f"local:{first.home}") as link:
        yield first, link


class TestSetup:
    def test_a_device_without_pip_gets_an_environment(self, bare: tuple[FirstDevice, Transport]) -> None:
        first, link = bare
        assert "No module named 'ensurepip'" in first.python_says
        assert (first.done.installed, first.done.trusted, first.done.engine) == (True, True, OURS.engines[0].package)
        facts = devices.probe(link)
        assert facts["engines"][first.done.engine] == first.done.version is not None
        assert facts["python_venv"] is False
        assert devices.call(link, "status")["apps"] == []

    def test_the_runtime_is_ours_whatever_an_index_has(self, bare: tuple[FirstDevice, Transport]) -> None:
        first, link = bare
        assert first.impostor.is_file()
        assert devices.call(link, "status")["runtime"] == edgekit_runtime.__version__

    def test_nothing_lies_about(self, bare: tuple[FirstDevice, Transport]) -> None:
        """Neither wheels nor environments of long ago; one that may be in the making stays."""
        home = bare[0].home
        assert {path.name for path in (home / "envs").iterdir()} == {(home / "env").readlink().name, "young"}
        assert {path.name for path in home.iterdir()} == {"env", "envs", "trust", "lock", "audit.log"}

    def test_doing_it_again_changes_nothing(
        self, bare: tuple[FirstDevice, Transport], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, link = bare
        monkeypatch.setenv("PATH", first.path)
        before = (first.home / "env").readlink(), (first.home / "trust/allowed_signers").read_bytes()
        started = time.monotonic()
        again = setup(link)
        assert (again.installed, again.trusted, again.version) == (False, False, first.done.version)
        assert time.monotonic() - started < 5
        assert ((first.home / "env").readlink(), (first.home / "trust/allowed_signers").read_bytes()) == before

    def test_a_runtime_that_is_damaged_is_not_taken_for_one(
        self, bare: tuple[FirstDevice, Transport], tmp_path: Path
    ) -> None:
        first, link = bare
        identity = (first.home / "env/complete").read_text().strip()
        assert provision._has(link, str(first.home), identity)
        assert not provision._has(link, str(first.home), "another")
        [package] = (first.home / "env/lib").glob("python3*/site-packages/edgekit_runtime/__init__.py")
        package.rename(tmp_path / "kept")
        try:
            package.write_text("raise ImportError\n")
            assert not provision._has(link, str(first.home), identity)
        finally:
            (tmp_path / "kept").replace(package)


class TestRefused:
    @pytest.fixture
    def fake(self, tmp_path: Path, link: Transport, monkeypatch: pytest.MonkeyPatch, desk: Device) -> Any:
        """Let the device's python3 say something else of itself."""
        Path(desk.uri.removeprefix("local:"), "env").unlink()

        def change(old: str, new: str) -> None:
            (tmp_path / "bin").mkdir()
            script = tmp_path / "bin" / "python3"
            script.write_text(f"#!/bin/sh\nsed 's|{old}|{new}|' | {shutil.which('python3')} \"$@\"\n")
            script.chmod(0o755)
            monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

        return change

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            (
                "platform.python_version()",
                '"3.7.3"',
                "the device has Python 3.7.3 — the runtime needs Python 3.8 or newer",
            ),
            (
                '" ".join(platform.libc_ver())',
                '"musl 1.2.5"',
                "the device's C library is musl 1.2.5 — wheels are made for glibc only",
            ),
            (
                '" ".join(platform.libc_ver())',
                '""',
                "the device's C library is unknown — wheels are made for glibc only",
            ),
            ('shutil.which("ssh-keygen")', "None", "ssh-keygen is missing on the device"),
        ],
        ids=["Python 3.7", "musl", "unknown libc", "no ssh-keygen"],
    )
    def test_a_device_that_cannot_be_helped(
        self, link: Transport, desk: Device, fake: Any, old: str, new: str, told: str
    ) -> None:
        fake(old, new)
        with pytest.raises(DeviceError) as caught:
            setup(link)
        assert told in str(caught.value)
        assert not Path(desk.uri.removeprefix("local:"), "envs").exists()

    def test_a_target_of_another_architecture(self, link: Transport) -> None:
        other = PI if OURS.arch == "x86_64" else target.load("generic-x86-64")
        with pytest.raises(DeviceError, match=f"the device is {OURS.arch}, {other.name} is {other.arch}"):
            setup(link, other)

    @pytest.mark.slow
    def test_what_somebody_else_had_installed_is_named_when_the_environment_is_made_anew(
        self, link: Transport, desk: Device
    ) -> None:
        """As pip does it: what was asked for, not what came along."""
        assert setup(link, other_kit()).left_behind == ()  # an environment that no other test has
        [packages] = Path(desk.uri.removeprefix("local:"), "env", "lib").glob("python*/site-packages")
        for name, asked in (("shop_trainer", True), ("came_along", False)):
            facts = packages / f"{name}-1.dist-info"
            facts.mkdir()
            if asked:
                (facts / "REQUESTED").touch()
        assert not setup(link, other_kit()).installed
        assert setup(link).left_behind == ("shop_trainer",)

    @pytest.mark.slow
    def test_an_engine_that_no_index_has(self, link: Transport, desk: Device) -> None:
        first = OURS.engines[0]
        with pytest.raises(EdgekitError, match=r"no wheels for cp3.*ERROR: ") as caught:
            setup(link, replace_engines(replace_version(first, ">=999")))
        assert "\n" not in str(caught.value)
        assert devices.call(link, "status")["apps"] == []


needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0,
    reason="may not mount a small disk",
)


@pytest.mark.slow
@needs_mount
@pytest.mark.parametrize("size", ["12m", "64m"], ids=["while sending", "while installing"])
def test_a_full_disk_leaves_the_old_environment(link: Transport, desk: Device, size: str) -> None:
    envs = Path(desk.uri.removeprefix("local:"), "envs")
    envs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", envs], check=True)
    try:
        with pytest.raises(EdgekitError, match="o space left") as caught:
            setup(link, other_kit())
        assert "\n" not in str(caught.value)
        assert list(envs.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", envs], check=True)
    assert devices.call(link, "status")["apps"] == []


class TestInterrupted:
    """Ctrl-C again and again: the old environment goes on working, and at last a setup succeeds."""

    @pytest.mark.slow
    @needs_sshd
    def test_over_ssh(self, project: Path, pi: Simulated) -> None:
        self.interrupted(project, "pi", pi.home, [0.3 + 0.25 * step for step in range(12)])

    @pytest.mark.slow
    def test_a_folder(self, project: Path, desk: Device) -> None:
        self.interrupted(project, "desk", project / "desk", [0.3 + 0.25 * step for step in range(12)])

    def interrupted(self, project: Path, name: str, home: Path, moments: Sequence[float]) -> None:
        retarget(project)
        before = (home / "env").readlink()
        for moment in moments:
            command = [*EDGEKIT, "device", "setup", name, "--offline"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                time.sleep(moment)
                process.send_signal(signal.SIGINT)
                said, told = process.communicate(timeout=60)
            if process.returncode == 0 or "is set up" in said:  # it was quicker
                break
            if had_begun(process.returncode, told):
                assert process.returncode in INTERRUPTED, told
                assert told.splitlines()[-1] == "edgekit: interrupted"
                assert "Traceback" not in told
            assert (home / "env").readlink() == before
            edgekit("status", name)
        edgekit("device", "setup", name, "--offline")
        assert (home / "env").readlink() != before
        edgekit("status", name)
        until(lambda: [path.name for path in (home / "envs").iterdir()] == [(home / "env").readlink().name])


def retarget(project: Path) -> None:
    """Let the devices of a project be of a target of its own, for which an environment has to be made."""
    (project / "own.toml").write_text(own_profile())
    text = (project / "fleet.toml").read_text()
    (project / "fleet.toml").write_text(text.replace(f'target = "{TARGET}"', 'target = "own.toml"'))


def own_profile() -> str:
    """The shipped profile of this machine with another range."""
    shipped = Path(target.__file__).parent.parent / "targets" / f"{TARGET}.toml"
    version = OURS.engines[0].version
    return shipped.read_text().replace(f'version = "{version}"', f'version = "{version},<999"', 1)


@pytest.mark.slow
class TestEnginesForReal:
    def test_a_second_engine_comes_beside_the_first_and_both_stay(self, link: Transport) -> None:
        first, second = OURS.engines
        setup(link, engine=first.name)
        assert setup(link, engine=second.name).installed
        engines = devices.probe(link)["engines"]
        assert None not in (engines[first.package], engines[second.package])
        assert not setup(link, engine=first.name).installed

    def test_the_server_is_brought_when_it_is_asked_for_and_stays(self, link: Transport) -> None:
        setup(link)
        command = ["sh", "-c", devices.RUNTIME, "edgekit", "serve", "--help"]
        missing = link.run(command)
        assert b"edgekit device setup NAME --server" in missing.stdout
        for server in (True, False):
            setup(link, server=server)
            assert link.run(command).check().stdout.startswith(b"usage: edgekit-runtime serve")
        assert devices.probe(link)["packages"]["edgekit-server"] == edgekit_runtime.__version__
        missing = link.run([*command[:-1], "--listen", "0", "--grpc", "0"])
        assert b"gRPC is not installed here" in missing.stderr
        assert b"edgekit device setup NAME --grpc" in missing.stderr
        for grpc in (True, False):
            setup(link, grpc=grpc)
            assert devices.probe(link)["packages"]["grpcio"]

    def test_what_learns_is_brought_when_it_is_asked_for_and_stays(self, link: Transport) -> None:
        setup(link)
        command = ["sh", "-c", '"$1/env/bin/python" -I -m edgekit_train key', "edgekit", devices.probe(link)["home"]]
        assert b"No module named edgekit_train" in link.run(command).stderr
        for train in (True, False):
            setup(link, train=train)
            assert b'"public": "ssh-ed25519 ' in link.run(command).check().stdout
        assert devices.probe(link)["packages"]["edgekit-train"] == edgekit_runtime.__version__

    def test_two_setups_at_once(self, project: Path, desk: Device) -> None:
        retarget(project)
        command = [*EDGEKIT, "device", "setup", "desk", "--offline"]
        processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        told = [process.communicate(timeout=100)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], told
        assert subprocess.run([*EDGEKIT, "status", "desk"]).returncode == 0

    def test_with_the_index_of_the_device(self, link: Transport) -> None:
        chosen = provision.choose_engine(OURS, None)
        done = provision.setup(link, other_kit(), other_kit().engines[0], signing.signer(None), lambda line: None)
        assert (done.installed, done.engine) == (True, chosen.package)
        assert done.version
