"""Flower's own functions on the same updates give the same, where they compute what the paper says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.federated import aggregate, files, flower_child
from benchmarks.federated.entries import FLOWER, Task, flower
from edgekit import environments
from edgekit.errors import EdgekitError
from edgekit.federated import strategies
from edgekit.federated.adaptive import Adaptive
from edgekit.federated.strategy import Strategy
from edgekit_train.update import Update, parse

pytestmark = pytest.mark.slow

COUNT, SIZE, LIARS = 23, 4096, 5
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of updates, and Flower's environment, in the user's cache as the benchmark makes it; kept for the next run."""
    try:
        environments.ensure(FLOWER, print)
    except EdgekitError as error:
        pytest.skip(str(error))
    made = tmp_path_factory.mktemp("updates")
    files.write(made, COUNT, SIZE)
    return made


def updates(folder: Path) -> list[Update]:
    return [parse(path.read_bytes(), 1 << 20) for path in sorted(folder.glob("*.safetensors"))]


def theirs(tool: str, folder: Path) -> list[np.ndarray]:
    row = flower(tool, Task(folder, SIZE, LIARS))
    assert row.result, row.error
    with np.load(row.result) as arrays:
        return [arrays[name] for name in arrays.files]


@pytest.mark.parametrize(
    ("strategy", "tool"),
    [
        (strategies.fedavg(), "mean"),
        (strategies.fedavg(), "mean of records"),
        (strategies.fedprox(), "mean"),
        (strategies.median(LIARS), "median"),
        (strategies.trimmed_mean(LIARS), "trimmed-mean"),
        (strategies.single_krum(LIARS), "krum"),
        (strategies.single_krum(LIARS), "krum of records"),
        (strategies.multi_krum(LIARS), "multi-krum"),
        (strategies.bulyan(LIARS), "bulyan"),
    ],
    ids=lambda each: getattr(each, "name", each),
)
def test_the_same_updates_give_the_same_weights(strategy: Strategy, tool: str, folder: Path) -> None:
    state = strategy.aggregate(strategy.init(files.base(SIZE)), updates(folder))
    ours = [state.weights[name] for name in sorted(state.weights)]
    for mine, their in zip(ours, theirs(tool, folder), strict=True):
        np.testing.assert_allclose(mine, their, **CLOSE)


@pytest.mark.parametrize("name", ["fedadam", "fedyogi"])
def test_adaptive_servers_go_the_same_way(name: str, folder: Path) -> None:
    """From Flower's second moment, which is 0 where the paper's is τ²; its FedAdam has a rate of its own each round."""
    strategy = {"fedadam": strategies.fedadam, "fedyogi": strategies.fedyogi}[name]()
    state = strategy.init(files.base(SIZE))
    state = replace(state, moments={key: np.zeros_like(each) for key, each in state.moments.items()})
    found = list[np.ndarray]()
    for number in (1, 2, 3):
        assert isinstance(strategy.server, Adaptive)
        rate = bias_corrected(number) if name == "fedadam" else flower_child.ADAPTIVE["eta"]
        now = replace(strategy, server=replace(strategy.server, rate=rate))
        state = now.aggregate(state, updates(folder))
        found += [state.weights[key] for key in sorted(state.weights)]
    for mine, their in zip(found, theirs(name, folder), strict=True):
        np.testing.assert_allclose(mine, their, **CLOSE)


def test_the_benchmark_runs_both_and_tells_how_far_they_are_apart(folder: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    words = ["--updates", "12", "--size", "4096", "--only", "median", "--json", str(told)]
    done = CliRunner().invoke(aggregate.main, words)
    assert done.exit_code == 0 and "0e+00" in done.output
    rows = json.loads(told.read_text())["rows"]
    assert [row["name"] for row in rows] == ["median", "Flower, median"]
    assert all(row["seconds"] > 0 and not row["error"] for row in rows)


def bias_corrected(number: int) -> float:
    """Flower's, after Kingma and Ba (Adam, 2014), one round ahead; in the paper of FedAdam there is none."""
    told = flower_child.ADAPTIVE
    return float(told["eta"] * np.sqrt(1 - told["beta_2"] ** (number + 1)) / (1 - told["beta_1"] ** (number + 1)))
