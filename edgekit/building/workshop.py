"""Workshop: makes candidates by their recipes; what several recipes share is done once."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import msgspec

from edgekit.building.candidate import Candidate
from edgekit.building.checks import check_loads, check_preprocess
from edgekit.building.order import Order
from edgekit.building.recipe import Recipe
from edgekit.building.step_cache import StepCache
from edgekit.data.dataset import Dataset, Kept, open_source
from edgekit.data.stability import Halves
from edgekit.model import Model
from edgekit.passes import Context, Pass, features, fit_onnx, fit_quantized, fit_tflite, fold_colours, freeze, training
from edgekit.passes.cutting import cut_onnx
from edgekit.precision import Calibrator, Precision, Quantization
from edgekit.quantization import activations, calibration, folding
from edgekit.quantization.calibration import Statistics
from edgekit.quantization.fidelity import Reference, settled
from edgekit.target import Target, needs
from edgekit_runtime.interface import Interface
from edgekit_runtime.session import Session


class Workshop:
    """Runs passes in folders of their own under ``folder``."""

    def __init__(
        self, target: Target, order: Order, folder: Path, tell: Callable[[str], None] = lambda line: None
    ) -> None:
        self.target, self.order, self._folder, self._tell = target, order, folder, tell
        self._made: dict[tuple[str, ...], Model] = {}
        self._sources: dict[str, Kept] = {}
        self._statistics: dict[str, Statistics] = {}
        self._halves: dict[str, Halves] = {}
        self._references: dict[str, Reference] = {}
        self._count = 0

    @property
    def latency_counts(self) -> bool:
        """Whether latencies are those of the target."""
        return self.order.clock is not None or platform.machine() == self.target.arch

    @property
    def where(self) -> str:
        """Where latencies are measured, after a verb."""
        return f" on {self.order.clock.device}" if self.order.clock else ""

    def make(self, source: Model, recipe: Recipe) -> Candidate:
        """The candidate, by the calibrator that serves it best where the order names none.

        Raises: ModelError, DataError, ConfigError, EngineError.
        """
        if not recipe.precision.calibrated or not recipe.passes:
            return self.variant(source, recipe, recipe.quantization)
        several = self.calibrators(recipe)
        if len(several) == 1:
            return self.variant(source, recipe, Quantization(recipe.precision, several[0]))
        losses, tried = list[float](), list[Candidate]()
        for loss, candidate in self._losses(source, recipe):
            losses.append(loss)
            tried.append(candidate)
            if settled(losses):
                break
        return tried[losses.index(min(losses))]

    def calibrators(self, recipe: Recipe) -> Sequence[Calibrator]:
        """Those that may set its ranges, in the order that they are tried in."""
        asked = [each for each in self.order.calibrators if each in recipe.precision.calibrators]
        return asked or recipe.precision.calibrators

    def _losses(self, source: Model, recipe: Recipe) -> Iterator[tuple[float, Candidate]]:
        """How far from the float model the candidate is by one calibrator after the other."""
        reference = self.reference(source, recipe)
        for each in self.calibrators(recipe):
            candidate = self.variant(source, recipe, Quantization(recipe.precision, each))
            with self.session(candidate.without_tail) as session:
                yield reference.loss(session), candidate

    def variant(self, source: Model, recipe: Recipe, quantization: Quantization) -> Candidate:
        """The candidate with this quantization. Raises: as ``make``."""
        recipe = replace(recipe, quantization=quantization)
        model = self.prepared(source, recipe)
        quantizers = [step for step in recipe.passes if step.precisions]
        last = (features.features,) if self.order.features else ()
        for step in (*quantizers, fit_quantized.fit_quantized, *last):
            model = self._run(step, model, quantization)
        check_preprocess(model, self.order.preprocess)
        return self._candidate(recipe, model)

    def prepared(self, source: Model, recipe: Recipe) -> Model:
        """The float model that is quantized in the end, or is the candidate itself."""
        model, way = source, tuple[str, ...]()
        for step in (
            cut_onnx.cut_onnx,
            training.keep_training,
            freeze.freeze,
            fit_onnx.fit_onnx,
            fit_tflite.fit_tflite,
            *(step for step in recipe.passes if not step.precisions),
            training.keep_training,
            freeze.freeze,
            *fold_colours.before(recipe.precision),
        ):
            check_preprocess(model, self.order.preprocess)
            way = (*way, step.name)
            if way not in self._made:
                self._made[way] = self._run(step, model, Quantization(Precision.FLOAT32))
            model = self._made[way]
        check_preprocess(model, self.order.preprocess)
        return model

    @contextmanager
    def trial(self, source: Model, recipe: Recipe, quantization: Quantization) -> Iterator[Candidate]:
        """A candidate for a moment; nothing is kept of it. Raises: as ``make``."""
        recipe = replace(recipe, quantization=quantization)
        context = self._context("trial", quantization)
        try:
            model = recipe.passes[-1].run(self.prepared(source, recipe), context)
            yield self._candidate(recipe, fit_quantized.fit(model, context))
        finally:
            rmtree(context.work, ignore_errors=True)

    def remembered(
        self, source: Model, recipe: Recipe, parts: Mapping[str, object], find: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """What ``find`` finds out about a recipe on the evaluation data, or found in an earlier build."""
        model = self.prepared(source, recipe)
        evaluation = self._source("evaluation").digest
        if not evaluation.startswith("sha256:"):
            return find()
        all_parts = {**self._parts(recipe.passes[-1], model, recipe.quantization), **parts, "evaluation": evaluation}
        return self._cache(source).document(all_parts, find)

    def samples(self, role: str, interface: Interface) -> Dataset:
        """The "calibration" or "evaluation" samples; as many as there is room for are read once in a build."""
        return Dataset(getattr(self.order, role), role, self._source(role), interface)

    def _source(self, role: str) -> Kept:
        if role not in self._sources:
            self._sources[role] = Kept(open_source(getattr(self.order, role), role, self.order.base))
        return self._sources[role]

    def session(self, candidate: Candidate, threads: int = 0) -> Session:
        """As on the device, but with no more threads than this host has cores. Raises: EngineError."""
        cores = min(self.target.threads, os.cpu_count() or 1)
        required = needs(candidate.recipe.engines, threads or cores)
        return Session(candidate.model.path.read_bytes(), candidate.interface, required)

    def reference(self, source: Model, recipe: Recipe) -> Reference:
        """What the float model of a recipe gives for calibration samples."""
        model = self.prepared(source, recipe)
        if model.digest not in self._references:
            with self.session(self._candidate(recipe, model).without_tail) as session:
                samples = self.samples("calibration", session.interface)
                self._references[model.digest] = Reference.of(session, samples)
        return self._references[model.digest]

    def sqnr_db(self, candidate: Candidate, reference: Reference) -> float:
        with self.session(candidate.without_tail) as session:
            return reference.sqnr_db(session)

    def statistics(self, model: Model) -> Statistics:
        """What calibration samples show within a float model."""
        if model.digest not in self._statistics:
            within, context = activations.of(model), self._context("observe", Quantization(Precision.FLOAT32))
            halves = self._halves[model.digest] = Halves()
            samples = halves.watch(activations.stream(within, context.feeds(model)))
            self._statistics[model.digest] = calibration.observe(samples)
        return self._statistics[model.digest]

    def unsettled(self) -> list[str]:
        """Where there are too few calibration samples: a line for the model that needs most."""
        found = max((each.stability for each in self._halves.values()), key=lambda each: each.more, default=None)
        return [found.line] if found and found.line else []

    def _candidate(self, recipe: Recipe, model: Model) -> Candidate:
        check_loads(model, recipe, self.target)
        declared = folding.steps(self.order.preprocess, model.lineage)
        left = folding.left(declared, model.inputs)
        candidate = Candidate(recipe, model, self.target, left, self.order.agreement)
        self.order.check_agreement(candidate.interface.outputs)
        return candidate

    def _run(self, step: Pass, model: Model, quantization: Quantization) -> Model:
        context = self._context(step.name, quantization)
        return self._cache(model).model(
            self._parts(step, model, quantization), context.work, partial(step.run, model, context)
        )

    def _cache(self, model: Model) -> StepCache:
        """None where a digest does not stand for the content: Python code."""
        known = self._source("calibration").digest.startswith("sha256:") and not model.factory
        return StepCache(self.order.cache) if known else StepCache()

    def _parts(self, step: Pass, model: Model, quantization: Quantization) -> dict[str, object]:
        """All that a step's result depends on."""
        return {
            "step": step.name,
            "model": [model.digest, *(spec.as_dict() for spec in (*model.inputs, *model.outputs)), *model.lineage],
            "tail": model.tail and model.tail.as_dict(),
            "head_layers": model.head_layers,
            "target": msgspec.to_builtins([self.target.onnx, self.target.engines]),
            "calibration": self._source("calibration").digest,
            "preprocess": {name: each.as_dict() for name, each in self.order.preprocess.items()},
            "precision": quantization.precision.value,
            "calibrator": quantization.calibrator.value,
            "float_layers": sorted(quantization.float_layers),
            "shapes": {name: list(shape) for name, shape in self.order.shapes.items()},
        }

    def _context(self, step: str, quantization: Quantization) -> Context:
        self._count += 1
        work = self._folder / f"{self._count}-{step}"
        work.mkdir()
        order = self.order
        return Context(
            work,
            self.target,
            partial(self.samples, "calibration"),
            order.preprocess,
            self.statistics,
            quantization,
            self._tell,
            order.shapes,
        )
