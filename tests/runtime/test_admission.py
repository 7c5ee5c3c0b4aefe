"""What is let in: by its architecture, its age and its date, whatever the clock of the board says."""

from __future__ import annotations

import platform
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.signing import Signer
from edgekit_runtime import admission, releases, switches, trust
from edgekit_runtime.admission import Facts, admit
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.errors import Downgrade, Expired, IncompatibleTarget, RevokedSigner, UnknownSigner
from tests.runtime.bundles import APP, MANIFEST, Parcels, contents, go_live, install, make_key, serves, write

NOW = int(time.time())
DAY = 24 * 3600
HERE = platform.machine()


class TestDecision:
    @given(st.integers(0, 9), st.integers(0, 9), st.none() | st.integers(0, 9), st.integers(0, 9), st.booleans())
    def test_it_is_let_in_exactly_when_nothing_speaks_against_it(
        self, sequence: int, highest: int, expires: int | None, now_s: int, allowed: bool
    ) -> None:
        manifest = replace(MANIFEST, sequence=sequence, expires=expires)
        refused: tuple[type[Exception], ...] = ()
        if expires is not None and expires <= now_s:
            refused = (Expired,)
        elif sequence < highest and not allowed:
            refused = (Downgrade,)
        try:
            admit(manifest, Facts(MANIFEST.arch, now_s, highest), allow_downgrade=allowed)
        except refused:
            return
        assert not refused

    def test_what_serves_is_no_downgrade(self) -> None:
        admit(replace(MANIFEST, sequence=1), Facts(MANIFEST.arch, NOW, 2, serves=True))

    @pytest.mark.parametrize("expires", [0, 2**63 - 1])
    def test_any_date_can_be_told(self, expires: int) -> None:
        with pytest.raises(Expired, match="expired on .*, and it is "):
            admit(replace(MANIFEST, expires=expires), Facts(MANIFEST.arch, 2**63 - 1, 0))

    @pytest.mark.parametrize(
        ("ahead_s", "hint"),
        [(DAY, "at 2026-03-02T00:00:00Z, and here it is 2026-03-01T00:00:00Z: "), (-1, "--allow-downgrade")],
    )
    def test_a_host_whose_clock_was_ahead_is_told_from_an_older_build(self, ahead_s: int, hint: str) -> None:
        now_s = 1_772_323_200
        with pytest.raises(Downgrade) as caught:
            admit(replace(MANIFEST, sequence=now_s - DAY), Facts(MANIFEST.arch, now_s, now_s + ahead_s))
        assert hint in (caught.value.hint or "")

    def test_any_moment_can_be_told(self) -> None:
        with pytest.raises(Downgrade) as caught:
            admit(MANIFEST, Facts(MANIFEST.arch, 0, 2**63 - 1))
        assert "s after 1970" in (caught.value.hint or "")


def bundle(place: Path, signer: Signer, seed: int = 1, **changes: Any) -> Bundle:
    return write(place / f"bundle-{seed}-{len(list(place.iterdir()))}", signer, contents(seed, **changes))


def test_another_architecture(home: Path, tmp_path: Path, signer: Signer) -> None:
    with pytest.raises(IncompatibleTarget, match=f"the bundle is for riscv64, this device is {HERE}"):
        install(bundle(tmp_path, signer, arch="riscv64"), home)
    assert not (home / "apps").exists()


class TestDowngrade:
    def test_older_than_what_was_live_is_refused_and_nothing_of_it_stays(
        self, home: Path, parcels: Parcels, tmp_path: Path, signer: Signer
    ) -> None:
        go_live(parcels.two, home)
        with pytest.raises(Downgrade, match="sequence 1 is older than 2") as caught:
            install(parcels.one, home)
        assert "--allow-downgrade" in (caught.value.hint or "")
        assert not releases.folder_of(home, APP, parcels.one.digest).exists()
        assert serves(parcels.two)

    def test_one_that_is_installed_already_is_not_switched_to(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        go_live(parcels.two, home)
        with pytest.raises(Downgrade):
            switches.activate(home, APP, parcels.one.digest)
        assert serves(parcels.two)

    def test_it_is_allowed_by_a_person_and_told(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        go_live(parcels.two, home)
        switches.activate(home, APP, parcels.one.digest, allow_downgrade=True)
        assert serves(parcels.one)
        assert '"downgrade allowed"' in (home / "audit.log").read_text()
        assert admission.highest(home, APP) == 2

    def test_one_that_cannot_be_told_is_not_allowed(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        go_live(parcels.two, home)
        (home / "audit.log").unlink(missing_ok=True)
        (home / "audit.log").mkdir()
        with pytest.raises(IsADirectoryError):
            switches.activate(home, APP, parcels.one.digest, allow_downgrade=True)
        assert serves(parcels.two)

    def test_a_rollback_is_none_and_does_not_open_the_way_for_one(self, home: Path, parcels: Parcels) -> None:
        one, two = go_live(parcels.one, home), go_live(parcels.two, home)
        assert switches.rollback(home, APP, "because").digest == one.digest
        assert (serves(parcels.one), admission.highest(home, APP)) == (True, two.bundle.manifest.sequence)

    def test_other_apps_have_sequences_of_their_own(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.other, home)
        go_live(parcels.one, home)
        assert [admission.highest(home, app) for app in (APP, "other", "none")] == [1, 3, 0]


class TestExpiry:
    def test_one_beyond_its_date_is_refused(self, home: Path, tmp_path: Path, signer: Signer) -> None:
        with pytest.raises(Expired, match="the bundle expired on 1970-01-01, and it is 20"):
            install(bundle(tmp_path, signer, expires=5), home)

    def test_one_within_its_date_serves_on_when_that_has_passed(
        self, home: Path, tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parcel = bundle(tmp_path, signer, expires=NOW + DAY)
        release = go_live(parcel, home)
        monkeypatch.setattr(admission, "clock", lambda: NOW + 2 * DAY)
        assert serves(parcel)
        go_live(bundle(tmp_path, signer, 2), home)
        with pytest.raises(Expired):
            switches.activate(home, APP, release.digest, allow_downgrade=True)

    @pytest.mark.parametrize("known_by", ["an install before", "its own build"])
    def test_a_board_that_wakes_up_in_1970(
        self, home: Path, tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch, known_by: str
    ) -> None:
        if known_by == "an install before":
            install(bundle(tmp_path, signer), home)
            late = bundle(tmp_path, signer, 2, expires=NOW - DAY)
        else:
            late = bundle(tmp_path, signer, 2, sequence=NOW, expires=NOW - DAY)
        monkeypatch.setattr(admission, "clock", lambda: 60)
        with pytest.raises(Expired):
            install(late, home)
        install(bundle(tmp_path, signer, 2, sequence=NOW, expires=NOW + DAY), home)

    def test_a_clock_that_was_ahead_once_bricks_nothing(
        self, home: Path, tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(admission, "clock", lambda: 4 * 10**9)
            go_live(bundle(tmp_path, signer), home)
        dated, plain = bundle(tmp_path, signer, 2, expires=NOW + DAY), bundle(tmp_path, signer, 3)
        with pytest.raises(Expired) as caught:
            install(dated, home)
        assert "remove trust/time" in (caught.value.hint or "")
        install(plain, home)
        (home / "trust" / "time").unlink()
        install(dated, home)

    @pytest.mark.parametrize("junk", [b"\xff-1", b"9" * 99], ids=["junk", "huge"])
    def test_a_floor_that_cannot_be_read_leaves_the_clock(
        self, home: Path, tmp_path: Path, signer: Signer, junk: bytes
    ) -> None:
        (home / "trust" / "time").write_bytes(junk)
        install(bundle(tmp_path, signer, expires=NOW + 40_000 * DAY), home)
        assert NOW <= int((home / "trust" / "time").read_bytes()) < NOW + DAY


class TestSigner:
    def test_a_release_of_a_revoked_signer_serves_on_but_is_not_switched_to(
        self, home: Path, parcels: Parcels, tmp_path: Path, signer: Signer
    ) -> None:
        other = make_key(tmp_path / "other")
        trust.add(trust.file(home), other.allowed_line())
        go_live(parcels.one, home)
        later = releases.mark(install(parcels.two, home), "proven")
        assert trust.revoke(trust.file(home), signer.public())
        assert serves(parcels.one)
        with pytest.raises(RevokedSigner):
            switches.activate(home, APP, later.digest)
        with pytest.raises(RevokedSigner):
            install(parcels.other, home)
        assert serves(parcels.one)

    def test_a_signer_that_was_removed(self, home: Path, parcels: Parcels) -> None:
        release = releases.mark(install(parcels.one, home), "proven")
        trust.file(home).write_text("# nobody\n")
        with pytest.raises(UnknownSigner):
            switches.activate(home, APP, release.digest)

    def test_a_rollback_needs_neither_a_signer_nor_a_tool(
        self, home: Path, parcels: Parcels, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It was let in when it came."""
        go_live(parcels.one, home)
        go_live(parcels.two, home)
        shutil.rmtree(home / "trust")
        monkeypatch.setenv("PATH", "/nowhere")
        switches.rollback(home, APP, "because")
        assert serves(parcels.one)
