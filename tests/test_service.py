"""Service: units as systemd itself reads them, and what becomes of a command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit import fleet, service, transports
from edgekit.errors import ConfigError
from edgekit.fleet import Device
from edgekit.service import Service
from edgekit.unit import Unit
from edgekit_runtime import service as of_device
from tests.lab.bundles import TARGET
from tests.lab.project import desk, edgekit, project

__all__ = ["desk", "project"]  # fixtures

LOOP = Service("digits", ("python", "/home/pi/loop.py"))
SERVER = service.server("edgekit-runtime serve digits:5 --socket /run/edgekit/s")
COURIER = service.courier()
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def text(served: Service, home: str, *, root: bool) -> str:
    return Unit(served.app, served.command(home), served.watchdog_s, root, served.courier).text(home)


def line(unit: str, key: str) -> str:
    [found] = [each for each in unit.splitlines() if each.startswith(f"{key}=")]
    return found.partition("=")[2]


class TestCommand:
    def test_python_is_that_of_edgekit(self) -> None:
        made = service.program("digits", "python3 '/home/pi/my loop.py' --rate=5")
        assert made.command("/h") == ("/h/env/bin/python", "/home/pi/my loop.py", "--rate=5")
        assert service.program("digits", "/usr/bin/loop").command("/h") == ("/usr/bin/loop",)

    def test_the_server_is_that_of_edgekit_too(self) -> None:
        assert service.is_server(" edgekit-runtime  serve --listen 80")
        assert not service.is_server("edgekit-runtime status")
        python = ("/h/env/bin/python", "-I", "-m", "edgekit_runtime")
        assert SERVER.command("/h") == (*python, "serve", "digits:5", "--socket", "/run/edgekit/s")
        assert (SERVER.unit, LOOP.unit) == ("edgekit.service", "edgekit-digits.service")
        assert (SERVER.watchdog_s, service.server("edgekit-runtime serve", 0).watchdog_s, LOOP.watchdog_s) == (
            30,
            0,
            300,
        )

    def test_so_is_the_courier(self) -> None:
        assert service.is_courier(" edgekit-runtime  deliver ")
        assert not service.is_courier("edgekit-runtime deliver --once")
        assert COURIER.command("/h") == ("/h/env/bin/python", "-I", "-m", "edgekit_runtime", "deliver")
        assert (COURIER.unit, COURIER.watchdog_s, COURIER.server) == ("edgekit.courier.service", 600, False)
        assert (SERVER.server, SERVER.courier, LOOP.server, LOOP.courier) == (True, False, False, False)

    @pytest.mark.parametrize("command", ["", " ", "loop.py", "./loop", "'open", "python 'a\nb'", "/$HOME/x", "-/bin/x"])
    def test_what_is_none(self, command: str) -> None:
        with pytest.raises(ConfigError, match="--service"):
            service.program("digits", command)


class TestText:
    def test_words_are_kept_from_systemd(self) -> None:
        odd = Service("digits", ("/bin/l p", "a b", "$HOME", "%h", '"', "\\n", ";"))
        assert line(text(odd, "/h", root=False), "ExecStart") == r'"/bin/l p" "a b" "$$HOME" "%%h" "\"" "\\n" ";"'

    def test_the_home_is_too(self) -> None:
        made = text(LOOP, "/a %b/c", root=True)
        assert line(made, "Environment") == '"EDGEKIT_HOME=/a %%b/c" "PYTHONUNBUFFERED=1"'
        assert line(made, "ConditionPathExists") == "/a %%b/c/apps/digits/current"
        assert line(made, "ReadWritePaths") == '"/a %%b/c"'
        assert line(made, "ReadOnlyPaths").startswith('"-/a %%b/c/trust" ')

    @needs_systemd
    @pytest.mark.parametrize("root", [True, False])
    @pytest.mark.parametrize("app", ["digits", ""])
    def test_systemd_reads_it_without_a_complaint(self, tmp_path: Path, root: bool, app: str) -> None:
        """Unknown keys and bad values are warnings only, so nothing may be said."""
        (tmp_path / "a b").symlink_to("/bin")
        odd = Service(app, (str(tmp_path / "a b/true"), "$x", "%i", 'a"b', "\\", "é"))
        path = tmp_path / odd.unit
        path.write_text(text(odd, "/var/lib/edge kit", root=root))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")

    @needs_systemd
    @pytest.mark.parametrize("served", [LOOP, SERVER, COURIER], ids=["program", "server", "courier"])
    def test_the_system_s_unit_is_hardened(self, tmp_path: Path, served: Service) -> None:
        path = tmp_path / served.unit
        path.write_text(text(served, "/var/lib/edgekit", root=True))
        command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", path]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout.splitlines()[-1]
        assert "exposure level" in done.stdout


def test_without_systemd_it_says_how_to_run_the_program(
    project: Path, desk: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK", service.LOOK.replace("/run/systemd/system", "/no/such/folder"))
    with transports.connect(desk.uri) as link:
        found = service.install(link, Service("digits", ("python", "/home/pi/a loop.py")))
    assert found.unit is None
    home = project / "desk"
    assert found.note.endswith(f"has to run: env EDGEKIT_HOME={home} {home}/env/bin/python '/home/pi/a loop.py'")


class TestRestart:
    """With a systemctl that only notes what it was asked for."""

    @pytest.fixture
    def asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        note = tmp_path / "asked"
        (tmp_path / "bin").mkdir()
        fake = tmp_path / "bin/systemctl"
        fake.write_text(f'#!/bin/sh\necho "$XDG_RUNTIME_DIR $*" >>{note}\n')
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setattr(of_device.os, "geteuid", lambda: 1000)
        return note

    def test_the_app_s_own_unit_is_started_again(self, tmp_path: Path, asked: Path) -> None:
        place = tmp_path / "systemd/user"
        place.mkdir(parents=True)
        (place / "edgekit-digits.service").write_text(text(LOOP, "/h %", root=False))
        assert of_device.restart(Path("/h %"), "digits") == "edgekit-digits.service"
        manager = "/run/user/1000 --user"
        assert asked.read_text().splitlines() == [
            f"{manager} --quiet is-enabled edgekit-digits.service",
            f"{manager} --no-block restart edgekit-digits.service",
        ]
        assert of_device.restart(Path("/other"), "digits") == ""
        assert of_device.restart(Path("/h %"), "faces") == ""

    def test_the_server_is_not(self, tmp_path: Path, asked: Path) -> None:
        place = tmp_path / "systemd/user"
        place.mkdir(parents=True)
        (place / SERVER.unit).write_text(text(SERVER, "/h", root=False))
        assert of_device.restart(Path("/h"), "digits") == ""
        assert not asked.exists()

    def test_one_that_was_disabled_is_left_alone(self, tmp_path: Path, asked: Path) -> None:
        place = tmp_path / "systemd/user"
        place.mkdir(parents=True)
        (place / "edgekit-digits.service").write_text(text(LOOP, "/h", root=False))
        (tmp_path / "bin/systemctl").write_text("#!/bin/sh\nexit 1\n")
        assert of_device.restart(Path("/h"), "digits") == ""
        (tmp_path / "bin/systemctl").unlink()
        assert of_device.restart(Path("/h"), "digits") == ""


class TestSetup:
    """What is wrong is told before a device is asked."""

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["--service", "python /x.py"], "which app does the service serve? — name it with --app"),
            (["--service", "loop.py", "--app", "digits"], "'loop.py' is neither python nor an absolute path"),
            (["--service", "python /x.py", "--app", "../x"], "'../x' is no app name"),
            (["--service", "edgekit-runtime serve", "--app", "x"], "--service 'edgekit-runtime serve x'"),
            (["--service", "edgekit-runtime status", "--app", "x"], "'edgekit-runtime' is neither python nor"),
        ],
    )
    def test_a_service_that_cannot_be(self, project: Path, words: list[str], told: str) -> None:
        fleet.add(project, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
        assert told in edgekit("device", "setup", *words, status=2).line
