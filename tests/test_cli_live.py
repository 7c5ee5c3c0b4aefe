"""`edgekit status`, `rollback`, `run` and `why`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgekit import fleet
from edgekit.bundle import Contents
from edgekit.fleet import Device
from edgekit_runtime import blackbox, golden, logbook, releases
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.interface import Interface
from edgekit_runtime.patch import HEADER
from edgekit_runtime.tensors import TensorSpec
from tests.lab.bundles import DIGITS, TARGET, contents, flip, make_bundle, part_of
from tests.lab.project import Served, desk, document, edgekit, project, served

__all__ = ["desk", "project", "served"]  # fixtures


def damage(served: Served, bundle: Bundle, part: str = "image") -> None:
    """One bit, on the device's disk."""
    flip(served.home / "blobs/sha256" / part_of(bundle.root, part).name)


class TestStatus:
    def test_nothing_yet(self, project: Path, desk: Device) -> None:
        [shown] = document("status")["devices"]
        assert (shown["device"], shown["ok"], shown["apps"], shown["error"]) == ("desk", True, [], None)

    def test_what_a_person_reads(self, served: Served) -> None:
        header, row = edgekit("status").stdout.splitlines()
        assert header.split() == ["device", "app", "version", "release", "model", "state", "previous"]
        model = f"{served.second.manifest.format}-{served.second.manifest.precision}"
        words = ["desk", "digits", "1.2", served.second.digest[:19], model, "good", served.first.digest[:19]]
        assert row.split() == words

    def test_a_device_that_is_down_is_shown_with_its_error(self, project: Path, desk: Device) -> None:
        fleet.add(project, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
        here, gone = document("status", status=1)["devices"]
        assert (here["device"], here["ok"]) == ("desk", True)
        assert gone.keys() == here.keys()
        assert (gone["device"], gone["ok"], gone["apps"], gone["home"]) == ("gone", False, [], None)
        assert gone["error"]["code"] == "connect"
        assert "gone: pi@127.0.0.1:1: connection refused" in edgekit("status", status=1).stdout
        assert [each["device"] for each in document("status", "desk", "desk")["devices"]] == ["desk"]

    @pytest.mark.parametrize("part", ["image", "manifest", "model", "golden"])
    def test_a_damaged_release_is_shown_as_that_and_a_push_repairs_it(self, served: Served, part: str) -> None:
        damage(served, served.second, part)
        [shown] = document("status", status=1)["devices"]
        [app] = shown["apps"]
        assert (shown["ok"], shown["error"]) == (False, None)
        assert (app["current"]["digest"], app["current"]["error"]["code"]) == (served.second.digest, "digest_mismatch")
        assert "the bytes are not the ones that were signed" in edgekit("status", status=1).stdout
        [again] = document("push", served.second.root)["devices"]
        assert 0 < again["bytes_sent"] <= part_of(served.second.root, part).stat().st_size + HEADER.size
        assert document("status")["devices"][0]["ok"]

    def test_damage_of_the_previous_release_only_is_no_failure(self, served: Served) -> None:
        damage(served, served.first)
        [app] = document("status")["devices"][0]["apps"]
        assert app["current"]["digest"] == served.second.digest
        assert (app["previous"]["digest"], app["previous"]["error"]["code"]) == (served.first.digest, "digest_mismatch")
        assert served.second.digest[:19] in edgekit("status").stdout

    def test_a_name_that_is_none(self, project: Path, desk: Device) -> None:
        assert "did you mean 'desk'?" in edgekit("status", "dest", status=2).line


class TestRollback:
    def test_back_and_no_further(self, served: Served) -> None:
        back = document("rollback")
        assert (back["release"], back["version"], back["state"]) == (served.first.digest, "1.1", "good")
        line = edgekit("rollback", "desk", status=1).line
        assert line == "edgekit: desk: digits: there is no previous release to go back to — push the one you want"
        [app] = document("status")["devices"][0]["apps"]
        assert (app["current"]["digest"], app["current"]["state"]["name"]) == (served.first.digest, "good")
        assert document("push", served.second.root)["devices"][0]["release"] == served.second.digest

    def test_what_a_person_reads(self, served: Served) -> None:
        assert edgekit("rollback").stdout == f"desk: digits is back at {served.first.digest[:19]} 1.1\n"

    def test_nothing_there(self, project: Path, desk: Device) -> None:
        assert "no app is live on this device — edgekit push" in edgekit("rollback", status=1).line
        made = make_bundle(project / "one")
        document("push", made.root)
        assert "no previous release" in edgekit("rollback", status=1).line
        assert "live apps: digits" in edgekit("rollback", "--app", "cats", status=1).line

    def test_not_to_a_release_that_is_damaged(self, served: Served) -> None:
        damage(served, served.first)
        assert "not the ones that were signed" in edgekit("rollback", status=1).line
        assert document("status")["devices"][0]["apps"][0]["current"]["digest"] == served.second.digest

    def test_from_a_release_that_is_damaged(self, served: Served) -> None:
        damage(served, served.second)
        assert document("rollback")["release"] == served.first.digest

    def test_of_several_apps_one_is_named(self, project: Path, served: Served) -> None:
        document("push", make_bundle(project / "cats", app="cats").root)
        assert "which app? — the device has cats, digits: name one with --app" in edgekit("rollback", status=2).line
        assert document("rollback", "--app", "digits")["app"] == "digits"
        current = {app["app"]: app["current"]["version"] for app in document("status")["devices"][0]["apps"]}
        assert current == {"cats": "1.0", "digits": "1.1"}


@pytest.fixture
def image() -> np.ndarray:
    with np.load(DIGITS / "evaluation.npz") as samples:
        first: np.ndarray = samples["x"][:1]
    return first


@pytest.mark.usefixtures("served")
class TestRun:
    @pytest.mark.parametrize("name", ["x", "image"])
    def test_by_either_name(self, project: Path, image: np.ndarray, name: str) -> None:
        np.savez("in.npz", **{name: image})
        done = document("run", "--input", "in.npz")
        assert done["engine"].keys() == {"name", "version", "provider"}
        assert done["latency_ms"] > 0
        assert np.shape(done["outputs"]["logits"]["data"]) == (1, 10)

    def test_what_a_person_reads_and_what_is_kept(self, project: Path, image: np.ndarray) -> None:
        np.savez("in.npz", x=image)
        said = edgekit("run", "desk", "--input", "in.npz", "--output", "out.npz").stdout
        assert said.startswith("desk: digits in ")
        assert "logits float32 [1, 10]\n" in said
        with np.load("out.npz") as kept:
            assert kept["logits"].shape == (1, 10)
        assert sorted(path.name for path in (project / "desk").glob("run-*")) == []

    @pytest.mark.parametrize(
        ("arrays", "told"),
        [
            ({"y": np.zeros((1, 1, 8, 8), "f4")}, "input 'image' is missing — the model takes image"),
            ({"x": np.zeros((1, 1, 8, 8), "f8")}, "got dtype float64 — convert it with .astype('float32')"),
            ({"x": np.zeros((1, 1, 9, 8), "f4")}, "got shape [1, 1, 9, 8]"),
            ({"x": np.zeros((1, 8, 8), "f4")}, "add the batch dimension"),
            ({"image": np.zeros((1, 1, 8, 8), "f4"), "labels": np.zeros(1)}, "input 'labels' is unknown"),
            ({}, "input 'image' is missing"),
        ],
    )
    def test_arrays_that_do_not_fit(self, project: Path, arrays: dict[str, np.ndarray], told: str) -> None:
        np.savez("in.npz", **arrays)
        ran = edgekit("run", "--input", "in.npz", "--json", status=1)
        assert told in ran.line
        assert ran.line.startswith("edgekit: desk: ")
        assert ran.document["error"]["code"] == "invalid_input"

    @pytest.mark.parametrize("content", [None, b"", b"hello", b"PK\x03\x04 cut", b"\x93NUMPY"])
    def test_a_file_that_is_no_npz(self, project: Path, content: bytes | None) -> None:
        if content is not None:
            (project / "in.npz").write_bytes(content)
        ran = edgekit("run", "--input", "in.npz", "--json", status=1)
        assert "in.npz: " in ran.line
        assert ran.line.endswith("give an .npz with one array per input, or x")
        assert ran.document["error"]["code"] == "data"

    def test_a_pickle_is_never_opened(self, project: Path) -> None:
        np.savez("in.npz", x=np.array([Path("x")], dtype=object))
        assert "in.npz: " in edgekit("run", "--input", "in.npz", status=1).line

    def test_outputs_that_cannot_be_kept(self, project: Path, image: np.ndarray) -> None:
        np.savez("in.npz", x=image)
        line = edgekit("run", "--input", "in.npz", "--output", "nowhere/out.npz", status=1).line
        assert "nowhere/out.npz: the outputs cannot be kept: No such file or directory" in line

    def test_calls_of_run_are_reported_too(self, project: Path, image: np.ndarray) -> None:
        np.savez("in.npz", x=image)
        np.savez("bad.npz", x=image[:, :, 1:])
        document("run", "--input", "in.npz")
        edgekit("run", "--input", "bad.npz", status=1)
        [row] = document("report")["reports"]
        assert (row["count"], row["errors"]) == (1, {"invalid_input": 1})

    def test_an_app_that_is_not_there(self, project: Path, image: np.ndarray) -> None:
        np.savez("in.npz", x=image)
        assert "'cats'" in edgekit("run", "--input", "in.npz", "--app", "cats", status=1).line


def test_outputs_that_json_has_no_number_for(project: Path, desk: Device) -> None:
    """A model may well give infinity; the JSON has null there. It has two inputs and two outputs, too."""
    make_bundle(project / "two", of_two_numbers())
    document("push", "two")
    np.savez("in.npz", a=np.array([1], "f4"), b=np.array([0], "f4"))
    ran = edgekit("run", "--input", "in.npz", "--json")
    assert "Infinity" not in ran.stdout
    outputs = ran.document["outputs"]
    assert (outputs["ratio"]["data"], outputs["sum"]["data"]) == ([None], [1.0])


def of_two_numbers() -> Contents:
    """A model that divides and adds, under the manifest of the digits."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("a", "b", "ratio", "sum")]
    nodes = [helper.make_node("Div", ["a", "b"], ["ratio"]), helper.make_node("Add", ["a", "b"], ["sum"])]
    graph = helper.make_graph(nodes, "two", tensors[:2], tensors[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    a, b, ratio, total = (TensorSpec(name, "float32", (1,)) for name in ("a", "b", "ratio", "sum"))
    one = np.ones(1, "f4")
    vector = golden.Vector({"a": one, "b": one}, {"ratio": one, "sum": one + 1}, {"ratio": one, "sum": one + 1})
    manifest = replace(
        contents().manifest,
        app="two",
        format="onnx",
        interface=Interface((a, b), (ratio, total)),
        proof=replace(contents().manifest.proof, vectors=1),
    )
    return Contents(manifest, model.SerializeToString(), golden.dump([vector]))


class TestWhy:
    def test_what_a_person_reads_of_a_trial(self, project: Path, desk: Device) -> None:
        made = make_bundle(project / "one")
        edgekit("push", "one")
        release = releases.current(project / "desk", "digits")
        logbook.change(release.folder, lambda book: book.failed("x").failed("y").failed("z"))
        told = blackbox.event(
            "start_failed", made.digest, code="start_failed", reason="gone", tail=["Traceback", "gone"]
        )
        blackbox.note(project / "desk", "digits", told)
        live, trial, stays, header, switched, failed, *tail = edgekit("why").stdout.splitlines()
        assert live == f"desk: digits: {made.digest[:19]} 1.0 is live, trial"
        assert trial.startswith(
            "desk: digits: on trial until 100 inferences or 10 minutes of service; so far 0 calls, "
        )
        assert stays == "desk: digits: it stays, although 3 starts failed; no confirmed release to go back to"
        assert header.split() == ["time", "what", "release", "code", "reason"]
        assert switched.split()[2:] == ["activated", made.digest[:19]]
        assert failed.split()[2:] == ["start_failed", made.digest[:19], "start_failed", "gone"]
        assert tail == ["  Traceback", "  gone"]

    def test_one_app_or_all(self, served: Served) -> None:
        [app] = document("why", "desk")["apps"]
        assert document("why", "desk", "digits")["apps"] == [app]
        assert [event["what"] for event in app["events"]] == ["activated", "confirmed"] * 2
        assert document("why", "desk", "cats")["apps"][0]["current"] is None
        assert edgekit("why", "desk", "cats").stdout.startswith("desk: cats: nothing is live\n")
        assert "no app name" in edgekit("why", "desk", "../..", status=1).line
