"""Signatures by real keys: who may sign, what the signature is of, and what happens without OpenSSH."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgekit.signing import Signer
from edgekit_runtime import verify
from edgekit_runtime.errors import DeviceError, RevokedSigner, SignatureError, UnknownSigner
from edgekit_runtime.trust import add
from tests.runtime.bundles import make_key

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return make_key(tmp_path_factory.mktemp("stranger") / "key")


@pytest.fixture
def allowed(tmp_path: Path, signer: Signer) -> Path:
    path = tmp_path / "allowed_signers"
    path.write_text(f"{signer.allowed_line()}\n")
    return path


def signed(key: Signer, namespace: str, message: bytes) -> str:
    command = ["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(key.key)]
    return subprocess.run(command, input=message, capture_output=True, check=True).stdout.decode()


def line(key: Signer, options: str = 'namespaces="edgekit"', name: str = "ann@desk") -> str:
    return f"{name} {options} {' '.join(key.allowed_line().split()[-2:])}"


class TestVerify:
    def test_the_signer_is_named(self, allowed: Path, signer: Signer, stranger: Signer) -> None:
        allowed.write_text(f"{line(stranger, name='bob')}\n# the desk\n\n{line(signer, name='ann@desk,ann')}\n")
        assert verify.verify(DIGEST, signer.sign(DIGEST), allowed) == "ann@desk"
        assert verify.verify(DIGEST, stranger.sign(DIGEST), allowed) == "bob"

    @pytest.mark.parametrize("kind", [pytest.param("rsa", marks=pytest.mark.slow), "ecdsa"])
    def test_keys_of_other_kinds_sign_too(self, tmp_path: Path, kind: str) -> None:
        command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(tmp_path / "key")]
        subprocess.run(command, check=True)
        key = Signer(tmp_path / "key")
        assert add(tmp_path / "allowed", key.allowed_line())
        assert verify.verify(DIGEST, key.sign(DIGEST), tmp_path / "allowed")

    @pytest.mark.parametrize("signature", ["", " \n"])
    def test_an_unsigned_bundle_is_refused(self, allowed: Path, signature: str) -> None:
        with pytest.raises(SignatureError, match="not signed"):
            verify.verify(DIGEST, signature, allowed)

    @pytest.mark.parametrize(
        "signature",
        [
            "x",
            "-----BEGIN SSH SIGNATURE-----\n",
            "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n",
            "\0" * 1000,
            "\ud800é\ufffd",
            "A" * 100_000,
        ],
        ids=lambda text: repr(text[:12]),
    )
    def test_what_is_no_signature_is_refused(self, allowed: Path, signature: str) -> None:
        with pytest.raises(SignatureError) as caught:
            verify.verify(DIGEST, signature, allowed)
        assert caught.value.code == "signature"

    def test_a_changed_signature_is_refused(self, allowed: Path, signer: Signer) -> None:
        whole = signer.sign(DIGEST)
        middle = len(whole) // 2
        for place in (middle, middle + 1, middle + 40):
            other = "B" if whole[place] != "B" else "C"
            with pytest.raises(SignatureError):
                verify.verify(DIGEST, whole[:place] + other + whole[place + 1 :], allowed)

    def test_an_unknown_key_is_refused(self, allowed: Path, stranger: Signer) -> None:
        with pytest.raises(UnknownSigner, match="does not trust") as caught:
            verify.verify(DIGEST, stranger.sign(DIGEST), allowed)
        assert "device setup" in (caught.value.hint or "")

    def test_a_signature_of_another_bundle_is_refused(self, allowed: Path, signer: Signer) -> None:
        with pytest.raises(SignatureError, match="does not fit this bundle"):
            verify.verify(OTHER, signer.sign(DIGEST), allowed)

    def test_a_signature_for_another_purpose_is_refused(self, allowed: Path, signer: Signer) -> None:
        signature = signed(signer, "git", verify.message(DIGEST))
        with pytest.raises(SignatureError, match="does not fit this bundle"):
            verify.verify(DIGEST, signature, allowed)

    def test_a_key_that_is_trusted_for_another_purpose_is_refused(self, allowed: Path, signer: Signer) -> None:
        allowed.write_text(line(signer, 'namespaces="git"') + "\n")
        with pytest.raises(SignatureError):
            verify.verify(DIGEST, signer.sign(DIGEST), allowed)

    def test_a_key_whose_line_was_removed_is_refused(self, allowed: Path, signer: Signer, stranger: Signer) -> None:
        signature = signer.sign(DIGEST)
        assert verify.verify(DIGEST, signature, allowed)
        allowed.write_text(f"# {signer.allowed_line()}\n{stranger.allowed_line()}\n")
        with pytest.raises(UnknownSigner):
            verify.verify(DIGEST, signature, allowed)

    def test_a_key_beyond_its_date_is_refused(self, allowed: Path, signer: Signer) -> None:
        allowed.write_text(line(signer, 'valid-before="20200101",namespaces="edgekit"') + "\n")
        with pytest.raises(SignatureError):
            verify.verify(DIGEST, signer.sign(DIGEST), allowed)

    def test_a_key_that_was_renewed_is_trusted(self, allowed: Path, signer: Signer) -> None:
        old = line(signer, 'valid-before="20200101",namespaces="edgekit"', "old")
        allowed.write_text(f"{old}\n{line(signer, name='new')}\n")
        assert verify.verify(DIGEST, signer.sign(DIGEST), allowed) == "new"

    @pytest.mark.parametrize("text", [None, "", "# nobody\n"], ids=["no file", "empty", "comments"])
    def test_a_device_that_trusts_nobody_refuses(self, allowed: Path, signer: Signer, text: str | None) -> None:
        allowed.unlink() if text is None else allowed.write_text(text)
        with pytest.raises(UnknownSigner) as caught:
            verify.verify(DIGEST, signer.sign(DIGEST), allowed)
        assert "device setup" in (caught.value.hint or "")

    @pytest.mark.parametrize("path", ["", "/nowhere", os.devnull])
    def test_without_openssh_it_says_what_to_install(
        self, allowed: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        signature = signer.sign(DIGEST)
        monkeypatch.setenv("PATH", path)
        with pytest.raises(DeviceError, match="ssh-keygen is missing") as caught:
            verify.verify(DIGEST, signature, allowed)
        assert "openssh-client" in (caught.value.hint or "")

    def test_an_ssh_keygen_that_hangs_is_given_up(
        self, allowed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "ssh-keygen").write_text("#!/bin/sh\nexec sleep 60\n")
        (tmp_path / "bin" / "ssh-keygen").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        monkeypatch.setattr(verify, "TIMEOUT_S", 0.2)
        with pytest.raises(DeviceError, match="did not answer"):
            verify.verify(DIGEST, "signature", allowed)

    @pytest.mark.parametrize("kind", ["list", "KRL"])
    def test_a_revoked_key_is_refused_and_another_one_is_not(
        self, allowed: Path, signer: Signer, stranger: Signer, kind: str
    ) -> None:
        allowed.write_text(f"{line(stranger, name='bob')}\n{line(signer)}\n")
        revoked, public = allowed.with_name("revoked_signers"), signer.key.with_name(f"{signer.key.name}.pub")
        if kind == "list":
            revoked.write_text(f"# Ann's\n{signer.public()}\n")
        else:
            subprocess.run(["ssh-keygen", "-q", "-k", "-f", revoked, public], check=True)
        with pytest.raises(RevokedSigner, match="a key of ann@desk that is revoked"):
            verify.verify(DIGEST, signer.sign(DIGEST), allowed)
        assert verify.verify(DIGEST, stranger.sign(DIGEST), allowed) == "bob"

    def test_where_the_revoked_ones_cannot_be_read_nobody_is_trusted(self, allowed: Path, signer: Signer) -> None:
        allowed.with_name("revoked_signers").write_bytes(b"\xff" * 100)
        with pytest.raises(RevokedSigner):
            verify.verify(DIGEST, signer.sign(DIGEST), allowed)
