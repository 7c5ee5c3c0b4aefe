"""Who may deliver: tokens, passwords for a broker, and the certificate that devices are given."""

from __future__ import annotations

import shutil
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgekit.collect import certificate, passwords, private, tokens
from edgekit.collect.tokens import Tokens
from edgekit.errors import ConfigError, EdgekitError
from edgekit.store import Store
from edgekit_courier import tls
from tests.lab.databases import postgresql, postgresql_url, sqlite_url, url

__all__ = ["postgresql", "postgresql_url", "sqlite_url", "url"]  # fixtures


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config/edgekit"


class TestTokens:
    """In a store of either kind."""

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        with Store(url) as opened:
            yield opened

    def test_a_token_names_its_device_and_no_other(self, store: Store) -> None:
        kept, kitchen, gate = Tokens(store), tokens.fresh("kitchen.1"), tokens.fresh("gate")
        kept.keep(kitchen)
        kept.keep(gate)
        assert (kept.bearer(kitchen.text), kept.bearer(gate.text)) == ("kitchen.1", "gate")
        for other in ("", ".", "kitchen.1.", f"gate.{kitchen.secret}", kitchen.secret, "x" * 10_000, "é", "\ud800"):
            assert kept.bearer(other) is None
        assert [each.device for each in kept.issued()] == ["gate", "kitchen.1"]

    def test_a_new_one_takes_the_place_of_the_old_one(self, store: Store) -> None:
        kept, old, new = Tokens(store), tokens.fresh("gate"), tokens.fresh("gate")
        kept.keep(old)
        kept.keep(new)
        assert (kept.bearer(old.text), kept.bearer(new.text)) == (None, "gate")

    def test_revoked_it_is_nobody_s(self, store: Store) -> None:
        kept, token = Tokens(store), tokens.fresh("gate")
        kept.keep(token)
        assert kept.knows("gate")
        assert (kept.revoke("gate"), kept.revoke("gate")) == (True, False)
        assert not kept.knows("gate")
        assert kept.bearer(token.text) is None


class TestStore:
    def test_the_store_holds_none(self, store: Store, tmp_path: Path) -> None:
        token = tokens.fresh("gate")
        Tokens(store).keep(token)
        assert token.secret.encode() not in (tmp_path / "store.db").read_bytes()
        assert token.secret not in repr(token)

    def test_a_store_that_is_locked_is_told(self, store: Store, tmp_path: Path) -> None:
        with Store(f"sqlite:///{tmp_path / 'store.db'}?timeout=0.05") as hasty:
            kept = Tokens(hasty)
            holder = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
            holder.execute("BEGIN EXCLUSIVE")
            with pytest.raises(EdgekitError, match="token"):
                kept.keep(tokens.fresh("gate"))
            holder.close()


class TestPasswords:
    def test_the_collector_s_is_made_once_for_its_owner_alone(self, config: Path) -> None:
        assert len({passwords.collector() for _ in range(2)}) == 1
        assert passwords.file().stat().st_mode & 0o777 == 0o600
        assert config.stat().st_mode & 0o777 == 0o700

    def test_one_of_a_person_s_own_is_taken(self, config: Path) -> None:
        config.mkdir(parents=True)
        (config / "collector_password").write_text("secret of a broker that others run\n")
        assert passwords.collector() == "secret of a broker that others run"

    def test_a_line_holds_a_hash_with_salt(self) -> None:
        first, second = (passwords.line("gate", "secret") for _ in range(2))
        assert first.startswith("gate:$7$101$")
        assert first != second
        assert "secret" not in first


class TestCertificate:
    def test_it_is_made_once_for_its_owner_alone_whoever_comes_first(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            assert len({path.read_bytes() for path in pool.map(lambda _: certificate.own(), range(8))}) == 1
        assert certificate.own().stat().st_mode & 0o777 == 0o600
        assert [path.name for path in certificate.own().parent.iterdir()] == ["collector.pem"]
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate.own())

    def test_devices_get_it_without_its_key(self) -> None:
        known = certificate.known(None)
        assert known.pinned
        assert known.pem.count("-----BEGIN") == 1
        assert "PRIVATE" not in known.pem
        assert certificate.known("system") == certificate.Known("", pinned=False)

    def test_what_an_authority_signs_is_not_pinned(self, tmp_path: Path) -> None:
        path = tmp_path / "ca.pem"
        if not shutil.which("openssl"):
            pytest.skip("no openssl here")
        words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=CA -keyout /dev/null"
        subprocess.run([*words.split(), "-out", path], check=True, capture_output=True)
        assert not certificate.known(str(path)).pinned
        assert tls.context(certificate.known(str(path)).pem, pinned=False).check_hostname

    def test_what_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "none").write_text("hello")
        for name in ("none", "missing"):
            with pytest.raises(ConfigError, match="no certificate"):
                certificate.known(str(tmp_path / name))

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="cannot be made"):
            private.kept(tmp_path / "file/x", lambda: b"x")
