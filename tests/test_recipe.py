from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import target as targets
from edgekit.errors import ConversionError
from edgekit.model import Format, Model
from edgekit.passes import Context, Pass, all_passes
from edgekit.recipe import FLOAT, plan, way

PI, JETSON = targets.load("pi"), targets.load("jetson")


def model(form: Format, quantized: bool = False) -> Model:
    return Model(Path(f"m.{form.value}"), form, (), (), "sha256:0", quantized)


def untouched(model: Model, context: Context) -> Model:
    raise AssertionError("a plan runs nothing")


def step(name: str, accepts: Format, produces: Format, precision: str = "") -> Pass:
    return Pass(name, accepts, produces, untouched, precision)


def names(*words: str, source: Format, target: str = "pi", quantized: bool = False) -> list[str]:
    recipes = plan(model(source, quantized), targets.load(target), words or ("int8", FLOAT), all_passes())
    return [f"{each.name} {'+'.join(step.name for step in each.passes)}".strip() for each in recipes]


def test_all_passes_come_by_their_entry_points() -> None:
    found = {step.name: (step.accepts, step.produces, step.precision) for step in all_passes()}
    assert found == {
        "keras-to-onnx": (Format.KERAS, Format.ONNX, ""),
        "keras-to-tflite": (Format.KERAS, Format.TFLITE, ""),
        "quantize-onnx": (Format.ONNX, Format.ONNX, "int8"),
        "quantize-tflite": (Format.TFLITE, Format.TFLITE, "int8"),
    }


class TestPlan:
    def test_a_model_of_a_format_that_the_target_runs(self) -> None:
        assert names(source=Format.ONNX) == ["onnx-float32", "onnx-int8 quantize-onnx"]
        assert names(source=Format.TFLITE) == ["tflite-float32", "tflite-int8 quantize-tflite"]
        assert names(source=Format.ONNX, target="jetson") == ["onnx-float32", "onnx-int8 quantize-onnx"]

    def test_a_keras_model_becomes_all_that_the_target_runs_in_its_order_of_engines(self) -> None:
        tflite = ["tflite-float32 keras-to-tflite", "tflite-int8 keras-to-tflite+quantize-tflite"]
        onnx = ["onnx-float32 keras-to-onnx", "onnx-int8 keras-to-onnx+quantize-onnx"]
        assert names(source=Format.KERAS) == [*tflite, *onnx]
        assert names(source=Format.KERAS, target="jetson") == onnx
        assert names(source=Format.KERAS, target="generic-x86-64") == [*onnx, *tflite]

    def test_engines_are_those_of_the_format_in_the_order_of_the_target(self) -> None:
        both = targets.load("generic-x86-64")
        for recipe in plan(model(Format.KERAS), both, ("int8",), all_passes()):
            assert {engine.format for engine in recipe.engines} == {recipe.format.value}

    def test_float_is_made_first_even_where_it_may_not_ship_since_it_is_the_measure(self) -> None:
        assert names("int8", source=Format.ONNX) == ["onnx-float32", "onnx-int8 quantize-onnx"]
        assert names(FLOAT, source=Format.ONNX) == ["onnx-float32"]

    def test_the_order_of_precisions_is_that_of_the_recipes(self) -> None:
        passes = [step("q4", Format.ONNX, Format.ONNX, "int4"), *all_passes()]
        recipes = plan(model(Format.ONNX), PI, ("int4", "int8", FLOAT), passes)
        assert [each.precision for each in recipes] == [FLOAT, "int4", "int8"]

    def test_a_precision_that_no_pass_makes_is_left_out(self) -> None:
        assert names("int4", source=Format.ONNX) == ["onnx-float32"]

    @pytest.mark.parametrize("precisions", [("int8",), (FLOAT,), ("int8", FLOAT)])
    def test_a_quantized_model_is_taken_as_it_is(self, precisions: tuple[str, ...]) -> None:
        assert names(*precisions, source=Format.TFLITE, quantized=True) == ["tflite-int8"]

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
            plan(model(source, quantized), target, ("int8",), all_passes())
        assert str(caught.value).startswith(told)
        assert caught.value.exit_code == 1

    @given(
        st.sampled_from(list(Format)),
        st.booleans(),
        st.sampled_from(targets.names()),
        st.lists(st.sampled_from(["int8", FLOAT, "int4"]), min_size=1, max_size=3),
    )
    def test_every_plan_begins_with_its_measure_and_every_recipe_leads_to_its_format(
        self, form: Format, quantized: bool, name: str, precisions: list[str]
    ) -> None:
        source, target = model(form, quantized), targets.load(name)
        try:
            recipes = plan(source, target, precisions, all_passes())
        except ConversionError:
            assert quantized or form is not Format.KERAS
            return
        assert len({each.name for each in recipes}) == len(recipes)
        assert recipes[0].precision == ("int8" if quantized else FLOAT)
        for recipe in recipes:
            forms = [form, *(each.produces for each in recipe.passes)]
            assert forms[-1] is recipe.format
            assert all(each.accepts is before for each, before in zip(recipe.passes, forms, strict=False))
            assert recipe.engines
            assert recipe.precision in ({"int8"} if quantized else {FLOAT, *precisions})


class TestWay:
    def test_to_itself_nothing_has_to_be_done(self) -> None:
        assert [way(form, form, all_passes()) for form in Format] == [(), (), ()]

    def test_there_may_be_none(self) -> None:
        assert way(Format.TFLITE, Format.ONNX, all_passes()) is None
        assert way(Format.KERAS, Format.ONNX, []) is None

    def test_the_shortest_is_taken_and_a_circle_does_no_harm(self) -> None:
        long = [step("k-t", Format.KERAS, Format.TFLITE), step("t-o", Format.TFLITE, Format.ONNX)]
        back, short = step("o-k", Format.ONNX, Format.KERAS), step("k-o", Format.KERAS, Format.ONNX)
        assert way(Format.KERAS, Format.ONNX, [*long, back]) == tuple(long)
        assert way(Format.KERAS, Format.ONNX, [*long, back, short]) == (short,)

    def test_a_pass_that_changes_the_precision_is_no_way(self) -> None:
        assert way(Format.KERAS, Format.ONNX, [step("k-o", Format.KERAS, Format.ONNX, "int8")]) is None

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
    (recipe, *_) = plan(model(Format.ONNX), PI, ("int8",), all_passes())
    assert replace(recipe, precision="int4").name == "onnx-int4"
