"""The loop: files, times and signals."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time

from edgekit_server.loop import Loop


def test_times_come_in_their_order_and_not_when_cancelled() -> None:
    loop, seen = Loop(), []
    for name, seconds in (("c", 0.02), ("a", 0.0), ("b", 0.01)):
        loop.later(seconds, lambda name=name: seen.append(name))
    loop.later(0.005, lambda: seen.append("never")).cancel()
    loop.later(0.03, loop.stop)
    loop.soon(lambda: seen.append("soon"))
    loop.run()
    assert seen == ["soon", "a", "b", "c"]


def test_what_is_asked_for_in_a_turn_is_for_the_next_one() -> None:
    loop, turns = Loop(), []

    def again() -> None:
        turns.append(1)
        loop.soon(again)

    loop.soon(again)
    for _ in range(3):
        loop.turn()
    assert len(turns) == 3


def test_a_file_is_watched_for_what_is_asked_until_it_is_forgotten() -> None:
    loop, seen = Loop(), []
    one, other = socket.socketpair()
    with one, other:
        loop.watch(one, lambda: seen.append(one.recv(9)))
        other.send(b"x")
        loop.turn()
        loop.watch(one, None, lambda: seen.append("writable"))
        loop.turn()
        loop.watch(one, None)
        loop.forget(one)
        other.send(b"y")
        loop.later(0, lambda: None)
        loop.turn()
    assert seen == [b"x", "writable"]


def test_what_was_forgotten_is_not_called_in_the_same_turn() -> None:
    loop, seen = Loop(), []
    pairs = [socket.socketpair() for _ in range(2)]

    def take(name: int) -> None:
        seen.append(name)
        for one, _ in pairs:
            loop.forget(one)

    for name, (one, other) in enumerate(pairs):
        loop.watch(one, lambda name=name: take(name))
        other.send(b"x")
    loop.turn()
    assert len(seen) == 1
    for pair in pairs:
        for each in pair:
            each.close()


def test_threads_have_things_called_in_the_loop_s() -> None:
    loop, seen = Loop(), []
    call, here = loop.from_threads(), threading.get_ident()

    def fill() -> None:  # the bell's socket holds a few hundred
        for number in range(5000):
            call(lambda number=number: seen.append((number, threading.get_ident())))
        call(loop.stop)

    thread = threading.Thread(target=fill)
    thread.start()
    loop.run()
    thread.join()
    loop.close()
    assert seen == [(number, here) for number in range(5000)]


def test_a_signal_ends_the_wait() -> None:
    script = """
import signal
from edgekit_server.loop import Loop
loop = Loop()
loop.on_signal(signal.SIGTERM, loop.stop)
print("ready", flush=True)
loop.run()
print("over")
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "over\n"
    assert process.returncode == 0


def test_the_front_imports_neither_numpy_nor_an_engine() -> None:
    script = "import sys, edgekit_server.connections; print('numpy' in sys.modules, 'asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
