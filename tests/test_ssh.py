"""What is special to SSH: where a connection goes, who is let in, and what is said when it fails."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgekit import transports
from edgekit.errors import ConfigError, ConnectError, HostKeyError, TransportError, TransportTimeout
from edgekit.simulate import Simulated
from edgekit.transports import Options, ssh_config
from edgekit.transports.ssh_config import Address
from tests.lab.sshd import client, device, needs_sshd, new_key, own_home, port, reconfigure, running

__all__ = ["device", "own_home"]  # fixtures
pytestmark = pytest.mark.usefixtures("own_home")

QUICK = Options(connect_timeout_s=1.0)
ME = getpass.getuser()


def works(uri: str, options: Options = Options()) -> bool:
    with transports.connect(uri, options) as link:
        return link.run(["echo", "ok"]).stdout == b"ok\n"


def refused(uri: str, options: Options = QUICK) -> ConnectError:
    with pytest.raises(ConnectError) as caught:
        transports.connect(uri, options)
    assert "\n" not in str(caught.value)
    return caught.value


# --- names and configurations ---


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("ssh://pi", Address("pi")),
        ("ssh://Pi-4.Local/", Address("Pi-4.Local")),
        ("ssh://pi@10.0.0.7:2222", Address("10.0.0.7", "pi", 2222)),
        ("ssh://pi@[fe80::1%25eth0]:22", Address("fe80::1%25eth0", "pi", 22)),
        ("ssh://a%20b@pi", None),
        ("ssh://j.doe%40corp@pi", Address("pi", "j.doe@corp")),
        ("ssh://pi?config=/a%20b/c", Address("pi", config=Path("/a b/c"))),
    ],
)
def test_uris(uri: str, address: Address | None) -> None:
    if address:
        assert ssh_config.from_uri(uri) == address
    else:
        with pytest.raises(ConfigError):
            ssh_config.from_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "ssh://",
        "ssh://pi/path",
        "ssh://pi#x",
        "ssh://pi?password=x",
        "ssh://pi:secret@host",
        "ssh://pi:0",
        "ssh://pi:65536",
        "ssh://pi:port",
        "ssh://-oProxyCommand=x",
        "ssh://-l@pi",
        "ssh://$(id)@pi",
        "ssh://pi;id",
        "ssh://[::1",
        "ssh://::1",
    ],
)
def test_uris_that_are_refused(uri: str) -> None:
    with pytest.raises(ConfigError):
        ssh_config.from_uri(uri)


def test_the_answer_of_openssh(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    answer = """\
user pi
hostname 10.0.0.7
port 2222
identitiesonly yes
hashknownhosts yes
stricthostkeychecking accept-new
hostkeyalias kitchen
identityfile ~/.ssh/with space
identityfile %d/%r_%h_%n_%p_%k_%%_%Z
proxycommand nc %h %p 2>/dev/null
proxyjump me@a:2200,ssh://b
globalknownhostsfile none
userknownhostsfile ~/.ssh/known_hosts /etc/with space/100 %h
"""
    host = ssh_config.parse(answer, "pi-kitchen")
    assert host.label == "pi@pi-kitchen:2222"
    assert host.known_as == "kitchen"
    assert host.identity_files == (
        own_home / ".ssh" / "with space",
        own_home / "pi_10.0.0.7_pi-kitchen_2222_kitchen_%_%Z",
    )
    assert host.proxy_command == "nc 10.0.0.7 2222 2>/dev/null"
    assert host.proxy_jump == ("me@a:2200", "ssh://b")
    assert host.user_known_hosts == (own_home / ".ssh" / "known_hosts", Path("/etc/with space/100 %h"))
    assert host.global_known_hosts == ()
    assert host.agent_socket == "/run/agent"
    assert (host.identities_only, host.hash_known_hosts, host.strict_host_key_checking) == (True, True, "accept-new")


def test_an_empty_answer_gives_openssh_s_defaults(own_home: Path) -> None:
    host = ssh_config.parse("", "fe80::1")
    assert (host.label, host.known_as) == (f"{ME}@[fe80::1]:22", "fe80::1")
    assert own_home / ".ssh" / "id_ed25519" in host.identity_files
    assert host.user_known_hosts == (own_home / ".ssh" / "known_hosts",)
    assert (host.proxy_jump, host.proxy_command, host.agent_socket) == ((), None, None)


def test_a_jump_list_is_walked_from_its_end() -> None:
    answers = {"device": "proxyjump a,me@b:2200", "a": "proxyjump outer", "b": "proxyjump elsewhere"}
    asked: list[Address] = []

    def ask(address: Address) -> str:
        asked.append(address)
        return answers.get(address.host, "")

    hosts = ssh_config.route(Address("device", config=Path("/c")), ask)
    assert [host.host for host in hosts] == [
        "outer",
        "a",
        "b",
        "device",
    ]  # b is reached as the list says, not as it says
    assert Address("b", "me", 2200, Path("/c")) in asked


def test_a_circle_of_jumps() -> None:
    with pytest.raises(ConfigError, match="ProxyJumps on the way"):
        ssh_config.route(Address("a"), lambda address: f"proxyjump {'b' if address.host == 'a' else 'a'}")


@needs_sshd
class TestConfiguration:
    def test_include_and_match(self, device: Simulated, tmp_path: Path) -> None:
        included = tmp_path / "included"
        included.write_text(f"Match host kitchen user {ME}\n  HostName 127.0.0.1\n  Port {port(device)}\n")
        files = f"IdentityFile {device.folder}/client_key\n  UserKnownHostsFile {device.folder}/known_hosts"
        config = tmp_path / "config"
        config.write_text(f"Include {included}\nMatch host 127.0.0.1\n  {files}\n")
        assert works(f"ssh://{ME}@kitchen?config={config}")
        assert "no such host" in refused(f"ssh://somebody@kitchen?config={config}").message

    def test_bad_configuration(self, device: Simulated, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"ssh_config.*[Bb]ad configuration option: nonsense"):
            transports.connect(client(device, tmp_path, "Nonsense yes"))

    def test_no_configuration(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="none"):
            transports.connect(f"ssh://pi?config={tmp_path}/none")

    def test_without_openssh_on_this_machine(self, device: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        assert works(device.uri)
        with pytest.raises(ConfigError, match="none"):
            transports.connect("ssh://pi?config=/nowhere/none")


# --- nobody there ---


@contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """A server that is none: it says something and hangs up, or never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as peer:
                peer.sendall(answer or b"")
                done.wait(60 if answer is None else 0.2)

        done = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"ssh://pi@127.0.0.1:{listener.getsockname()[1]}"
        done.set()
        thread.join()


class TestNobodyThere:
    def test_refused_port(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            place = f"pi@127.0.0.1:{taken.getsockname()[1]}"
            error = refused(f"ssh://{place}")
        assert error.message == f"{place}: connection refused"
        assert error.hint

    def test_no_such_name(self) -> None:
        assert "pi@no-such-host.invalid:22: no such host" in refused("ssh://pi@no-such-host.invalid").message

    def test_silence(self) -> None:
        start = time.monotonic()
        with server(None) as uri:
            assert "pi@127.0.0.1:" in refused(uri).message
        assert time.monotonic() - start < 30

    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"SSH-1.0-x\r\n"])
    def test_another_server(self, answer: bytes) -> None:
        with server(answer) as uri:
            assert refused(uri).hint

    @needs_sshd
    @pytest.mark.parametrize("line", ["MACs hmac-sha1", "Ciphers aes128-cbc"])
    def test_weak_algorithms_only(self, tmp_path: Path, line: str) -> None:
        with running("old", tmp_path) as old:
            ciphers = [] if line.startswith("C") else ["Ciphers aes128-ctr"]  # some ciphers need no MAC
            reconfigure(old, line, *ciphers)
            assert "too old" in (refused(old.uri).hint or "")


# --- who is let in ---


@pytest.fixture
def agent(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = own_home / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        while not path.exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        yield path
        process.terminate()


def add_to_agent(key: Path, tmp_path: Path, passphrase: str = "") -> None:
    tmp_path.joinpath("ask").write_text(f"#!/bin/sh\necho '{passphrase}'\n")
    tmp_path.joinpath("ask").chmod(0o700)
    environment = {**os.environ, "SSH_ASKPASS": str(tmp_path / "ask"), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", key], check=True, env=environment, stdin=subprocess.DEVNULL)


def own_copy(device: Simulated, tmp_path: Path) -> Path:
    """The device's client key in another place, for `IdentityFile` to name."""
    shutil.copy2(device.folder / "client_key.pub", tmp_path / "key.pub")
    return Path(shutil.copy2(device.folder / "client_key", tmp_path / "key"))


@needs_sshd
class TestLogin:
    def test_wrong_key(self, device: Simulated, tmp_path: Path) -> None:
        error = refused(self.only(device, tmp_path, new_key(tmp_path / "wrong")))
        assert error.message == f"{ME}@127.0.0.1:{port(device)}: login refused, no key fits"
        assert "ssh-copy-id" in (error.hint or "")
        assert not isinstance(error, HostKeyError)

    def test_locked_key(self, device: Simulated, tmp_path: Path) -> None:
        locked = new_key(tmp_path / "locked", passphrase="secret")
        error = refused(self.only(device, tmp_path, locked))
        assert f"{locked}: it has a passphrase" in error.message
        assert error.hint == f"unlock it: ssh-add {locked}"

    def test_locked_key_in_the_agent(self, device: Simulated, agent: Path, tmp_path: Path) -> None:
        key = own_copy(device, tmp_path)
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", key], check=True)
        add_to_agent(key, tmp_path, "secret")
        assert works(self.only(device, tmp_path, key, f"IdentityAgent {agent}"))
        key.unlink()
        assert works(self.only(device, tmp_path, key, "IdentityAgent SSH_AUTH_SOCK"))
        error = refused(self.only(device, tmp_path, key, "IdentityAgent none"))
        assert "no key fits" in error.message

    def test_identities_only(self, device: Simulated, agent: Path, tmp_path: Path) -> None:
        key, other = own_copy(device, tmp_path), new_key(tmp_path / "other")
        add_to_agent(key, tmp_path)
        agents = f"IdentityAgent {agent}"
        refused(self.only(device, tmp_path, other, agents))
        assert works(self.only(device, tmp_path, other, agents, "IdentitiesOnly no"))

    def test_an_agent_that_went_away(self, device: Simulated, tmp_path: Path) -> None:
        assert works(client(device, tmp_path, f"IdentityAgent {tmp_path}/gone"))

    def test_too_many_keys(self, device: Simulated, agent: Path, tmp_path: Path) -> None:
        for number in range(7):
            add_to_agent(new_key(tmp_path / f"key{number}"), tmp_path)
        error = refused(client(device, tmp_path, f"IdentityAgent {agent}", "IdentitiesOnly no"))
        assert "too many keys" in error.message
        assert "IdentitiesOnly" in (error.hint or "")

    @pytest.mark.parametrize("kind", [pytest.param("rsa", marks=pytest.mark.slow), "ecdsa"])
    def test_other_kinds_of_keys(self, tmp_path: Path, kind: str) -> None:
        with running("pi", tmp_path) as own:
            key = new_key(tmp_path / "key", kind)
            shutil.copy(f"{key}.pub", own.folder / "client_key.pub")
            assert works(self.only(own, tmp_path, key))

    def test_unreadable_key(self, device: Simulated, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("no key\n")
        assert f"{tmp_path / 'key'}: cannot be read" in refused(self.only(device, tmp_path, tmp_path / "key")).message

    def test_keys_are_not_wanted(self, tmp_path: Path) -> None:
        with running("pi", tmp_path) as own:
            methods = ["PubkeyAuthentication no", "PasswordAuthentication yes", "AuthenticationMethods any"]
            reconfigure(own, *methods, "PermitRootLogin yes")
            assert "it takes no keys, only password" in refused(own.uri).message

    @staticmethod
    def only(device: Simulated, tmp_path: Path, key: Path, *lines: str) -> str:
        """The device with no other key than this."""
        uri = client(device, tmp_path, *lines, "IdentitiesOnly yes", f"IdentityFile {key}")
        config = tmp_path / "ssh_config"
        own = f'IdentityFile "{device.folder / "client_key"}"'
        assert own in config.read_text()
        config.write_text(config.read_text().replace(own, ""))
        return uri


# --- ways with stations ---


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    with running("bastion", tmp_path_factory.mktemp("bastion")) as found:
        yield found


@needs_sshd
class TestProxies:
    def behind(self, device: Simulated, bastion: Simulated, tmp_path: Path, way: str = "ProxyJump bastion") -> str:
        """The device by the name `kitchen`, which only the bastion can reach by that port (it says)."""
        (tmp_path / "ssh_config").write_text(f"""\
Host bastion
  HostName 127.0.0.1
  Port {port(bastion)}
  IdentityFile {bastion.folder}/client_key
  UserKnownHostsFile {bastion.folder}/known_hosts
Host kitchen
  HostName 127.0.0.1
  Port {port(device)}
  IdentityFile {device.folder}/client_key
  UserKnownHostsFile {device.folder}/known_hosts
  {way}
Host *
  IdentitiesOnly yes
  GlobalKnownHostsFile /dev/null
""")
        return f"ssh://{ME}@kitchen?config={tmp_path}/ssh_config"

    def test_jump(self, device: Simulated, bastion: Simulated, tmp_path: Path) -> None:
        with transports.connect(self.behind(device, bastion, tmp_path)) as link:
            home = link.run(["sh", "-c", 'printf %s "$EDGEKIT_HOME"']).stdout.decode()
            assert home == str(device.home)
            source = tmp_path / "source"
            source.write_bytes(os.urandom(3_000_000))
            link.put(source, str(tmp_path / "there"))
            link.get(str(tmp_path / "there"), tmp_path / "back")
            assert source.read_bytes() == (tmp_path / "back").read_bytes()
        assert "Accepted publickey" in (bastion.folder / "sshd.log").read_text()

    def test_every_station_is_known(self, device: Simulated, bastion: Simulated, tmp_path: Path) -> None:
        uri = self.behind(device, bastion, tmp_path)
        (tmp_path / "ssh_config").write_text(
            (tmp_path / "ssh_config").read_text().replace(f"{bastion.folder}/known_hosts", f"{tmp_path}/none")
        )
        with pytest.raises(HostKeyError, match=f"{ME}@bastion:{port(bastion)}: the host key is unknown"):
            transports.connect(uri)
        assert works(uri, Options(accept_new_host_key=True))

    def test_jump_to_nowhere(self, device: Simulated, bastion: Simulated, tmp_path: Path) -> None:
        uri = self.behind(device, bastion, tmp_path).replace("@kitchen", "@kitchen:1")
        assert f"{ME}@kitchen:1: the jump host cannot reach it" in refused(uri).message

    def test_jump_over_a_host_that_is_not_there(self, device: Simulated, bastion: Simulated, tmp_path: Path) -> None:
        uri = self.behind(device, bastion, tmp_path, "ProxyJump 127.0.0.1:1")
        assert f"{ME}@127.0.0.1:1: connection refused" in refused(uri).message

    def test_command(self, device: Simulated, bastion: Simulated, tmp_path: Path) -> None:
        way = f"ProxyCommand ssh -F '{tmp_path}/ssh_config' -W %h:%p bastion 2>/dev/null"
        assert works(self.behind(device, bastion, tmp_path, way))

    @pytest.mark.parametrize("command", ["false", "/nowhere/proxy 2>/dev/null"])
    def test_command_that_fails(self, device: Simulated, bastion: Simulated, tmp_path: Path, command: str) -> None:
        start = time.monotonic()
        refused(self.behind(device, bastion, tmp_path, f"ProxyCommand {command}"), Options())
        assert time.monotonic() - start < 5


# --- when it breaks ---


@needs_sshd
class TestBreaking:
    def session(self, link: transports.Transport) -> int:
        """The process of the device's sshd that serves this connection."""
        upwards = "p=$$; while ! grep -q ^sshd /proc/$p/comm; do p=$(cut -d' ' -f4 /proc/$p/stat); done; echo $p"
        return int(link.run(["sh", "-c", upwards]).check().stdout)

    def test_connection_lost(self, device: Simulated, tmp_path: Path) -> None:
        with transports.connect(device.uri) as link:
            timer = threading.Timer(0.3, os.kill, [self.session(link), signal.SIGKILL])
            timer.start()
            with pytest.raises(ConnectError, match="connection was lost while running sleep"):
                link.run(["sleep", "30"])
            timer.join()
            (tmp_path / "file").touch()
            for use in (
                lambda: link.run(["true"]),
                lambda: link.put(tmp_path / "file", "there"),
                lambda: link.get("there", tmp_path / "file"),
            ):
                with pytest.raises(ConnectError, match="connection was lost"):
                    use()

    def test_a_device_that_falls_silent(self, device: Simulated) -> None:
        with transports.connect(device.uri) as link:
            session = self.session(link)
            os.kill(session, signal.SIGSTOP)
            try:
                with pytest.raises(TransportTimeout):
                    link.run(["true"], timeout_s=0.5)
            finally:
                os.kill(session, signal.SIGCONT)
            assert link.run(["true"]).status == 0

    def test_closed(self, device: Simulated) -> None:
        link = transports.connect(device.uri)
        link.close()
        link.close()
        with pytest.raises(ConnectError):
            link.run(["true"])

    def test_no_sftp(self, tmp_path: Path) -> None:
        with running("pi", tmp_path) as own:
            config = own.folder / "sshd_config"
            config.write_text(config.read_text().replace("Subsystem sftp internal-sftp", ""))
            reconfigure(own)
            (tmp_path / "file").touch()
            with transports.connect(own.uri) as link:
                with pytest.raises(TransportError, match="the device offers no SFTP") as caught:
                    link.put(tmp_path / "file", str(tmp_path / "there"))
                assert "openssh-sftp-server" in (caught.value.hint or "")
                assert link.run(["true"]).status == 0
