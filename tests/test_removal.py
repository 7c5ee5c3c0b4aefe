"""Taking edgekit off a device: all that is its own goes, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit import fleet, removal, transports
from edgekit.errors import DeviceError
from edgekit.fleet import Device
from edgekit.removal import Found
from edgekit.simulate import Simulated
from tests.lab.bundles import TARGET
from tests.lab.project import Served, document, edgekit, project, served, served_pi
from tests.lab.sshd import needs_sshd

__all__ = ["project", "served", "served_pi"]  # fixtures


def take_off(home: Path, *, keep_data: bool = False) -> Found:
    with transports.connect(f"local:{home}") as link:
        found = removal.look(link, keep_data=keep_data)
        removal.remove(link, found)
    return found


def test_nothing_of_it_is_left(project: Path, served: Served) -> None:
    for folder in ("reports/digits", "compiled/0", "courier", "samples/digits", "rounds/digits"):
        (served.home / folder).mkdir(parents=True, exist_ok=True)
    scratch = served.home / f"timing-{'0' * 32}"
    scratch.mkdir()
    environment = (served.home / "env").resolve()
    ran = edgekit("device", "remove", "desk")
    told = "2 releases of digits, the runtime and its engine, the trusted keys, the samples it has kept, from"
    assert f"desk: removing {told} {served.home}" in ran.stderr
    assert ran.stdout == "desk: removed\n"
    assert not served.home.exists()
    assert (environment / "complete").exists(), "a link is not followed"
    assert fleet.load(project) == ()


def test_what_is_not_ours_stays_and_is_named(project: Path, served: Served) -> None:
    for name in ("notes.txt", ".profile", "environment", "a b"):
        (served.home / name).write_text("mine")
    said = take_off(served.home)
    assert sorted(said.others) == [".profile", "a b", "environment", "notes.txt"]
    assert sorted(path.name for path in served.home.iterdir()) == sorted(said.others)
    assert {"env", "apps", "blobs", "trust"} <= set(said.ours)


def test_a_folder_of_somebody_else_s_is_left_alone(project: Path) -> None:
    for name in ("apps", "reports", "env"):
        (project / "theirs" / name).mkdir(parents=True)
    fleet.add(project, Device("desk", f"local:{project / 'theirs'}", TARGET))
    line = edgekit("device", "remove", "desk", status=1).line
    assert "does not look like edgekit's: nothing was removed — --forget" in line
    assert len(list((project / "theirs").iterdir())) == 3
    assert len(fleet.load(project)) == 1
    assert "taken out of fleet.toml" in edgekit("device", "remove", "desk", "--forget").stdout
    assert fleet.load(project) == ()


def test_a_folder_with_nothing_in_it(project: Path) -> None:
    assert take_off(project / "empty").ours == ()


def test_what_the_device_noted_can_be_kept(project: Path, served: Served) -> None:
    for folder in ("reports/digits", "samples/digits", "rounds/digits"):
        (served.home / folder).mkdir(parents=True, exist_ok=True)
    (served.home / "audit.log").write_text("{}\n")
    assert sorted(take_off(served.home, keep_data=True).others) == ["audit.log", "reports", "samples"]
    assert sorted(path.name for path in served.home.iterdir()) == ["audit.log", "reports", "samples"]


def test_a_device_that_is_not_there_can_be_forgotten(project: Path) -> None:
    fleet.add(project, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
    line = edgekit("device", "remove", "gone", status=1).line
    assert "connection refused" in line
    assert line.endswith("; --forget takes it out of fleet.toml only")
    assert len(fleet.load(project)) == 1
    assert document("device", "remove", "gone", "--forget")["home"] is None
    assert fleet.load(project) == ()


def test_after_an_interruption_it_goes_on(project: Path, served: Served) -> None:
    """The marks go last."""
    with transports.connect(f"local:{served.home}") as link:
        found = removal.look(link)
        assert found.ours.index("trust") >= 0
        removal._remove(link, found.home, removal._without_marks(found.ours))
        assert sorted(path.name for path in served.home.iterdir()) == ["lock", "trust"]
    assert take_off(served.home).others == ()
    assert not served.home.exists()


def test_a_push_at_work_is_not_disturbed(project: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "REMOVE", removal.REMOVE.replace("-w 10", "-w 0"))
    with (
        subprocess.Popen(["flock", served.home / "lock", "-c", "echo; cat"], stdin=-1, stdout=-1) as holder,
        transports.connect(f"local:{served.home}") as link,
    ):
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(DeviceError, match="a push or rollback is at work"):
            removal.remove(link, removal.look(link))
    assert (served.home / "apps/digits/current").exists()


@pytest.mark.slow
@needs_sshd
def test_over_ssh(project: Path, served_pi: Simulated) -> None:
    assert "edgekit device simulate pi --stop" in edgekit("device", "remove", "pi", status=2).line
    with transports.connect(served_pi.uri) as link:
        removal.remove(link, removal.look(link))
    assert not served_pi.home.exists()


def test_names_do_not_lead_out(project: Path, served: Served) -> None:
    """Neither a link in the place of a folder, nor a name with a line break."""
    outside = project / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    shutil.rmtree(served.home / "apps")
    (served.home / "apps").symlink_to(outside)
    (served.home / "x\nentry env").touch()
    take_off(served.home)
    assert (outside / "kept").exists()
