"""`edgekit trust`: on real devices, some of which are away, some all the time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgekit import fleet, rotation, signing, transports, trust
from edgekit.errors import ConfigError
from edgekit.fleet import Device
from edgekit.rotation import Rotation
from edgekit.signing import Signer
from tests.lab.bundles import TARGET, make_bundle
from tests.lab.project import Served, document, edgekit, local_device, project, served
from tests.lab.sshd import fingerprint, new_key

__all__ = ["project", "served"]  # fixtures


@pytest.fixture
def ann(project: Path) -> Path:
    """The public half of somebody else's key."""
    return new_key(project / "ann").with_name("ann.pub")


@contextmanager
def away(device: Device) -> Iterator[None]:
    """A device that does not answer."""
    home = Path(device.uri.partition(":")[2])
    home.rename(home.with_name("away"))
    home.write_text("no folder")
    try:
        yield
    finally:
        home.unlink()
        home.with_name("away").rename(home)


def trusted(device: Device) -> dict[str, bool]:
    """Fingerprint → whether bundles of that key are taken."""
    with transports.connect(device.uri) as link:
        return {each.fingerprint: not each.revoked for each in trust.signers(link)}


def test_a_key_is_added_listed_and_revoked(project: Path, served: Served, ann: Path) -> None:
    added = document("trust", "add", ann, "--name", "ann@desk")
    assert added["devices"] == [{"device": "desk", "ok": True, "changed": True, "error": None}]
    assert document("trust", "add", ann)["devices"][0]["changed"] is False
    listed = document("trust", "list")["devices"][0]["signers"]
    assert [each["fingerprint"] for each in listed] == [fingerprint(signing.default_key()), fingerprint(ann)]
    assert (listed[1]["name"], listed[1]["revoked"]) == ("ann@desk", False)
    assert edgekit("trust", "revoke", "ann@desk").stdout == "desk: trusts ann@desk no more\n"
    assert document("trust", "revoke", fingerprint(ann))["devices"][0]["changed"] is False
    assert edgekit("trust", "list").stdout.splitlines()[2].split()[1:] == ["ann@desk", fingerprint(ann), "revoked"]
    told = [json.loads(line) for line in (served.home / "audit.log").read_text().splitlines()]
    assert [each["what"] for each in told if "trust" in each["what"] or "revoke" in each["what"]] == [
        "trust",
        "revoke",
        "revoke",
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trust", "revoke", "nobody"], "desk: no signer 'nobody' — it knows "),
        (["trust", "revoke", "none.pub"], "none.pub: no public key of OpenSSH — name the .pub file of a key"),
        (["trust", "add", "ann"], "ann: no public key of OpenSSH — name the .pub file of a key"),
        (["trust", "add", "ann.pub", "--name", "a b"], "not a line of allowed_signers for edgekit"),
        (["trust", "rotate", "--key", "none"], "none: no such signing key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(project: Path, served: Served, ann: Path, words: list[str], line: str) -> None:
    status = 1 if words[1] == "revoke" or "--name" in words else 2
    assert line in edgekit(*words, status=status).line
    assert len(trusted(served.device)) == 1


def test_the_last_key_of_a_device_is_not_revoked(project: Path, served: Served) -> None:
    failed = document("trust", "revoke", f"{signing.default_key()}.pub", status=1)["devices"][0]
    assert (failed["ok"], failed["error"]["code"]) == (False, "device")
    assert "edgekit trust add" in failed["error"]["hint"]


class TestRotation:
    @pytest.mark.slow
    def test_a_device_that_is_away_is_taken_up_later_and_serves_meanwhile(
        self, project: Path, served: Served, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        other = local_device("other", project, tmp_path_factory.getbasetemp())
        old = fingerprint(signing.default_key())
        with away(served.device):
            half = document("trust", "rotate", status=1)
            assert (half["signs"], half["left"], half["old"]) == ("new", 1, old)
            assert [each["ok"] for each in half["devices"]] == [False, True]
            new = half["new"]
            assert fingerprint(signing.default_key()) == new != old
            assert trusted(other) == {old: False, new: True}
        third = make_bundle(project / "third", sequence=3)
        refused = document("push", third.root, "--to", "desk", status=1)["devices"][0]["error"]
        assert refused["code"] == "unknown_signer"
        assert document("status", "desk")["devices"][0]["apps"][0]["current"]["digest"] == served.second.digest
        assert trusted(served.device) == {old: True}

        whole = document("trust", "rotate")
        assert (whole["old"], whole["new"], whole["left"]) == (old, new, 0)
        assert [each["device"] for each in whole["devices"]] == ["desk"]
        assert trusted(served.device) == {old: False, new: True}
        assert document("push", third.root, "--to", "desk")["devices"][0]["ok"]
        assert not rotation.FILE.exists()

    @pytest.mark.slow
    def test_what_the_old_key_signed_serves_on_but_is_pushed_no_more(self, project: Path, served: Served) -> None:
        late = make_bundle(project / "late", sequence=3)
        document("trust", "rotate")
        assert document("status")["devices"][0]["apps"][0]["current"]["digest"] == served.second.digest
        failed = document("push", late.root, status=1)["devices"][0]
        assert failed["error"]["code"] == "revoked_signer"

    @pytest.mark.slow
    def test_nothing_changes_when_nobody_answers(self, project: Path, served: Served) -> None:
        before = signing.default_key().read_bytes()
        with away(served.device):
            told = document("trust", "rotate", status=1)
        assert (told["signs"], told["left"]) == ("old", 1)
        assert signing.default_key().read_bytes() == before
        assert document("trust", "rotate")["new"] == told["new"]

    @pytest.mark.slow
    def test_a_key_of_ones_own_is_written_into_edgekit_toml_by_hand(self, project: Path, served: Served) -> None:
        first, second = (new_key(project / name) for name in ("first", "second"))
        document("trust", "add", "first.pub")
        (project / "edgekit.toml").write_text('signing_key = "first"\n')
        assert "--key" in edgekit("trust", "rotate", status=2).line
        halted = document("trust", "rotate", "--key", "second", status=1)
        assert halted["signs"] == "old"
        assert trusted(served.device)[fingerprint(first)] is trusted(served.device)[fingerprint(second)] is True
        (project / "edgekit.toml").write_text('signing_key = "second"\n')
        assert document("trust", "rotate")["signs"] == "new"
        assert trusted(served.device)[fingerprint(first)] is False

    def test_another_rotation_waits_for_this_one(self, project: Path, served: Served) -> None:
        new_key(project / "mine")
        with away(served.device):
            edgekit("trust", "rotate", status=1)
        assert "is under way" in edgekit("trust", "rotate", "--key", "mine", status=2).line

    @pytest.mark.parametrize("moved", [".pub", ""])
    def test_a_host_that_dies_between_the_halves_of_its_key(
        self, project: Path, served: Served, monkeypatch: pytest.MonkeyPatch, moved: str
    ) -> None:
        real, old = Path.replace, Signer(signing.default_key()).public()
        now = rotation.take_up(None, None)

        def cut(source: Path, target: Path) -> Path:
            if source.name == f"signing_key.next{moved}":
                raise KeyboardInterrupt
            return real(source, target)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "replace", cut)
            rotation.switch(now, None)
        assert not rotation.signs(now, None)
        rotation.switch(rotation.take_up(None, None), None)
        assert rotation.signs(now, None)
        assert Signer(signing.default_key().with_name("signing_key.old")).public() == old

    def test_a_state_that_cannot_be_read_says_so(self, project: Path) -> None:
        rotation.FILE.parent.mkdir()
        rotation.FILE.write_text("{")
        with pytest.raises(ConfigError, match="cannot be read"):
            rotation.take_up(None, None)

    def test_a_device_that_moved_or_came_later_is_left(self) -> None:
        one, two = Device("one", "local:/1", TARGET), Device("two", "local:/2", TARGET)
        reached = Rotation("a", "b", "c", {}).reached([one])
        assert reached.pending([one, two]) == [two]
        assert reached.pending([Device("one", "local:/3", TARGET)]) != []


def test_a_fleet_of_nobody(project: Path) -> None:
    assert "fleet.toml has no devices" in edgekit("trust", "list", status=2).line
    assert not fleet.load(project)


def test_the_name_of_a_key_without_a_comment_is_its_file_s(project: Path, ann: Path) -> None:
    ann.write_text(" ".join(ann.read_text().split()[:2]) + "\n")
    assert trust.read(ann).name == "ann"
    os.truncate(ann, 20)
    shutil.copy(ann, project / "short.pub")
    with pytest.raises(ConfigError, match="no public key"):
        trust.read(project / "short.pub")
