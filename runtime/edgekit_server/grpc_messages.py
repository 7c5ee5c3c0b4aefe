"""Messages of gRPC: those of the Open Inference Protocol and of Triton's extensions that are spoken here.

Field numbers are those of kserve's ``open_inference_grpc.proto`` and Triton's ``grpc_service.proto`` and
``model_config.proto``; a field that nobody here looks at is left out, as the wire allows. The classes are made when
this is imported, not generated: generated ones need the very protobuf that they were generated for, and a device with
Python 3.8 has another one than a device with Python 3.13.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SCHEMA = """
message ServerLiveRequest { }
message ServerLiveResponse { bool live = 1; }
message ServerReadyRequest { }
message ServerReadyResponse { bool ready = 1; }
message ServerMetadataRequest { }
message ServerMetadataResponse { string name = 1; string version = 2; repeated string extensions = 3; }

message ModelReadyRequest { string name = 1; string version = 2; }
message ModelReadyResponse { bool ready = 1; }
message ModelMetadataRequest { string name = 1; string version = 2; }
message ModelMetadataResponse {
  string name = 1; repeated string versions = 2; string platform = 3;
  repeated TensorMetadata inputs = 4; repeated TensorMetadata outputs = 5;
}
message TensorMetadata { string name = 1; string datatype = 2; repeated int64 shape = 3; }

message ModelInferRequest {
  string model_name = 1; string model_version = 2; string id = 3; map<string, InferParameter> parameters = 4;
  repeated InferInputTensor inputs = 5; repeated InferRequestedOutputTensor outputs = 6;
  repeated bytes raw_input_contents = 7;
}
message InferParameter {
  oneof bool bool_param = 1; oneof int64 int64_param = 2; oneof string string_param = 3;
  oneof double double_param = 4; oneof uint64 uint64_param = 5;
}
message InferInputTensor {
  string name = 1; string datatype = 2; repeated int64 shape = 3; map<string, InferParameter> parameters = 4;
  InferTensorContents contents = 5;
}
message InferTensorContents {
  repeated bool bool_contents = 1; repeated int32 int_contents = 2; repeated int64 int64_contents = 3;
  repeated uint32 uint_contents = 4; repeated uint64 uint64_contents = 5; repeated float fp32_contents = 6;
  repeated double fp64_contents = 7; repeated bytes bytes_contents = 8;
}
message InferRequestedOutputTensor { string name = 1; map<string, InferParameter> parameters = 2; }
message ModelInferResponse {
  string model_name = 1; string model_version = 2; string id = 3; map<string, InferParameter> parameters = 4;
  repeated InferOutputTensor outputs = 5; repeated bytes raw_output_contents = 6;
}
message InferOutputTensor { string name = 1; string datatype = 2; repeated int64 shape = 3; }
message ModelStreamInferResponse { string error_message = 1; ModelInferResponse infer_response = 2; }

message ModelConfigRequest { string name = 1; string version = 2; }
message ModelConfigResponse { ModelConfig config = 1; }
message ModelConfig {
  string name = 1; string platform = 2; int32 max_batch_size = 4; repeated ModelInput input = 5;
  repeated ModelOutput output = 6; map<string, ModelParameter> parameters = 14; string backend = 17;
}
message ModelInput { string name = 1; DataType data_type = 2; repeated int64 dims = 4; }
message ModelOutput { string name = 1; DataType data_type = 2; repeated int64 dims = 3; }
message ModelParameter { string string_value = 1; }
enum DataType {
  TYPE_INVALID = 0; TYPE_BOOL = 1; TYPE_UINT8 = 2; TYPE_UINT16 = 3; TYPE_UINT32 = 4; TYPE_UINT64 = 5; TYPE_INT8 = 6;
  TYPE_INT16 = 7; TYPE_INT32 = 8; TYPE_INT64 = 9; TYPE_FP16 = 10; TYPE_FP32 = 11; TYPE_FP64 = 12;
}

message ModelStatisticsRequest { string name = 1; string version = 2; }
message ModelStatisticsResponse { repeated ModelStatistics model_stats = 1; }
message ModelStatistics {
  string name = 1; string version = 2; uint64 last_inference = 3; uint64 inference_count = 4;
  uint64 execution_count = 5; InferStatistics inference_stats = 6; repeated InferBatchStatistics batch_stats = 7;
}
message InferStatistics {
  StatisticDuration success = 1; StatisticDuration fail = 2; StatisticDuration queue = 3;
  StatisticDuration compute_input = 4; StatisticDuration compute_infer = 5; StatisticDuration compute_output = 6;
  StatisticDuration cache_hit = 7; StatisticDuration cache_miss = 8;
}
message InferBatchStatistics {
  uint64 batch_size = 1; StatisticDuration compute_input = 2; StatisticDuration compute_infer = 3;
  StatisticDuration compute_output = 4;
}
message StatisticDuration { uint64 count = 1; uint64 ns = 2; }

message RepositoryIndexRequest { bool ready = 2; }
message RepositoryIndexResponse { repeated ModelIndex models = 1; }
message ModelIndex { string name = 1; string version = 2; string state = 3; string reason = 4; }
message RepositoryModelLoadRequest { string model_name = 2; }
message RepositoryModelLoadResponse { }
message RepositoryModelUnloadRequest { string model_name = 2; }
message RepositoryModelUnloadResponse { }
"""
"""As in a file of proto3, but flat, and with ``oneof`` before each field of the one choice that a message may have."""

PACKAGE = "inference"
_BLOCK = re.compile(r"^(message|enum) (\w+) \{(.*?)\}", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"(repeated |oneof )?(?:map<string, (\w+)>|(\w+)) (\w+) = (\d+);")
_VALUE = re.compile(r"(\w+) = (\d+);")
_File = descriptor_pb2.FileDescriptorProto
_Message, _Field = descriptor_pb2.DescriptorProto, descriptor_pb2.FieldDescriptorProto


def message(name: str) -> Any:
    """The class of a message."""
    return _CLASSES[name]


def _file() -> Any:
    """The schema as protobuf describes a file."""
    blocks = _BLOCK.findall(SCHEMA)
    kinds = {name: f"TYPE_{kind.upper()}" for kind, name, _ in blocks}
    file = _File(name="edgekit_server/inference.proto", package=PACKAGE, syntax="proto3")
    for kind, name, text in blocks:
        if kind == "enum":
            enum = file.enum_type.add(name=name)
            for word, number in _VALUE.findall(text):
                enum.value.add(name=word, number=int(number))
        else:
            described = file.message_type.add(name=name)
            for parts in _FIELD.findall(text):
                _add(described, parts, kinds)
    return file


def _add(described: Any, parts: tuple[str, str, str, str, str], kinds: dict[str, str]) -> None:
    """A field, as it was found, of a message. ``kinds``: of all that is no scalar."""
    label, mapped, kind, name, number = parts
    field = described.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if mapped:
        _map(described, field, mapped)
        return
    if label == "repeated ":
        field.label = _Field.LABEL_REPEATED
    elif label:
        field.oneof_index = 0
        if not described.oneof_decl:
            described.oneof_decl.add(name="choice")
    _be(field, kind, kinds)


def _be(field: Any, kind: str, kinds: dict[str, str]) -> None:
    field.type = _Field.Type.Value(kinds.get(kind, f"TYPE_{kind.upper()}"))
    if kind in kinds:
        field.type_name = f".{PACKAGE}.{kind}"


def _map(described: Any, field: Any, kind: str) -> None:
    """A map is a repeated message of a key and a value; its key is a string here."""
    entry = described.nested_type.add(name=f"{field.name.title()}Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
    value = entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_MESSAGE)
    value.type_name = f".{PACKAGE}.{kind}"
    field.label, field.type = _Field.LABEL_REPEATED, _Field.TYPE_MESSAGE
    field.type_name = f".{PACKAGE}.{described.name}.{entry.name}"


def _classes() -> dict[str, Any]:
    """In a pool of their own: a client's classes of the same names may be in this process."""
    pool, file = descriptor_pool.DescriptorPool(), _file()
    pool.AddSerializedFile(file.SerializeToString())
    names = [described.name for described in file.message_type]
    find = pool.FindMessageTypeByName
    return {name: message_factory.GetMessageClass(find(f"{PACKAGE}.{name}")) for name in names}


_CLASSES = _classes()
NAMES = tuple(_CLASSES)
