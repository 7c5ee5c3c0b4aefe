from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import transports
from edgekit.errors import HostKeyError
from edgekit.simulate import Simulated
from edgekit.transports import Options, host_keys
from edgekit.transports.host_keys import Entry, HostKey
from tests.lab.sshd import (
    client,
    device,
    fingerprint,
    keygen,
    needs_sshd,
    new_key,
    own_home,
    port,
    reconfigure,
    running,
)

__all__ = ["device", "own_home"]  # fixtures

KEY = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519" + b"k" * 36)
OTHER = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519" + b"o" * 36)


def line(hosts: str, key: HostKey = KEY, marker: str = "") -> str:
    return f"{marker}{hosts} {key.kind} {base64.b64encode(key.blob).decode()} a comment\n"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "known_hosts"
    file.write_text(text)
    return file


# --- the files ---


def test_fingerprint_is_openssh_s(tmp_path: Path) -> None:
    public = new_key(tmp_path / "key").with_suffix(".pub")
    kind, encoded = public.read_text().split()[:2]
    assert HostKey(kind, base64.b64decode(encoded)).fingerprint == fingerprint(public)


@pytest.mark.parametrize(
    ("hosts", "name", "means_it"),
    [
        ("pi", "pi", True),
        ("pi", "PI", True),
        ("Pi.Local", "pi.local", True),
        ("pi", "pi2", False),
        ("a,pi,b", "pi", True),
        ("[pi]:2222", "[pi]:2222", True),
        ("[pi]:2222", "pi", False),
        ("pi", "[pi]:2222", False),
        ("*.lan", "pi.lan", True),
        ("*.lan", "lan", False),
        ("pi?", "pi2", True),
        ("pi?", "pi22", False),
        ("[*]:2222", "[10.0.0.1]:2222", True),
        ("*,!pi", "pi", False),
        ("*,!pi", "pi2", True),
        ("!pi", "pi2", False),
        ("fe80::1", "fe80::1", True),
    ],
)
def test_which_host_a_line_means(tmp_path: Path, hosts: str, name: str, means_it: bool) -> None:
    assert [entry.key for entry in host_keys.known([written(tmp_path, line(hosts))], name)] == [KEY] * means_it


def test_hashed_names_as_ssh_keygen_makes_them(tmp_path: Path) -> None:
    new_key(tmp_path / "key")
    kind, encoded = (tmp_path / "key.pub").read_text().split()[:2]
    file = written(tmp_path, f"pi.lan,10.0.0.7 {kind} {encoded}\n[pi.lan]:2222 {kind} {encoded}\n")
    keygen("-H", "-f", file)
    assert "pi.lan" not in file.read_text()
    assert [entry.line for entry in host_keys.known([file], "pi.lan")] == [1]
    assert [entry.line for entry in host_keys.known([file], "10.0.0.7")] == [2]
    assert [entry.line for entry in host_keys.known([file], "[PI.lan]:2222")] == [3]
    assert host_keys.known([file], "pi.other") == ()


def test_lines_that_say_nothing_are_passed_over(tmp_path: Path) -> None:
    text = (
        "# comment\n\n   \npi\npi ssh-ed25519\npi ssh-ed25519 not*base64\n|1|x pi pi\n|1|*|* ssh-ed25519 AAAA\n"
        + line("pi", HostKey("ssh-rsa", KEY.blob))  # says another kind than it holds
        + line("pi", marker="@cert-authority ")
        + line("pi", marker="@unheard-of ")
        + "a\vb\u2028c ssh-ed25519 AAAA\n"  # only \n ends a line, or the numbers would be wrong
        + line("pi")
        + line("pi", OTHER, "@revoked ")
    )
    file = written(tmp_path, text)
    assert host_keys.known([tmp_path / "none", file], "pi") == (
        Entry(KEY, file, 13),
        Entry(OTHER, file, 14, revoked=True),
    )


def test_a_file_that_cannot_be_read_is_no_empty_file(tmp_path: Path) -> None:
    with pytest.raises(HostKeyError, match=str(tmp_path)):
        host_keys.known([tmp_path], "pi")


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("before", [None, "", "pi ssh-ed25519 AAAA\n", "# no newline at the end"])
def test_what_is_remembered_is_known(tmp_path: Path, before: str | None, hashed: bool) -> None:
    file = tmp_path / "new" / "known_hosts"
    if before is not None:
        file.parent.mkdir(0o700)
        file.write_text(before)
        file.chmod(0o600)
    host_keys.remember(KEY, "[pi]:2222", file, hashed=hashed)
    host_keys.remember(OTHER, "[pi]:2222", file, hashed=hashed)
    assert [entry.key for entry in host_keys.known([file], "[pi]:2222")] == [KEY, OTHER]
    assert file.read_text().startswith(before or "")
    assert ("[pi]:2222" in file.read_text()) is not hashed
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@given(st.binary(min_size=1, max_size=64), st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True), st.booleans())
def test_remembered_keys_come_back(
    tmp_path_factory: pytest.TempPathFactory, blob: bytes, name: str, hashed: bool
) -> None:
    file = tmp_path_factory.mktemp("hosts") / "known_hosts"
    key = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519" + blob)
    host_keys.remember(key, name, file, hashed=hashed)
    assert [entry.key for entry in host_keys.known([file], name)] == [key]


def test_a_key_that_cannot_be_remembered_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostKeyError, match="cannot be remembered"):
        host_keys.remember(KEY, "pi", tmp_path / "file" / "known_hosts")


def test_known_kinds_are_asked_for_first() -> None:
    offered = ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"]
    rsa = Entry(HostKey("ssh-rsa", b""), Path("f"), 1)
    revoked = Entry(HostKey("ecdsa-sha2-nistp256", b""), Path("f"), 2, revoked=True)
    assert host_keys.preferred(offered, [rsa, revoked]) == [*offered[2:], *offered[:2]]
    assert host_keys.preferred(offered, [Entry(HostKey("ssh-dss", b""), Path("f"), 1)]) == offered


# --- a real server ---


def uri(device: Simulated, tmp_path: Path, *lines: str, known: str = "") -> str:
    """The device under a known_hosts file of the test's own, which asks about what is unknown."""
    file = written(tmp_path, known) if known else tmp_path / "person" / ".ssh" / "known_hosts"
    return client(device, tmp_path, *lines, f"UserKnownHostsFile {file}", "StrictHostKeyChecking ask")


def works(uri: str, options: Options = Options()) -> bool:
    with transports.connect(uri, options) as link:
        return link.run(["true"]).status == 0


def refused(uri: str, options: Options = Options()) -> HostKeyError:
    with pytest.raises(HostKeyError) as caught:
        transports.connect(uri, options)
    return caught.value


def shown(device: Simulated, key: str = "host_key") -> str:
    return (device.folder / f"{key}.pub").read_text().rpartition(" ")[0]


def never(question: str) -> bool:
    raise AssertionError(question)


YES = Options(accept_new_host_key=True, ask=lambda question: True)


@needs_sshd
@pytest.mark.usefixtures("own_home")
class TestUnknown:
    def test_refused(self, device: Simulated, tmp_path: Path) -> None:
        error = refused(uri(device, tmp_path))
        assert fingerprint(device.folder / "host_key") in error.message
        assert f"@127.0.0.1:{port(device)}" in error.message
        assert "--accept-new-host-key" in (error.hint or "")
        assert "\n" not in str(error)

    def test_asked_and_accepted_once(self, device: Simulated, tmp_path: Path) -> None:
        questions: list[str] = []
        place = uri(device, tmp_path)

        def ask(question: str) -> bool:
            questions.append(question)
            return True

        assert works(place, Options(ask=ask))
        assert f"ssh-ed25519 {fingerprint(device.folder / 'host_key')}" in questions[0]
        assert works(place, Options(ask=never))
        assert keygen("-F", f"[127.0.0.1]:{port(device)}", "-f", tmp_path / "person" / ".ssh" / "known_hosts")

    def test_asked_and_declined(self, device: Simulated, tmp_path: Path) -> None:
        refused(uri(device, tmp_path), Options(ask=lambda question: False))
        assert not (tmp_path / "person" / ".ssh").exists()

    @pytest.mark.parametrize("value", ["accept-new", "no"])
    def test_accepted_by_configuration(self, device: Simulated, tmp_path: Path, value: str) -> None:
        place = uri(device, tmp_path, f"StrictHostKeyChecking {value}", "HashKnownHosts yes")
        assert works(place, Options(ask=never))
        assert works(place, Options(ask=never))
        assert (tmp_path / "person" / ".ssh" / "known_hosts").read_text().startswith("|1|")

    def test_accepted_by_option(self, device: Simulated, tmp_path: Path) -> None:
        assert works(uri(device, tmp_path, "StrictHostKeyChecking yes"), Options(accept_new_host_key=True))
        assert works(uri(device, tmp_path, "StrictHostKeyChecking yes"))

    def test_strict_does_not_ask(self, device: Simulated, tmp_path: Path) -> None:
        refused(uri(device, tmp_path, "StrictHostKeyChecking yes"), Options(ask=never))

    def test_a_host_key_alias_is_the_name(self, device: Simulated, tmp_path: Path) -> None:
        refused(uri(device, tmp_path, known=f"kitchen {shown(device)}\n"))
        assert works(uri(device, tmp_path, "HostKeyAlias kitchen", known=f"kitchen {shown(device)}\n"))

    def test_a_certificate_authority_vouches_for_nobody(self, device: Simulated, tmp_path: Path) -> None:
        refused(uri(device, tmp_path, known=f"@cert-authority * {shown(device)}\n"))

    def test_global_files_count(self, device: Simulated, tmp_path: Path) -> None:
        file = written(tmp_path, f"[127.0.0.1]:{port(device)} {shown(device)}\n")
        place = client(device, tmp_path, "UserKnownHostsFile none", f"GlobalKnownHostsFile /nowhere {file}")
        assert works(place)


@needs_sshd
@pytest.mark.usefixtures("own_home")
class TestKnownOtherwise:
    def test_changed(self, device: Simulated, tmp_path: Path) -> None:
        old = new_key(tmp_path / "old")
        name = f"[127.0.0.1]:{port(device)}"
        known = f"# a comment\nother {shown(device)}\n{name} {(tmp_path / 'old.pub').read_text()}"
        error = refused(uri(device, tmp_path, "StrictHostKeyChecking no", known=known), YES)
        assert f"{tmp_path / 'known_hosts'}:3 " in error.message
        assert fingerprint(old) in error.message
        assert fingerprint(device.folder / "host_key") in error.message
        assert f"ssh-keygen -R '{name}' -f {tmp_path / 'known_hosts'}" in (error.hint or "")
        assert (tmp_path / "known_hosts").read_text() == known

    def test_the_hint_is_a_command_that_works(self, device: Simulated, tmp_path: Path) -> None:
        new_key(tmp_path / "old")
        name = f"[127.0.0.1]:{port(device)}"
        place = uri(device, tmp_path, known=f"{name} {(tmp_path / 'old.pub').read_text()}")
        refused(place)
        keygen("-R", name, "-f", tmp_path / "known_hosts")
        assert works(place, Options(accept_new_host_key=True))

    def test_one_of_several_known_keys(self, device: Simulated, tmp_path: Path) -> None:
        new_key(tmp_path / "old")
        name = f"[127.0.0.1]:{port(device)}"
        assert works(
            uri(device, tmp_path, known=f"{name} {(tmp_path / 'old.pub').read_text()}{name} {shown(device)}\n")
        )

    def test_only_a_kind_that_the_server_has_not(self, device: Simulated, tmp_path: Path) -> None:
        new_key(tmp_path / "old", "ecdsa")
        name = f"[127.0.0.1]:{port(device)}"
        error = refused(uri(device, tmp_path, known=f"{name} {(tmp_path / 'old.pub').read_text()}"), YES)
        assert f"{tmp_path / 'known_hosts'}:1 has ecdsa-sha2-nistp256 {fingerprint(tmp_path / 'old')}" in error.message

    def test_revoked(self, device: Simulated, tmp_path: Path) -> None:
        known = f"[127.0.0.1]:{port(device)} {shown(device)}\n@revoked * {shown(device)}\n"
        error = refused(uri(device, tmp_path, known=known), YES)
        assert f"revoked ({tmp_path / 'known_hosts'}:2)" in error.message

    @pytest.mark.parametrize("kind", [pytest.param("rsa", marks=pytest.mark.slow), "ecdsa"])
    def test_a_second_key_of_the_server(self, tmp_path: Path, kind: str) -> None:
        with running("pi", tmp_path / "devices") as own:
            second = new_key(own.folder / "second", kind)
            reconfigure(own, f"HostKey {second}")
            known = f"[127.0.0.1]:{port(own)} {shown(own, 'second')}\n"
            assert works(uri(own, tmp_path, known=known))
            assert (tmp_path / "known_hosts").read_text() == known
