"""Checks beyond the types of the fields: that records are consistent with each other.

The same checks run before writing and after reading, so a file never holds a step that cannot be read back,
and a reader of any file meets no index out of range and no loop of absurd length.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from tracer.schema.beams import BeamEnd, ConstraintStep, Continuation, Hypothesis
from tracer.schema.cache import CacheState
from tracer.schema.calls import CallLayout, CallShape
from tracer.schema.checks import OF_WHOLE_RUNS, Check, Violation
from tracer.schema.columns import NO_TOKEN, ScoreColumns
from tracer.schema.fork import ForkOrigin
from tracer.schema.ranking import RowRanking
from tracer.schema.run import RunEnd, RunHeader
from tracer.schema.step import Draw, ForwardResult, ModelInputs, Step, StepHead
from tracer.schema.tensors import MAX_RUNS, MAX_VALUES, IntValues, NamedTensor, TensorInfo
from tracer.tracefile.encoding.native.compiled import are_within

MAX_STEPS = 1 << 24
"""Most steps of a run."""

MAX_ADDED_POSITIONS = 1 << 20
"""Most positions of a row that are no tokens of its prompt: embeddings, and a cache from before the run."""

MAX_ADDED_IDS = 1024
"""Most ids of a row that a model is fed beyond its sequence, such as a placeholder for the next token."""

MAX_VOCABULARY = 1 << 21
MAX_STAGE_SCORES = 1 << 26
"""Most scores of one row over all stages: readers lay them out one beside the other."""

MAX_STEP_SCORES = 1 << 28
"""Most scores of one stage over all rows."""

MAX_LAYERS = 100_000
MAX_DIMENSIONS = 64
MAX_FAULTS = 4096
"""Most violations of a step beyond one for each module and row, and most of its capture errors."""

MAX_CHECKS = 64
MAX_CONTINUATIONS = 1 << 16
MAX_SECONDS = 1e10

INT32 = 1 << 31
INT64 = 1 << 63


def check_header(header: RunHeader) -> None:
    """Check a header by itself.

    Raises:
        ValueError: it contradicts itself.
    """
    model = header.model
    layers, vocabulary = model.layers, model.vocab_size
    _require(layers is None or 0 <= layers <= MAX_LAYERS, "the header has an impossible number of layers")
    _require(vocabulary is None or 0 <= vocabulary < INT32, "the header has an impossible vocabulary")
    sizes = (model.hidden_size, model.intermediate_size, model.query_heads, model.kv_heads, model.head_dim)
    for size in (*sizes, model.max_positions, model.parameters, header.max_length):
        _require(size is None or -INT64 <= size < INT64, "the header has an impossible size")
    added = (header.embedded, header.cached)
    known = min(added) >= 0 and max(added) <= MAX_ADDED_POSITIONS
    _require(known, "the header has an impossible number of positions")
    _require(0 < header.capture.candidates < INT32, "the header has an impossible number of candidates")
    _require(header.seed is None or -INT64 <= header.seed < 2 * INT64, "the header has an impossible seed")
    _require(bool(header.prompt), "the header has no row")
    _require(
        0 < header.passes <= 1 + MAX_CONTINUATIONS, "the header has an impossible number of forward passes"
    )
    for row in header.prompt:
        _require(0 <= row.padding <= len(row.token_ids), "the header has an impossible padding")
        _check_places(row.images, len(row.token_ids))
    _check_sequences([row.token_ids for row in header.prompt], "the header")
    _check_modules([each.module for each in header.not_seen], header)
    _check_fork(header.fork, len(header.prompt))


def _check_fork(fork: ForkOrigin | None, rows: int) -> None:
    if fork is None:
        return
    _require(0 < fork.run < INT32 and 0 < fork.step <= MAX_STEPS, "the header has an impossible fork")
    _require(fork.seed is None or 0 <= fork.seed < 2 * INT64, "the header has an impossible seed")
    _check_optional(fork.row, rows)
    for token in (*fork.banned, *(() if fork.token is None else (fork.token,))):
        _require(0 <= token < INT32, "the header has an impossible token id")


def check_end(end: RunEnd, header: RunHeader) -> None:
    """Check an end record by itself and against its run's header.

    Raises:
        ValueError: it contradicts itself or the header.
    """
    rows = len(header.prompt)
    _require(0 <= end.steps <= MAX_STEPS, "the end record has an impossible number of steps")
    _check_seconds((end.seconds, end.queue_wait_seconds, end.halted_seconds), "the end record")
    for count in (end.queue_peak_bytes, end.queue_waits, end.tensors_stopped_at or 0):
        _require(0 <= count < INT64, "the end record has an impossible count")
    for found, what in ((end.sequences, "the end record"), (end.texts, "the end record's texts")):
        fits = len(found) in (0, rows) if end.beams is None else _are_returned(len(found), end.beams)
        _require(fits, f"{what} and the header's prompt differ in rows")
    _check_sequences(end.sequences, "the end record")
    if end.beams is not None:
        _check_outcomes(end.beams, rows)
    _check_checks(end.checks, end.violations, "the end record", of_run=True)
    _require(len(end.violations) <= MAX_FAULTS, "the end record has impossibly many violations")
    for violation in end.violations:
        _check_optional(violation.row, len(end.sequences))


def _check_checks(
    checks: Sequence[Check], violations: Sequence[Violation], what: str, *, of_run: bool = False
) -> None:
    _require(len(checks) <= MAX_CHECKS, f"{what} has impossibly many checks")
    counts = [count for check in checks for count in (check.checked, check.total)]
    possible = not counts or (min(counts) >= 0 and max(counts) < INT64)
    _require(possible, "a check has an impossible count")
    names = {*[check.name for check in checks], *[violation.check for violation in violations]}
    fits = names <= OF_WHOLE_RUNS if of_run else names.isdisjoint(OF_WHOLE_RUNS)
    _require(fits, f"{what} has a check of another place")


def _are_returned(count: int, beams: BeamEnd) -> bool:
    """Whether a search may return so many sequences: the same number for each row of the batch."""
    each, rest = divmod(count, max(len(beams.rows), 1))
    return rest == 0 and (not count or all(len(row.returned) <= each <= beams.beams for row in beams.rows))


def _check_outcomes(beams: BeamEnd, rows: int) -> None:
    """Check the hypotheses of a beam search."""
    _require(beams.beams * len(beams.rows) == rows, "the hypotheses and the header's prompt differ in rows")
    even = 0 < beams.groups <= beams.beams and beams.beams % beams.groups == 0
    _require(even, "the beams are not in groups of one size")
    for row in beams.rows:
        count = len(row.hypotheses)
        numbers = (*row.kept, *row.returned)
        known = all(0 <= number < count for number in numbers) and len({*row.returned}) == len(row.returned)
        _require(known, "the end record names an unknown hypothesis")
        _check_hypotheses(row.hypotheses, rows)


def _check_hypotheses(hypotheses: Sequence[Hypothesis], rows: int) -> None:
    for each in hypotheses:
        known = 0 <= each.row < rows and 0 <= each.step <= MAX_STEPS and 0 <= each.number < INT32
        _require(known and 0 <= each.length < INT32, "a hypothesis is impossible")
        _require(each.token is None or 0 <= each.token < INT32, "a hypothesis ends with an impossible token")


def check_step(step: Step, header: RunHeader) -> None:
    """Check a step against its own arrays and its run's header.

    Raises:
        ValueError: it contradicts itself or the header.
    """
    head = step.head
    _check_head(head, header)
    scores, cache, modules, layout = step.scores, step.cache, step.modules, step.layout
    rows = head.ids_before.shape[0]
    if scores is not None:
        _require(scores.kept.shape == (head.stages, rows), "scores and head differ in stages or rows")
        whole = head.failure is not None or head.stages == 1 + len(header.processors)
        _require(whole and head.stages > 0, "the scores have fewer stages than processors")
        _check_scores(scores, head)
    if cache is not None:
        _require(cache.key_norm.shape[1] == rows, "cache columns and head differ in rows")
    _require((modules is None) == (layout is None), "module columns and layout do not belong together")
    if modules is not None and layout is not None:
        _require(modules.shapes.shape == (len(layout.modules),), "module columns and layout differ in length")


def check_layout(layout: CallLayout, header: RunHeader) -> None:
    """Check a layout against its run's header.

    Raises:
        ValueError: it names a module that the model has not.
    """
    for indices in (layout.modules, layout.not_called):
        _check_modules(indices, header)


def check_call_shape(shape: CallShape) -> None:
    """Check the tensors of a call shape.

    Raises:
        ValueError: a shape is impossible.
    """
    _check_tensors((*shape.inputs, *shape.outputs))


def _check_head(head: StepHead, header: RunHeader) -> None:
    _check_tensors(_tensors(head))
    rows = head.ids_before.shape[0] if head.ids_before.shape else -1
    _require(rows == len(header.prompt), "the step and the header's prompt differ in rows")
    _check_sizes(head, rows, header)
    _check_seconds((head.started, head.forward_seconds, head.seconds), "the step")
    # In a contrastive search each row goes in once for each candidate.
    added = MAX_CONTINUATIONS if header.ranks else MAX_ADDED_IDS
    for tensor in head.inputs.tensors:
        _check_argument(tensor, rows * (len(header.prompt[0].token_ids) + head.step + added))
    if head.update is not None and head.update.cache_position is not None:
        _check_values(head.update.cache_position, head.inputs.sequence_length + MAX_ADDED_POSITIONS)
    _check_cache(head.cache_before)
    _check_cache(head.cache_after)
    _check_rows(head.unfinished, rows)
    _check_contrast(head, rows)
    _check_beams(head, rows, header)
    _check_assisted(head, rows)
    _check_contrastive(head, rows)
    _check_prompt_pass(head, rows, header)
    if head.draw is not None:
        _check_draw(head.draw)
    _check_faults(head, header)


def _check_sizes(head: StepHead, rows: int, header: RunHeader) -> None:
    """Check what decides how much a reader lays out for the step."""
    _require(0 <= head.stages <= 1 + len(header.processors), "the step has more stages than processors")
    _require(0 <= head.vocab_size <= MAX_VOCABULARY, "the step has an impossible vocabulary")
    _require(head.stages * head.vocab_size <= MAX_STAGE_SCORES, "the step has impossibly many scores")
    _require(rows * head.vocab_size <= MAX_STEP_SCORES, "the step has impossibly many scores")
    passes = (head.extra_forwards, head.prefill_chunks)
    possible = min(passes) >= 0 and max(passes) < INT32
    _require(possible, "the step has an impossible number of forward passes")
    _require(0 < head.passes <= header.passes, "the step has more forward passes than the run says")
    _require(0 < head.step <= MAX_STEPS, "the step has an impossible number")
    _check_positions(head.inputs, len(header.prompt[0].token_ids) + head.step + MAX_ADDED_POSITIONS)


def _check_positions(inputs: ModelInputs, longest: int) -> None:
    possible = 0 <= inputs.new_start <= inputs.sequence_length <= longest
    possible = possible and 0 <= inputs.leading <= inputs.sequence_length
    _require(possible, "the step has impossible positions")


def _check_scores(scores: ScoreColumns, head: StepHead) -> None:
    """Check the ids and counts of the score columns; a row that had ended may be filled with any id."""
    vocabulary = head.vocab_size
    lowest = 0 if head.failure is None else NO_TOKEN
    chosen = _within(scores.chosen, lowest, vocabulary - 1)
    chosen = chosen or _within(scores.chosen[~scores.finished], lowest, vocabulary - 1)
    for ids in (scores.tokens, scores.removed_tokens):
        known = chosen and _within(ids, NO_TOKEN, vocabulary - 1)
        _require(known, "the scores name a token outside the vocabulary")
    for counts in (scores.kept, scores.changed, scores.removed, scores.candidates):
        _require(_within(counts, 0, vocabulary), "the scores count more tokens than there are")
    _require(_within(scores.chosen_rank, 0, vocabulary + 1), "the scores have an impossible rank")


def _check_faults(head: StepHead, header: RunHeader) -> None:
    """Check what the step says of its checks, criteria and faults."""
    rows, modules = len(header.prompt), len(header.modules)
    for criterion in head.criteria:
        _require(0 <= criterion.index < len(header.criteria), "the step names an unknown stopping criterion")
        _check_rows(criterion.fired, rows)
    _require(len(head.criteria) <= len(header.criteria), "the step names a stopping criterion twice")
    _check_checks(head.checks, head.violations, "the step")
    _require(len(head.violations) <= MAX_FAULTS + modules + rows, "the step has impossibly many violations")
    _require(len(head.errors) <= MAX_FAULTS, "the step has impossibly many capture errors")
    if head.failure is not None:
        _check_optional(head.failure.module, modules)
    _check_modules([each.module for each in head.changed_by_hook], header)
    _check_modules([each.module for each in head.not_seen], header)
    for violation in head.violations:
        _check_optional(violation.row, rows)
        _check_optional(violation.module, modules)
        _check_optional(violation.layer, MAX_LAYERS)


def _check_contrast(head: StepHead, rows: int) -> None:
    """Check the layers and tokens of a contrast."""
    contrast = head.contrast
    if contrast is None:
        return
    layers = [each.layer for each in contrast.layers]
    known = contrast.taken in layers and len({*layers}) == len(layers)
    _require(known and 0 <= min(layers) <= max(layers) < MAX_LAYERS, "the step contrasts impossible layers")
    _require(len(contrast.kept) == len(contrast.tokens) == rows, "the contrast and the step differ in rows")
    counts = (*contrast.kept, *map(len, contrast.tokens))
    ids = (each.token for row in contrast.tokens for each in row)
    _require(all(0 <= each <= head.vocab_size for each in counts), "the contrast has an impossible count")
    _require(all(0 <= each < head.vocab_size for each in ids), "the contrast names an unknown token")


def _check_beams(head: StepHead, rows: int, header: RunHeader) -> None:
    """Check the continuations and beams of a step."""
    beams = head.beams
    if beams is None:
        return
    fits = beams.beams * len(beams.rows) == rows == len(beams.parents)
    fits = fits and len(beams.before) == len(beams.scores) == rows
    fits = fits and 0 < beams.groups <= len(beams.rows) and len(beams.rows) % beams.groups == 0
    _require(fits, "the beams and the step differ in rows")
    for parent in beams.parents:
        _check_optional(parent, rows)
    for row in beams.rows:
        _require(len(row.continuations) <= MAX_CONTINUATIONS, "the step has impossibly many continuations")
        for each in row.continuations:
            _check_continuation(each, rows, head.vocab_size, len(header.criteria))
        _check_hypotheses(row.ended, rows)
    if beams.constraints is not None:
        _check_constraints(beams.constraints, rows)


def _check_continuation(each: Continuation, rows: int, vocabulary: int, criteria: int) -> None:
    """Check a continuation of a step with so many rows, of a run with so many stopping criteria."""
    _check_optional(each.parent, rows)
    _check_optional(each.row, rows)
    _check_rows(each.taken_by, rows)
    _require(0 <= each.token < vocabulary, "a continuation has an unknown token")
    known = all(0 <= number < criteria for number in each.criteria)
    _require(known and len(each.criteria) <= criteria, "a continuation names an unknown criterion")
    _require(each.bank is None or 0 <= each.bank < INT64, "a continuation is in an impossible bank")


def _check_constraints(found: ConstraintStep, rows: int) -> None:
    """Check how far the beams of a step have met their constraints."""
    _require(
        len(found.advancing) == len(found.progress) == rows, "the constraints and the step differ in rows"
    )
    _require(len(found.constraints) <= MAX_CONTINUATIONS, "the step has impossibly many constraints")
    for row in found.progress:
        _require(len(row) in (0, len(found.constraints)), "a row has other constraints than the step")
        for number, each in enumerate(row):
            _require(each.constraint == number, "a row has other constraints than the step")
    words = [word for each in found.constraints for word in each.words]
    reached = [part for row in found.progress for each in row for part in (each.so_far, each.next)]
    ids = itertools.chain(*words, *reached, *found.advancing)
    _require(all(0 <= token < INT32 for token in ids), "a constraint names an impossible token")


def _check_assisted(head: StepHead, rows: int) -> None:
    """Check the proposals of a step."""
    assisted = head.assisted
    if assisted is None:
        return
    counts = (len(assisted.proposals), len(assisted.appended), len(assisted.matched), assisted.forwards)
    _require(rows == 1, "an assisted step has several rows")
    _require(max(counts) <= MAX_CONTINUATIONS, "the step has impossibly many proposals")
    ids = (*(each.token for each in assisted.proposals), *assisted.appended, *assisted.matched)
    _require(all(0 <= token < INT32 for token in ids), "a proposal is an impossible token")
    _require(bool(assisted.appended), "an assisted step appends nothing")
    _check_seconds((assisted.seconds,), "the proposals")


def _check_contrastive(head: StepHead, rows: int) -> None:
    """Check the candidates of a step."""
    found = head.contrastive
    if found is None:
        return
    _require(len(found.rows) in (0, rows), "the ranking and the step differ in rows")
    for cache in (found.repeated, found.grown):
        _check_cache(cache)
    for row in found.rows:
        if row is not None:
            _check_ranking(row, head)


def _check_ranking(row: RowRanking, head: StepHead) -> None:
    count, length = len(row.candidates), head.inputs.sequence_length
    _require(0 < count <= MAX_CONTINUATIONS, "the step has an impossible number of candidates")
    _require(0 <= row.taken < count, "the step takes an unknown candidate")
    for each in row.candidates:
        _require(0 <= each.token < head.vocab_size, "a candidate is an unknown token")
        _require(0 <= each.position < length, "a candidate is compared with an unknown position")
        _require(each.similar is None or -INT32 <= each.similar < INT32, "a candidate has an impossible id")


def _check_prompt_pass(head: StepHead, rows: int, header: RunHeader) -> None:
    """Check the forward pass over the prompt, where a step has another one behind it."""
    found = head.prompt_pass
    if found is None:
        return
    length = len(header.prompt[0].token_ids)
    _check_positions(found.inputs, length + MAX_ADDED_POSITIONS)
    for tensor in found.inputs.tensors:
        _check_argument(tensor, rows * (length + MAX_ADDED_IDS))
    _check_cache(found.cache)
    _require(0 <= found.calls < INT32, "the pass over the prompt has an impossible number of calls")
    _check_seconds((found.seconds,), "the pass over the prompt")


def _check_draw(draw: Draw) -> None:
    for text in (draw.digest, draw.state):
        if text is not None:
            bytes.fromhex(text)


def _tensors(head: StepHead) -> list[TensorInfo]:
    """Every tensor that a head describes, except those of the cache."""
    found = [head.ids_before, *[tensor.info for tensor in head.inputs.tensors], *_results(head.forward)]
    if head.ids_after is not None:
        found.append(head.ids_after)
    if head.update is not None and head.update.attention_mask is not None:
        found.append(head.update.attention_mask)
    if head.prompt_pass is not None:
        found += [tensor.info for tensor in head.prompt_pass.inputs.tensors]
        found += _results(head.prompt_pass.forward)
    return found


def _results(result: ForwardResult | None) -> list[TensorInfo]:
    if result is None:
        return []
    hidden = () if result.hidden_states is None else (result.hidden_states,)
    return [result.logits, result.next_logits, *hidden]


def _check_tensors(tensors: Iterable[TensorInfo]) -> None:
    shapes = [tensor.shape for tensor in tensors]
    # Together: each alone would take several calls, of which a step has a hundred.
    _require(max(map(len, shapes), default=0) <= MAX_DIMENSIONS, "a tensor has too many dimensions")
    sizes = [*itertools.chain.from_iterable(shapes)]
    possible = not sizes or (min(sizes) >= 0 and max(sizes) < INT64)
    _require(possible, "a tensor has an impossible size")


def _check_argument(tensor: NamedTensor, ids: int) -> None:
    """Check the values of an argument: exactly as many as its shape has.

    Args:
        tensor: the argument.
        ids: most token ids that a step of the run can feed.
    """
    values = tensor.values
    if values is not None:
        count = _check_values(values, min(ids, MAX_VALUES) if tensor.name == "input_ids" else MAX_VALUES)
        fits = count + values.omitted == prod(tensor.info.shape)
        _require(fits, "an integer tensor and its shape differ in size")


def _check_values(values: IntValues, most: int) -> int:
    """Check values of a tensor, of which at most so many are recorded.

    Returns:
        How many are.
    """
    _require(len(values.runs) <= MAX_RUNS, "an integer tensor claims too many runs")
    total, possible = 0, values.omitted >= 0
    for start, step, count in values.runs:
        last = start + step * (count - 1)
        possible = possible and count > 0 and -INT64 <= start < INT64 and -INT64 <= last < INT64
        total += count
    _require(possible, "an integer tensor is damaged")
    _require(total <= most, "an integer tensor claims too many values")
    return total


def _check_cache(cache: CacheState) -> None:
    _require(0 <= cache.length < INT32, "the cache has an impossible length")
    following = 0
    for group in cache.groups:
        _require(following <= group.first <= group.last < MAX_LAYERS, "the cache has impossible layers")
        following = group.last + 1
        _check_tensors((group.key, group.value))


def _check_sequences(sequences: Sequence[Sequence[int]], what: str) -> None:
    """Check token ids, row by row."""
    for ids in sequences:
        _require(len(ids) == len(sequences[0]), f"the rows of {what} differ in length")
        if ids:
            _require(min(ids) >= -INT32 and max(ids) < INT32, f"{what} holds an impossible token id")


def _check_places(places: Sequence[int], length: int) -> None:
    """Check positions in a row of a prompt."""
    known = not places or (len(places) <= length and min(places) >= 0 and max(places) < length)
    _require(known, "the header names an unknown position")


def _check_modules(indices: Sequence[int], header: RunHeader) -> None:
    """Check indexes of modules."""
    known = not indices or (min(indices) >= 0 and max(indices) < len(header.modules))
    _require(known, "it names an unknown module")


def _check_seconds(times: Iterable[float], what: str) -> None:
    for seconds in times:
        _require(0 <= seconds <= MAX_SECONDS, f"{what} has an impossible duration")


def _within(values: npt.NDArray[np.int32], low: int, high: int) -> bool:
    within = are_within(values, low, high)
    if within is None:
        return not values.size or bool(values.min() >= low and values.max() <= high)
    return within


def _check_rows(rows: tuple[int, ...], count: int) -> None:
    _require(len(rows) <= count, "the step names a row twice")
    for row in rows:
        _require(0 <= row < count, "the step names an unknown row")


def _check_optional(index: int | None, count: int) -> None:
    _require(index is None or 0 <= index < count, "the step names an unknown row, module or layer")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
