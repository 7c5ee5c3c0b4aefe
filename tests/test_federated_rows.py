from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import RoundError
from edgekit.federated import rows
from edgekit.federated.rows import kept
from edgekit.federated.vectors import layout_of
from tests.lab.updates import BASE, SIZE, row_of, tables, weights_of


@given(table=tables(0, 9), block=st.integers(4, 300), data=st.data())
def test_blocks_together_are_the_table_by_device(table: np.ndarray, block: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(table))))
    chosen = data.draw(st.none() | st.sets(st.sampled_from(order or [0]), max_size=len(table)).map(sorted))
    found = np.full((len(table) if chosen is None else len(chosen), SIZE), np.nan, np.float32)
    with pytest.MonkeyPatch.context() as patch, kept(SIZE) as table_kept:
        patch.setattr(rows, "BLOCK", block)
        for number in order:
            table_kept.add(f"pi-{number:03}", table[number])
        for columns, part in table_kept.blocks(chosen):
            assert part.nbytes <= max(block, 4 * len(part))
            found[:, columns] = part
    np.testing.assert_array_equal(found, table if chosen is None else table[chosen])


def test_the_file_has_no_name_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    with kept(SIZE) as table:
        table.add("pi-1", np.ones(SIZE, np.float32))
        assert not list(tmp_path.iterdir()) and len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_full_disk_is_told_in_a_line() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * SIZE + 8, hard))
    try:
        with kept(SIZE) as table:
            table.add("pi-1", np.ones(SIZE, np.float32))
            with pytest.raises(RoundError, match=r"^updates cannot be kept: .* — set TMPDIR to a folder with room"):
                table.add("pi-2", np.ones(SIZE, np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(table=tables(1, 1))
def test_weights_as_a_vector_and_back(table: np.ndarray) -> None:
    layout, weights = layout_of(BASE), weights_of(table[0])
    assert layout.size == SIZE
    assert layout.flat(weights).tobytes() == row_of(weights).tobytes()
    again = layout.apart(layout.flat(dict(reversed(weights.items()))))
    assert {name: each.tobytes() for name, each in again.items()} == {n: e.tobytes() for n, e in weights.items()}


def test_a_scalar_and_an_empty_array_are_arrays_too() -> None:
    weights = {"a": np.float32(2) * np.ones((), np.float32), "b": np.zeros((0, 3), np.float32)}
    layout = layout_of(weights)
    assert layout.size == 1 and {n: e.shape for n, e in layout.apart(layout.flat(weights)).items()} == {
        "a": (),
        "b": (0, 3),
    }
