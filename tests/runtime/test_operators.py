"""Each operator of a postprocess gives what onnxruntime gives for a model of that one node."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekit_postprocess import Step
from edgekit_postprocess.moving import MOST
from edgekit_postprocess.operators import OPERATORS

Array = NDArray[Any]
Case = tuple[str, list[Array | None], dict[str, Any]]
DRAW = st.DataObject
FLOATS = st.sampled_from([-2.5, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 3.0])
INTS = st.integers(-4, 4)


def ints(*values: int) -> Array:
    return np.asarray(values, np.int64)


def tensor(draw: DRAW, shape: tuple[int, ...], dtype: str = "float32") -> Array:
    """Of few values, so that some are equal."""
    if dtype == "bool":
        numbers: Any = st.booleans()
    else:
        numbers = FLOATS if dtype.startswith("float") else st.integers(0, 4) if dtype == "uint8" else INTS
    size = int(np.prod(shape))
    return np.asarray(draw.draw(st.lists(numbers, min_size=size, max_size=size)), dtype).reshape(shape)


def shape(draw: DRAW, least: int = 1, most: int = 3) -> tuple[int, ...]:
    return tuple(draw.draw(st.lists(st.integers(1, 4), min_size=least, max_size=most)))


def some(draw: DRAW, dtype: str = "float32", least: int = 1) -> Array:
    return tensor(draw, shape(draw, least), dtype)


def axis_of(draw: DRAW, x: Array) -> int:
    return int(draw.draw(st.integers(-x.ndim, x.ndim - 1)))


def kind(draw: DRAW) -> str:
    return str(draw.draw(st.sampled_from(["float32", "int64"])))


def pair(draw: DRAW, dtype: str) -> list[Array | None]:
    """Two arrays that fit each other."""
    x = some(draw, dtype)
    other = tuple(draw.draw(st.sampled_from([1, size])) for size in x.shape[draw.draw(st.integers(0, x.ndim)) :])
    return [x, tensor(draw, other, dtype)]


def binary(draw: DRAW, op: str) -> Case:
    a, b = pair(draw, kind(draw))
    assert b is not None
    return op, [a, np.where(b == 0, np.ones_like(b), b) if op in ("Div", "Mod") else b], {}


def boolean(draw: DRAW, op: str) -> Case:
    return op, pair(draw, "bool"), {}


def unary(draw: DRAW, op: str) -> Case:
    x = some(draw)
    return op, [np.abs(x) if op in ("Sqrt", "Log") else x], {}


def comparison(draw: DRAW, op: str) -> Case:
    return op, pair(draw, kind(draw)), {}


def mod(draw: DRAW, op: str) -> Case:
    op, inputs, _ = binary(draw, op)
    assert inputs[0] is not None
    return op, inputs, {"fmod": 1 if inputs[0].dtype.kind == "f" else draw.draw(st.sampled_from([0, 1]))}


def clip(draw: DRAW, op: str) -> Case:
    ends = [draw.draw(st.sampled_from([None, np.asarray(end, np.float32)])) for end in (-0.5, 1.0)]
    return op, [some(draw), *ends], {}


def where(draw: DRAW, op: str) -> Case:
    a, b = pair(draw, kind(draw))
    assert a is not None
    return op, [tensor(draw, a.shape, "bool"), a, b], {}


def cast(draw: DRAW, op: str) -> Case:
    x = some(draw, draw.draw(st.sampled_from(["float32", "int64", "bool", "uint8"])))
    signed = x.dtype.kind in "if" and bool((x < 0).any())
    goals = ["float32", "int32", "int64", "bool", "float16", *([] if signed else ["uint8"])]
    return op, [x], {"to": draw.draw(st.sampled_from(goals))}


def reshape(draw: DRAW, op: str) -> Case:
    x = some(draw)
    wanted = draw.draw(st.sampled_from([[-1], [0, -1], [*x.shape, 1], [1, -1, 1], list(x.shape)]))
    return op, [x, ints(*wanted)], {}


def flatten(draw: DRAW, op: str) -> Case:
    x = some(draw)
    return op, [x], {"axis": draw.draw(st.integers(-x.ndim, x.ndim))}


def squeeze(draw: DRAW, op: str) -> Case:
    inner = shape(draw)
    x = tensor(draw, (1, *inner, 1))
    return op, [x, draw.draw(st.sampled_from([None, ints(0), ints(-1), ints(0, -1)]))], {}


def unsqueeze(draw: DRAW, op: str) -> Case:
    return op, [some(draw), draw.draw(st.sampled_from([ints(0), ints(-1), ints(0, 2), ints(-1, 0)]))], {}


def transpose(draw: DRAW, op: str) -> Case:
    x = some(draw)
    order = draw.draw(st.permutations(range(x.ndim)))
    return op, [x], draw.draw(st.sampled_from([{}, {"perm": tuple(order)}]))


def concat(draw: DRAW, op: str) -> Case:
    x = some(draw)
    return op, [x, tensor(draw, x.shape), x], {"axis": axis_of(draw, x)}


def split(draw: DRAW, op: str) -> Case:
    x = tensor(draw, (4, *shape(draw, 0, 2)))
    return op, [x, ints(1, 3)], {"axis": draw.draw(st.sampled_from([0, -x.ndim])), "num_outputs": 2}


def sliced(draw: DRAW, op: str) -> Case:
    x = some(draw)
    far = st.sampled_from([-(2**62), -5, -2, -1, 0, 1, 2, 5, 2**62])
    step = draw.draw(st.sampled_from([1, 2, -1, -2]))
    return op, [x, ints(draw.draw(far)), ints(draw.draw(far)), ints(axis_of(draw, x)), ints(step)], {}


def gather(draw: DRAW, op: str) -> Case:
    x = some(draw, kind(draw))
    axis = axis_of(draw, x)
    size = x.shape[axis]
    places = draw.draw(st.lists(st.integers(-size, size - 1), max_size=5))
    return op, [x, draw.draw(st.sampled_from([ints(*places), ints(*places)[None], np.asarray(0)]))], {"axis": axis}


def gather_elements(draw: DRAW, op: str) -> Case:
    x = some(draw)
    axis = axis_of(draw, x)
    near = tuple(draw.draw(st.integers(1, size)) for size in x.shape)
    size = int(np.prod(near))
    last = x.shape[axis] - 1
    places = draw.draw(st.lists(st.integers(-last - 1, last), min_size=size, max_size=size))
    return op, [x, ints(*places).reshape(near)], {"axis": axis}


def gather_nd(draw: DRAW, op: str) -> Case:
    batch = draw.draw(st.sampled_from([0, 1]))
    x = some(draw, least=batch + 1)
    depth = draw.draw(st.integers(1, x.ndim - batch))
    rows = draw.draw(st.integers(0, 3))
    places = [draw.draw(st.lists(st.integers(-s, s - 1), min_size=64, max_size=64)) for s in x.shape[batch:][:depth]]
    lead = (*x.shape[:batch], rows)
    count = int(np.prod(lead))
    return (
        op,
        [x, ints(*[p for row in zip(*places, strict=True) for p in row][: count * depth]).reshape(*lead, depth)],
        {"batch_dims": batch},
    )


def expand(draw: DRAW, op: str) -> Case:
    a, b = pair(draw, "float32")
    assert a is not None
    return op, [b, ints(*draw.draw(st.sampled_from([a.shape, (2, *a.shape)])))], {}


def tile(draw: DRAW, op: str) -> Case:
    x = some(draw)
    return op, [x, ints(*draw.draw(st.lists(st.integers(0, 3), min_size=x.ndim, max_size=x.ndim)))], {}


def pad(draw: DRAW, op: str) -> Case:
    x = some(draw)
    widths = draw.draw(st.lists(st.integers(0, 2), min_size=2 * x.ndim, max_size=2 * x.ndim))
    return op, [x, ints(*widths), np.asarray(0.5, np.float32)], {}


def ranged(draw: DRAW, op: str) -> Case:
    start, limit, delta = (draw.draw(st.integers(-6, 6)) for _ in range(3))
    dtype = kind(draw)
    return op, [np.asarray(each, dtype) for each in (start, limit, delta or 1)], {}


def filled(draw: DRAW, op: str) -> Case:
    return op, [ints(*shape(draw))], {"value": 7, "dtype": "int64"}


def shape_of(draw: DRAW, op: str) -> Case:
    return op, [some(draw)], draw.draw(st.sampled_from([{}, {"start": 1}, {"start": -1}, {"end": 1}, {"end": -1}]))


def top_k(draw: DRAW, op: str) -> Case:
    x = some(draw, kind(draw))
    axis = axis_of(draw, x)
    count = draw.draw(st.integers(0, x.shape[axis]))
    return op, [x, ints(count)], {"axis": axis, "largest": draw.draw(st.sampled_from([0, 1]))}


def arg(draw: DRAW, op: str) -> Case:
    x = some(draw)
    flags = {each: draw.draw(st.sampled_from([0, 1])) for each in ("keepdims", "select_last_index")}
    return op, [x], {"axis": axis_of(draw, x), **flags}


def reduced(draw: DRAW, op: str) -> Case:
    x = some(draw, kind(draw))
    axes = draw.draw(st.sampled_from([None, ints(axis_of(draw, x)), ints(*range(x.ndim))]))
    return op, [x, axes], {"keepdims": draw.draw(st.sampled_from([0, 1]))}


def plain(draw: DRAW, op: str) -> Case:
    return op, [some(draw, kind(draw))], {}


CASES: dict[str, Callable[[DRAW, str], Case]] = {
    **dict.fromkeys(["Abs", "Ceil", "Exp", "Floor", "Log", "Neg", "Sigmoid", "Sqrt"], unary),
    **dict.fromkeys(["Add", "Div", "Max", "Min", "Mul", "Sub"], binary),
    **dict.fromkeys(["And", "Or"], boolean),
    **dict.fromkeys(["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"], comparison),
    **dict.fromkeys(["ArgMax", "ArgMin"], arg),
    **dict.fromkeys(["ReduceMax", "ReduceMin", "ReduceSum"], reduced),
    **dict.fromkeys(["Identity", "NonZero", "Size"], plain),
    "Cast": cast,
    "Clip": clip,
    "Concat": concat,
    "ConstantOfShape": filled,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Mod": mod,
    "Not": lambda draw, op: (op, [some(draw, "bool")], {}),
    "Pad": pad,
    "Range": ranged,
    "Reshape": reshape,
    "Shape": shape_of,
    "Slice": sliced,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "TopK": top_k,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Where": where,
}
ELSEWHERE = {"EfficientNMS_TRT", "NonMaxSuppression", "TFLite_Detection_PostProcess"}
"""See test_suppression."""


def test_every_operator_is_tried() -> None:
    assert CASES.keys() | ELSEWHERE == OPERATORS.keys()


@pytest.mark.parametrize("op", sorted(CASES))
@settings(max_examples=5, deadline=None)
@given(draw=st.data())
def test_it_gives_what_onnxruntime_gives(op: str, draw: DRAW) -> None:
    case = CASES[op](draw, op)
    outputs = 2 if op in ("Split", "TopK") else 1
    for want, got in zip(by_onnxruntime(*case, outputs), by_numpy(*case, outputs), strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape), case
        np.testing.assert_allclose(got, want, rtol=3e-7, err_msg=str(case))


def by_numpy(op: str, inputs: list[Array | None], attributes: dict[str, Any], outputs: int) -> list[Array]:
    names = tuple("" if array is None else f"i{at}" for at, array in enumerate(inputs))
    step = Step(op, names, tuple(f"o{at}" for at in range(outputs)), attributes)
    step.check()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        given = step.run({name: array for name, array in zip(names, inputs, strict=True) if array is not None})
    return [given[name] for name in step.outputs]


def by_onnxruntime(op: str, inputs: list[Array | None], attributes: dict[str, Any], outputs: int) -> list[Array]:
    names = ["" if array is None else f"i{at}" for at, array in enumerate(inputs)]
    feeds = {name: array for name, array in zip(names, inputs, strict=True) if array is not None}
    while not names[-1]:
        names.pop()
    node = helper.make_node(op, names, [f"o{at}" for at in range(outputs)], **_as_onnx(op, attributes))
    values = [helper.make_tensor_value_info(name, _element(array), array.shape) for name, array in feeds.items()]
    ends = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "node", values, ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, feeds)
    return found


def _as_onnx(op: str, attributes: dict[str, Any]) -> dict[str, Any]:
    if op == "ConstantOfShape":
        return {"value": numpy_helper.from_array(np.asarray([attributes["value"]], attributes["dtype"]))}
    told = {name: value for name, value in attributes.items() if name != "num_outputs"}
    return {**told, "to": helper.np_dtype_to_tensor_dtype(np.dtype(told["to"]))} if op == "Cast" else told


def _element(array: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype)) or TensorProto.UNDEFINED


@pytest.mark.parametrize(
    ("op", "older", "newer"),
    [
        ("Squeeze", {"axes": (0,)}, [ints(0)]),
        ("Unsqueeze", {"axes": (0, 1)}, [ints(0, 1)]),
        ("Slice", {"starts": (0,), "ends": (1,), "axes": (1,)}, [ints(0), ints(1), ints(1)]),
        ("TopK", {"k": 1}, [ints(1)]),
        ("Split", {"split": (2, 1), "axis": 1}, [ints(2, 1)]),
        ("ReduceSum", {"axes": (1,)}, [ints(1)]),
        ("Clip", {"min": 0.5, "max": 1.0}, [np.asarray(0.5, np.float32), np.asarray(1.0, np.float32)]),
        ("Reshape", {"shape": (3, 1)}, [ints(3, 1)]),
    ],
)
def test_what_older_operator_sets_give_as_attributes(op: str, older: dict[str, Any], newer: list[Array]) -> None:
    x = np.asarray([[0.25, 1.0, 3.0]], np.float32)
    rest = {"axis": 1, "num_outputs": 2} if op == "Split" else {}
    for want, got in zip(by_numpy(op, [x, *newer], rest, 1), by_numpy(op, [x], {**older, **rest}, 1), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Expand", [np.zeros(1), ints(1 << 20, 1 << 20)], {}),
        ("Tile", [np.zeros(1 << 10), ints(1 << 30)], {}),
        ("ConstantOfShape", [ints(1 << 40)], {}),
        ("Range", [np.asarray(0), np.asarray(1 << 60), np.asarray(1)], {}),
        ("Pad", [np.zeros(1), ints(0, 1 << 50)], {}),
        ("Gather", [np.zeros((2, 1 << 12)), np.zeros(1 << 14, np.int64)], {}),
        ("GatherND", [np.zeros((2, 1 << 12)), np.zeros((1 << 14, 1), np.int64)], {}),
        ("Add", [np.zeros((1 << 13, 1)), np.zeros((1, 1 << 13))], {}),
        ("Where", [np.zeros((1 << 13, 1), bool), np.zeros((1, 1 << 13)), np.zeros(1)], {}),
        ("Split", [np.zeros(4)], {"num_outputs": 1 << 40}),
        ("EfficientNMS_TRT", [np.zeros((1, 1, 4)), np.zeros((1, 1, 1))], {"max_output_boxes": 1 << 40}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_none_makes_an_array_beyond_all_bounds(op: str, inputs: list[Array | None], attributes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        by_numpy(op, inputs, attributes, 1)
    assert MOST == 1 << 24
