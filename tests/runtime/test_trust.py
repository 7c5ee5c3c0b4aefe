"""Who is trusted: what may be added, what is revoked, and that it is OpenSSH that says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.signing import Signer
from edgekit_runtime import verify
from edgekit_runtime.errors import DeviceError, RevokedSigner, SignatureError
from edgekit_runtime.trust import Signer as Known
from edgekit_runtime.trust import add, revoke, signers
from tests.runtime.test_verify import DIGEST, allowed, line, stranger

__all__ = ["allowed", "stranger"]  # fixtures


def test_a_key_is_trusted_from_then_on(tmp_path: Path, signer: Signer) -> None:
    place = tmp_path / "trust" / "allowed_signers"
    assert add(place, signer.allowed_line())
    assert verify.verify(DIGEST, signer.sign(DIGEST), place)


def test_a_second_time_changes_nothing(allowed: Path, signer: Signer) -> None:
    before = allowed.read_bytes()
    assert not add(allowed, f"  {signer.allowed_line()}\n")
    assert allowed.read_bytes() == before


def test_what_stands_there_stays(allowed: Path, signer: Signer, stranger: Signer) -> None:
    allowed.write_bytes(b"# Andr\xe9's desk\n\n" + signer.allowed_line().encode())  # Latin-1, no last line feed
    assert add(allowed, stranger.allowed_line())
    assert allowed.read_bytes().startswith(b"# Andr\xe9's desk\n\n")
    for key in (signer, stranger):
        assert verify.verify(DIGEST, key.sign(DIGEST), allowed)


@pytest.mark.parametrize(
    "options",
    [
        'namespaces="edgekit"',
        'valid-before="20990101",namespaces="edgekit"',
        'cert-authority,namespaces="edgekit"',
        'namespaces="edgekit",valid-after="20200101Z"',
    ],
)
def test_options_and_a_comment_are_allowed(tmp_path: Path, signer: Signer, options: str) -> None:
    assert add(tmp_path / "allowed", f"{line(signer, options, 'a@b,*@c.example')} Ann's key")


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "junk",
        "# {line}",
        "{line}\n{line}",
        "{line}\r{line}",
        "{line} \0",
        "{line} \x1b[2J",
        'ann namespaces="edgekit"',
        'ann namespaces="edgekit" ssh-ed25519',
        'ann namespaces="edgekit" ssh-ed25519 AAAA',
        'ann namespaces="edgekit" ssh-ed25519 not base64',
        'ann namespaces="edgekit ssh-ed25519 {blob}',
        'ann namespaces="edgekit" ssh-rsa {blob}',
        "ann ssh-ed25519 {blob}",
        'ann namespaces="git" ssh-ed25519 {blob}',
        'ann ssh-ed25519 {blob} namespaces="edgekit"',
        'namespaces="edgekit" ssh-ed25519 {blob}',
        'ann namespaces="edgekit" -----BEGIN OPENSSH PRIVATE KEY-----',
    ],
)
def test_junk_is_refused_and_changes_nothing(allowed: Path, stranger: Signer, junk: str) -> None:
    before = allowed.read_bytes()
    text = junk.replace("{line}", line(stranger)).replace("{blob}", stranger.allowed_line().split()[-1])
    with pytest.raises(SignatureError, match="not a line of allowed_signers"):
        add(allowed, text)
    assert allowed.read_bytes() == before


class TestRevoking:
    def test_a_key_is_trusted_no_more_and_still_known(self, allowed: Path, signer: Signer, stranger: Signer) -> None:
        add(allowed, line(stranger, name="bob,robert"))
        assert revoke(allowed, f"{signer.public()} a comment")
        assert not revoke(allowed, signer.public())
        with pytest.raises(RevokedSigner):
            verify.verify(DIGEST, signer.sign(DIGEST), allowed)
        verify.verify(DIGEST, stranger.sign(DIGEST), allowed)
        ann = signer.allowed_line().split()[0]
        assert signers(allowed) == [Known(ann, signer.public(), True), Known("bob", stranger.public())]

    def test_it_is_not_taken_again(self, allowed: Path, signer: Signer, stranger: Signer) -> None:
        add(allowed, line(stranger))
        revoke(allowed, signer.public())
        for again in (signer.allowed_line(), line(signer, name="somebody-else")):
            with pytest.raises(RevokedSigner, match="revoked on the device"):
                add(allowed, again)

    def test_a_key_that_never_was_trusted_can_be_revoked_in_advance(
        self, allowed: Path, signer: Signer, stranger: Signer
    ) -> None:
        assert revoke(allowed, stranger.public())
        with pytest.raises(RevokedSigner):
            add(allowed, stranger.allowed_line())
        verify.verify(DIGEST, signer.sign(DIGEST), allowed)

    def test_the_last_one_stays(self, allowed: Path, signer: Signer) -> None:
        with pytest.raises(DeviceError, match="no other key could sign") as caught:
            revoke(allowed, signer.public())
        assert "edgekit trust add" in (caught.value.hint or "")
        verify.verify(DIGEST, signer.sign(DIGEST), allowed)

    @pytest.mark.parametrize("junk", ["", "x", "ssh-ed25519", "ssh-ed25519 AAAA", "{line}", "{key}\n{key}", "{key}\0"])
    def test_junk_changes_nothing(self, allowed: Path, stranger: Signer, junk: str) -> None:
        text = junk.replace("{line}", line(stranger)).replace("{key}", stranger.public())
        with pytest.raises(SignatureError, match="not a public key"):
            revoke(allowed, text)
        assert not allowed.with_name("revoked_signers").exists()

    def test_lines_that_a_person_wrote_are_no_hindrance(self, allowed: Path, signer: Signer) -> None:
        allowed.write_bytes(b"# Andr\xe9\n\nnonsense\n" + allowed.read_bytes())
        assert [each.key for each in signers(allowed)] == [signer.public()]
        assert signers(allowed.with_name("none")) == []
