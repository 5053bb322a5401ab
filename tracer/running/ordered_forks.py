"""Generate the forks for which a user at a halt has left a run, with the model that is there already."""

from __future__ import annotations

from dataclasses import replace

from tracer.forking.forking import Onlookers, fork_with
from tracer.forking.order import ForkDesk
from tracer.loading.models import LoadedModel
from tracer.running.result import GenerationResult
from tracer.tracefile import TraceFile


def with_forks(
    result: GenerationResult, loaded: LoadedModel, desk: ForkDesk, onlookers: Onlookers
) -> GenerationResult:
    """Generate what lies on the desk, as long as something does.

    Args:
        result: of the run that is over, or was left.
        loaded: the model.
        desk: where a stop handler leaves its orders.
        onlookers: who follows the forks, as they have followed the run.

    Returns:
        The result of all of them, with the text of the last.

    Raises:
        TraceGenerateError: a fork is impossible, or generating failed; the trace is closed and kept.
    """
    # A trace that could not be written holds no run to go on from.
    while result.failure is None and (order := desk.take()) is not None:
        made = fork_with(loaded, result.path, order.run, order.fork, onlookers)
        result = replace(
            result,
            forks=(*result.forks, made),
            faults=(*result.faults, *made.faults),
            violated=result.violated or made.violated,
            hits=(*result.hits, *made.hits),
        )
    return _with_last_text(result, loaded) if result.forks else result


def _with_last_text(result: GenerationResult, loaded: LoadedModel) -> GenerationResult:
    with TraceFile(result.path) as recording:
        run = recording.run(result.forks[-1].run)
        sequences = () if run.end is None else run.end.sequences
        length = len(run.header.prompt[0].token_ids)
        token_ids = tuple(row[length:] for row in sequences)
    texts = tuple(loaded.tokenizer.batch_decode(token_ids, skip_special_tokens=True))
    return replace(result, token_ids=token_ids, texts=texts)
