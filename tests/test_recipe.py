from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import target as targets
from edgekit.building.recipe import FLOAT, plan, way
from edgekit.errors import ConversionError
from edgekit.model import Format, Model
from edgekit.passes import Context, Pass, all_passes, quantize_onnx, quantize_tflite
from edgekit.passes.convert_keras import to_onnx, to_tflite
from edgekit.precision import Calibrator, Precision, Quantization

PI, JETSON = targets.load("pi"), targets.load("jetson")
INT8, MIXED, WIDE = Precision.INT8, Precision.MIXED, Precision.INT16X8
PASSES = (to_onnx, to_tflite, quantize_onnx.quantize, quantize_tflite.quantize)


def model(form: Format, quantized: bool = False) -> Model:
    return Model(Path(f"m.{form.value}"), form, (), (), "sha256:0", quantized)


def untouched(model: Model, context: Context) -> Model:
    raise AssertionError("a plan runs nothing")


def step(name: str, accepts: Format, produces: Format, *precisions: Precision) -> Pass:
    return Pass(name, accepts, produces, untouched, precisions)


def names(*wanted: Precision, source: Format, target: str = "pi", quantized: bool = False) -> list[str]:
    recipes = plan(model(source, quantized), targets.load(target), wanted or (INT8, FLOAT), PASSES)
    return [f"{each.name} {'+'.join(step.name for step in each.passes)}".strip() for each in recipes]


def test_all_passes_come_by_their_entry_points() -> None:
    found = {step.name: (step.accepts, step.produces) for step in all_passes() if not step.precisions}
    assert found["keras-to-onnx"] == (Format.KERAS, Format.ONNX)
    assert found["keras-to-tflite"] == (Format.KERAS, Format.TFLITE)


@pytest.mark.parametrize("form", [Format.ONNX, Format.TFLITE])
def test_each_precision_of_every_target_is_made_in_both_formats(form: Format) -> None:
    made = {each for step in all_passes() if step.accepts is form for each in step.precisions}
    assert made == {each for name in targets.names() for each in targets.load(name).precisions} - {FLOAT}


class TestPlan:
    def test_a_model_of_a_format_that_the_target_runs(self) -> None:
        assert names(source=Format.ONNX) == ["onnx-float32", "onnx-int8 clean-onnx+quantize-onnx"]
        assert names(source=Format.TFLITE) == ["tflite-float32", "tflite-int8 quantize-tflite"]
        assert names(source=Format.ONNX, target="jetson") == ["onnx-float32", "onnx-int8 clean-onnx+quantize-onnx"]

    def test_a_keras_model_becomes_all_that_the_target_runs_in_its_order_of_engines(self) -> None:
        tflite = ["tflite-float32 keras-to-tflite", "tflite-int8 keras-to-tflite+quantize-tflite"]
        onnx = ["onnx-float32 keras-to-onnx", "onnx-int8 keras-to-onnx+clean-onnx+quantize-onnx"]
        assert names(source=Format.KERAS) == [*tflite, *onnx]
        assert names(source=Format.KERAS, target="jetson") == onnx
        assert names(source=Format.KERAS, target="generic-x86-64") == [*onnx, *tflite]

    def test_engines_are_those_of_the_format_in_the_order_of_the_target(self) -> None:
        both = targets.load("generic-x86-64")
        for recipe in plan(model(Format.KERAS), both, (INT8,), PASSES):
            assert {engine.format for engine in recipe.engines} == {recipe.format.value}

    def test_float_is_made_first_even_where_it_may_not_ship_since_it_is_the_measure(self) -> None:
        assert names(INT8, source=Format.ONNX) == ["onnx-float32", "onnx-int8 clean-onnx+quantize-onnx"]
        assert names(FLOAT, source=Format.ONNX) == ["onnx-float32"]

    def test_the_order_of_precisions_is_that_of_the_recipes(self) -> None:
        recipes = plan(model(Format.ONNX), PI, (WIDE, INT8, FLOAT, MIXED), PASSES)
        assert [each.precision for each in recipes] == [FLOAT, WIDE, INT8, MIXED]
        assert {each.quantization for each in recipes} == {Quantization(each) for each in (FLOAT, WIDE, INT8, MIXED)}

    def test_a_precision_that_no_pass_makes_is_left_out(self) -> None:
        narrow = step("q8", Format.ONNX, Format.ONNX, INT8)
        recipes = plan(model(Format.ONNX), PI, (INT8, WIDE), [narrow])
        assert [each.name for each in recipes] == ["onnx-float32", "onnx-int8"]

    def test_what_a_quantizer_wants_done_before_it_is_done(self) -> None:
        first = step("first", Format.ONNX, Format.ONNX)
        last = replace(step("last", Format.ONNX, Format.ONNX, INT8), before=(first,))
        (_, recipe) = plan(model(Format.KERAS), JETSON, (INT8,), [to_onnx, last])
        assert recipe.passes == (to_onnx, first, last)

    def test_a_precision_that_is_asked_for_twice_is_made_once(self) -> None:
        assert names(INT8, INT8, FLOAT, FLOAT, source=Format.TFLITE) == names(INT8, source=Format.TFLITE)

    @pytest.mark.parametrize("precisions", [(INT8,), (FLOAT,), (INT8, FLOAT), (MIXED, WIDE)])
    def test_a_quantized_model_is_taken_as_it_is(self, precisions: tuple[Precision, ...]) -> None:
        assert names(*precisions, source=Format.TFLITE, quantized=True) == ["tflite-int8"]

    @pytest.mark.parametrize("form", [Format.TFLITE, Format.SAVED_MODEL])
    def test_a_model_with_training_signatures_comes_in_float_only(self, form: Format) -> None:
        source = replace(model(form), trains=True)
        for precisions in ((INT8, FLOAT), (FLOAT,), ()):
            assert [each.name for each in plan(source, PI, precisions, all_passes())] == ["tflite-float32"]
        with pytest.raises(
            ConversionError, match="whose variables cannot be quantized: no int8, mixed — build it with"
        ):
            plan(source, PI, (INT8, MIXED), all_passes())
        with pytest.raises(
            ConversionError, match="model with training signatures to onnx for jetson-orin — export it w"
        ):
            plan(source, JETSON, (INT8, FLOAT), all_passes())

    @pytest.mark.parametrize(
        ("source", "target", "quantized", "told"),
        [
            (
                Format.TFLITE,
                JETSON,
                False,
                "m.tflite: no way from tflite to onnx for jetson-orin — export it to ONNX or",
            ),
            (
                Format.TFLITE,
                JETSON,
                True,
                "m.tflite: no way from a quantized tflite model to onnx for jetson-orin — give the float model that it",
            ),
        ],
    )
    def test_where_there_is_no_way_the_line_says_between_what(
        self, source: Format, target: targets.Target, quantized: bool, told: str
    ) -> None:
        with pytest.raises(ConversionError) as caught:
            plan(model(source, quantized), target, (INT8,), PASSES)
        assert str(caught.value).startswith(told)
        assert caught.value.exit_code == 1

    @given(
        st.sampled_from(list(Format)),
        st.booleans(),
        st.sampled_from(targets.names()),
        st.lists(st.sampled_from(Precision), min_size=1, max_size=4),
    )
    def test_every_plan_begins_with_its_measure_and_every_recipe_leads_to_its_format(
        self, form: Format, quantized: bool, name: str, precisions: list[Precision]
    ) -> None:
        source, target = model(form, quantized), targets.load(name)
        try:
            recipes = plan(source, target, precisions, PASSES)
        except ConversionError:
            assert quantized or form is not Format.KERAS
            return
        assert len({each.name for each in recipes}) == len(recipes)
        assert recipes[0].precision is (INT8 if quantized else FLOAT)
        for recipe in recipes:
            forms = [form, *(each.produces for each in recipe.passes)]
            assert forms[-1] is recipe.format
            assert all(each.accepts is before for each, before in zip(recipe.passes, forms, strict=False))
            assert recipe.engines
            assert recipe.precision in ({INT8} if quantized else {FLOAT, *precisions})


class TestWay:
    def test_to_itself_nothing_has_to_be_done(self) -> None:
        assert [way(form, form, PASSES) for form in Format] == [()] * len(Format)

    def test_there_may_be_none(self) -> None:
        assert way(Format.TFLITE, Format.ONNX, PASSES) is None
        assert way(Format.KERAS, Format.ONNX, []) is None

    def test_the_shortest_is_taken_and_a_circle_does_no_harm(self) -> None:
        long = [step("k-t", Format.KERAS, Format.TFLITE), step("t-o", Format.TFLITE, Format.ONNX)]
        back, short = step("o-k", Format.ONNX, Format.KERAS), step("k-o", Format.KERAS, Format.ONNX)
        assert way(Format.KERAS, Format.ONNX, [*long, back]) == tuple(long)
        assert way(Format.KERAS, Format.ONNX, [*long, back, short]) == (short,)

    def test_a_pass_that_changes_the_precision_is_no_way(self) -> None:
        assert way(Format.KERAS, Format.ONNX, [step("k-o", Format.KERAS, Format.ONNX, INT8)]) is None

    @given(
        st.sampled_from(list(Format)),
        st.sampled_from(list(Format)),
        st.lists(st.builds(step, st.text(min_size=1), st.sampled_from(list(Format)), st.sampled_from(list(Format)))),
    )
    def test_a_way_is_a_chain_without_detours(self, source: Format, goal: Format, passes: list[Pass]) -> None:
        found = way(source, goal, passes)
        if found is not None:
            assert (found[0].accepts if found else source) is source
            assert (found[-1].produces if found else goal) is goal
            assert all(one.produces is other.accepts for one, other in pairwise(found))
            assert len(found) < len(Format)
        else:
            assert source is not goal


def test_a_recipe_is_named_by_format_and_precision() -> None:
    (recipe, *_) = plan(model(Format.ONNX), PI, (INT8,), PASSES)
    mixed = Quantization(MIXED, Calibrator.ENTROPY, frozenset({"a layer"}))
    assert replace(recipe, quantization=mixed).name == "onnx-mixed"
