"""docs/reference/json.md is the one source of what `--json` prints: real output has all of its keys and no others."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import errors, fleet
from edgekit.bench.measuring import Order
from edgekit.cli import COMMANDS
from edgekit.collect import tokens
from edgekit.collect.enrolment import Enrolled
from edgekit.collect.tokens import Tokens
from edgekit.errors import EdgekitError
from edgekit.fleet import Device
from edgekit.model import open_model
from edgekit.passes import head
from edgekit.store import Store
from edgekit_postprocess import Constant, Postprocess, Step
from edgekit_runtime import blackbox, histogram, releases
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.setting import Setting
from edgekit_runtime.spool import Spool
from edgekit_runtime.windows import Window
from tests.lab import faces
from tests.lab.bundles import DIGITS, TARGET, contents, flip, make_bundle, of_another_model, part_of
from tests.lab.islands import around
from tests.lab.models import uneven_digits
from tests.lab.project import EDGEKIT, Served, desk, document, edgekit, project, served
from tests.lab.rounds import Past, done
from tests.lab.sshd import needs_sshd, new_key
from tests.test_bench import Board, measure

__all__ = ["desk", "project", "served"]  # fixtures

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "json.md"
SCALARS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "null": type(None),
}


@dataclass
class Node:
    """What the page says of one place: its types, and what is below it."""

    kinds: tuple[str, ...] = ("object",)
    keys: dict[str, Node] = field(default_factory=dict)
    item: Node | None = None
    seen: bool = False

    def at(self, path: str) -> Node:
        """The node of a path such as ``devices[].proof.vectors``, made on the way."""
        node = self
        for part in path.split("."):
            node = node.keys.setdefault(part.removesuffix("[]"), Node())
            if part.endswith("[]"):
                node.kinds = ("list",)
                node.item = node.item or Node()
                node = node.item
        return node

    def leaves(self, path: str = "") -> Iterator[tuple[str, Node]]:
        yield path, self
        for name, node in self.keys.items():
            yield from node.leaves(f"{path}.{name}")
        if self.item:
            yield from self.item.leaves(f"{path}[]")


def sections() -> dict[str, Node]:
    """Every table of keys, by its heading."""
    found: dict[str, Node] = {}
    for text in re.split(r"^##+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading = text.partition("\n")[0]
        for row in re.findall(r"^\| `([^`]+)` \| ([^|0-9]+) \|", text, flags=re.MULTILINE):
            node = found.setdefault(heading, Node()).at(row[0])
            node.kinds = tuple(row[1].split(" or "))
    return found


@dataclass
class Page:
    tables: dict[str, Node]

    def check(self, heading: str, document: dict[str, Any]) -> None:
        """The document is as its table says."""
        assert document.pop("schema_version") == 1
        self._check(document, self.tables[heading], heading)

    def _check(self, value: Any, node: Node, where: str) -> None:
        node.seen = True
        shape = next((kind.strip("*") for kind in node.kinds if kind.startswith("*")), None)
        if shape and value is not None:
            self._check(value, self.tables[shape], f"{where} ({shape})")
        elif isinstance(value, list) and node.item:
            for each in value:
                self._check(each, node.item, f"{where}[]")
        elif isinstance(value, dict) and "object" in node.kinds:
            self._check_keys(value, node, where)
        else:
            kinds = [SCALARS[kind] for kind in node.kinds if kind in SCALARS]
            assert any(isinstance(value, kind) for kind in kinds), f"{where}: {value!r} is no {node.kinds}"
            assert isinstance(value, bool) <= ("boolean" in node.kinds), f"{where}: {value!r}"

    def _check_keys(self, value: dict[str, Any], node: Node, where: str) -> None:
        if not node.keys:
            return
        [*names] = node.keys
        if names[0].isupper():
            for key, each in value.items():
                self._check(each, node.keys[names[0]], f"{where}.{key}")
            return
        needed = {name for name in names if "absent" not in node.keys[name].kinds}
        assert needed <= value.keys() <= set(names), f"{where}: {sorted(value.keys() ^ set(names))}"
        for key, each in value.items():
            self._check(each, node.keys[key], f"{where}.{key}")


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(sections())


def had_a_hard_time(home: Path) -> None:
    """The release on trial is pinned, and a start of it has failed."""
    release = releases.current(home, "digits")
    setting = Setting(EngineNeed("onnxruntime", "", ("CPUExecutionProvider",)), plain=True)
    releases.mark(release, "trial", proof={**release.state.proof, "setting": setting.as_dict(), "note": "pinned"})
    blackbox.note(home, "digits", blackbox.event("start_failed", release.digest, tail=["KeyError: 'scores'"]))


SAMPLES = ["--calibration", str(DIGITS / "calibration.npz"), "--evaluation", str(DIGITS / "evaluation.npz")]


class TestPage:
    """In this order: the last test asks whether everything on the page was met."""

    def test_every_command_stands_there(self, page: Page) -> None:
        written = {heading.split()[1] for heading in page.tables if heading.startswith("edgekit ")}
        assert written == set(COMMANDS)

    def test_every_code_stands_there(self) -> None:
        rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE.read_text(), flags=re.MULTILINE)
        kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
        ours = {kind.code: kind.exit_code for kind in kinds if issubclass(kind, EdgekitError)}
        others = {"usage": 2, "system": 1, "internal": 1, "interrupted": 130}
        assert {code: int(status) for code, status in rows} == ours | others

    def test_init_and_build(self, page: Page, project: Path) -> None:
        page.check("edgekit init", document("init"))
        words = ["build", str(DIGITS / "digits.onnx"), *SAMPLES]
        one = document(*words, "--target", TARGET)
        assert {key: one.pop(key) for key in one["builds"][0]} == one["builds"][0]
        page.check("edgekit build", one)
        page.check("edgekit build", document(*words, "--target", TARGET, "--target", "pi"))
        no = document(*words, "--target", "pi", "--budget", "max_size_mib=0.0001", status=3)
        assert (no["bundle"], no["digest"], no["verdict"]["ok"]) == (None, None, False)
        page.check("edgekit build", {key: no[key] for key in ("schema_version", "builds")})
        page.check("edgekit bundle show", document("bundle", "show", "bundles/digits-raspberry-pi-5"))

    def test_bundles(self, page: Page, project: Path) -> None:
        layers = [{"name": "a", "precision": "int8", "sqnr_db": 30.5, "reason": "b"}]
        make_bundle(project / "one", provenance={"layers": layers})
        make_bundle(project / "foreign", verdict={}, arch="riscv64")
        plain = contents().manifest.interface
        end = Postprocess(
            plain.outputs, (Step("Add", ("logits", "one"), ("more",)),), {"one": Constant("int8", (), (1,))}
        )
        declared = replace(plain, agreement={"logits": Agreement("kl")}, postprocess=end)
        island = replace(contents(), model=around(project / "island.onnx", "Erf"))
        make_bundle(project / "island", island, interface=declared)
        page.check("edgekit bundle explain", document("bundle", "explain", "one"))
        page.check("edgekit bundle show", document("bundle", "show", "island"))
        page.check("edgekit bundle diff", document("bundle", "diff", "one", "foreign"))

    def test_a_build_without_labels(self, page: Page, project: Path) -> None:
        """And of mixed precision."""
        with np.load(DIGITS / "evaluation.npz") as data:
            np.savez("bare.npz", x=data["x"][:100])
        words = ["build", str(uneven_digits(Path("uneven.onnx"))), "--target", TARGET, *SAMPLES[:2]]
        made = document(*words, "--evaluation", "bare.npz", "--precision", "int8", "--precision", "mixed")
        assert made["builds"][0]["candidates"][0]["accuracy"] is None
        page.check("edgekit build", {key: made[key] for key in ("schema_version", "builds")})

    def test_targets(self, page: Page) -> None:
        page.check("edgekit target list", document("target", "list"))
        page.check("edgekit target show", document("target", "show", "jetson"))

    def test_export(self, page: Page, project: Path) -> None:
        fleet.add(project, Device("kitchen", "ssh://kitchen", "pi", (), "kitchen:8000"))
        fleet.add(project, Device("shed", "ssh://shed", "pi"))
        page.check("edgekit device list", document("device", "list"))
        for what in ("prometheus", "grafana", "otlp"):
            page.check(f"edgekit export {what}", document("export", what))

    def test_a_dashboard(self, page: Page, project: Path) -> None:
        words = [*EDGEKIT, "dashboard", "--listen", "127.0.0.1:0", "--json"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            page.check("edgekit dashboard", json.loads(process.stdout.readline()))
            process.terminate()
            assert process.wait(60) == 0

    def test_collecting(self, page: Page, project: Path) -> None:
        """An enrolment needs a device that has the courier (tests/flow/test_collect.py)."""
        failures = [{"device": "a", "error": EdgekitError("b").as_dict()}]
        for reached, note in ((True, ""), (False, "why")):
            done = vars(Enrolled("desk", "https://here:8443", reached, note))
            page.check("edgekit collect enrol", {"schema_version": 1, "devices": [done], "failures": failures})
        with Store() as store:
            Tokens(store).keep(tokens.fresh("desk"))
        page.check("edgekit collect list", document("collect", "list"))
        page.check("edgekit collect passwords", document("collect", "passwords"))
        page.check("edgekit collect revoke", document("collect", "revoke", "desk"))

    @needs_sshd
    def test_devices(self, page: Page, project: Path) -> None:
        added = document("device", "add", "a", "ssh://pi", "--target", "pi", "--tag", "x")
        page.check("edgekit device add", added)
        page.check("edgekit device simulate", document("device", "simulate", "b"))
        page.check("edgekit device list", document("device", "list"))
        page.check("edgekit device simulate", document("device", "simulate", "b", "--stop"))

    def test_a_device_that_is_set_up(self, page: Page, project: Path, desk: Device) -> None:
        page.check("edgekit device probe", document("device", "probe"))
        page.check("edgekit device setup", document("device", "setup", "--offline"))
        (project / "desk/notes").touch()
        page.check("edgekit device remove", document("device", "remove", "desk"))

    def test_what_is_live(self, page: Page, project: Path, served: Served) -> None:
        fleet.add(project, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
        page.check(
            "edgekit push",
            document("push", served.first.root, "--to", "gone", "--to", "desk", "--allow-downgrade", status=1),
        )
        with np.load(DIGITS / "evaluation.npz") as samples:
            np.savez("in.npz", x=samples["x"][:1])
            np.savez("bad.npz", x=samples["x"][:1, :, 1:])
        page.check("edgekit run", document("run", "desk", "--input", "in.npz"))
        page.check("A command that failed", document("run", "desk", "--input", "bad.npz", status=1))
        page.check("edgekit status", document("status", status=1))
        page.check("edgekit report", document("report", status=1))
        page.check("edgekit why", document("why", "desk"))
        page.check("edgekit rollback", document("rollback", "desk"))
        flip(served.home / "blobs/sha256" / part_of(served.second.root, "model").name)
        page.check("edgekit status", document("status", "desk", status=1))

    def test_rules_and_advice(self, page: Page, project: Path, served: Served) -> None:
        """The second release is slower than the first, and goes; where it was live, its alert is closed then."""
        for bundle, ms, ago_s in ((served.first, 1, 90_000), (served.second, 3, 30)):
            end, calls = time.time() - ago_s, {histogram.index(ms * 1_000_000): 1000}
            window = Window("digits", bundle.digest, f"s{ms}", 0, end - 60, end, calls)
            Spool(served.home / "reports/digits").append(window)
        page.check("edgekit report", document("report"))
        (project / "policy.toml").write_text('[rules.slower]\ndo = "roll back"\nto = "desk"\napp = "digits"\n')
        page.check("edgekit policy check", document("policy", "check"))
        page.check("edgekit report", document("report", status=3))
        page.check("edgekit report", document("report"))
        page.check("edgekit advise", document("advise"))
        learned = document("build", str(DIGITS / "digits.onnx"), *SAMPLES, "--target", TARGET, "--learn-from", "fleet")
        page.check("edgekit build", {key: learned[key] for key in ("schema_version", "builds")})

    def test_a_bench(self, page: Page) -> None:
        """Of a device that is none: a real one takes ten seconds (tests/test_bench.py)."""
        node = {"name": "a", "op": "Conv", "provider": "cpu", "ms": 0.5}
        for board, order in (
            (Board(hot_s=200, layers=[node], degraded="why"), Order(600.0, layers=True)),
            (Board(), Order()),
        ):
            found = {"schema_version": 1, "device": "desk", **measure(board, order).as_dict()}
            page.check("edgekit bench", json.loads(json.dumps(found, allow_nan=False)))

    def test_a_rollout(self, page: Page, project: Path, served: Served) -> None:
        fleet.add(project, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
        words = [served.second.root, "--to", "desk", "--to", "gone", "--waves", "1", "--wait", "0"]
        page.check("edgekit push", document("push", *words, status=1))
        page.check("edgekit rollout show", document("rollout", "show"))
        page.check("edgekit rollout show", document("rollout", "abort"))

    def test_rounds(self, page: Page, project: Path) -> None:
        faces.settle(project)
        faces.learning(project, "gate", "hall")
        fleet.add(project, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
        words = ("--quorum", "60%", "--compress", "50%", "--set", "epochs=1")
        page.check("edgekit round start", document("round", "start", *words))
        page.check("edgekit round start", document("round", "start", "--strategy", "median", status=3))
        hidden = ("--clip", "auto", "--privacy", "central", "--epsilon", "8", "--delta", "1e-3")
        spent = document("round", "start", *words[2:], *hidden, "--noise", "0.6", "--rounds", "2", status=3)
        assert (len(spent["rounds"]), spent["error"]["code"]) == (1, "privacy")
        page.check("edgekit round start", spent)
        page.check("edgekit round start", document("round", "show"))
        page.check("edgekit round inspect", document("round", "inspect", "1"))
        page.check("edgekit round trust", document("round", "trust", "gate"))

    def test_a_round_that_is_built(self, page: Page, project: Path) -> None:
        (project / "edgekit.toml").write_text(
            f'app = "digits"\nmodel = "{DIGITS}/digits.onnx"\ntargets = ["{TARGET}"]\n'
            f'[data]\ncalibration = "{SAMPLES[1]}"\nevaluation = "{SAMPLES[3]}"\n'
        )
        own = head.weights_of(open_model(DIGITS / "digits.onnx"))
        with Store() as store:
            for weights, status in ((own, 0), ({name: 0 * array for name, array in own.items()}, 3)):
                done(store, Past(str(project), own, weights))
                page.check("edgekit round build", document("round", "build", status=status))
                page.check("edgekit round start", document("round", "show"))

    def test_trust(self, page: Page, project: Path, served: Served) -> None:
        fleet.add(project, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
        key = new_key(project / "ann").with_name("ann.pub")
        page.check("edgekit trust add", document("trust", "add", key, status=1))
        page.check("edgekit trust add", document("trust", "revoke", key, "--to", "desk"))
        page.check("edgekit trust list", document("trust", "list", status=1))
        page.check("edgekit trust rotate", document("trust", "rotate", status=1))

    def test_a_first_push_and_a_proof_that_fails(self, page: Page, project: Path, desk: Device) -> None:
        make_bundle(project / "good")
        page.check("edgekit push", document("push", "good"))
        had_a_hard_time(project / "desk")
        page.check("edgekit status", document("status", "desk"))
        make_bundle(project / "bad", of_another_model())
        page.check("edgekit push", document("push", "bad", status=1))
        page.check("edgekit why", document("why"))

    @pytest.mark.parametrize(
        ("words", "status", "code"),
        [
            (["device", "probe"], 2, "config"),
            (["push", "--nonsense"], 2, "usage"),
            (["nonsense"], 2, "usage"),
            (["bundle", "show", "nowhere"], 1, "bundle"),
            (["build", "nowhere.onnx", "--target", "pi", *SAMPLES], 1, "unsupported_format"),
        ],
    )
    def test_commands_that_fail(self, page: Page, project: Path, words: list[str], status: int, code: str) -> None:
        ran = edgekit(*words, "--json", status=status)
        failed = ran.document
        assert failed["error"]["code"] == code
        message, hint = failed["error"]["message"], failed["error"]["hint"]
        assert ran.line == (f"edgekit: {message} — {hint}" if hint else f"edgekit: {message}")
        page.check("A command that failed", json.loads(ran.stdout))

    def test_nothing_stands_there_that_no_command_prints(self, page: Page) -> None:
        never = {
            f"{heading}{path}"
            for heading, table in page.tables.items()
            for path, node in table.leaves()
            if path and not node.seen
        }
        assert never <= {
            "edgekit device setup.left_behind[]",  # nobody has installed anything there by hand
            "manifest.interface.preprocess.NAME",  # the example has none
            "manifest.verdict.reasons[]",  # it depends on what was measured
            "manifest.expires",  # the example's bundle never does
            "release.state.proof.reasons[]",  # a live release has none
            "release.state.proof.tuned.cpus[]",  # the cores of most machines are alike
            "edgekit device setup.service.unit",  # no test makes a service of this machine's
            "edgekit device setup.service.note",
            "edgekit device remove.services[]",
        }
