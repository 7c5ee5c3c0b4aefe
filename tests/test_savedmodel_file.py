from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import UnsupportedFormat
from edgekit.formats import savedmodel_file
from edgekit.formats.savedmodel_schema import SavedModel
from edgekit.model import Format, open_model
from tests.lab.models import shared

KWS = "dscnn_kws/saved_model"
MORE_THAN_COMPUTING = """
    PyFunc PyFuncStateless EagerPyFunc ReadFile WriteFile MatchingFiles WholeFileReaderV2 LoadDataset
    LoadDatasetV2 SaveDataset TextLineDataset TFRecordDataset GeneratorDataset DataServiceDatasetV3 LMDBReader
    InitializeTableFromTextFileV2 ImmutableConst PrintV2 CreateSummaryFileWriter WriteScalarSummary
    DebugIdentityV3 DebugNumericSummaryV2 _Send Recv CollectiveGather RemoteCall DecodeProtoV2
    LoadAndRemapMatrix Save RestoreSlice FileSystemSetConfiguration SnapshotNestedDatasetReader
    DistributedSave _XlaHostComputeMlirRecv
"""


def saved(folder: Path, ops: Any = (), key: str = "serving_default", tags: tuple[str, ...] = ("serve",)) -> Path:
    """A SavedModel of x → y through the given operations, one after the other."""
    return write(folder, document(ops, key, tags))


def document(ops: Any = (), key: str = "serving_default", tags: tuple[str, ...] = ("serve",)) -> Any:
    model = SavedModel()
    meta = model.metas.add()
    meta.info.tags.extend(tags)
    before = "x"
    meta.graph.nodes.add(name="x", op="Placeholder")
    for index, op in enumerate(ops):
        meta.graph.nodes.add(name=f"node{index}", op=op, inputs=[f"{before}:0"])
        before = f"node{index}"
    if key:
        sign(meta, key, before)
    return model


def sign(meta: Any, key: str, output: str) -> None:
    entry = meta.signatures.add(key=key)
    for side, name, tensor in ((entry.value.inputs, "x", "x:0"), (entry.value.outputs, "y", f"{output}:0")):
        value = side.add(key=name).value
        value.name, value.dtype = tensor, 1
        value.shape.dims.add(size=-1)
        value.shape.dims.add(size=4)


def write(folder: Path, model: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    return folder


def refused(path: Path) -> str:
    with pytest.raises(UnsupportedFormat) as caught:
        open_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestSignature:
    def test_a_real_model_is_known_by_the_names_of_its_signature(self) -> None:
        model = open_model(shared(KWS))
        assert model.format is Format.SAVED_MODEL
        assert [str(spec) for spec in (*model.inputs, *model.outputs)] == [
            "input_1: float32 [N, 49, 10, 1]",
            "dense: float32 [N, 12]",
        ]
        assert [spec.inner for spec in (*model.inputs, *model.outputs)] == [
            "serving_default_input_1:0",
            "StatefulPartitionedCall:0",
        ]
        assert model.digest == open_model(shared(KWS)).digest

    def test_the_digest_covers_the_variables(self, tmp_path: Path) -> None:
        before = open_model(saved(tmp_path / "m")).digest
        (tmp_path / "m" / "variables").mkdir()
        (tmp_path / "m" / "variables" / "variables.index").write_bytes(b"x")
        assert open_model(tmp_path / "m").digest != before

    def test_the_tensors_stand_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        model = document()
        entry = model.metas[0].signatures[0].value.inputs
        for name in ("b", "a"):
            entry.add(key=name).value.CopyFrom(entry[0].value)
        assert [spec.name for spec in open_model(write(tmp_path / "m", model)).inputs] == ["a", "b", "x"]

    def test_training_signatures_stand_beside_the_one_that_is_served(self, tmp_path: Path) -> None:
        model = document()
        for key in ("restore", "train"):
            sign(model.metas[0], key, "x")
        assert not open_model(write(tmp_path / "part", model)).trains
        sign(model.metas[0], "weights", "x")
        assert open_model(write(tmp_path / "m", model)).trains

    def test_none_or_several_that_are_no_default_are_refused(self, tmp_path: Path) -> None:
        assert "has no signature — save it with one named serving_default" in refused(saved(tmp_path / "m", key=""))
        model = document(key="one")
        sign(model.metas[0], "other", "x")
        assert "has 2 signatures: one, other — save it with one named" in refused(write(tmp_path / "m", model))

    @pytest.mark.parametrize("order", [("serve", "serving_default"), ("serving_default", "serve")])
    def test_of_several_it_is_the_default(self, tmp_path: Path, order: tuple[str, str]) -> None:
        model = document(key=order[0])
        sign(model.metas[0], order[1], "x")
        assert savedmodel_file.signature_of(write(tmp_path / "m", model)).key == "serving_default"

    def test_the_one_that_initializes_does_not_count(self, tmp_path: Path) -> None:
        model = document()
        sign(model.metas[0], savedmodel_file.INITIALIZER, "x")
        assert savedmodel_file.signature_of(write(tmp_path / "m", model)).key == "serving_default"

    def test_one_of_another_name_is_taken(self, tmp_path: Path) -> None:
        assert savedmodel_file.signature_of(saved(tmp_path / "m", key="classify")).key == "classify"

    def test_a_graph_that_is_not_for_serving_is_refused(self, tmp_path: Path) -> None:
        assert "has 0 graphs to serve" in refused(saved(tmp_path / "m", tags=("train",)))

    @pytest.mark.parametrize(("dtype", "told"), [(7, "(string)"), (14, "(none)")])
    def test_a_type_that_nothing_here_serves(self, tmp_path: Path, dtype: int, told: str) -> None:
        model = document()
        model.metas[0].signatures[0].value.inputs[0].value.dtype = dtype
        assert f"x is of a type that edgekit does not serve {told}" in refused(write(tmp_path / "m", model))

    def test_a_tensor_without_a_shape(self, tmp_path: Path) -> None:
        model = document()
        model.metas[0].signatures[0].value.outputs[0].value.shape.unknown_rank = True
        assert "y has no shape" in refused(write(tmp_path / "m", model))


class TestMoreThanComputing:
    @pytest.mark.parametrize(
        "op",
        MORE_THAN_COMPUTING.split(),
    )
    def test_it_is_refused_by_name_wherever_it_stands(self, tmp_path: Path, op: str) -> None:
        told = f"is a {op}, which does more than compute; it was not loaded"
        assert told in refused(saved(tmp_path / "m", ["Relu", op]))
        model = document()
        body = model.metas[0].graph.library.functions.add()
        body.signature.name = "anything"
        body.nodes.add(name="inner", op=op)
        assert f"'inner' {told}" in refused(write(tmp_path / "m", model))

    @pytest.mark.parametrize(
        "op",
        ["Conv2D", "Relu", "ReadVariableOp", "ShardedFilename", "TensorArrayReadV3", "LogSoftmax", "ScalarSummary"],
    )
    def test_what_only_computes_is_taken(self, tmp_path: Path, op: str) -> None:
        assert open_model(saved(tmp_path / "m", [op])).outputs[0].name == "y"

    @pytest.mark.parametrize("op", ["RestoreV2", "SaveV2", "MergeV2Checkpoints"])
    def test_checkpoints_are_for_the_saver_alone(self, tmp_path: Path, op: str) -> None:
        model = document()
        model.metas[0].graph.nodes.add(name="save", op=op)
        open_model(write(tmp_path / "m", model))
        assert f"is a {op}" in refused(saved(tmp_path / "m", [op, "Relu"]))
        model.metas[0].signatures[0].value.outputs[0].value.name = "x:0"
        sign(model.metas[0], savedmodel_file.INITIALIZER, "save")
        assert f"'save' is a {op}" in refused(write(tmp_path / "m", model))

    def test_restoring_may_read_and_not_write(self, tmp_path: Path) -> None:
        model = document()
        graph, saver = model.metas[0].graph, model.metas[0].saver
        graph.nodes.add(name="read", op="RestoreV2")
        saver.restore_op = "read"
        open_model(write(tmp_path / "m", model))
        graph.nodes.add(name="write", op="SaveV2")
        graph.nodes[-2].inputs.append("^write")
        assert "'write' is a SaveV2" in refused(write(tmp_path / "m", model))

    @pytest.mark.parametrize("way", ["op", "attribute", "list", "nested"])
    def test_a_function_is_looked_into_however_it_is_called(self, tmp_path: Path, way: str) -> None:
        model = document(["Relu"])
        graph = model.metas[0].graph
        for name, op in (("outer", "inner"), ("inner", "SaveV2")):
            body = graph.library.functions.add()
            body.signature.name = name
            body.nodes.add(name="Relu", op=op)
        node, value = graph.nodes[1], graph.nodes[1].attributes.add().value
        if way == "op":
            node.op = "inner"
        elif way == "attribute":
            value.function.name = "inner"
        elif way == "list":
            value.list.functions.add(name="inner")
        else:
            value.function.name = "outer"
        assert "is a SaveV2" in refused(write(tmp_path / "m", model))

    def test_initializers_of_tensorflow_1_are_looked_into(self, tmp_path: Path) -> None:
        model = document()
        model.metas[0].graph.nodes.add(name="start", op="SaveV2")
        model.metas[0].collections.add(key="legacy_init_op").value.nodes.names.append("start")
        assert "'start' is a SaveV2" in refused(write(tmp_path / "m", model))


class TestDamage:
    @pytest.mark.parametrize("content", [b"hello world\n" * 9, b"\xff" * 40])
    def test_what_is_no_saved_model(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "saved_model.pb").write_bytes(content)
        assert "not a SavedModel, or cut short" in refused(tmp_path)

    def test_an_empty_one(self, tmp_path: Path) -> None:
        (tmp_path / "saved_model.pb").write_bytes(b"")
        assert "has 0 graphs to serve" in refused(tmp_path)

    def test_a_folder_without_one_is_no_model(self, tmp_path: Path) -> None:
        assert "no such model file" in refused(tmp_path)

    def test_changed_bytes_are_refused_or_give_a_model_but_never_another_error(self, tmp_path: Path) -> None:
        whole, chance = (shared(KWS) / "saved_model.pb").read_bytes(), random.Random(0)
        for index in range(60):
            changed = bytearray(whole[: chance.randrange(len(whole))] if index % 5 == 0 else whole)
            for _ in range(chance.choice([1, 5, 200])):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            (tmp_path / "saved_model.pb").write_bytes(changed)
            with suppress(UnsupportedFormat):
                open_model(tmp_path)
