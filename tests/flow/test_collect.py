"""Deliveries over HTTPS to the real collector: the whole way, a crowd, kills, impostors and wrong clocks."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import edgekit_courier
from edgekit.collect import certificate, tokens
from edgekit.collect.certificate import Known
from edgekit.collect.tokens import Tokens
from edgekit.fleet import Device
from edgekit.store import Store
from edgekit_courier import https, letter
from edgekit_courier.errors import Undelivered
from edgekit_courier.parcels import Packer
from edgekit_runtime.spool import Spool
from tests.lab.collecting import WINDOW, Courier, Process, collector, counted, enrolled, running
from tests.lab.databases import Cluster, postgresql
from tests.lab.ports import free_port
from tests.lab.project import desk, document, edgekit, project, until
from tests.runtime.test_pythons import find

__all__ = ["desk", "postgresql", "project"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CROWD = 500


@pytest.fixture
def open_desk(project: Path) -> Iterator[Process]:
    with running(collector(project.parent)) as process:
        yield process


@pytest.fixture
def kitchen(open_desk: Process, tmp_path: Path) -> Courier:
    return enrolled(tmp_path, "kitchen", f"https://127.0.0.1:{open_desk.port}")


def test_the_whole_way(open_desk: Process, desk: Device, project: Path) -> None:
    """As docs/collect.md has it, but that there is no systemd here."""
    said = edgekit("device", "setup", "desk", "--service", "edgekit-runtime deliver").stdout
    assert "edgekit_runtime deliver" in said
    Spool(project / "desk/reports/digits").append(WINDOW)
    url = f"https://127.0.0.1:{open_desk.port}"
    open_desk.kill()
    [early] = document("collect", "enrol", "desk", "--url", url)["devices"]
    assert (early["reached"], "refused" in early["note"]) == (False, True)
    open_desk.start()
    assert edgekit("collect", "enrol", "desk", "--url", url).stdout == f"desk: is enrolled, and delivers to {url}\n"
    [row] = document("report", "--no-pull")["reports"]
    assert (row["device"], row["count"]) == ("desk", 3)
    assert edgekit("report").status == 0
    assert counted() == {"desk": 3}
    words = [project / "desk/env/bin/python", "-I", "-m", "edgekit_runtime", "deliver"]
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(project / "notify"))
    manager.settimeout(60)
    service = subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        text=True,
        env={**_at(project / "desk"), "NOTIFY_SOCKET": str(project / "notify")},
    )
    try:
        assert manager.recv(100).startswith(b"READY=1")
        Spool(project / "desk/reports/digits").append(replace(WINDOW, seq=1))
        until(lambda: counted() == {"desk": 6})
    finally:
        service.terminate()  # where tests run in the background, SIGINT is ignored
        said = service.communicate(timeout=60)[1]
        manager.close()
    assert said in ("", "delivering: 1 windows\n")


def _at(home: Path) -> dict[str, str]:
    return {**os.environ, "EDGEKIT_HOME": str(home)}


def test_each_window_once(open_desk: Process, kitchen: Courier) -> None:
    kitchen.measures(3)
    assert (kitchen.delivers(), kitchen.delivers()) == (3, 0)
    (kitchen.home / "courier/taken.json").unlink()
    assert kitchen.delivers() == 3
    assert counted() == {"kitchen": 9}
    assert "kitchen." not in open_desk.said


def test_a_crowd_at_once(open_desk: Process) -> None:
    """As after a power cut in a quarter of the town."""
    url, by = f"https://127.0.0.1:{open_desk.port}", certificate.known(None)
    issued = [tokens.fresh(f"device{i}") for i in range(CROWD)]
    with Store() as store:
        Tokens(store).keep(*issued)
    parcel = Packer().parcel(tuple(replace(WINDOW, seq=seq) for seq in range(5)))
    together = threading.Barrier(CROWD)

    def deliver(token: tokens.Token) -> float:
        known = letter.Letter(url, token.text, by.pem, pinned=True)
        together.wait()
        began = time.monotonic()
        with https.Post(known) as post:
            post.send(parcel)
        return time.monotonic() - began

    with ThreadPoolExecutor(CROWD) as pool:
        took = list(pool.map(deliver, issued))
    print(f"{CROWD} deliveries of 5 windows, the last after {max(took):.1f} s")
    assert counted() == dict.fromkeys((token.device for token in issued), 15)
    assert max(took) < https.TIMEOUT_S


def test_a_collector_that_is_killed_again_and_again(open_desk: Process, kitchen: Courier) -> None:
    done = threading.Event()

    def keep_delivering() -> None:
        while not done.is_set() or kitchen.delivers():
            kitchen.measures()
            try:
                kitchen.delivers()
            except Undelivered:
                time.sleep(0.01)

    with ThreadPoolExecutor(1) as pool:
        courier = pool.submit(keep_delivering)
        for _ in range(4):
            time.sleep(0.3)
            open_desk.kill()
            open_desk.start()
        done.set()
        courier.result(60)
    assert kitchen.seq > 10
    assert counted() == {"kitchen": 3 * kitchen.seq}


def test_while_the_store_is_locked_nothing_is_lost(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_STORE", f"sqlite:///{project.parent / 'store.db'}?timeout=0.2")
    with running(collector(project.parent)) as process:
        token = tokens.fresh("gate")
        with Store(os.environ["EDGEKIT_STORE"]) as store:
            Tokens(store).keep(token)
            known = letter.Letter(
                f"https://127.0.0.1:{process.port}", token.text, certificate.known(None).pem, pinned=True
            )
            holder = sqlite3.connect(project.parent / "store.db", isolation_level=None)
            holder.execute("BEGIN EXCLUSIVE")
            parcel = Packer().parcel((WINDOW,))
            with pytest.raises(Undelivered, match="503") as caught, https.Post(known) as post:
                post.send(parcel)
            assert 30 <= caught.value.after_s <= 62
            holder.close()
            with https.Post(known) as post:
                post.send(parcel)
            assert [each.count for each in store.summaries()] == [3]


def test_a_database_that_is_down_and_comes_back(
    project: Path, tmp_path: Path, postgresql: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_STORE", postgresql.create())
    with running(collector(project.parent)) as process:
        kitchen = enrolled(tmp_path, "kitchen", f"https://127.0.0.1:{process.port}")
        kitchen.measures(2)
        assert kitchen.delivers() == 2
        kitchen.measures()
        postgresql.stop("immediate")
        try:
            with pytest.raises(Undelivered, match="503"):
                kitchen.delivers()
        finally:
            postgresql.start()
        assert kitchen.delivers() == 1
        assert counted() == {"kitchen": 9}
        assert "Traceback" not in process.said


def test_it_ends_in_order(open_desk: Process) -> None:
    assert open_desk.kill(signal.SIGTERM) == 0
    assert "Traceback" not in open_desk.said


def test_a_port_that_is_taken_is_told_in_one_line(open_desk: Process) -> None:
    ran = edgekit("collect", "--listen", f"127.0.0.1:{open_desk.port}", status=2)
    assert "Address already in use" in ran.line


class TestImpostors:
    """Whoever answers in the collector's place gets no token and no window, and nothing counts as delivered."""

    def test_another_certificate(self, kitchen: Courier, open_desk: Process, tmp_path: Path) -> None:
        open_desk.kill()
        kitchen.measures()
        (tmp_path / "other.pem").write_bytes(certificate.make())
        refused = pytest.raises(Undelivered, match="CERTIFICATE_VERIFY_FAILED")
        with _says_yes(open_desk.port, tmp_path / "other.pem") as heard, refused:
            kitchen.delivers()
        assert heard == []

    def test_a_server_that_says_yes_to_everything(self, kitchen: Courier, open_desk: Process) -> None:
        open_desk.kill()
        kitchen.measures()
        with _says_yes(open_desk.port, certificate.own()) as heard, pytest.raises(Undelivered, match="no collector"):
            kitchen.delivers()
        assert heard
        open_desk.start()
        assert kitchen.delivers() == 1

    @pytest.mark.parametrize("year", [1971, 2099])
    def test_a_clock_that_is_wrong_does_not_matter_when_pinned(self, project: Path, tmp_path: Path, year: int) -> None:
        """A certificate that is over, or not yet there, is to OpenSSL what a clock is that is wrong."""
        pem = _valid(tmp_path / "odd.pem", year)
        with _says_yes(port := free_port(), tmp_path / "odd.pem"):
            for pinned, why in ((True, "no collector"), (False, "CERTIFICATE_VERIFY_FAILED")):
                found = enrolled(tmp_path, f"d{pinned:d}", f"https://127.0.0.1:{port}", Known(pem, pinned))
                with pytest.raises(Undelivered, match=why):
                    found.delivers()

    def test_nobody_holds_a_connection_for_nothing(self, open_desk: Process, project: Path, tmp_path: Path) -> None:
        port = free_port()
        code = f"""
from pathlib import Path
from edgekit.collect import serving
from starlette.applications import Starlette
serving.HEAD_S = 0.5
serving.serve(Starlette(), serving.Door("127.0.0.1", {port}, Path({str(certificate.own())!r})), lambda: None)
"""
        with running(Process([sys.executable, "-c", code], tmp_path / "log", port)):
            context = ssl._create_unverified_context()
            with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as client:
                client.sendall(b"POST /v1/windows HTTP/1.1\r\nHost:")
                client.settimeout(60)
                assert client.recv(100) == b""


@pytest.mark.parametrize("version", ["3.8", "3.13"])
def test_on_other_pythons(open_desk: Process, kitchen: Courier, version: str) -> None:
    kitchen.measures(2)
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from edgekit_runtime.__main__ import main; main()"
    words = [find(version), "-W", "error", "-c", code, Path(edgekit_courier.__file__).parents[1], "deliver", "--once"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=_at(kitchen.home))
    assert '"delivered": 2' in done.stdout, done.stderr
    assert counted() == {"kitchen": 6}


class _Yes(BaseHTTPRequestHandler):
    heard: list[str]

    def do_POST(self) -> None:
        self.heard.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>welcome</html>")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _says_yes(port: int, pem: Path) -> Iterator[list[str]]:
    """A web server of somebody else; what it was asked for."""
    _Yes.heard = []
    server = HTTPServer(("127.0.0.1", port), _Yes)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield _Yes.heard
    finally:
        server.shutdown()
        server.server_close()


def _valid(path: Path, year: int) -> str:
    """A certificate of 127.0.0.1, for that year alone; with its key in the file."""
    made = x509.load_pem_x509_certificate(certificate.make())
    key = ec.generate_private_key(ec.SECP256R1())
    times = datetime(year, 1, 1), datetime(year, 12, 31)
    builder = x509.CertificateBuilder(made.subject, made.issuer, key.public_key(), x509.random_serial_number(), *times)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
    signed = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + signed)
    return signed.decode()
