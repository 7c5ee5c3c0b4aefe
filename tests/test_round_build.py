"""A round on its way through the gate: real models, the store, and the command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copy

import numpy as np
import pytest

from edgekit.bundle import Contents, digest
from edgekit.cli.job import project_job
from edgekit.cli.passing import through
from edgekit.errors import ConfigError
from edgekit.federated import lineage
from edgekit.federated.paired import Paired
from edgekit.federated.replacing import standing
from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.gate_store import Gated, Gates
from edgekit.federated.rounds.generations import Generations
from edgekit.federated.rounds.shelf import Shelf
from edgekit.model import open_model
from edgekit.passes import head
from edgekit.store import Store
from edgekit_runtime.bundle import MODEL_TYPE, blob_path, open_layout
from edgekit_train import family as families
from edgekit_train.update import Weights
from tests.lab.bundles import TARGET, make_bundle
from tests.lab.databases import postgresql, postgresql_url, sqlite_url, url
from tests.lab.models import DIGITS
from tests.lab.project import document, edgekit, project
from tests.lab.rounds import BASE, Past, begun, done

__all__ = ["postgresql", "postgresql_url", "project", "sqlite_url", "url"]  # fixtures

NEW, NEWER = (f"sha256:{digit * 64}" for digit in "cd")
BETTER = Paired(100, 90, 1, 5)
TOML = """model = "digits.onnx"
app = "digits"
targets = [{target!r}]
[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"
"""


def own() -> Weights:
    """The head that the digits model came with."""
    return head.weights_of(open_model(DIGITS / "digits.onnx"))


def worse(weights: Weights) -> Weights:
    return {name: np.zeros_like(array) for name, array in weights.items()}


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of the digits, whose user data lie in the person's home."""
    monkeypatch.setenv("XDG_DATA_HOME", str(project.parent / "person" / "data"))
    for name in ("digits.onnx", "calibration.npz"):
        copy(DIGITS / name, project)
    with np.load(DIGITS / "evaluation.npz") as data:
        np.savez(project / "evaluation.npz", x=data["x"][:100], labels=data["labels"][:100])
    (project / "edgekit.toml").write_text(TOML.format(target=TARGET))
    return project


@pytest.fixture
def store(here: Path) -> Iterator[Store]:
    with Store() as opened:
        yield opened


def uneven(weights: Weights) -> Weights:
    """The head with one feature added to all classes alike: the same answers in float, and lost in a byte a weight."""
    weight = weights["head.0.weight"].copy()
    weight[0] += 3000 * np.abs(weight).max()
    return {**weights, "head.0.weight": weight}


def past(here: Path, result: Weights, release: str = BASE) -> Past:
    return Past(str(here), own(), result, release)


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def family_of(folder: Path) -> str:
    bundle, _ = open_layout(folder)
    return families.of(bundle.manifest, bundle.digest)


class TestBook:
    def test_of_the_gate(self, url: str) -> None:
        with Store(url) as store:
            gates = Gates(store)
            assert (gates.of([1]), gates.maker("new")) == ({}, None)
            gates.note(1, Gated("worse", Paired(100, 90, 5, 1)), "")
            gates.note(2, Gated("", BETTER, {"pi": NEW, "jetson": NEWER}), "new")
            found = gates.of([1, 2, 3])
            assert (found[1].reason, found[1].evaluation.worse, found[1].releases) == ("worse", True, {})
            assert (found[2].evaluation, found[2].releases) == (BETTER, {"pi": NEW, "jetson": NEWER})
            assert (gates.maker("new"), gates.maker(""), gates.maker(BASE)) == (2, None, None)

    def test_one_that_is_built_again_is_told_anew(self, url: str) -> None:
        with Store(url) as store:
            gates = Gates(store)
            gates.note(1, Gated("nothing holds the budget for pi", BETTER), "")
            gates.note(1, Gated("", BETTER, {"pi": NEW}), "new")
            gates.note(1, Gated("", BETTER, {"pi": NEWER}), "newer")
            assert (gates.of([1])[1].reason, gates.of([1])[1].releases) == ("", {"pi": NEWER})
            assert (gates.maker("new"), gates.maker("newer")) == (1, 1)  # a device may still have it


class TestStanding:
    def test_is_what_devices_have_of_the_model_before(self, tmp_path: Path) -> None:
        make_bundle(tmp_path)
        bundle, _ = open_layout(tmp_path)
        family = family_of(tmp_path)
        found = standing(tmp_path, bundle.manifest.target, family)
        assert found is not None
        assert (found.manifest, len(found.model)) == (bundle.manifest, bundle.layer(MODEL_TYPE).size)
        assert standing(tmp_path, "jetson-orin", family) is None
        assert standing(tmp_path, bundle.manifest.target, NEW) is None
        assert standing(tmp_path / "none", bundle.manifest.target, family) is None
        blob_path(tmp_path, bundle.layer(MODEL_TYPE).digest).write_bytes(b"cut")
        assert standing(tmp_path, bundle.manifest.target, family) is None


class TestReplaced:
    @pytest.mark.slow
    def test_where_nothing_of_the_model_before_holds_the_budget_that_is_told_and_no_reason(
        self, here: Path, store: Store
    ) -> None:
        """The budget has become too narrow for a model whose int8 loses answers; that of the new one loses none."""
        with (here / "edgekit.toml").open("a") as file:
            file.write("[budget]\nmin_agreement = 0.9\nmax_size_mib = 0.09\n")
        onnx = head.merged(open_model(here / "digits.onnx"), uneven(own()), here / "uneven.onnx")
        (here / "digits.onnx").write_bytes(onnx.path.read_bytes())
        number = done(store, past(here, own())).number
        line = f"round {number}: as int8 on {TARGET}: not compared, for nothing of the model before holds the budget"
        assert line in edgekit("round", "build").stdout.splitlines()
        assert Gates(store).of([number])[number].reason == ""


class TestGenerations:
    def test_what_a_release_was_built_from(self, here: Path, store: Store, tmp_path: Path) -> None:
        """A head that was shipped is what the next round begins with, and what its build is held beside."""
        first, second = ({name: np.float32(factor) * array for name, array in own().items()} for factor in (0.5, 0.25))
        gates = Gates(store)
        generations = Generations(Book(store), gates, str(here))
        begin = done(store, past(here, own()))
        one = done(store, replace(past(here, first), source=f"round {begin.number}"))
        gates.note(one.number, Gated("", BETTER, {"pi": NEW}), NEW)
        Shelf(one.key).keep_head(first)
        two = done(store, past(here, second, NEW))
        source = open_model(here / "digits.onnx")
        assert generations.of(BASE) == ()
        assert [each.number for each in generations.of(NEW)] == [one.number]
        assert generations.model_of(BASE, source, tmp_path) is source
        model = generations.model_of(NEW, source, tmp_path)
        assert np.array_equal(head.weights_of(model)["head.0.weight"], first["head.0.weight"])
        assert [generations.rounds(each) for each in (begin, one, two)] == [1, 2, 3]

    def test_another_model_than_devices_run_is_told(self, here: Path, store: Store, tmp_path: Path) -> None:
        """Trained anew, it has to be on the devices before they learn behind it."""
        generations, source = Generations(Book(store), Gates(store), str(here)), open_model(here / "digits.onnx")
        assert generations.model_of(families.named(source.digest, BASE), source, tmp_path) is source
        with pytest.raises(
            ConfigError, match=r"digits.onnx is not the model .* it is sha256:\w{12}, that was sha256:a{12} — build"
        ):
            generations.model_of(families.named(BASE, BASE), source, tmp_path)

    def test_of_a_store_that_contradicts_itself_there_is_an_end(self, here: Path, store: Store) -> None:
        generations = Generations(Book(store), Gates(store), str(here))
        one = done(store, past(here, own()))
        generations.gates.note(one.number, Gated("", BETTER, {"pi": BASE}), BASE)
        odd = done(store, replace(past(here, own()), source="round 99"))
        assert [each.number for each in generations.of(BASE)] == [one.number]
        assert generations.chain(odd) == (odd,)


class TestCommand:
    @pytest.mark.slow
    def test_a_round_becomes_a_bundle_that_names_it(self, here: Path, store: Store) -> None:
        found = done(store, past(here, own()))
        made = document("round", "build")
        assert (made["id"], made["key"], made["ok"], made["reason"]) == (found.number, found.key, True, None)
        assert made["evaluation"]["gained"] == made["evaluation"]["lost"] == 0
        bundle, _ = open_layout(Path(made["builds"][0]["bundle"]))
        told, model = lineage.of(bundle.manifest), open_model(here / "digits.onnx").digest
        assert told is not None
        assert (told.number, told.key, told.model, told.strategy, told.devices, told.examples, told.rounds) == (
            found.number, found.key, model, "fedavg", 3, 150, 1,
        )  # fmt: skip
        assert bundle.manifest.provenance["passes"][0] == "merge-head"
        shown = edgekit("bundle", "show", bundle.root).stdout
        assert f"{found.number} ({found.key}) of 3 devices, 150 examples by fedavg, head of model {model[:19]}" in shown
        assert "0 more right, 0 fewer" in shown
        gated = Gates(store).of([found.number])[found.number]
        assert (gated.reason, gated.releases) == ("", {TARGET: bundle.digest})

    @pytest.mark.slow
    def test_the_store_knows_of_a_build_before_it_is_there(
        self, here: Path, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found, known = done(store, past(here, own())), Gates(store)
        generations = Generations(Book(store), known, str(here))

        def cut(contents: Contents, place: Path, signer: object) -> None:
            assert known.maker(families.of(contents.manifest, digest(contents))) == found.number
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("edgekit.bundle.write", cut)
            through(found, generations, project_job(), lambda line: None)
        passed = through(found, generations, project_job(), lambda line: None)
        bundle, _ = open_layout(Path(passed.builds[0]["bundle"]))
        assert known.maker(families.of(bundle.manifest, bundle.digest)) == found.number

    def test_one_that_makes_it_worse_is_kept_and_not_shipped(self, here: Path, store: Store) -> None:
        found = done(store, past(here, worse(own())))
        line = edgekit("round", "build", status=3).line
        told = Gates(store).of([found.number])[found.number]
        assert line == f"edgekit: round {found.number}: {told.reason}"
        assert told.reason.startswith("worse than the model before, so it is kept and not shipped: accuracy ")
        assert not (Shelf(found.key).folder / "head.safetensors").exists()
        assert told.evaluation.worse
        assert not (here / "bundles").exists()

    @pytest.mark.slow
    def test_one_whose_artifact_is_worse_than_the_one_that_it_replaces_is_not_shipped(
        self, here: Path, store: Store
    ) -> None:
        """The float model is as good as before, and the budget allows the artifact to lose what it likes."""
        with (here / "edgekit.toml").open("a") as file:
            file.write("[budget]\nmax_accuracy_drop = 1.0\nmin_agreement = 0.0\nmax_size_mib = 0.09\n")
        family = family_of(Path(document("build")["builds"][0]["bundle"]))
        shipped = tree(here / "bundles")
        known = done(store, past(here, uneven(own()), family))
        refused = document("round", "build", status=3)
        assert (refused["evaluation"]["lost"], refused["builds"]) == (0, [])
        [beside] = refused["replaced"]
        assert (beside["target"], beside["precision"]) == (TARGET, "int8")
        found = Paired.of(beside["evaluation"])
        assert found.before > 0.9
        assert found.lost > found.gained + 20
        why = f"worse than the model before, so it is kept and not shipped: as int8 on {TARGET}: {found.told}"
        assert refused["reason"] == why
        assert tree(here / "bundles") == shipped
        assert not (Shelf(known.key).folder / "head.safetensors").exists()
        gated = Gates(store).of([known.number])[known.number]
        assert (gated.reason, gated.releases) == (refused["reason"], {})
        again = edgekit("round", "build", "--output", "elsewhere", status=3)  # nothing stands there: it is built anew
        assert "elsewhere is not of the model before, which is built anew to compare" in again.stderr
        assert refused["reason"] in again.stderr
        assert not (here / "elsewhere").exists()

    @pytest.mark.slow
    def test_one_that_holds_no_budget(self, here: Path, store: Store) -> None:
        with (here / "edgekit.toml").open("a") as file:
            file.write("[budget]\nmax_size_mib = 0.0001\n")
        found = done(store, past(here, own()))
        made = document("round", "build", status=3)
        assert (made["ok"], made["reason"]) == (False, f"nothing holds the budget for {TARGET}")
        assert made["builds"][0]["bundle"] is None
        gate = document("round", "show")["rounds"][0]["gate"]
        assert (gate["ok"], gate["releases"], gate["evaluation"]) == (False, {}, made["evaluation"])
        assert (
            f"at the gate: nothing holds the budget for {TARGET}" in edgekit("round", "show", str(found.number)).stdout
        )

    def test_what_is_no_round_to_build(self, here: Path, store: Store) -> None:
        assert "no round of the project" in edgekit("round", "build", status=2).line
        told = (here / "edgekit.toml").read_text()
        (here / "edgekit.toml").write_text(told.replace("evaluation", "# evaluation"))
        assert "edgekit.toml says no evaluation — write it there" in edgekit("round", "build", status=2).line
        (here / "edgekit.toml").write_text(told)
        running = begun(store, past(here, own()))
        assert f"round {running.number} is running: nothing has come of it" in edgekit("round", "build", status=2).line
        other = done(store, Past(str(here), own(), own(), app="plates"))
        assert f"round {other.number} is of plates, edgekit.toml of digits" in edgekit("round", "build", status=2).line
        with pytest.raises(ConfigError):
            Book(store).find(str(here), 99)
