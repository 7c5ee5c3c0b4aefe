from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ConversionError
from edgekit.passes.child import Child


def child(tmp_path: Path, body: str, **changes: Any) -> Child:
    task = tmp_path / "task.py"
    task.write_text(f"import os, sys\ndef convert(order):\n    {body}\n")
    return replace(Child("Trial", str(task)), **changes)


def order(tmp_path: Path, **more: Any) -> dict[str, Any]:
    (tmp_path / "work").mkdir(exist_ok=True)
    return {"source": str(tmp_path / "m.model"), "result": str(tmp_path / "work" / "r"), **more}


def failed(tmp_path: Path, body: str, **changes: Any) -> str:
    with pytest.raises(ConversionError) as caught:
        child(tmp_path, body, **changes).answer(order(tmp_path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_answer_is_the_last_line_whatever_else_is_printed(tmp_path: Path) -> None:
    talks = child(tmp_path, "print('words'); return {'got': order['x'] + 1}")
    assert talks.answer(order(tmp_path, x=1)) == {"got": 2}


def test_an_error_is_one_line_without_colours(tmp_path: Path) -> None:
    told = failed(tmp_path, "raise ValueError('\\x1b[1mno\\x1b[0m\\n  good')")
    assert told == "m.model: Trial could not convert it: ValueError: no good"
    assert len(failed(tmp_path, "raise ValueError('x' * 9999)")) < 500


def test_a_child_that_is_killed_or_takes_too_long(tmp_path: Path) -> None:
    assert failed(tmp_path, "os.kill(os.getpid(), 9)") == "m.model: Trial could not convert it: it was killed"
    assert "m.model: not converted within 0.1 s" in failed(tmp_path, "import time; time.sleep(9)", timeout_s=0.1)


def test_memory_and_files_are_limited(tmp_path: Path) -> None:
    assert "MemoryError" in failed(tmp_path, "bytearray(20 << 30)")
    big = "open('big', 'wb').truncate(5 << 30)"
    assert "File too large" in failed(tmp_path, f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); {big}")
    assert "it was killed" in failed(tmp_path, f"import signal; signal.signal(25, signal.SIG_DFL); {big}")


def test_it_works_in_the_folder_of_the_result_and_imports_nothing_from_there(tmp_path: Path) -> None:
    names = child(tmp_path, "import numpy; return {'at': os.getcwd(), 'gpu': os.environ['CUDA_VISIBLE_DEVICES']}")
    asked = order(tmp_path)
    for folder in (tmp_path, tmp_path / "work"):
        (folder / "numpy.py").write_text("raise SystemExit('taken from the wrong place')")
    assert names.answer(asked) == {"at": str(tmp_path / "work"), "gpu": "-1"}


def test_what_is_meant_for_our_interpreter_is_not_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    body = f"return {{'seen': {str(tmp_path)!r} in sys.path}}"
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    assert child(tmp_path, body).answer(order(tmp_path)) == {"seen": True}
    assert child(tmp_path, body, python=link).answer(order(tmp_path)) == {"seen": False}
