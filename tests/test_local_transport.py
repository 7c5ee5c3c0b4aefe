"""The contract of `Transport`, held by every built-in transport, and what is special to the local one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit import transports
from edgekit.errors import CommandError, ConfigError, TransportError, TransportTimeout
from edgekit.simulate import Simulated
from edgekit.transports import Transport, local, ssh
from tests.lab.project import until
from tests.lab.sshd import device, needs_sshd

__all__ = ["device"]  # a fixture

MIB = 1 << 20


@pytest.fixture(scope="module", params=["local", pytest.param("ssh", marks=needs_sshd)])
def link(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transport]:
    if request.param == "local":
        uri = f"local:{quote(str(tmp_path_factory.mktemp('devices') / 'local device'))}"
    else:
        found: Simulated = request.getfixturevalue("device")
        uri = found.uri
    with transports.connect(uri) as opened:
        yield opened


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


class TestRun:
    def test_what_a_command_leaves(self, link: Transport) -> None:
        argv = ["sh", "-c", "cat; echo problem >&2; exit 7"]
        done = link.run(argv, stdin=b"in\0put\xff")
        assert (done.argv, done.status, done.stdout, done.stderr) == (tuple(argv), 7, b"in\0put\xff", b"problem\n")
        with pytest.raises(CommandError, match="sh ended with status 7: problem"):
            done.check()

    def test_home_is_known(self, link: Transport) -> None:
        home = link.run(["sh", "-c", 'printf %s "$EDGEKIT_HOME"']).stdout.decode()
        assert Path(home).is_dir()

    def test_input_in_pieces(self, link: Transport) -> None:
        assert link.run(["wc", "-c"], stdin=(bytes(100_000) for _ in range(40))).stdout.strip() == b"4000000"

    def test_pieces_end_when_the_program_has_answered(self, link: Transport) -> None:
        asked = []

        def pieces() -> Iterator[bytes]:
            for number in range(500):
                asked.append(number)
                yield bytes(MIB)

        done = link.run(["sh", "-c", "head -c 10 >/dev/null; echo enough; exit 3"], stdin=pieces())
        assert (done.status, done.stdout) == (3, b"enough\n")
        assert len(asked) < 100

    @pytest.mark.slow
    def test_the_time_begins_after_the_last_piece(self, link: Transport) -> None:
        def pieces() -> Iterator[bytes]:
            for _ in range(6):
                time.sleep(1.0)
                yield b"x"

        assert link.run(["wc", "-c"], stdin=pieces(), timeout_s=5.0).stdout.strip() == b"6"
        with pytest.raises(TransportTimeout):
            link.run(["sleep", "30"], stdin=(bytes(MIB) for _ in range(100)), timeout_s=0.3)

    def test_pieces_that_fail(self, link: Transport) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"x"
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            link.run(["cat"], stdin=pieces(), timeout_s=20)
        assert link.run(["true"]).status == 0

    def test_nothing_waits_for_input(self, link: Transport) -> None:
        assert link.run(["cat"], timeout_s=20).stdout == b""

    def test_a_program_that_is_not_there(self, link: Transport) -> None:
        done = link.run(["edgekit-no-such-program", "x"])
        assert done.status == 127
        assert b"edgekit-no-such-program" in done.stderr

    def test_a_program_ended_by_a_signal(self, link: Transport) -> None:
        assert link.run(["sh", "-c", "kill -9 $$"]).status == 128 + signal.SIGKILL

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(
            st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20)
            | st.text("'\"`$\\!;&|<>(){}[]*?~#%^= \t\r\n\x1b-ä", max_size=20)
            | st.binary(max_size=20).map(lambda raw: os.fsdecode(raw.replace(b"\0", b""))),
            min_size=1,
            max_size=12,
        )
    )
    def test_arguments_arrive_unchanged(self, link: Transport, arguments: list[str]) -> None:
        done = link.run(["printf", "%s\\0", *arguments]).check()
        assert done.stdout == b"".join(os.fsencode(argument) + b"\0" for argument in arguments)

    @pytest.mark.parametrize("argv", [[], ["echo", "a\0b"], ["echo", "\ud800"]], ids=["none", "NUL", "surrogate"])
    def test_arguments_that_cannot_arrive(self, link: Transport, argv: list[str]) -> None:
        with pytest.raises(ConfigError):
            link.run(argv)

    def test_megabytes_on_all_three_streams(self, link: Transport) -> None:
        echo = (
            "import sys; data = sys.stdin.buffer.read(); sys.stderr.buffer.write(data); sys.stdout.buffer.write(data)"
        )
        data = os.urandom(6 * MIB)
        done = link.run(python(echo), stdin=data)
        assert (done.status, done.stdout == data, done.stderr == data) == (0, True, True)

    def test_input_that_nobody_reads(self, link: Transport) -> None:
        assert link.run(["true"], stdin=bytes(8 * MIB), timeout_s=20).status == 0

    def test_too_slow(self, link: Transport) -> None:
        start = time.monotonic()
        with pytest.raises(TransportTimeout, match=r"sleep did not end within 0\.3 s"):
            link.run(["sleep", "30"], timeout_s=0.3)
        assert time.monotonic() - start < 25
        assert link.run(["echo", "still here"]).stdout == b"still here\n"

    def test_too_slow_with_output_held_open(self, link: Transport) -> None:
        with pytest.raises(TransportTimeout):
            link.run(["sh", "-c", "sleep 5 & echo started"], timeout_s=0.5)

    def test_too_slow_with_a_log_that_never_ends(self, link: Transport) -> None:
        words = "while head -c 4000 /dev/zero >&2; do sleep 0.05; done"  # until nobody hears it any more
        with pytest.raises(TransportTimeout):
            link.run(["sh", "-c", words], timeout_s=0.5)

    def test_one_that_never_ends_to_speak(self, link: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
        for kind in (local, ssh):
            monkeypatch.setattr(kind, "MOST_SAID", 1 << 20)
        with pytest.raises(TransportError, match="says more than 1 MiB"):
            link.run(["cat", "/dev/zero"])

    def test_interrupted_by_the_keyboard(self, link: Transport) -> None:
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt), interruption(0.4):
            link.run(["sleep", "30"])
        assert time.monotonic() - start < 25
        assert link.run(["echo", "still here"]).stdout == b"still here\n"

    def test_several_threads_share_it(self, link: Transport) -> None:
        """Over and over: sshd cuts a connection when, by a race, an end of input comes after a channel's end."""
        with ThreadPoolExecutor(6) as pool:
            answers = pool.map(lambda n: link.run(["echo", str(n)]).stdout, range(120))
        assert list(answers) == [f"{n}\n".encode() for n in range(120)]


@contextmanager
def interruption(after_s: float) -> Iterator[None]:
    """Ctrl-C in the test's thread, in a moment. (Another signal than SIGALRM, which is the test runner's.)"""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(after_s, os.kill, [os.getpid(), signal.SIGUSR1])
    timer.start()
    try:
        yield
        timer.join()  # it comes, where it has not yet
    finally:
        signal.signal(signal.SIGUSR1, before)


ECHO = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)\nprint('rest', end='')"


class TestTalk:
    def test_questions_and_answers(self, link: Transport) -> None:
        with link.talk(python(ECHO)) as talk:
            for word in ("one", "two", "x" * 200_000):
                talk.say([word[:2].encode(), word[2:].encode() + b"\n"])
                assert talk.hear(20) == word[::-1].encode()
            talk.say([b"a\nb\n"])
            assert [talk.hear(20), talk.hear(20)] == [b"a", b"b"]
            done = talk.end()
        assert (done.status, done.stdout[-4:]) == (0, b"rest")

    def test_pieces_go_over_as_they_are_made(self, link: Transport) -> None:
        gone: list[int] = []

        def pieces() -> Iterator[bytes]:
            for number in range(8):
                yield bytes(MIB)
                gone.append(number)

        with link.talk(
            python("import sys; print(sys.stdin.buffer.read(5), flush=True); print(len(sys.stdin.buffer.read()))")
        ) as talk:
            talk.say([b"order"])
            assert talk.hear(20) == b"b'order'"
            talk.say(pieces())
            talk.say([b"end"])
            assert talk.end().stdout.split()[-1] == b"8388611"
        assert len(gone) == 8

    def test_a_program_that_ends_says_no_more(self, link: Transport) -> None:
        with link.talk(["sh", "-c", "echo one; echo trouble >&2; exit 3"]) as talk:
            assert [talk.hear(20), talk.hear(20), talk.hear(20)] == [b"one", b"", b""]
            talk.say([bytes(MIB)])
            done = talk.end()
            assert (done.status, done.stderr) == (3, b"trouble\n")

    def test_a_program_that_is_not_there(self, link: Transport) -> None:
        with link.talk(["edgekit-no-such-program"]) as talk:
            talk.say([b"hello\n"])
            assert talk.hear(20) == b""
            assert talk.end().status == 127

    @pytest.mark.slow
    def test_the_time_is_that_of_one_answer(self, link: Transport) -> None:
        late = pytest.raises(TransportTimeout, match=r"did not end within 0\.3 s")
        with late, link.talk(["sh", "-c", "echo one; read line; echo two; exec sleep 30"]) as talk:
            assert talk.hear(20) == b"one"
            time.sleep(5.5)
            talk.say([b"\n"])
            assert talk.hear(5.0) == b"two"
            time.sleep(0.7)
            talk.hear(0.3)
        assert link.run(["echo", "still here"]).stdout == b"still here\n"

    @pytest.mark.parametrize("program", ["cat >/dev/null; sleep 30", "sleep 30"], ids=["reads", "reads nothing"])
    def test_after_an_error_nobody_waits_for_it(self, link: Transport, program: str) -> None:
        start = time.monotonic()
        with pytest.raises(ZeroDivisionError), link.talk(["sh", "-c", program]) as talk:
            talk.say([bytes(8 * MIB)])
            raise ZeroDivisionError
        assert time.monotonic() - start < 25

    def test_pieces_that_fail(self, link: Transport) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"x"
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), link.talk(["cat"]) as talk:
            talk.say(pieces())
            talk.hear(20)
            talk.end()

    def test_interrupted_by_the_keyboard(self, link: Transport) -> None:
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt), interruption(0.4), link.talk(["sleep", "30"]) as talk:
            talk.hear(60)
        assert time.monotonic() - start < 25
        assert link.run(["echo", "still here"]).stdout == b"still here\n"


class TestFiles:
    @pytest.mark.parametrize("size", [0, 1, 131072, 5 * MIB + 17])
    def test_there_and_back(self, link: Transport, tmp_path: Path, size: int) -> None:
        source, there, back = tmp_path / "source", tmp_path / "an 'odd' name ä;$(x)", tmp_path / "back"
        source.write_bytes(os.urandom(size))
        back.write_bytes(bytes(size + 10))
        chunks: list[int] = []
        link.put(source, str(there), sent=chunks.append)
        link.get(str(there), back)
        assert source.read_bytes() == there.read_bytes() == back.read_bytes()
        assert sum(chunks) == size
        assert all(0 < chunk <= MIB for chunk in chunks)

    def test_put_replaces(self, link: Transport, tmp_path: Path) -> None:
        (tmp_path / "old").write_text("something longer")
        (tmp_path / "new").write_text("new")
        link.put(tmp_path / "new", str(tmp_path / "old"))
        assert (tmp_path / "old").read_text() == "new"

    def test_put_without_the_folder(self, link: Transport, tmp_path: Path) -> None:
        (tmp_path / "source").touch()
        with pytest.raises(TransportError, match="none/there: No such file") as caught:
            link.put(tmp_path / "source", str(tmp_path / "none" / "there"))
        assert caught.value.code == "transport"

    def test_put_of_nothing(self, link: Transport, tmp_path: Path) -> None:
        with pytest.raises(TransportError, match=r"No such file .*source"):
            link.put(tmp_path / "source", str(tmp_path / "there"))

    def test_get_of_nothing(self, link: Transport, tmp_path: Path) -> None:
        with pytest.raises(TransportError, match=r"reading .*/none: No such file"):
            link.get(str(tmp_path / "none"), tmp_path / "back")

    def test_put_interrupted(self, link: Transport, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(os.urandom(4 * MIB))
        chunks: list[int] = []

        def interrupt(size: int) -> None:
            chunks.append(size)
            if len(chunks) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            link.put(tmp_path / "source", str(tmp_path / "there"), sent=interrupt)
        assert (tmp_path / "there").stat().st_size < 4 * MIB
        link.put(tmp_path / "source", str(tmp_path / "there"))
        assert (tmp_path / "there").read_bytes() == (tmp_path / "source").read_bytes()

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file between open() and with
    def test_ctrl_c_at_any_moment_leaves_a_connection_that_works(self, link: Transport, tmp_path: Path) -> None:
        """Within a packet too, which an interrupted thread would leave half sent."""
        (tmp_path / "source").write_bytes(os.urandom(8 * MIB))
        for moment in range(1, 31):
            with pytest.raises(KeyboardInterrupt), interruption(moment * 0.006):
                while True:
                    link.put(tmp_path / "source", str(tmp_path / "there"))
            assert link.run(["echo", "on"], timeout_s=10).stdout == b"on\n"

    def test_full_disk(self, link: Transport, tmp_path: Path, small_disk: Path) -> None:
        (tmp_path / "source").write_bytes(os.urandom(2 * MIB))
        with pytest.raises(TransportError, match=r"[Nn]o space") as caught:
            link.put(tmp_path / "source", str(small_disk / "there"))
        assert caught.value.code == "transport"
        assert str(small_disk / "there") in caught.value.message
        link.put(tmp_path / "source", str(tmp_path / "elsewhere"))
        assert (tmp_path / "elsewhere").stat().st_size == 2 * MIB


def runs(pid: int) -> bool:
    """Whether there is that process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = os.geteuid() == 0 and not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], stderr=subprocess.DEVNULL
    )
    if not mounted:
        pytest.skip("a small file system can be mounted by root only")
    yield folder
    subprocess.check_call(["umount", "--lazy", folder])  # the server may not have closed its file yet


class TestLocal:
    @pytest.mark.parametrize("uri", ["local:", "local://host/path", "local:/path?x=1"])
    def test_uris_that_name_no_folder(self, uri: str) -> None:
        with pytest.raises(ConfigError, match="local:/path/to/folder"):
            transports.connect(uri)

    def test_the_folder_is_made_and_paths_start_there(self, tmp_path: Path) -> None:
        with transports.connect(f"local:{tmp_path}/a/b") as link:
            assert link.run(["pwd"]).stdout.decode().strip() == str(tmp_path / "a" / "b")
            (tmp_path / "source").write_text("x")
            link.put(tmp_path / "source", "relative")
        assert (tmp_path / "a" / "b" / "relative").read_text() == "x"

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="cannot be made"):
            transports.connect(f"local:{tmp_path}/file/home")

    def test_a_folder_that_went_away(self, tmp_path: Path) -> None:
        with transports.connect(f"local:{tmp_path}/home") as link:
            (tmp_path / "home").rmdir()
            with pytest.raises(TransportError, match="cannot be run"):
                link.run(["true"])

    def test_a_timeout_kills_the_whole_group(self, tmp_path: Path) -> None:
        pids, timeout_s = tmp_path / "pids", 0.2
        with transports.connect(f"local:{tmp_path}") as link:
            while not pids.exists():  # on a busy machine its time may be over before it has begun
                with pytest.raises(TransportTimeout):
                    link.run(["sh", "-c", "sleep 600 & echo $$ $! >new; mv new pids; sleep 600"], timeout_s=timeout_s)
                timeout_s *= 2
        until(lambda: not any(runs(int(pid)) for pid in pids.read_text().split()))

    def test_what_runs_is_killed_when_another_thread_closes_it(self, tmp_path: Path) -> None:
        link = transports.connect(f"local:{tmp_path}")

        def close() -> None:
            until((tmp_path / "pid").exists)
            link.close()

        closing = threading.Thread(target=close)
        closing.start()
        with pytest.raises(TransportError, match="nobody waits for sh any longer"):
            link.run(["sh", "-c", "echo $$ >new; mv new pid; sleep 600"])
        closing.join()
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)

    def test_a_program_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "data").touch(0o644)
        with transports.connect(f"local:{tmp_path}") as link:
            assert link.run([str(tmp_path / "data")]).status == 126


def test_the_seam_does_not_load_paramiko() -> None:
    program = "import sys, edgekit.transports, edgekit.simulate; sys.exit('paramiko' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
