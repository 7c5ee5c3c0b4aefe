"""A Raspberry Pi 5 in software for tests: Debian 12 for aarch64 under qemu's user emulation, with an sshd of its own.

All programs on it are ARM's: its Python, its wheels, its engines' kernels for the processor that ``CPU`` names. The
Linux kernel, the memory and the speed are this machine's.

Everything is mounted in a namespace of the device's own, which ends with the device, and the device ends with pytest,
even when that is killed. What remains is a folder under ``CACHE``: the tree that devices are copies of.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import platformdirs
import pytest

from tests.lab.sshd import new_key

CACHE = platformdirs.user_cache_path("edgekit-lab")  # read before a test moves the caller's home
RELEASE = "bookworm"
PYTHON = "python3.11"
MODEL = "Raspberry Pi 5 Model B Rev 1.0"
CPU = "cortex-a76"
PART = "0xd0b"  # ARM's number for it
FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
CORES = 4
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0

PROGRAMS = {
    "apt-get": "apt",
    "mmdebstrap": "mmdebstrap",
    "qemu-aarch64-static": "qemu-user-static",
    "setpriv": "util-linux",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
}
"""What makes and runs a device, and the Debian package that each is in."""
PACKAGES = (
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "findutils", "grep", "hostname", "libc-bin", "login"),
    *("libstdc++6", "openssh-server", "openssh-sftp-server", "procps", "python3", "sed", "util-linux"),
)
"""What is in a device's tree, beside what these need."""
NEEDLESS = ("doc", "info", "locale", "man")

BINFMT = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
HANDLER = "edgekit-arm64-"  # and the process that it is for
FORGET = f"""\
set -e
[ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
for entry in /proc/sys/fs/binfmt_misc/{HANDLER}*; do
    pid=${{entry##*-}}
    [ ! -e "$entry" ] || {{ [ "$pid" != "$1" ] && kill -0 "$pid" 2>/dev/null; }} || echo -1 >"$entry"
done
"""
"""Take back what this process registered, and what one that is gone did. (Newer kernels do so by themselves.)"""
BOOT = """\
set -e
root=$1 name=$2 cpu=$3 handler=$4
[ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
printf %s "$handler" >/proc/sys/fs/binfmt_misc/register
mount -t proc proc "$root/proc"
mount --bind "$root/etc/cpuinfo" "$root/proc/cpuinfo"
mount --rbind /dev "$root/dev"
hostname "$name"
exec env -i PATH=/usr/sbin:/usr/bin QEMU_CPU="$cpu" chroot "$root" /usr/sbin/sshd -D -e
"""
APART = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")
"""Begins a command that has namespaces of its own, and ends with this process."""

ACCOUNTS = "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\npi:x:1000:1000::/home/pi:/bin/bash\n"
CORE = """\
processor\t: {core}
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: {part}
CPU revision\t: 1

"""
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
PidFile none
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/client_key.pub
AuthenticationMethods publickey
AllowUsers pi
UsePAM no
UseDNS no
PrintMotd no
X11Forwarding no
AllowTcpForwarding no
Subsystem sftp internal-sftp
SetEnv QEMU_CPU={cpu}
"""
CLIENT = """\
Host *
  IdentityFile "{folder}/client_key"
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile "{folder}/known_hosts"
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""


@dataclass(frozen=True)
class Board:
    """A device that runs; its account is pi. ``log`` is its sshd's."""

    uri: str
    log: Path


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A device as it comes out of the box: Debian with Python and sshd, nothing of edgekit."""
    lacking = _lacking()
    if lacking:
        pytest.skip(lacking)
    with running(tmp_path_factory.mktemp("board")) as found:
        yield found


@contextmanager
def running(folder: Path) -> Iterator[Board]:
    """A new device in an empty folder; afterwards it is gone, and so is what was on its disk."""
    root, port, log = folder / "root", _free_port(), folder / "sshd.log"
    _copy_tree(root)
    _configure(folder, root, port)
    with log.open("wb") as output:
        process = _start(root, output.fileno())
        try:
            _wait_until_it_listens(process, log)
            yield Board(f"ssh://pi@127.0.0.1:{port}?config={quote(str(folder / 'ssh_config'))}", log)
        finally:
            _stop(process)
            _forget()
            shutil.rmtree(root)


def _lacking() -> str | None:
    """Why there can be no device here, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "an emulated device needs root, on Linux"
    if platform.machine() == "aarch64":
        return "this machine is ARM itself: a simulated device (tests/lab/sshd.py) shows as much"
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if missing or not BINFMT.exists():
        packages = " ".join(sorted(missing | {"qemu-user-static"}))
        return f"an emulated device needs programs that are not here; Debian: apt-get install {packages}"
    trial = _forget()
    if trial.returncode:
        return f"no namespaces or no binfmt_misc here: {_last_line(trial.stderr)}"
    return None


def _forget() -> subprocess.CompletedProcess[str]:
    command = [*APART, "--mount-proc", "sh", "-c", FORGET, "forget", str(os.getpid())]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


# --- the tree ---


def _copy_tree(destination: Path) -> None:
    """A copy of the tree in the cache, which is made first when there is none, or one by another recipe."""
    CACHE.mkdir(parents=True, exist_ok=True)
    kept, recipe = CACHE / f"{RELEASE}-arm64", sha256(Path(__file__).read_bytes()).hexdigest()
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for old in CACHE.glob(".new-*"):  # of a process that was killed
            shutil.rmtree(old)
        if _text(kept / "etc" / "recipe") != recipe:
            with tempfile.TemporaryDirectory(prefix=".new-", dir=CACHE) as folder:
                _make_tree(Path(folder, "root"))
                Path(folder, "root", "etc", "recipe").write_text(recipe)
                shutil.rmtree(kept, ignore_errors=True)
                Path(folder, "root").rename(kept)
        subprocess.run(["cp", "-a", "--reflink=auto", kept, destination], check=True)


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def _make_tree(root: Path) -> None:
    """No maintainer script runs: under emulation they take minutes. What is needed of their work is done here."""
    _extract(root)
    for name in NEEDLESS:
        shutil.rmtree(root / "usr" / "share" / name)
    (root / "etc" / "pip.conf").write_text("[install]\ncompile = no\n")  # that is a fifth of a test run
    _add_accounts(root)
    _add_hardware(root)
    compiler = sys.executable if PYTHON.endswith(platform.python_version().rpartition(".")[0]) else shutil.which(PYTHON)
    if compiler:  # else its Python compiles all that it imports, at every start
        folder = root / "usr" / "lib" / PYTHON
        subprocess.run([compiler, "-m", "compileall", "-q", "-s", root, folder], check=False, capture_output=True)


def _extract(root: Path) -> None:
    hooks = "/usr/share/mmdebstrap/hooks/merged-usr"
    options = ["--quiet", "--variant=extract", "--architectures=arm64", "--format=directory", "--skip=check/qemu"]
    options += [f"--hook-dir={hooks}", f"--include={','.join(PACKAGES)}", '--aptopt=Acquire::Languages "none"']
    options += [f"--aptopt={line}" for line in _apt("apt-config", "dump", "--format", '%f "%v";%n') if _is_proxy(line)]
    command = [*APART, "--mount-proc", "mmdebstrap", *options, RELEASE, str(root), _source()]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if unreachable := re.search(r".*(apt-get update .*failed|Failed to fetch|Could not resolve).*", done.stderr):
        pytest.skip(f"Debian's packages are out of reach: {unreachable[0].strip()}")
    assert not done.returncode, done.stderr


def _is_proxy(line: str) -> bool:
    return re.match(r'Acquire::[^ ]*Proxy\S* "[^"]', line) is not None


def _source() -> str:
    """The mirror that this machine's own apt uses."""
    targets = _apt("apt-get", "indextargets", "--no-release-info", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)")
    for release, component, uri in (line.split(maxsplit=2) for line in targets):
        if (release, component) == (RELEASE, "main"):
            return f"deb {uri} {RELEASE} main"
    pytest.skip(f"the sources of this machine's apt have no Debian {RELEASE}")


def _apt(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def _add_accounts(root: Path) -> None:
    for name, more in (("passwd", ACCOUNTS), ("group", "pi:x:1000:\n")):
        master = (root / "usr" / "share" / "base-passwd" / f"{name}.master").read_text()
        (root / "etc" / name).write_text(master.replace(":*:", ":x:") + more)
    names = [line.partition(":")[0] for line in (root / "etc" / "passwd").read_text().splitlines()]
    shadow = root / "etc" / "shadow"
    shadow.touch(mode=0o640)
    shadow.write_text("".join(f"{name}:*:19000:0:99999:7:::\n" for name in names))
    (root / "run" / "sshd").mkdir(mode=0o755)
    (root / "home" / "pi").mkdir()
    os.chown(root / "home" / "pi", 1000, 1000)


def _add_hardware(root: Path) -> None:
    """What ARM's kernel would tell. (onnxruntime for aarch64 dies when it is imported beside an x86 cpuinfo.)"""
    cores = (CORE.format(core=core, features=FEATURES, part=PART) for core in range(CORES))
    (root / "etc" / "cpuinfo").write_text("".join(cores))
    cpus, board = root / "sys" / "devices" / "system" / "cpu", root / "sys" / "firmware" / "devicetree" / "base"
    for folder in (cpus, board):
        folder.mkdir(parents=True)
    for name in ("online", "possible", "present"):
        (cpus / name).write_text(f"0-{CORES - 1}\n")
    (board / "model").write_text(f"{MODEL}\0")


# --- the device ---


def _configure(folder: Path, root: Path, port: int) -> None:
    host_key = new_key(root / "etc" / "ssh" / "host_key")
    client_key = new_key(folder / "client_key")
    shutil.copy(f"{client_key}.pub", root / "etc" / "ssh")
    (root / "etc" / "ssh" / "sshd_config").write_text(SERVER.format(port=port, cpu=CPU))
    kind, key = host_key.with_name("host_key.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    (folder / "ssh_config").write_text(CLIENT.format(folder=str(folder).replace("%", "%%")))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _start(root: Path, output: int) -> subprocess.Popen[bytes]:
    command: Sequence[str | Path] = [*APART, "sh", "-c", BOOT, "boot", root, "pi5", CPU, _handler()]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)


def _handler() -> str:
    """Debian's line for binfmt_misc under a name of our own; C: programs like sudo keep their privilege."""
    _, _, *fields, _ = BINFMT.read_text().strip().split(":")
    return ":".join(["", f"{HANDLER}{os.getpid()}", *fields, "OCPF"])


def _wait_until_it_listens(process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while "Server listening" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """sshd, the first process of its namespace, ends by SIGTERM and takes the others along; `unshare` waits for it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
