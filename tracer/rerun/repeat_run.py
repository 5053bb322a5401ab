"""Repeat a recorded run without tracing and compare the two: the proof that tracing changed nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from hooks.loop.model_arguments import takes_attention_mask
from hooks.loop.traced_model import generating_model
from hooks.tensors import saved_bytes
from tracer.analysis.rerun_plan import RerunPlan, plan_rerun, unset_arguments
from tracer.errors import GenerationError, TraceGenerateError
from tracer.loading.models import LoadedModel
from tracer.loading.progress import Progress, SilentProgress
from tracer.loading.quiet import quiet_library
from tracer.messages import named
from tracer.rerun.checks import checking_pipeline, compare_weights, version_differences
from tracer.rerun.model_source import ModelSource
from tracer.rerun.random_state import set_random_state
from tracer.rerun.recorded_model import model_of_run
from tracer.tracefile import TraceRun


@dataclass(frozen=True)
class Difference:
    """The first id that differs.

    Attributes:
        row: row of the batch; of a beam search, number of the sequence returned, from 0.
        token: its number among the ids generated, from 1.
        step: the step that chose it; None of a beam search.
    """

    row: int
    token: int
    step: int | None

    def __str__(self) -> str:
        if self.step is None:
            return f"returned another token {self.token} in sequence {self.row}"
        return f"chose another token in step {self.step}, row {self.row}"


@dataclass(frozen=True)
class RerunResult:
    """The outcome of a comparison.

    Attributes:
        same_ids: number of generated ids that are equal.
        ids: number of generated ids, over all rows.
        first_difference: the first id that differs; None if none does.
        same_logits: number of steps whose raw logits are equal bit for bit.
        logits: number of steps whose raw logits were saved.
        first_logits: the first step whose logits differ, and the largest difference there; None if none do.
        how: which random state it started from, in words.
        notes: differences of this environment from the one of the trace, one line each.
        same_weights: whether the model has the weights that the run had; None where that is not known.
    """

    same_ids: int
    ids: int
    first_difference: Difference | None
    same_logits: int
    logits: int
    first_logits: tuple[int, float] | None
    how: str
    notes: tuple[str, ...]
    same_weights: bool | None = None

    @property
    def ok(self) -> bool:
        """Whether everything is equal."""
        same = self.first_difference is None and self.same_logits == self.logits
        return same and self.same_weights is not False

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        if self.same_weights is False:
            return f"the weights are not the folder's (merged, edited or trained since); {self._comparison}"
        return self._comparison

    @property
    def _comparison(self) -> str:
        """What came of the generation, in one line."""
        if self.first_difference is not None:
            return f"an untraced run {self.how} {self.first_difference}"
        if self.first_logits is not None:
            step, most = self.first_logits
            return f"an untraced run {self.how} gave other logits in step {step}, by up to {most:.3g}"
        logits = f" and the same logits in {self.logits} of {self.logits} steps" if self.logits else ""
        return f"an untraced run {self.how} gave the same {self.ids} ids{logits}, bit for bit"


def rerun(
    run: TraceRun,
    *,
    model: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> RerunResult:
    """Load a run's model again, generate without tracing and compare with the record.

    Args:
        run: the recorded run.
        model: folder or hub id; None for the one in the trace.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: whether code that comes with the model may run.
        progress: receives the phases.

    Raises:
        UsageError: the run cannot be repeated, with the reason.
        GenerationError: generating failed.
        TraceGenerateError: the model cannot be loaded, as in a traced run.
    """
    progress = progress or SilentProgress()
    plan = plan_rerun(run)
    source = ModelSource(model, revision, trust_remote_code)
    with model_of_run(run, plan, source, progress) as loaded:
        weights = compare_weights(run, loaded.model)
        progress.phase("generating without tracing")
        with quiet_library():
            try:
                result = _Repetition(run, plan, loaded).result()
            except TraceGenerateError:
                raise
            except Exception as error:
                raise GenerationError(f"The repetition failed: {named(error)}") from error
    notes = result.notes if weights.note is None else (weights.note, *result.notes)
    return replace(result, same_weights=weights.same, notes=notes)


class _Repetition:
    """An untraced run, compared with its record."""

    def __init__(self, run: TraceRun, plan: RerunPlan, loaded: LoadedModel) -> None:
        self._run = run
        self._plan = plan
        self._model = loaded.model
        self._tokenizer = loaded.tokenizer
        self._forwards = 0
        self._parts: list[torch.Tensor] = []
        self._same_logits = 0
        self._first_logits: tuple[int, float] | None = None

    def result(self) -> RerunResult:
        """Generate and compare.

        Raises:
            UsageError: the recorded run does not follow from its settings.
        """
        output, recorded = self._generate(), self._plan.ids
        prompt = recorded.prompt.shape[1]
        equal = _equal(output, recorded.expected)[:, prompt:]
        return RerunResult(
            same_ids=int(equal.sum()),
            ids=equal.size,
            first_difference=self._first_difference(equal, longer=output.shape[1] - prompt > equal.shape[1]),
            same_logits=self._same_logits,
            logits=len(self._plan.logits_at),
            first_logits=self._first_logits,
            how=self._how,
            notes=version_differences(self._run),
        )

    def _first_difference(self, equal: npt.NDArray[np.bool_], *, longer: bool) -> Difference | None:
        """The first id that differs: in the order of the steps, or sequence by sequence.

        Args:
            equal: ``[sequences, generated]`` whether an id is the recorded one.
            longer: whether the repetition went on longer.
        """
        steps = self._plan.ids.steps
        if steps is None:
            wrong = [(row, column) for row, column in np.argwhere(~equal).tolist()]
        else:
            wrong = [(row, column) for column, row in np.argwhere(~equal.T).tolist()]
        if not wrong and longer:
            wrong = [(0, equal.shape[1])]
        if not wrong:
            return None
        row, column = wrong[0]
        step = None if steps is None else self._plan.steps + 1 if column == len(steps) else steps[column]
        return Difference(row, column + 1, step)

    def _generate(self) -> Any:
        plan, model = self._plan, self._model
        # As an argument it would be completed by the model's own end tokens where this run had none.
        model.generation_config = GenerationConfig(**plan.settings)
        # One step more than was recorded shows whether the repetition ends where it should.
        limit = plan.ids.length + (0 if plan.cut_short else 1)
        arguments: dict[str, Any] = unset_arguments(plan.settings)
        arguments["stopping_criteria"] = StoppingCriteriaList([_LengthLimit(limit)])
        if "stop_strings" in plan.settings:
            arguments["tokenizer"] = self._tokenizer
        if takes_attention_mask(generating_model(model)):
            arguments["attention_mask"] = torch.from_numpy(plan.ids.mask).to(model.device)
        handle = model.register_forward_hook(self._compare_logits) if plan.logits_at else None
        with checking_pipeline(self._run, model, extra_criteria=1):
            self._how = set_random_state(plan)
            try:
                output = model.generate(
                    input_ids=torch.from_numpy(plan.ids.prompt).to(model.device),
                    return_dict_in_generate=False,
                    **arguments,
                )
            finally:
                if handle is not None:
                    handle.remove()
        return output.cpu().numpy()

    def _compare_logits(self, _module: Any, _arguments: Any, outputs: Any) -> None:
        self._forwards += 1
        self._parts = [*self._parts, outputs.logits[:, -1, :].detach()][-self._plan.passes :]
        step = self._plan.logits_at.get(self._forwards)
        if step is None:
            return
        found = torch.cat(self._parts).contiguous().cpu()
        saved = self._run.saved_tensor(step, "logits")
        if saved.dtype == "float32":  # newer releases make them so before the first processor
            found = found.float()
        if self._run.header.rows_move:  # what a search has saved are log-probabilities
            found = found.log_softmax(dim=-1)
        if tuple(found.shape) == saved.shape and bytes(saved_bytes(found)) == saved.raw.tobytes():
            self._same_logits += 1
        elif self._first_logits is None:
            difference = np.abs(found.float().numpy() - saved.array().astype(np.float32))
            self._first_logits = (step, float(np.nanmax(difference)))


def _equal(found: npt.NDArray[np.int64], expected: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """For each expected id whether the one in its place is the same; one that is not there is not."""
    equal = np.zeros(expected.shape, dtype=np.bool_)
    width = min(found.shape[1], expected.shape[1])
    equal[:, :width] = found[:, :width] == expected[:, :width]
    return equal


class _LengthLimit(StoppingCriteria):  # type: ignore[misc]
    """Ends all rows at a sequence length."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return torch.full((len(input_ids),), input_ids.shape[1] >= self._length, device=input_ids.device)
