"""Proof: golden vectors on the device's own kernels let a right model pass, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.bundle import Contents
from edgekit.signing import Signer
from edgekit_runtime import golden, switches
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.errors import BundleError, DeviceError, EngineError, InvalidInput
from edgekit_runtime.manifest import ProofLimits
from edgekit_runtime.prove import Proof, judge, prove
from tests.runtime.bundles import (
    APP,
    MANIFEST,
    Parcels,
    contents,
    go_live,
    install,
    linear,
    linear_by,
    samples,
    serves,
    vectors,
    weights,
    write,
)

LIMITS = MANIFEST.proof


def swapped(model: bytes, seed: int = 1, **changes: object) -> Contents:
    """A bundle whose golden vectors are of one model, and its model another."""
    return replace(contents(seed, **changes), model=model)


def test_the_right_model_is_proven(parcels: Parcels) -> None:
    proof = prove(parcels.one)
    assert (proof.ok, proof.vectors, proof.agreement, proof.reasons) == (True, 4, 1.0, ())
    assert proof.max_abs_error < 1e-5
    assert proof.engine.startswith("onnxruntime ")
    assert proof.provider == "CPUExecutionProvider"


def wrong() -> dict[str, NDArray[np.float32]]:
    nan = weights(1).copy()
    nan[0, 0] = np.nan
    return {"another model": weights(2), "one weight off": weights(1) + np.float32(1e-3), "no number": nan}


@pytest.mark.parametrize("name", wrong())
def test_a_model_that_computes_something_else_is_not_proven(
    signer: Signer, tmp_path: Path, home: Path, parcels: Parcels, name: str
) -> None:
    go_live(parcels.two, home)
    release = install(write(tmp_path / "b", signer, swapped(linear_by(wrong()[name]), sequence=3)), home)
    proof = prove(release.bundle)
    assert not proof.ok
    assert proof.reasons[0].startswith("outputs differ from the host's by ")
    assert ("inf" in proof.reasons[0]) == (name == "no number")
    json.dumps(proof.as_dict(), allow_nan=False)
    with pytest.raises(DeviceError, match="not proven"):
        switches.activate(home, APP, release.digest)
    assert serves(parcels.two)


def test_answers_must_agree_even_where_numbers_may_differ(signer: Signer, tmp_path: Path) -> None:
    given = swapped(linear(2), proof=ProofLimits(4, 1e6, 0.9))
    proof = prove(write(tmp_path / "b", signer, given))
    assert not proof.ok
    (reason,) = proof.reasons
    assert reason.endswith("of the answers are the host's, 90% are needed")


@pytest.mark.parametrize("wanted", [0, 3, 5])
def test_a_wrong_number_of_vectors_is_refused(signer: Signer, tmp_path: Path, wanted: int) -> None:
    parcel = write(tmp_path / "b", signer, contents(1, proof=replace(LIMITS, vectors=wanted)))
    with pytest.raises(BundleError, match=f"4 golden vectors where the manifest says {wanted}"):
        prove(parcel)


def test_no_vectors_prove_nothing(signer: Signer, tmp_path: Path) -> None:
    given = replace(contents(1, proof=replace(LIMITS, vectors=0)), golden=golden.dump([]))
    with pytest.raises(BundleError, match="0 golden vectors"):
        prove(write(tmp_path / "b", signer, given))


def with_vectors(signer: Signer, place: Path, changed: golden.Vector) -> Bundle:
    return write(place, signer, replace(contents(1), golden=golden.dump([*vectors(1)[:3], changed])))


def test_vectors_that_the_model_does_not_take_are_refused(signer: Signer, tmp_path: Path) -> None:
    good = vectors(1)[3]
    odd = [replace(good, inputs={"z": good.inputs["x"]}), replace(good, inputs={"x": good.inputs["x"][:, :3]})]
    for number, vector in enumerate(odd):
        with pytest.raises(InvalidInput):
            prove(with_vectors(signer, tmp_path / str(number), vector))


def test_expected_outputs_that_the_model_does_not_give_are_infinitely_far(signer: Signer, tmp_path: Path) -> None:
    good = vectors(1)[3]
    odd = [replace(good, expected={"z": np.zeros(1)}), replace(good, expected={"y": np.zeros((1, 9))})]
    for number, vector in enumerate(odd):
        proof = prove(with_vectors(signer, tmp_path / str(number), vector))
        assert (proof.ok, proof.max_abs_error, proof.agreement) == (False, float("inf"), 0.75)
        assert proof.as_dict()["max_abs_error"] is None


def test_vectors_that_cannot_be_read_are_refused(signer: Signer, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="golden vectors cannot be read"):
        prove(write(tmp_path / "b", signer, replace(contents(1), golden=b"PK\3\4")))


def test_a_model_that_does_not_load_is_an_engine_error(signer: Signer, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot load the model"):
        prove(write(tmp_path / "b", signer, swapped(b"junk")))


class TestJudge:
    """The rule by itself: outputs in, proof out."""

    def judge(self, have: NDArray[np.float64], limits: ProofLimits) -> Proof:
        want = np.array([[0.25, 0.75]])
        answers = [({"y": want}, {"y": want}), ({"y": want}, {"y": have})]
        return judge(answers, replace(MANIFEST, proof=limits), "engine 1", "cpu")

    def test_exactly_at_the_limit_it_passes(self) -> None:
        assert self.judge(np.array([[0.375, 0.75]]), ProofLimits(2, 0.125, 1.0)).ok
        assert not self.judge(np.array([[0.5, 0.75]]), ProofLimits(2, 0.125, 1.0)).ok

    def test_one_other_answer_of_two_is_half(self) -> None:
        other = np.array([[0.75, 0.25]])
        assert self.judge(other, ProofLimits(2, 1.0, 0.5)).ok
        failed = self.judge(other, ProofLimits(2, 1.0, 0.51))
        assert (failed.ok, failed.agreement) == (False, 0.5)

    def test_answers_agree_by_what_the_manifest_declares(self) -> None:
        want, have = {"y": np.array([[0.5, 0.3, 0.2]])}, {"y": np.array([[0.2, 0.3, 0.5]])}
        for by, ok in (("top1", False), ("kl", False), ("none", True)):
            interface = replace(MANIFEST.interface, agreement={"y": Agreement(by)})
            manifest = replace(MANIFEST, interface=interface, proof=ProofLimits(1, 1.0, 1.0))
            assert judge([(want, have)], manifest, "engine 1", "cpu").ok is ok

    def test_both_reasons_are_given(self) -> None:
        assert len(self.judge(np.array([[9.0, 0.0]]), ProofLimits(2, 1.0, 1.0)).reasons) == 2


def test_the_vectors_are_those_of_the_samples() -> None:
    assert [vector.inputs["x"].tolist() for vector in vectors(1)] == [x.tolist() for x in samples()]
