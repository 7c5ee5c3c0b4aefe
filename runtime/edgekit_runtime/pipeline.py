"""Pipeline: what is done to a call, in stages that each have a thread; and a stream of calls through it, in order.

Numpy and the engines let other threads run while they compute, so the next image is made ready during an inference.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Queue
from typing import TYPE_CHECKING, Any, Callable, Generic, List, Tuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")
Stage = Tuple[Callable[[Any], Any], ...]
"""Functions one after the other, in one thread."""
Steps = List[Tuple[int, Any]]
"""What each function took, in nanoseconds, and what it gave."""

AHEAD = 4
"""Calls of a stream that are under way or done before they are asked for: as many as there are threads to be busy."""


class Pipeline:
    """Stages one after the other; calls go through each in the order in which they came."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = [(stage, ThreadPoolExecutor(1, "edgekit-stage")) for stage in stages]

    def put(self, item: Any, steps: Steps) -> Future[Any]:
        """What the last stage will give, or the error of one; what each function did is added to ``steps``."""
        future: Future[Any] = Future()
        future.set_result(item)
        for stage, thread in self._stages:
            future = thread.submit(_next, stage, future, steps)
        return future

    def close(self) -> None:
        """After all that was put in has come out."""
        for _, thread in self._stages:
            thread.shutdown()


def _next(stage: Stage, before: Future[Any], steps: Steps) -> Any:
    """Waiting here holds nobody up: what comes next needs the same stage before this one, and got there later."""
    item = before.result()
    for step in stage:
        started = time.perf_counter_ns()
        item = step(item)
        steps.append((time.perf_counter_ns() - started, item))
    return item


class Stream(Generic[Item, Result]):
    """Results in the order of the items. The error of one is raised in its place, and ``next`` goes on after it."""

    def __init__(self, submit: Callable[[Item], Future[Result]], items: Iterable[Item]) -> None:
        self._futures = _futures(submit, items)

    def __iter__(self) -> Stream[Item, Result]:
        return self

    def __next__(self) -> Result:
        return next(self._futures).result()


def _futures(submit: Callable[[Item], Future[Result]], items: Iterable[Item]) -> Iterator[Future[Result]]:
    """As a thread reads the items, so that a source that waits holds up no result. It ends with who asks for them."""
    line: Queue[Future[Result] | None] = Queue(AHEAD - 1)
    left = threading.Event()
    threading.Thread(target=_read, args=(submit, items, line, left), name="edgekit-stream", daemon=True).start()
    try:
        future = line.get()
        while future:
            yield future
            future = line.get()
    finally:
        left.set()
        while not line.empty():
            line.get()  # makes room for the three that may yet come: one read, an error, and the end


def _read(
    submit: Callable[[Item], Future[Result]],
    items: Iterable[Item],
    line: Queue[Future[Result] | None],
    left: threading.Event,
) -> None:
    """A future for each item, and None after the last; an error of the source is raised where its item would come."""
    try:
        for item in items:
            if left.is_set():
                return
            line.put(submit(item))
    except BaseException as error:  # it is that of who asks, in whose loop the source would raise it
        failed: Future[Result] = Future()
        failed.set_exception(error)
        line.put(failed)
    finally:
        line.put(None)
