"""Compile engines by TensorRT: each precision has a graph of its own, whose form the speed of its plans decides.

Which form is the fastest nobody can tell without the GPU: leaving margins out saves 30 % of voc-fcn8s's arithmetic, and
costs subtractions, pads and small convolutions; deconvolutions and arg-maxes have been slow in some versions of the
library. So on a GPU a plan is built of each alternative, one choice after the other, and the faster one is kept. Where
there is none, the plan must plan its memory before it runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from fcnseg.engine.graph import GraphForm
from fcnseg.engine.precision import is_homogeneous, measure_ranges, quantize, with_headroom
from fcnseg.engine.runtimes.common import Compiled, GraphSource
from fcnseg.engine.runtimes.tensorrt.kernels import STRATEGY
from fcnseg.engine.runtimes.tensorrt.measure import has_gpu, image_seconds
from fcnseg.engine.runtimes.tensorrt.plan import Plan, build_plan
from fcnseg.errors import EngineError
from fcnseg.models import network_spec
from fcnseg.models.margins import applies

if TYPE_CHECKING:
    from fcnseg.engine.identity import EngineIdentity


def compile_engines(builder: GraphSource, identity: EngineIdentity, outputs: Mapping[Path, Sequence[str]]) -> Compiled:
    """Write plans with the outputs named for each file; the first file decides the form of all."""
    choices = {"kernels": STRATEGY} if identity.backend == "tensorrt-rtx" else {}
    for file, names in outputs.items():
        trials = _Trials(builder, identity, names)
        best = trials.best()
        file.write_bytes(best.built.content)
        choices["graph"] = str(best.form)
    return Compiled(best.graph, choices)


@dataclass(frozen=True)
class Trial:
    """A form of the graph, and the plan that was built of it, or the error; `seconds` an image takes, if measured."""

    form: GraphForm
    graph: Path
    plan: Plan | None
    error: EngineError | None = None
    seconds: float = 0.0

    @property
    def built(self) -> Plan:
        """The plan. Raises the error of building it."""
        if self.plan is None:
            raise self.error or EngineError(f"{self.form} was not built")
        return self.plan

    @property
    def rank(self) -> tuple[bool, float, bool]:
        """Less is better: built, then fast, then with its memory planned."""
        return self.plan is None, self.seconds, self.plan is not None and not self.plan.is_static


class _Trials:
    """The plans of one precision. What one of a job decides holds for its later ones: a note in its folder says so."""

    def __init__(self, builder: GraphSource, identity: EngineIdentity, outputs: Sequence[str]) -> None:
        self.builder, self.identity, self.outputs = builder, identity, outputs
        self.spec, self.on_gpu = network_spec(builder.recipe), has_gpu()
        self.note = builder.work / "form.json"
        self.number, self.ranges = 0, dict[bool, dict[str, float]]()

    def best(self) -> Trial:
        """Build the plans that there is a choice of, and return the best."""
        decided = json.loads(self.note.read_text()) if self.note.exists() else {}
        form = replace(GraphForm(skip_margins=applies(self.spec)), **decided)
        best = self._built(form)
        for name, value in self._alternatives(best):
            if name in decided:
                continue
            rival = self._built(replace(best.form, **{name: value}))
            best, other = sorted((best, rival), key=lambda trial: trial.rank)
            for file in other.graph.parent.glob(f"{other.graph.name}*"):
                file.unlink()  # with its numbers, hundreds of megabytes
            decided[name] = getattr(best.form, name)
        if self.on_gpu:
            self.note.write_text(json.dumps(decided))
        return best

    def _alternatives(self, first: Trial) -> Iterator[tuple[str, bool]]:
        """List the choices to try, each beside the best until then."""
        if first.form.skip_margins and (self.on_gpu or first.plan is None or not first.plan.is_static):
            yield "skip_margins", False
        if self.on_gpu:
            yield "subpixel", True
            yield "classes_last", True

    def _built(self, form: GraphForm) -> Trial:
        builder, identity = self.builder, self.identity
        self.number += 1
        phase = f"graph {self.number} ({form}), " if self.number > 1 else ""
        begin, share = (0.15, 0.1) if self.number == 1 else (0.15 + 0.05 * self.number, 0.05)
        graph = self._graph(form)
        try:
            plan = build_plan(
                graph,
                identity.backend,
                identity.shapes,
                outputs=self.outputs,
                on_progress=lambda name, fraction: builder.on_progress(phase + name.lower(), begin + share * fraction),
            )
            seconds = self._seconds(plan) if self.on_gpu else 0.0
        except EngineError as error:
            return Trial(form, graph, None, error)
        return Trial(form, graph, plan, None, seconds)

    def _seconds(self, plan: Plan) -> float:
        identity = self.identity
        return image_seconds(identity.backend, plan, self.builder.recipe, identity.shapes[0], identity.probabilities)

    def _graph(self, form: GraphForm) -> Path:
        """Write the graph of the precision, with the types that the plan computes in."""
        builder, precision = self.builder, self.identity.precision
        name = f"{precision}-{'-'.join(str(int(chosen)) for chosen in asdict(form).values())}"
        if precision != "int8":
            weights = builder.weights()
            if precision == "fp16" and is_homogeneous(self.spec):
                weights = with_headroom(weights, self.spec)
            return builder.write(name, weights=weights, precision=precision, form=form)
        builder.on_progress("calibrating", 0.1)
        model = onnx.load(builder.write(f"float-{name}", form=form))
        file = builder.work / f"{name}.onnx"
        if form.skip_margins not in self.ranges:  # nothing else changes what convolutions see
            self.ranges[form.skip_margins] = measure_ranges(model, builder.calibration())
        onnx.save(quantize(model, self.ranges[form.skip_margins]), file, save_as_external_data=True)
        return file
