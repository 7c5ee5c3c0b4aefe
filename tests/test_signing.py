from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.errors import ConfigError, EdgekitError, SignatureError
from edgekit.signing import Signer, default_key, signer
from edgekit_runtime.verify import message, verify
from tests.lab.project import project
from tests.lab.sshd import new_key

__all__ = ["project"]  # a fixture

DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture(autouse=True)
def no_key(project: Path) -> None:
    """The project of other tests has a key already."""
    shutil.rmtree(default_key().parent)


def trusted(folder: Path, key: Signer) -> Path:
    path = folder / "allowed_signers"
    path.write_text(f"{key.allowed_line()}\n")
    return path


def test_a_key_is_made_on_first_use_and_used_again(project: Path) -> None:
    assert not default_key().exists()
    first = signer(None)
    made = first.key.read_bytes()
    assert first == signer(None) == Signer(default_key())
    assert default_key().read_bytes() == made
    assert default_key().is_relative_to(project.parent / "person")


def test_only_its_owner_reads_the_key(project: Path) -> None:
    path = signer(None).key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(each.name for each in path.parent.iterdir()) == ["signing_key", "signing_key.pub"]


def test_a_half_made_key_of_before_is_no_hindrance(project: Path) -> None:
    default_key().parent.mkdir(parents=True)
    default_key().with_name(".signing_key.new").write_text("half")
    assert signer(None).sign(DIGEST)


def test_what_is_signed_is_verified_by_the_device_and_by_plain_openssh(project: Path) -> None:
    key = signer(None)
    signature = key.sign(DIGEST)
    allowed = trusted(project, key)
    person = verify(DIGEST, signature, allowed)
    (project / "signature").write_text(signature)
    words = ["-Y", "verify", "-n", "edgekit", "-I", person, "-f", allowed, "-s", project / "signature"]
    done = subprocess.run(["ssh-keygen", *words], input=message(DIGEST), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Good" in done.stdout


@pytest.mark.parametrize("kind", ["ed25519", pytest.param("rsa", marks=pytest.mark.slow), "ecdsa"])
def test_a_key_of_ones_own_of_any_kind(project: Path, kind: str) -> None:
    key = signer(new_key(project / "my key", kind))
    verify(DIGEST, key.sign(DIGEST), trusted(project, key))


def test_the_signature_is_of_that_digest_and_that_key_only(project: Path) -> None:
    key, other = signer(None), signer(new_key(project / "other"))
    with pytest.raises(SignatureError):
        verify(DIGEST.replace("a", "b"), key.sign(DIGEST), trusted(project, key))
    with pytest.raises(SignatureError):
        verify(DIGEST, other.sign(DIGEST), trusted(project, key))


def test_a_device_trusts_the_key_for_bundles_only(project: Path) -> None:
    name, namespaces, kind, blob = signer(None).allowed_line().split()
    assert namespaces == 'namespaces="edgekit"'
    assert "@" in name
    assert [kind, blob] == default_key().with_name("signing_key.pub").read_text().split()[:2]


def test_a_missing_named_key_is_a_mistake_of_configuration(project: Path) -> None:
    with pytest.raises(ConfigError, match="none: no such signing key — make one with: ssh-keygen -t ed25519"):
        signer(project / "none")
    assert not default_key().exists()


@pytest.mark.parametrize("what", ["text", "folder", "locked"])
def test_what_is_no_key_or_locked_cannot_sign(project: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "never")
    key = project / what
    if what == "text":
        key.write_text("hello")
    elif what == "folder":
        key.mkdir()
    else:
        new_key(key, passphrase="secret phrase")
    code = f"from pathlib import Path; from edgekit.signing import signer; signer(Path({str(key)!r})).sign({DIGEST!r})"
    done = subprocess.run(  # without a terminal, on which OpenSSH would ask
        [sys.executable, "-c", code], capture_output=True, text=True, start_new_session=True, check=False
    )
    assert f"ConfigError: {key}: cannot sign with it: " in done.stderr


def test_a_locked_key_still_tells_whom_to_trust(project: Path) -> None:
    key = new_key(project / "locked", passphrase="secret phrase")
    assert Signer(key).allowed_line().split()[3] == key.with_name("locked.pub").read_text().split()[1]


def test_without_its_public_half_the_private_one_tells(project: Path) -> None:
    key = new_key(project / "key")
    blob = key.with_name("key.pub").read_text().split()[1]
    key.with_name("key.pub").unlink()
    assert Signer(key).allowed_line().split()[3] == blob
    with pytest.raises(ConfigError, match="no key that OpenSSH reads"):
        Signer(project / "none").allowed_line()


def test_a_public_key_signs_where_the_agent_has_the_other_half(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key(project / "key")
    agent = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    words = dict(part.split("=", 1) for part in agent.replace("\n", " ").split("; ") if part.startswith("SSH_"))
    words |= {"SSH_AGENT_PID": agent.partition("SSH_AGENT_PID=")[2].partition(";")[0]}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    try:
        subprocess.run(["ssh-add", "-q", key], check=True)
        key.unlink()
        public = Signer(key.with_name("key.pub"))
        (project / "allowed_signers").write_text(f"me {public.key.read_text()}")
        assert verify(DIGEST, public.sign(DIGEST), project / "allowed_signers") == "me"
    finally:
        subprocess.run(["ssh-agent", "-k"], capture_output=True, check=True)


def test_without_openssh_the_line_says_what_to_install(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project))
    with pytest.raises(EdgekitError, match=r"ssh-keygen is missing — install OpenSSH \(Debian: apt install"):
        signer(None)
    assert not default_key().exists()
