"""Compare two runs step by step: where they diverge, and whether draw, rounding, cache or model is why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracer.analysis.diff.headers import check_comparable, header_differences, pair_rows, same_batch
from tracer.analysis.diff.layers import LayerComparison
from tracer.analysis.diff.reason import Evidence, find_reason
from tracer.analysis.diff.report import (
    DiffReport,
    HeaderDifference,
    LogitDistance,
    NumberDifference,
    RowPair,
    TokenDifference,
)
from tracer.analysis.diff.scores import compare_scores, logit_distance, same_origin, token_difference
from tracer.analysis.diff.tolerance import Tolerance
from tracer.analysis.runs import RecordedRun
from tracer.errors import UsageError
from tracer.schema.step import Step


def diff(
    a: RecordedRun,
    b: RecordedRun,
    *,
    tolerance: float | None = None,
    rows: Sequence[tuple[int, int]] | None = None,
) -> DiffReport:
    """Compare two runs of one model, step by step, until every pair of rows has diverged.

    Rows are compared while their texts are the same; a step's numbers are compared up to and including the
    step whose choice differs, since they precede the choice. Statistics of module calls cover whole batches
    and are compared only where both batches are identical; a row of a padded batch is compared with the same
    prompt alone by what is recorded per row: norms of keys and values, logits, scores, saved tensors.
    :class:`~tracer.analysis.diff.tolerance.Tolerance` says which distances count as rounding. Where no
    recorded setting explains another order or precision, a difference that begins in a module although an
    earlier module of the same class gave the same bits never counts as rounding.

    Args:
        a: run A.
        b: run B.
        tolerance: a relative tolerance in place of the built-in model; 0 for "to the last bit".
        rows: pairs of rows to compare; by default those with the same prompt, ignoring padding.

    Raises:
        UsageError: the runs are of different models, or the tolerance is negative.
    """
    if tolerance is not None and not tolerance >= 0:
        raise UsageError(f"a tolerance of {tolerance} is not possible: it must be at least 0")
    check_comparable(a.header, b.header)
    pairs = pair_rows(a.header, b.header, rows)
    differences = header_differences(a, b, pairs)
    walk = _Walk(a, b, pairs, differences, tolerance)
    walk.run()
    reason, explanation = find_reason(walk.evidence(differences, pairs))
    return DiffReport(
        same=reason in ("identical", "rounding") and walk.beyond is None and not walk.tokens,
        reason=reason,
        explanation=explanation,
        facts=differences,
        rows=pairs,
        tokens=tuple(walk.tokens),
        first=walk.first,
        first_beyond=walk.beyond,
        logits=tuple(walk.logits),
        steps=walk.steps,
        steps_a=len(a.steps),
        steps_b=len(b.steps),
        tolerance=tolerance,
        notes=_notes(a, b, pairs, walk),
    )


class _Walk:
    """Walks through both runs in parallel.

    Attributes:
        tokens: first differing token per pair.
        first: first number that differs.
        beyond: first number that is not explained.
        logits: distances of the raw logits.
        steps: steps compared.
        changed_step: first step that the user changed.
        notes: what else sets the texts apart.
    """

    def __init__(
        self,
        a: RecordedRun,
        b: RecordedRun,
        pairs: tuple[RowPair, ...],
        differences: Sequence[HeaderDifference],
        tolerance: float | None,
    ) -> None:
        self._a, self._b = a, b
        self._same_loop = a.header.loop == b.header.loop
        self._active = [pair for pair in pairs if pair.same_prompt]
        self._whole_batch = same_batch(a.header, b.header, pairs)
        # Settings of the choice and seeds do not affect the forward pass.
        unrelated = {"settings", "processors", "seed", "prompt", "model"}
        self._same_arithmetic = all(
            difference.kind in unrelated or difference.name == "trace-generate" for difference in differences
        )
        # At another position in the batch a row may be reduced in another order.
        self._same_arithmetic &= all(pair.a == pair.b for pair in pairs)
        self._fixed = tolerance
        self._tolerance = Tolerance.of(a.header.model.dtype, b.header.model.dtype, tolerance)
        self._layers = LayerComparison(a, b, self._tolerance)
        self.tokens: list[TokenDifference] = []
        self.first: NumberDifference | None = None
        self.beyond: NumberDifference | None = None
        self.logits: list[LogitDistance] = []
        self.steps = 0
        self.changed_step: int | None = None
        self.notes: list[str] = []

    def run(self) -> None:
        """Compare until all pairs have diverged or a run ends."""
        for left, right in zip(self._a.steps, self._b.steps, strict=False):
            if not self._active or left.number != right.number:
                return
            self.steps += 1
            self._step(left, right)

    def evidence(self, differences: tuple[HeaderDifference, ...], pairs: tuple[RowPair, ...]) -> Evidence:
        """What was found, as input of :func:`find_reason`."""
        return Evidence(
            differences=differences,
            pairs=pairs,
            token=min(self.tokens, key=lambda token: token.step, default=None),
            first=self.first,
            beyond=self.beyond,
            changed_step=self.changed_step,
            lengths=(len(self._a.steps), len(self._b.steps)),
            sampling=self._a.header.do_sample and self._b.header.do_sample,
            tolerance=self._fixed,
        )

    def _step(self, a: Step, b: Step) -> None:
        if self.changed_step is None and (a.head.interventions or b.head.interventions):
            self.changed_step = a.number
        self._compare_layers(a, b)
        for pair in list(self._active):
            if _ended(a, pair.a) or _ended(b, pair.b):
                self._active.remove(pair)
            else:
                self._row(a, b, pair)
        if a.parents and self.tokens:
            self._active.clear()  # any row may go on from one whose text is another

    def _compare_layers(self, a: Step, b: Step) -> None:
        if self.beyond is None:
            for found in self._layers.step(a, b, self._active, whole_batch=self._whole_batch):
                self._note(found, a)

    def _row(self, a: Step, b: Step, pair: RowPair) -> None:
        comparable = self._same_loop and same_origin(a, b, pair)
        if self.beyond is None and comparable:
            for found in compare_scores(self._a, self._b, a, b, pair, self._tolerance):
                self._note(found, a)
        distance = logit_distance(self._a, self._b, a, b, pair) if comparable else None
        if distance is not None:
            self.logits.append(distance)
        token = token_difference(a, b, pair)
        if token is not None:
            self.tokens.append(token)
            self._active.remove(pair)
            self._whole_batch = False
            if not same_origin(a, b, pair) and a.parents:
                self.notes.append(
                    f"In step {a.number} row {pair.a} goes on from row {a.parent(pair.a)} in A, "
                    f"row {pair.b} from row {b.parent(pair.b)} in B."
                )

    def _note(self, found: NumberDifference, step: Step) -> None:
        if self.first is None:
            self.first = found
            if self._fixed is None and self._same_arithmetic and self._layers.is_own(found, step):
                found = self.first = replace(found, allowed=0.0)
        if self.beyond is None and found.beyond:
            self.beyond = found


def _ended(step: Step, row: int) -> bool:
    """Whether a row had ended before a step."""
    return step.scores is not None and bool(step.scores.finished[row])


def _notes(a: RecordedRun, b: RecordedRun, pairs: Sequence[RowPair], walk: _Walk) -> tuple[str, ...]:
    notes = [*walk.notes]
    for name, run in (("A", a), ("B", b)):
        if run.end is None:
            notes.append(f"Run {name} has no end record: it is incomplete.")
        if any(step.modules is None for step in run.steps[:1]):
            notes.append(f"Run {name} recorded no statistics, so its modules cannot be compared.")
    left_out = len(a.header.prompt) + len(b.header.prompt) - 2 * len(pairs)
    if left_out:
        rows = "1 row" if left_out == 1 else f"{left_out} rows"
        notes.append(f"Left out: {rows} without a counterpart with the same prompt.")
    if not walk.logits and a.header.loop == b.header.loop:
        notes.append("Divergences of the logits need `--save logits` in both runs.")
    return tuple(notes)
