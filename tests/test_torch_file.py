"""Programs are written by hand, so that none of this needs PyTorch; but for the proof that its loader runs payloads."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import UnsupportedFormat
from edgekit.formats.torch_file import rewrite
from edgekit.model import Format, open_model
from tests.lab.models import RESNET20_PT2, shared, torch

Document = dict[str, Any]
LEAF = {"type": None, "context": None, "children_spec": []}
FREE = "Add(FloorDiv(Symbol('s77', positive=True, integer=True), Integer(2)), Integer(-1))"


def tensor(*sizes: int | str, dtype: int = 7, device: str = "cpu") -> Document:
    shape = [{"as_int": each} if isinstance(each, int) else {"as_expr": {"expr_str": each}} for each in sizes]
    return {"dtype": dtype, "sizes": shape, "device": {"type": device, "index": None}}


def named(name: str) -> Document:
    return {"as_tensor": {"name": name}}


def node(target: str = "torch.ops.aten.relu.default", **arguments: Document) -> Document:
    inputs = [{"name": name, "arg": value, "kind": 1} for name, value in {"self": named("x"), **arguments}.items()]
    return {"target": target, "inputs": inputs, "outputs": [named("relu")], "name": "relu", "metadata": {}}


def tree(kind: str | None, *children: Document, context: object = None) -> Document:
    return LEAF if kind is None else {"type": kind, "context": json.dumps(context), "children_spec": list(children)}


def program(*nodes: Document, out: Document = LEAF, outputs: tuple[str, ...] = ("relu",)) -> Document:
    """The document of a program of one input ``x`` and one weight ``w``."""
    pair = tree("builtins.tuple", tree("builtins.tuple", LEAF), tree("builtins.dict", context=[]))
    specs = {"in_spec": json.dumps([1, pair]), "out_spec": json.dumps([1, out])}
    values = {"w": tensor(4, 4), "x": tensor(FREE, 4), "relu": tensor(FREE, 4)}
    return {
        "graph_module": {
            "graph": {"inputs": [named("w"), named("x")], "nodes": list(nodes or [node()]), "tensor_values": values},
            "signature": {
                "input_specs": [
                    {"parameter": {"arg": {"name": "w"}, "parameter_name": "layers.0.weight"}},
                    {"user_input": {"arg": named("x")}},
                ],
                "output_specs": [{"user_output": {"arg": named(name)}} for name in outputs],
            },
            "module_call_graph": [
                {"fqn": "", "signature": {"inputs": [], "outputs": [], **specs, "forward_arg_names": ["x"]}},
                {"fqn": "layers", "signature": None},
            ],
        },
        "opset_version": {"aten": 10},
        "range_constraints": {"s77": {"min_val": 2, "max_val": None}},
        "schema_version": {"major": 8, "minor": 20},
        "verifiers": ["TRAINING"],
        "torch_version": "2.13.0+cpu",
        "guards_code": [],
    }


def weight(**changes: Any) -> Document:
    return {"config": {"layers.0.weight": {"path_name": "weight_0", "is_param": True, "use_pickle": False, **changes}}}


def archive(path: Path, document: object, weights: Document | None = None, **more: bytes) -> Path:
    members = {
        "data/weights/weight_0": b"\x00" * 64,
        "data/weights/model_weights_config.json": json.dumps(weights or weight()).encode(),
        "data/constants/model_constants_config.json": b'{"config": {}}',
        "models/model.json": json.dumps(document).encode(),
        "data/sample_inputs/model.pt": b"a pickle",
        **more,
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"model/{name}", content)
    return path


def described(path: Path) -> list[str]:
    model = open_model(path)
    assert model.format is Format.TORCH
    return [str(spec) for spec in (*model.inputs, *model.outputs)]


def refused(path: Path) -> str:
    with pytest.raises(UnsupportedFormat) as caught:
        open_model(path)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return caught.value.message


def within(document: Document, key: str, value: object) -> Document:
    """The document with the first value of a key changed, at any depth."""
    waiting: list[Any] = [document]
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, dict) and key in part:
            part[key] = value
            return document
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
    raise KeyError(key)


class TestNames:
    def test_inputs_as_forward_has_them_and_a_free_size_is_free(self, tmp_path: Path) -> None:
        assert described(archive(tmp_path / "m.pt2", program())) == ["x: float32 [N, 4]", "output: float32 [N, 4]"]

    def test_a_published_program(self) -> None:
        told = ["x: float32 [N, 3, 32, 32]", "output: float32 [N, 10]"]
        assert described(shared(RESNET20_PT2.model)) == told

    @pytest.mark.parametrize(
        ("out", "names"),
        [
            (LEAF, ["output"]),
            (tree("builtins.tuple", LEAF, LEAF), ["output_0", "output_1"]),
            (tree("builtins.list", LEAF), ["output_0"]),
            (tree("builtins.dict", LEAF, LEAF, context=["logits", "mask"]), ["logits", "mask"]),
            (tree("collections.OrderedDict", LEAF, context=["logits"]), ["logits"]),
            (tree("builtins.dict", LEAF, tree("builtins.tuple", LEAF, LEAF), context=["a", "b"]), ["a", "b_0", "b_1"]),
            (tree("builtins.tuple", LEAF, tree("builtins.dict", LEAF, context=["a"])), ["output_0", "output_1_a"]),
        ],
    )
    def test_outputs_by_what_is_returned(self, tmp_path: Path, out: Document, names: list[str]) -> None:
        path = archive(tmp_path / "m.pt2", program(out=out, outputs=("relu",) * len(names)))
        assert [spec.name for spec in open_model(path).outputs] == names

    @pytest.mark.parametrize(("dtype", "name"), [(5, "int64"), (1, "uint8"), (6, "float16"), (12, "bool")])
    def test_types(self, tmp_path: Path, dtype: int, name: str) -> None:
        document = program()
        document["graph_module"]["graph"]["tensor_values"]["x"] = tensor(1, 4, dtype=dtype)
        assert described(archive(tmp_path / "m.pt2", document))[0] == f"x: {name} [1, 4]"


class TestWhatComputes:
    @pytest.mark.parametrize(
        "target",
        [
            "torch.ops.aten.conv2d.default",
            "torch.ops.aten.__and__.Tensor",
            "torch.ops.aten._to_copy.default",
            "torch.ops.aten.sym_size.int",
            "torch.ops.aten.save_for_something.default",
            "torch.ops.higher_order.cond",
            "_operator.floordiv",
            "_operator.getitem",
            "math.trunc",
            "torch.sym_max",
        ],
    )
    def test_is_taken(self, tmp_path: Path, target: str) -> None:
        open_model(archive(tmp_path / "m.pt2", program(node(target))))

    @pytest.mark.parametrize("words", ["bij,bj->bi", "__import__('os')", "a\nb"])
    def test_a_string_argument_is_free(self, tmp_path: Path, words: str) -> None:
        open_model(archive(tmp_path / "m.pt2", program(node("torch.ops.aten.einsum.default", by={"as_string": words}))))

    @pytest.mark.parametrize(
        "target",
        [
            "torch.os.system",
            "torch.hub.load",
            "torch.ops.aten.save.default",
            "torch.ops.aten.from_file.default",
            "torch.ops.aten.__class__.__init__",
            "torch.ops.aten.add.__class__",
            "torch.ops.aten.add.Tensor.__init__",
            "torch.ops.aten.add.Tensor\n",
            "torch.ops.load_library",
            "torch.ops.mylib.op.default",
            "torch.ops.higher_order.triton_kernel_wrapper_functional",
            "torch.serialization.load",
            "_operator.methodcaller",
            "_operator.call",
            "math.__loader__",
            "#ext:op",
            "builtins.eval",
            "",
        ],
    )
    def test_any_other_function_is_refused(self, tmp_path: Path, target: str) -> None:
        told = f"runs {target!r}, which may do more than compute; it was not loaded"
        assert told in refused(archive(tmp_path / "m.pt2", program(node(target))))
        argument = node("torch.ops.aten.add.Tensor", function={"as_operator": target})
        assert told in refused(archive(tmp_path / "m.pt2", program(argument)))
        inner = {"as_graph": {"name": "body", "graph": {"nodes": [node(target)]}}}
        assert told in refused(archive(tmp_path / "m.pt2", program(node("torch.ops.higher_order.cond", true=inner))))


class TestWhatIsEvaluated:
    @pytest.mark.parametrize(
        "size",
        [
            "__import__('os').system('true')",
            "open('ran', 'w')",
            "Symbol('s0').__class__",
            "Symbol('s0', positive=True).func",
            "Symbol('s0'",
            "(lambda: 1)()",
            "[1 for x in 'a']",
            "exec('1')",
            "Symbol('a b')",
            "Symbol('''a''')",
            "Integer(1)\x00",
            "s0",
        ],
    )
    def test_a_size_that_is_no_plain_expression_is_refused(self, tmp_path: Path, size: str) -> None:
        if size == "Symbol('s0'":  # of known words only: SymPy says what is wrong with it, in the child
            open_model(archive(tmp_path / "m.pt2", within(program(), "expr_str", size)))
            return
        told = refused(archive(tmp_path / "m.pt2", within(program(), "expr_str", size)))
        assert "for a name or a size, which may do more than compute; it was not loaded" in told

    @pytest.mark.parametrize("code", ["a = 1\nimport os", "x) or print(1", 'a", "b', "x[0]", "é", "a b", "x;y"])
    @pytest.mark.parametrize("key", ["name", "parameter_name", "forward_arg_names", "fqn", "verifiers", "path_name"])
    def test_a_name_that_would_be_code_is_refused(self, tmp_path: Path, key: str, code: str) -> None:
        if key == "path_name":
            path = archive(tmp_path / "m.pt2", program(), weight(path_name=code))
        elif key == "fqn":
            document = program()
            document["graph_module"]["signature"]["input_specs"][0]["parameter"]["fqn"] = code
            path = archive(tmp_path / "m.pt2", document)
        else:
            value = [code] if key in ("verifiers", "forward_arg_names") else code
            path = archive(tmp_path / "m.pt2", within(program(), key, value))
        assert "which may do more than compute; it was not loaded" in refused(path)

    def test_a_key_that_would_be_code_is_refused(self, tmp_path: Path) -> None:
        document = program()
        document["graph_module"]["graph"]["tensor_values"]["a\nimport os"] = tensor(1)
        assert "for a name or a size" in refused(archive(tmp_path / "m.pt2", document))

    @pytest.mark.parametrize(
        "out",
        [
            tree("collections.defaultdict", context={"default_factory_module": "os", "default_factory_name": "system"}),
            tree("collections.namedtuple", LEAF, context="my.Output"),
            tree("my_module.Output", LEAF),
            tree("builtins.dict", LEAF, context={"__enum__": True, "fqn": "os:system", "name": "x"}),
            tree("builtins.tuple", LEAF, context={"__enum__": True, "fqn": "os:system", "name": "x"}),
            tree("builtins.tuple", tree("collections.defaultdict", context={"default_factory_module": "os"})),
        ],
    )
    @pytest.mark.parametrize("key", ["in_spec", "out_spec"])
    def test_a_tree_that_imports_is_refused(self, tmp_path: Path, out: Document, key: str) -> None:
        path = archive(tmp_path / "m.pt2", within(program(), key, json.dumps([1, out])))
        assert "takes or gives a '" in refused(path)


class TestWhatIsUnpickledOrRun:
    def test_weights_that_are_pickled_are_refused(self, tmp_path: Path) -> None:
        told = refused(archive(tmp_path / "m.pt2", program(), weight(use_pickle=True)))
        assert "'layers.0.weight' is pickled, which may do more than compute; it was not loaded" in told
        constants = json.dumps(weight(use_pickle=True, path_name="tensor_0")).encode()
        more = {"data/constants/model_constants_config.json": constants}
        assert "is pickled" in refused(archive(tmp_path / "m.pt2", program(), **more))

    @pytest.mark.parametrize("name", ["model.pt", "opaque_obj_0", "custom_obj_0", "weight_0.pt", "..", "", "Tensor_0"])
    @pytest.mark.parametrize("kind", ["weights", "constants"])
    def test_so_is_what_torch_unpickles_for_its_name_alone(self, tmp_path: Path, name: str, kind: str) -> None:
        config = {f"data/{kind}/model_{kind}_config.json": json.dumps(weight(path_name=name)).encode()}
        told = refused(archive(tmp_path / "m.pt2", program(), **config, **{f"data/{kind}/{name}": b""}))
        assert f"has {name!r} for a name or a size, which may do more than compute; it was not loaded" in told

    def test_compiled_code_is_refused(self, tmp_path: Path) -> None:
        more = {"data/aotinductor/model/model.so": b"\x7fELF"}
        assert "holds compiled code" in refused(archive(tmp_path / "m.pt2", program(), **more))

    def test_what_torch_loads_has_no_pickle_no_guards_no_metadata_and_nothing_else(self, tmp_path: Path) -> None:
        document = program(node() | {"metadata": {"stack_trace": "secret"}}) | {"guards_code": ["print(1)"]}
        path = archive(tmp_path / "m.pt2", document, **{"data/extra/evil.py": b"secret"})
        rewrite(path, tmp_path / "clean.pt2")
        with zipfile.ZipFile(tmp_path / "clean.pt2") as file:
            content = {name.removeprefix("model/"): file.read(name) for name in file.namelist()}
        assert content["data/sample_inputs/model.pt"] == b""
        assert content["data/weights/weight_0"] == b"\x00" * 64
        written = json.loads(content["models/model.json"])
        assert (written["guards_code"], written["graph_module"]["metadata"]) == ([], {})
        assert not any(b"secret" in part for part in content.values())
        assert sorted(content) == [
            ".data/version",
            "archive_format",
            "archive_version",
            "byteorder",
            "data/constants/model_constants_config.json",
            "data/sample_inputs/model.pt",
            "data/weights/model_weights_config.json",
            "data/weights/weight_0",
            "models/model.json",
        ]
        rewrite(tmp_path / "clean.pt2", tmp_path / "again.pt2")
        assert described(tmp_path / "again.pt2") == described(path)

    def test_of_two_members_of_a_name_the_one_that_was_checked_is_written(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "m.pt2", program(node("torch.os.system")))
        with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("model/models/model.json", json.dumps(program()))
        rewrite(path, tmp_path / "clean.pt2")
        assert b"os.system" not in (tmp_path / "clean.pt2").read_bytes()

    @pytest.mark.parametrize("suffix", [".pt", ".pth"])
    def test_a_pickled_module_is_refused_unread(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"model{suffix}"
        path.write_bytes(b"anything")
        with pytest.raises(UnsupportedFormat) as caught:
            open_model(path)
        assert str(caught.value) == (
            f"{path}: a pickle may run code when it is loaded; it was not loaded — export it with torch.export as "
            ".pt2, or give edgekit build package.module:factory --weights STATE_DICT"
        )


class TestWhatEdgekitDoesNotServe:
    def test_training_mode(self, tmp_path: Path) -> None:
        dropout = node("torch.ops.aten.dropout.default", train={"as_bool": True})
        told = "torch.ops.aten.dropout.default is in training mode"
        assert told in refused(archive(tmp_path / "m.pt2", program(dropout)))

    def test_a_model_that_keeps_a_state(self, tmp_path: Path) -> None:
        document = program()
        change = {"buffer_mutation": {"arg": {"name": "relu"}, "buffer_name": "mean"}}
        document["graph_module"]["signature"]["output_specs"].insert(0, change)
        assert "changes its own mean when it runs" in refused(archive(tmp_path / "m.pt2", document))

    @pytest.mark.parametrize("spec", [{"constant_input": {"name": "flag"}}, {"user_input": {"arg": {"as_int": 1}}}])
    def test_what_is_no_tensor(self, tmp_path: Path, spec: Document) -> None:
        document = program()
        document["graph_module"]["signature"]["input_specs"].append(spec)
        assert "something other than tensors" in refused(archive(tmp_path / "m.pt2", document))

    def test_a_program_of_another_device(self, tmp_path: Path) -> None:
        document = program()
        document["graph_module"]["graph"]["tensor_values"]["x"] = tensor(1, 4, device="cuda")
        assert "was exported on cuda" in refused(archive(tmp_path / "m.pt2", document))

    def test_a_type_that_no_engine_takes(self, tmp_path: Path) -> None:
        document = program()
        document["graph_module"]["graph"]["tensor_values"]["x"] = tensor(1, 4, dtype=13)
        assert "is of a type that edgekit does not serve" in refused(archive(tmp_path / "m.pt2", document))


class TestFactory:
    def test_is_carried_with_its_weights(self, tmp_path: Path) -> None:
        weights = tmp_path / "w.safetensors"
        weights.write_bytes(b"any")
        model = open_model(Path("my.nets:resnet"), weights)
        assert (model.path, model.factory, model.format) == (weights, "my.nets:resnet", Format.TORCH_MODULE)
        assert (model.inputs, model.outputs) == ((), ())

    def test_what_is_missing_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedFormat, match="my.nets:resnet: needs its weights — .* --weights FILE"):
            open_model(Path("my.nets:resnet"))
        with pytest.raises(UnsupportedFormat, match=r"none.pt: no such file of weights"):
            open_model(Path("my.nets:resnet"), tmp_path / "none.pt")
        (tmp_path / "w.npz").write_bytes(b"")
        with pytest.raises(UnsupportedFormat, match=r"w.npz: no weights that edgekit reads — known: .safetensors"):
            open_model(Path("my.nets:resnet"), tmp_path / "w.npz")
        (tmp_path / "w.pt").write_bytes(b"")
        with pytest.raises(UnsupportedFormat, match=r"model.onnx: has no use for weights"):
            open_model(Path("model.onnx"), tmp_path / "w.pt")


class TestDamage:
    @pytest.mark.parametrize("content", [b"", b"hello\n" * 20, b"PK\x03\x04", b"PK\x05\x06" + b"\x00" * 18])
    def test_what_is_no_program(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "m.pt2").write_bytes(content)
        assert "not a program of PyTorch" in refused(tmp_path / "m.pt2")

    @pytest.mark.parametrize(
        "document", [None, 3, "text", [], {}, {"graph_module": {}}, {"graph_module": {"graph": 1}}]
    )
    def test_json_of_another_kind(self, tmp_path: Path, document: object) -> None:
        assert "not a program of PyTorch" in refused(archive(tmp_path / "m.pt2", document))

    def test_a_program_of_an_older_torch(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "m.pt2", "w") as file:
            file.writestr("serialized_exported_program.json", "{}")
            file.writestr("version", "7.3")
        assert "not a program of PyTorch 2.9 or newer" in refused(tmp_path / "m.pt2")

    def test_an_archive_that_unpacks_to_more_than_it_is(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "m.pt2", program())
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
            file.writestr("model/data/weights/weight_1", b"\x00" * 1_000_000)
        assert "not a program" in refused(path)

    def test_json_nested_without_end(self, tmp_path: Path) -> None:
        deep: Any = {"target": "torch.os.system"}
        for _ in range(900):
            deep = [deep]
        refused(archive(tmp_path / "m.pt2", within(program(), "opset_version", deep)))

    def test_cut_short_anywhere(self, tmp_path: Path) -> None:
        whole = archive(tmp_path / "m.pt2", program()).read_bytes()
        path = tmp_path / "cut.pt2"
        for end in range(0, len(whole), len(whole) // 100):
            path.write_bytes(whole[:end])
            refused(path)

    def test_changed_bytes_are_refused_or_give_a_model(self, tmp_path: Path) -> None:
        whole = archive(tmp_path / "m.pt2", program()).read_bytes()
        path, chance, opened = tmp_path / "changed.pt2", random.Random(0), 0
        for _ in range(400):
            changed = bytearray(whole)
            for _ in range(chance.choice([1, 2, 10])):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            path.write_bytes(changed)
            with suppress(UnsupportedFormat):
                opened += open_model(path).format is Format.TORCH
        assert 0 < opened < 400


WRITE = "__import__('pathlib').Path({ran!r}).touch()"


def sizes_payload(document: Document, ran: str) -> None:
    within(document["graph_module"]["graph"]["sym_int_values"], "expr_str", f"({WRITE.format(ran=ran)}, 1)[1]")
    for value in document["graph_module"]["graph"]["tensor_values"].values():
        for size in value["sizes"]:
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = (
                    f"[{WRITE.format(ran=ran)}, Symbol('s77', positive=True, integer=True)][1]"
                )


def guards_payload(document: Document, ran: str) -> None:
    document["guards_code"] = [f"{WRITE.format(ran=ran)} is None"]


def operator_payload(document: Document, ran: str) -> None:
    graph = document["graph_module"]["graph"]
    words = {"filename": {"as_string": ran}, "shared": {"as_bool": True}, "size": {"as_int": 64}}
    inputs = [{"name": name, "arg": value, "kind": 1} for name, value in words.items()]
    mapped = {"target": "torch.ops.aten.from_file.default", "inputs": inputs, "outputs": [named("made")]}
    graph["nodes"].insert(0, {**graph["nodes"][0], **mapped, "name": "made"})
    weight = next(value for value in graph["tensor_values"].values() if len(value["sizes"]) == 1)
    graph["tensor_values"]["made"] = {**weight, "sizes": [{"as_int": 64}]}


PAYLOADS: dict[str, Callable[[Document, str], None]] = {
    "sizes": sizes_payload,
    "guards": guards_payload,
    "operator": operator_payload,
}
PICKLES = {
    "examples": "data/sample_inputs/model.pt",
    "legacy weights": "data/weights/model.pt",
    "constant": "data/constants/opaque_obj_0",
}
LOAD = """
import sys, torch
program = torch.export.load(sys.argv[1])
program.module()(torch.zeros(2, 3, 32, 32))
"""
PICKLE = """
import sys, torch, pathlib
class Payload:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(sys.argv[2]),)
if sys.argv[3] == "constant":
    import pickle
    content = pickle.dumps(Payload())
    pathlib.Path(sys.argv[1]).write_bytes(content + bytes(-len(content) % 4))
else:
    torch.save(((Payload(),), {}), sys.argv[1])
"""


@torch
@pytest.mark.slow
@pytest.mark.parametrize("kind", [*PICKLES, *PAYLOADS])
def test_the_payloads_would_run_and_edgekit_does_not_run_them(tmp_path: Path, kind: str) -> None:
    """PyTorch is asked to load and run the program, in a process of its own; the payload leaves a file or folder."""
    ran, path = tmp_path / "ran", tmp_path / "m.pt2"
    python(PICKLE, tmp_path / "payload.pt", ran, kind)
    with zipfile.ZipFile(shared(RESNET20_PT2.model)) as source, zipfile.ZipFile(path, "w") as changed:
        parts = {name.partition("/")[2]: source.read(name) for name in source.namelist()}
        document, config = json.loads(parts["models/model.json"]), "data/constants/model_constants_config.json"
        PAYLOADS.get(kind, lambda *_: None)(document, str(ran))
        parts["models/model.json"] = json.dumps(document).encode()
        if kind in PICKLES:
            parts[PICKLES[kind]] = (tmp_path / "payload.pt").read_bytes()
        if kind == "constant":
            meta = json.loads(parts["data/weights/model_weights_config.json"])["config"]["linear.bias"]
            entry = {**meta, "path_name": "opaque_obj_0"}
            parts[config] = json.dumps({"config": {"c": entry}}).encode()
        for name, content in parts.items():
            changed.writestr(f"model/{name}", content)
    clean = tmp_path / "clean.pt2"
    if kind in ("examples", "legacy weights", "guards"):  # left out; the rest is a program
        rewrite(path, clean)
        assert python(LOAD, clean).returncode == 0
    else:
        assert "it was not loaded" in refused(path)
    assert not ran.exists()
    done = python(LOAD, path)
    assert ran.exists(), done.stderr


def python(code: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
