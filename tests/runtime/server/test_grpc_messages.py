"""Messages and tensors of gRPC: as they are on the wire, and as the body that a worker reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("grpc", reason="needs the extra of the server's wheel: grpcio, protobuf")

from edgekit_server import grpc_tensors
from edgekit_server.grpc_messages import message
from edgekit_server.http import Refused, Response
from tests.runtime.server.callers import X, Y, answering, asking, header


class TestMessages:
    """Against bytes that tritonclient 2.73 sent, and Triton 2.51 answered."""

    def test_an_inference(self) -> None:
        data = b"\n\x01m\x1a\x01q*\x0f\n\x01x\x12\x04FP32\x1a\x04\x01\x03``2\x03\n\x01y:\x04\x00\x00\x80?"
        asked = message("ModelInferRequest").FromString(data)
        assert (asked.model_name, asked.id, asked.inputs[0].name, asked.inputs[0].datatype) == ("m", "q", "x", "FP32")
        assert (list(asked.inputs[0].shape), asked.outputs[0].name) == ([1, 3, 96, 96], "y")
        assert list(asked.raw_input_contents) == [b"\x00\x00\x80?"]
        assert asked.SerializeToString() == data

    def test_its_answer(self) -> None:
        data = b"\n\x01m\x12\x011\x1a\x01q*\r\n\x01y\x12\x04FP32\x1a\x02\x01\n2\x04\x00\x00\x80?"
        answer = message("ModelInferResponse")(model_name="m", model_version="1", id="q")
        answer.outputs.add(name="y", datatype="FP32", shape=[1, 10])
        answer.raw_output_contents.append(b"\x00\x00\x80?")
        assert answer.SerializeToString() == data

    def test_a_configuration_of_which_we_know_a_part(self) -> None:
        data = b'\nI\n\x01m\x1a\x04\n\x02\x08\x01*\x0b\n\x01x\x10\x0b"\x04\x01\x03``2\t\n\x01y\x10\x0b\x1a\x02\x01\n'
        data += b":\t\n\x03m_0\x10\x01 \x02B\x08model.pyb\x08*\x02\x08\x012\x02\x08\x01\x8a\x01\x06python"
        config = message("ModelConfigResponse").FromString(data).config
        assert (config.name, config.backend, config.input[0].name, config.input[0].data_type) == (
            "m",
            "python",
            "x",
            11,
        )
        assert (list(config.input[0].dims), list(config.output[0].dims)) == ([1, 3, 96, 96], [1, 10])

    def test_statistics(self) -> None:
        data = (
            b"\nu\n\x01m\x12\x011\x18\xdc\xbb\xcd\xa0\xa04 \x8cR(\x8cR2<\n\t\x08\x8cR\x10\xaf\x9d\xc1\xf9\x1f\x12\x00"
            b'\x1a\t\x08\x8cR\x10\xd8\xe0\xfe\x88\x16"\x08\x08\x8cR\x10\xb9\x89\x87]*\t\x08\x8cR\x10\xf0\xa6\xc7\xda'
            b'\x072\t\x08\x8cR\x10\xa1\xe1\xd6\xb2\x01:\x00B\x00:"\x08\x01\x12\x08\x08\x8cR\x10\xb9\x89\x87]\x1a\t\x08'
            b'\x8cR\x10\xf0\xa6\xc7\xda\x07"\t\x08\x8cR\x10\xa1\xe1\xd6\xb2\x01'
        )
        stats = message("ModelStatisticsResponse").FromString(data).model_stats[0]
        assert (stats.inference_count, stats.execution_count, stats.inference_stats.success.count) == (10508,) * 3
        assert (stats.batch_stats[0].batch_size, stats.batch_stats[0].compute_output.count) == (1, 10508)
        assert stats.last_inference == 1795364707804


class TestTensors:
    def test_what_is_binary_follows_the_json_as_it_is(self) -> None:
        body, length = grpc_tensors.body(asking(id="q"), None)
        told = {"name": "x", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": X.nbytes}}
        assert header(body, length) == {"id": "q", "inputs": [told], "parameters": {"binary_data_output": True}}
        assert body[length:] == X.tobytes()

    @given(st.sampled_from(sorted(grpc_tensors.CONTENTS)), st.lists(st.integers(0, 1), max_size=9))
    def test_numbers_are_packed_as_numpy_has_them(self, datatype: str, numbers: list[int]) -> None:
        field = grpc_tensors.CONTENTS[datatype][0]
        tensor = {"name": "x", "datatype": datatype, "shape": [len(numbers)], "contents": {field: numbers}}
        body, length = grpc_tensors.body(asking(inputs=[tensor], raw_input_contents=[]), None)
        dtype = datatype.replace("FP", "FLOAT").lower()
        assert body[length:] == np.array(numbers, dtype).tobytes()

    @given(st.floats(width=32), st.integers(-(2**63), 2**63 - 1))
    def test_every_number(self, real: float, whole: int) -> None:
        for word, number, dtype in (("FP32", real, np.float32), ("INT64", whole, np.int64)):
            tensor = {"name": "x", "datatype": word, "contents": {grpc_tensors.CONTENTS[word][0]: [number]}}
            body, length = grpc_tensors.body(asking(inputs=[tensor], raw_input_contents=[]), None)
            assert body[length:] == np.array([number], dtype).tobytes()

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"raw_input_contents": [b"", b""]}, "2 raw_input_contents are not those of 1 inputs"),
            ({"inputs": [{"name": "x", "contents": {}}]}, "without contents"),
            ({"inputs": [{"name": "x", "datatype": "BYTES"}], "raw_input_contents": []}, "'BYTES' comes as raw_input"),
            (
                {
                    "inputs": [{"name": "x", "datatype": "INT8", "contents": {"int_contents": [128]}}],
                    "raw_input_contents": [],
                },
                "a number is no INT8",
            ),
        ],
    )
    def test_a_message_that_contradicts_itself(self, changes: dict[str, Any], why: str) -> None:
        with pytest.raises(Refused, match=why) as caught:
            grpc_tensors.body(asking(**changes), None)
        assert caught.value.status == 400

    def test_parameters_and_outputs_go_along(self) -> None:
        asked = asking(
            outputs=[{"name": "y", "parameters": {"classification": {"int64_param": 2}}}],
            parameters={"priority": {"uint64_param": 1}, "p": {"string_param": "q"}, "none": {}},
        )
        told = header(*grpc_tensors.body(asked, None))
        assert told["outputs"] == [{"name": "y", "parameters": {"classification": 2, "binary_data": True}}]
        assert told["parameters"] == {"binary_data_output": True, "p": "q", "priority": 1}

    @pytest.mark.parametrize(("told", "left", "timeout"), [(0, None, 0), (0, 7, 7), (5, 7, 5), (9, 7, 7), (None, 7, 7)])
    def test_a_deadline_is_the_latest_timeout(self, told: int | None, left: int | None, timeout: int) -> None:
        given = {} if told is None else {"timeout": {"int64_param": told}}
        assert header(*grpc_tensors.body(asking(parameters=given), left))["parameters"]["timeout"] == timeout

    def test_an_answer(self) -> None:
        told = answering(id="q")
        found = grpc_tensors.answer(Response(200, told.headers, (b"".join(told.body),)))
        assert (found.id, found.model_version, found.outputs[0].datatype) == ("q", "3", "FP32")
        assert list(found.raw_output_contents) == [Y.tobytes()]
