"""From a caught step to its record; the heavy part runs on the thread that writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from hooks.caught_step import NOTHING_ELSE, Array, CaughtStep, LoopRecord, as_array
from hooks.integers import Integers, int_values, nonzero
from hooks.kv_cache.positions import check_positions
from hooks.loop.forward_arguments import with_mask
from hooks.modules.nonfinite import NonFinite, masked_calls, parents_of
from hooks.modules.records import CallDescriber, StepCalls
from hooks.scores.random_state import DrawRecorder
from hooks.tensors import to_host
from hooks.token_texts import TokenTexts
from tracer.analysis.scores.summary import summarise
from tracer.schema.assisted import AssistedStep
from tracer.schema.base import of_valid
from tracer.schema.beams import ConstraintStep
from tracer.schema.calls import CallLayout
from tracer.schema.checks import Check, Violation
from tracer.schema.columns import CacheColumns, ScoreColumns
from tracer.schema.faults import CaptureError, Uncaptured
from tracer.schema.ranking import ContrastiveStep
from tracer.schema.run import ModuleInfo, TokenText
from tracer.schema.step import (
    Criterion,
    ForwardResult,
    KwargsUpdate,
    ModelInputs,
    PromptPass,
    Step,
    StepHead,
)
from tracer.schema.tensors import NamedTensor, TensorInfo


class StepBuilder:
    """Builds the records of one run, step after step, in order.

    Args:
        run: number of the run.
        rows: rows of the batch.
        modules: registered modules.
        texts: looks up token texts.
        decoder: index of the module whose output are the hidden states.
        candidates: cap of the lists of recorded tokens.
        finished: ``[rows]`` rows that had ended before; None if none had.
        state_after: digest of the RNG state after the draw before the first one, if there was one.

    Attributes:
        steps: steps that came here, also those whose records could not be made.
    """

    def __init__(
        self,
        run: int,
        rows: int,
        modules: tuple[ModuleInfo, ...],
        texts: TokenTexts,
        *,
        decoder: int,
        candidates: int,
        finished: npt.NDArray[np.bool_] | None = None,
        state_after: str = "",
    ) -> None:
        self.steps = 0
        self._run = run
        self._decoder = decoder
        self._modules = modules
        self._parents = parents_of([module.name for module in modules])
        self._calls = CallDescriber(len(modules))
        self._texts = texts
        self._candidates = candidates
        self._draws = DrawRecorder(state_after)
        self._finished = np.zeros(rows, dtype=np.bool_) if finished is None else finished
        self._results = _Results(decoder)
        self._nonfinite_seen = False
        self._said: set[Uncaptured] = set()

    def build(self, caught: CaughtStep) -> tuple[Step, tuple[TokenText, ...]]:
        """The record of the next step, and the texts of token ids that it mentions for the first time.

        Args:
            caught: the step, on the host.
        """
        self.steps += 1
        scores = self._scores(caught)
        calls = self._calls.describe(caught.calls) if caught.calls else None
        loop = NOTHING_ELSE if caught.loop is None else caught.loop.describe(caught)
        arguments = _integers(caught.tensors.arguments)
        self._check(caught, calls, arguments)
        for check, violations in loop.checks:
            caught.checks.append(check)
            caught.violations += violations
        done = self._done(caught)
        step = Step(
            head=self._head(caught, calls, loop, arguments, done),
            scores=scores,
            modules=calls.columns if calls else None,
            cache=_cache_columns(as_array(caught.tensors.cache_norms)),
            layout=calls.layout if calls else None,
            shapes=calls.shapes if calls else {},
        )
        self._finished = caught.finished = done
        return step, self._texts.new(_mentioned(caught, step)) if self._texts.spells else ()

    def bare_head(self, caught: CaughtStep, error: CaptureError) -> StepHead:
        """The head of a step whose records could not be made: what is known without any tensor.

        Args:
            caught: the step.
            error: the fault that prevented the rest.
        """
        bare = CaughtStep(
            number=caught.number,
            started=caught.started,
            input_specs=[],
            others={},
            ids_spec=caught.ids_spec,
            sequence_length=caught.sequence_length,
            leading=caught.leading,
            fed=caught.fed,
            stages=caught.stages,
            errors=[*caught.errors, error],
            interventions=[*caught.interventions],
            failure=caught.failure,
            not_seen=caught.not_seen,
            changed_by_hook=caught.changed_by_hook,
            finished=caught.finished,
            seconds=caught.seconds,
        )
        return self._head(bare, None, NOTHING_ELSE, {}, self._done(bare))

    def _scores(self, caught: CaughtStep) -> ScoreColumns | None:
        if caught.summary is not None:
            return caught.summary.columns(self._finished)
        stages, chosen = caught.tensors.scores, caught.tensors.chosen
        if stages is None or chosen is None:
            return None
        scores = [to_host(stage) for stage in stages]
        return summarise(scores, to_host(chosen), self._finished, self._candidates)

    def _done(self, caught: CaughtStep) -> npt.NDArray[np.bool_]:
        """Rows that had ended by the end of the step; later ones may have been built since."""
        if caught.finished is not None:
            return caught.finished
        done = caught.tensors.done
        if done is None or (done.shape == self._finished.shape and not any(done.tolist())):
            return self._finished
        ended: npt.NDArray[np.bool_] = self._finished | to_host(done)
        return ended

    def _check(self, caught: CaughtStep, calls: StepCalls | None, arguments: Mapping[str, Integers]) -> None:
        if caught.cache_read is not None:
            reading, sums = caught.cache_read
            _settle(caught, *reading.check(sums, caught.rows))
        reason = caught.model.positions
        if reason is not None:
            reason = f"{caught.model.name}: {reason}"
            caught.checks.append(Check.not_made("positions", reason, total=caught.rows))
        else:
            _settle(caught, *_positions(caught, arguments))
        if calls is not None:
            self._check_modules(caught, calls)

    def _check_modules(self, caught: CaughtStep, calls: StepCalls) -> None:
        called = len(self._modules) - len(calls.layout.not_called)
        caught.checks.append(Check.made("modules", holds=True, checked=called, total=len(self._modules)))
        if not calls.reduced:
            return
        masked: Set[int] = set()
        if calls.nonfinite:
            masked = masked_calls(calls.columns.nonfinite, calls.layout.modules, self._parents)
        first = next((call for call in sorted(calls.nonfinite) if call not in masked), None)
        note = self._note(calls, masked)
        total = len(calls.layout.modules)
        caught.checks.append(
            Check.made("finite", holds=first is None, checked=calls.reduced, total=total, note=note)
        )
        if first is not None and not self._nonfinite_seen:
            self._nonfinite_seen = True
            module = calls.layout.modules[first]
            name = self._modules[module].name
            caught.violations += _nonfinite(name, module, calls.nonfinite[first], caught.rows)

    def _note(self, calls: StepCalls, masked: Set[int]) -> str | None:
        """What else there is to say of the search for values that are not finite."""
        notes = []
        if masked:
            names = self._names(calls, sorted(masked))
            notes.append(f"not finite, but masked by the module around it: {names}")
        if calls.unreadable:
            first = min(calls.unreadable)
            names = self._names(calls, sorted(calls.unreadable))
            notes.append(f"without statistics: {names} ({calls.unreadable[first]})")
        return "; ".join(notes) or None

    def _names(self, calls: StepCalls, found: Sequence[int]) -> str:
        names = [*dict.fromkeys(self._modules[calls.layout.modules[call]].name for call in found)]
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return (names[0] or "the model itself") + others

    def _head(
        self,
        caught: CaughtStep,
        calls: StepCalls | None,
        loop: LoopRecord,
        arguments: Mapping[str, Integers],
        done: npt.NDArray[np.bool_],
    ) -> StepHead:
        over = done.tolist()
        return of_valid(
            StepHead,
            run=self._run,
            step=caught.number,
            inputs=_inputs(caught, arguments),
            cache_before=caught.cache_before.record,
            cache_after=caught.cache_after.record,
            forward=self._results.of(caught, calls),
            stages=caught.stages,
            vocab_size=_width(caught),
            ids_before=caught.ids_before,
            ids_after=caught.ids_after,
            update=_update(caught),
            criteria=_criteria(caught),
            unfinished=tuple([row for row in range(caught.rows) if not over[row]]),
            layout=calls.layout_number if calls else None,
            passes=caught.passes,
            extra_forwards=caught.extra_forwards,
            prefill_chunks=caught.prefill_chunks,
            contrast=loop.contrast,
            beams=loop.beams,
            assisted=loop.assisted,
            contrastive=loop.contrastive,
            prompt_pass=_prompt_pass(caught, calls, self._results),
            draw=self._draws.record(caught.rng) if caught.rng else None,
            checks=tuple(caught.checks),
            violations=tuple(caught.violations),
            errors=tuple(caught.errors),
            uncaptured=self._new(caught.uncaptured),
            interventions=tuple(caught.interventions),
            failure=caught.failure,
            not_seen=caught.not_seen,
            changed_by_hook=caught.changed_by_hook,
            started=caught.started,
            forward_seconds=caught.forward_seconds,
            seconds=caught.seconds,
        )

    def _new(self, uncaptured: Sequence[Uncaptured]) -> tuple[Uncaptured, ...]:
        """Those that no earlier step has said."""
        found = tuple(each for each in uncaptured if each not in self._said)
        self._said.update(found)
        return found


class _Results:
    """Adds to results of forward passes what the decoder stack returned; steps in a row share one record.

    Args:
        decoder: index of the module that is the decoder stack.
    """

    def __init__(self, decoder: int) -> None:
        self._decoder = decoder
        self._layout: CallLayout | None = None
        self._places: dict[tuple[int, int], int | None] = {}
        self._last: tuple[ForwardResult, TensorInfo | None, bool, ForwardResult] | None = None

    def of(self, caught: CaughtStep, calls: StepCalls | None) -> ForwardResult | None:
        """Specs of the results of a step's own forward passes.

        Args:
            caught: the step.
            calls: its module calls.
        """
        if caught.forward is None or calls is None:
            return caught.forward
        first = 0 if caught.prompt is None else caught.prompt.calls
        places = range(first, len(calls.layout.modules))
        return self.with_hidden_states(caught.forward, calls, places, stacked=caught.passes > 1)

    def with_hidden_states(
        self, result: ForwardResult, calls: StepCalls, places: range, *, stacked: bool = False
    ) -> ForwardResult:
        """A result with what the decoder stack returned.

        Args:
            result: the result.
            calls: the module calls of the step.
            places: those among the calls that belong to the forward pass.
            stacked: whether the result is that of several forward passes, of rows of each.
        """
        place = self._place(calls.layout, places)
        if place is None:
            return result
        outputs = calls.shapes[int(calls.columns.shapes[place])].outputs
        states = outputs[0] if outputs else None
        last = self._last
        if last is None or last[0] is not result or last[1] is not states or last[2] != stacked:
            last = self._last = (result, states, stacked, _with_hidden_states(result, states, stacked))
        return last[3]

    def _place(self, layout: CallLayout, places: range) -> int | None:
        """The first call of the decoder stack among some calls."""
        if layout is not self._layout:
            self._layout, self._places = layout, {}
        key = places.start, places.stop
        if key not in self._places:
            found = (place for place in places if layout.modules[place] == self._decoder)
            self._places[key] = next(found, None)
        return self._places[key]


def _with_hidden_states(result: ForwardResult, states: TensorInfo | None, stacked: bool) -> ForwardResult:
    if stacked and states is not None:
        whole = (result.logits.shape[0], *states.shape[1:])
        states = states.model_copy(update={"shape": whole})
    return result.model_copy(update={"hidden_states": states})


_OTHERWISE = {
    True: "reads more than tokens, which may take slots and positions of their own",
    False: "is not known to take one slot and position for each token",
}
"""Why a rule may not apply, by whether the model is known to keep it where it reads tokens alone."""


def _settle(caught: CaughtStep, check: Check, violations: Sequence[Violation]) -> None:
    """Add a check to the step; one that fails was not made where its rule is not known to apply."""
    if check.failed and not caught.ordinary:
        reason = f"{caught.model.name} {_OTHERWISE[caught.model.ordinary]}"
        note = violations[0].message
        check = Check.not_made(check.name, reason, total=check.total).model_copy(update={"note": note})
        violations = ()
    caught.checks.append(check)
    caught.violations += violations


def _integers(tensors: Mapping[str, torch.Tensor]) -> dict[str, Integers]:
    """The integer arguments of a forward pass on the host."""
    return {name: Integers(tensor) for name, tensor in tensors.items()}


def _positions(caught: CaughtStep, arguments: Mapping[str, Integers]) -> tuple[Check, tuple[Violation, ...]]:
    """The check of the positions, in both forward passes of a step that has two."""
    values = _with_whole_mask(caught, arguments)
    # Without a cache every step feeds the whole sequence: nothing is cached, all of it is new.
    rows, candidates = caught.rows, caught.candidates
    check, found = check_positions(values, cached=caught.cached, new=caught.fed, rows=rows * candidates)
    if candidates > 1:
        check, found = _by_row(check, found, rows, candidates)
    check, found = _with_later(caught, check, found)
    if caught.prompt is None or check.result == "not made":
        return check, found
    values = _integers(caught.tensors.prompt)
    cached = caught.cache_before.positions
    first, before = check_positions(values, cached=cached, new=caught.prompt.fed, rows=rows)
    holds = check.held and not first.failed
    return Check.made("positions", holds=holds, checked=rows, total=rows), (*before, *found)


def _with_later(
    caught: CaughtStep, check: Check, violations: tuple[Violation, ...]
) -> tuple[Check, tuple[Violation, ...]]:
    """The check with that of the later forward passes, which read at the same place."""
    if not caught.tensors.later:
        return check, violations
    given: dict[int, dict[str, Integers]] = {}
    for (number, name), tensor in caught.tensors.later.items():
        given.setdefault(number, {})[name] = Integers(tensor)
    for values in given.values():
        other, found = check_positions(values, cached=caught.cached, new=caught.fed, rows=caught.rows)
        check = other if check.held and other.failed else check
        violations = (*violations, *(each for each in found if each not in violations))
    return check, violations


def _by_row(
    check: Check, violations: tuple[Violation, ...], rows: int, candidates: int
) -> tuple[Check, tuple[Violation, ...]]:
    """A check of rows that each went in once for each candidate, by the rows themselves."""
    counts = {"checked": check.checked // candidates, "total": rows}
    found = (
        each if each.row is None else each.model_copy(update={"row": each.row // candidates})
        for each in violations
    )
    return check.model_copy(update=counts), tuple(dict.fromkeys(found))


def _prompt_pass(caught: CaughtStep, calls: StepCalls | None, results: _Results) -> PromptPass | None:
    """The record of the forward pass over the prompt, where the step has another one behind it."""
    found = caught.prompt
    if found is None:
        return None
    result = found.forward
    if result is not None and calls is not None:
        result = results.with_hidden_states(result, calls, range(found.calls))
    return PromptPass(
        inputs=ModelInputs(
            tensors=_named_tensors(found.inputs, _integers(caught.tensors.prompt)),
            others=found.others,
            sequence_length=found.sequence_length,
            new_start=max(0, found.sequence_length - found.fed),
            leading=caught.leading,
        ),
        cache=found.cache.record,
        forward=result,
        calls=found.calls,
        seconds=found.seconds,
    )


def _with_whole_mask(caught: CaughtStep, arguments: Mapping[str, Integers]) -> Mapping[str, Integers]:
    """The integer arguments with the mask over the whole sequences."""
    mask = caught.tensors.mask
    # A model that is not given the mask does not follow it.
    if mask is None or not caught.has_input("attention_mask"):
        return arguments
    return with_mask(arguments, Integers(mask))


def _named_tensors(
    specs: Iterable[tuple[str, TensorInfo]], values: Mapping[str, Integers]
) -> tuple[NamedTensor, ...]:
    """Records of tensor arguments, with the values of those that were caught."""
    return tuple(
        [
            of_valid(
                NamedTensor, name=name, info=info, values=values[name].record if name in values else None
            )
            for name, info in specs
        ]
    )


def _inputs(caught: CaughtStep, arguments: Mapping[str, Integers]) -> ModelInputs:
    return of_valid(
        ModelInputs,
        tensors=_named_tensors(caught.inputs, arguments),
        others=caught.others,
        sequence_length=caught.sequence_length,
        new_start=max(0, caught.sequence_length - caught.fed),
        leading=caught.leading,
    )


def _update(caught: CaughtStep) -> KwargsUpdate | None:
    if not caught.updated:
        return None
    position = caught.tensors.next_position
    return of_valid(
        KwargsUpdate,
        attention_mask=caught.next_mask,
        cache_position=None if position is None else int_values(position),
    )


def _criteria(caught: CaughtStep) -> tuple[Criterion, ...]:
    return tuple([_criterion(index, nonzero(answer)) for index, answer in caught.tensors.fired.items()])


@lru_cache(maxsize=64)
def _criterion(index: int, fired: tuple[int, ...]) -> Criterion:
    """In nearly all steps no criterion stops a row."""
    return Criterion(index=index, fired=fired)


def _cache_columns(norms: Array | None) -> CacheColumns | None:
    if norms is None:
        return None
    layers = len(norms) // 2
    norms = norms.astype(np.float32, copy=False)
    return CacheColumns(key_norm=norms[:layers], value_norm=norms[layers:])


_CAME = {
    True: "its inputs were finite",
    False: "its inputs were already not finite",
    None: "whether its inputs were finite is not known",
}


def _nonfinite(name: str, module: int, found: NonFinite, rows: int) -> list[Violation]:
    where = name or "the model itself"
    came = _CAME[found.inputs_finite]
    count = "how many values is not known" if found.count is None else f"{found.count} values"
    message = f"first non-finite output of the run: {where}, {count}; {came}"
    named: Sequence[int | None] = found.rows or ((0,) if rows == 1 else (None,))
    if named[0] is None:
        message += "; in which row is not known"
    return [Violation(check="finite", message=message, row=row, module=module) for row in named]


def _mentioned(caught: CaughtStep, step: Step) -> set[int]:
    """Ids in the lists and inputs of a step, and those that layers would have predicted (logit lens)."""
    ids = {*_of_loop(step.head)}
    for tensor in (caught.tensors.arguments.get("input_ids"), caught.tensors.saved.get("lens/tokens")):
        if tensor is not None:
            ids.update(tensor.flatten().tolist())
    scores = step.scores
    if scores is not None:
        ids.update(
            scores.tokens.ravel().tolist(), scores.removed_tokens.ravel().tolist(), scores.chosen.tolist()
        )
    return ids


def _of_loop(head: StepHead) -> Iterator[int]:
    """Ids that only one decoding loop mentions."""
    if head.contrast is not None:
        yield from (each.token for row in head.contrast.tokens for each in row)
    if head.beams is not None:
        yield from (each.token for row in head.beams.rows for each in row.continuations)
        if head.beams.constraints is not None:
            yield from _of_constraints(head.beams.constraints)
    if head.assisted is not None:
        yield from _of_proposals(head.assisted)
    if head.contrastive is not None:
        yield from _of_candidates(head.contrastive)


def _of_constraints(found: ConstraintStep) -> Iterator[int]:
    yield from (token for each in found.constraints for word in each.words for token in word)
    yield from (token for row in found.advancing for token in row)


def _of_proposals(assisted: AssistedStep) -> Iterator[int]:
    yield from assisted.appended
    for each in assisted.proposals:
        yield each.token
        if each.choice is not None:
            yield each.choice


def _of_candidates(contrastive: ContrastiveStep) -> Iterator[int]:
    for row in contrastive.rows:
        for each in () if row is None else row.candidates:
            yield each.token
            if each.similar is not None:
                yield each.similar


def _width(caught: CaughtStep) -> int:
    """Width of the scores: that of the logits, or more where a processor has added tokens."""
    logits = 0 if caught.forward is None else caught.forward.logits.shape[-1]
    return max(logits, caught.vocab_size)
