"""The benchmark of what rounds send: that it counts what went over, and that nothing compressed is lost for good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.federated.shown.course import Terms, honest
from benchmarks.federated.wire.app import App
from benchmarks.federated.wire.counts import COLUMNS, PLAIN, Counts, Sent, rows, total
from benchmarks.federated.wire.lab import NAMES, lab
from benchmarks.federated.wire.learned import Compressing, Learned, learned
from edgekit.federated import strategies
from edgekit.federated.rounds.spelling import compression
from edgekit.model import open_model
from edgekit.passes import head
from edgekit_train import update as updates
from edgekit_train.update import Weights
from tests.lab.sshd import needs_sshd
from tests.test_benchmark_shown import made_up


class TestCounts:
    def test_the_rest_is_what_no_file_accounts_for_and_parts_are_of_the_plain_round(self) -> None:
        plain = Sent(Counts(3000, 5000), Counts(2600, 2700))
        told = rows({PLAIN: plain, "int8": Sent(Counts(3000, 1000), Counts(2600, 700))})
        assert plain.rest == Counts(400, 2300)
        assert told[0] == (PLAIN, "3,000", "2,600", "5,000", "2,700", "2,700", "1.000", "1.000")
        assert told[1] == ("int8", "3,000", "2,600", "1,000", "700", "700", "0.200", "0.500")
        assert {len(row) for row in told} == {len(COLUMNS)}

    def test_a_mean_is_of_the_sum(self) -> None:
        assert total([Counts(1, 2), Counts(4, 8)]).over(2) == Counts(2.5, 5)


def test_a_head_has_the_size_that_it_is_made_with(tmp_path: Path) -> None:
    app = App(6, 5)
    (tmp_path / "model.onnx").write_bytes(app.model)
    weights = head.weights_of(open_model(tmp_path / "model.onnx"))
    assert sum(array.size for array in weights.values()) == app.numbers == 35
    assert any(np.array_equal(array, app.layers[1]) for array in weights.values())


class TestCompressing:
    def test_what_a_device_has_not_sent_it_sends_later(self) -> None:
        of, few = made_up(), compression("10%")
        devices = honest(of, Terms(strategies.fedavg()))
        source = Compressing(devices, few)
        sent = [source(of.start, number) for number in range(3)]
        learned_ = [devices(of.start, number) for number in range(3)]
        for at, name in enumerate(of.devices):
            gone = _sum([each[at].delta for each in sent])
            whole = _sum([each[at].delta for each in learned_])
            left = source.left[name]
            assert sent[0][at].delta["head.0.weight"].astype(bool).sum() == 3  # of 24
            for key, array in whole.items():
                np.testing.assert_allclose(gone[key] + left[key], array, atol=1e-5)

    def test_plain_updates_are_as_they_were_and_their_files_are_counted(self) -> None:
        of = made_up()
        plain = Compressing(honest(of, Terms(strategies.fedavg())), None)
        sent = plain(of.start, 1)
        assert sent == plain.devices(of.start, 1)
        assert plain.bytes == sum(len(updates.dump(each)) for each in sent)

    def test_rounds_learn_from_int8_as_from_float32(self) -> None:
        of = made_up()
        told = learned(of, compression("int8"))
        assert len(told.accuracies) == 3
        assert told.accuracies[0] > of.accuracy(of.start) + 0.2
        assert abs(told.accuracies[1] - learned(of, None).accuracies[0]) < 0.1

    @pytest.mark.parametrize(
        ("accuracies", "told"),
        [((0.5,), "0.500"), ((0.4, 0.5, 0.625), "0.500 (0.400 to 0.625)"), ((0.5,) * 3, "0.500")],
    )
    def test_chance_is_told_where_it_matters(self, accuracies: tuple[float, ...], told: str) -> None:
        assert Learned(accuracies, 1).told == told


@pytest.mark.slow
@pytest.mark.timeout(300)
@needs_sshd
def test_a_round_over_ssh_has_its_files_in_it_and_int8_is_smaller() -> None:
    with lab(App(64, 10)) as devices:
        connection, look = devices.connection(NAMES[0]), devices.look(NAMES[0])
        plain, small = (devices.round(NAMES[:1], *how) for how in ((), ("--compress", "int8")))
    assert 0 < connection.up < look.up
    assert 0 < connection.down < look.down
    for sent in (plain, small):
        assert sent.rest.up > connection.up
        assert sent.rest.down > connection.down
    assert plain.files.up > 4 * 650
    assert plain.files.down > 4 * 650 > small.files.down > 650
    assert plain.all.down - small.all.down == pytest.approx(plain.files.down - small.files.down, abs=64)


def _sum(deltas: list[Weights]) -> Weights:
    return {name: np.sum([each[name] for each in deltas], axis=0) for name in deltas[0]}
