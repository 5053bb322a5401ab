"""Which modules cannot be compared, since each run recorded its own process's part of their outputs."""

from __future__ import annotations

from tracer.analysis.runs import RecordedRun


def recorded_apart(a: RecordedRun, b: RecordedRun) -> frozenset[str]:
    """Names of modules whose recorded values are of other parts of the output in one run than in the other.

    Args:
        a: run A.
        b: run B.
    """
    ours, theirs = _in_part(a), _in_part(b)
    same_process = (a.header.rank, a.header.world_size) == (b.header.rank, b.header.world_size)
    return ours ^ theirs if same_process else ours | theirs


def _in_part(run: RecordedRun) -> frozenset[str]:
    """Modules of which one process's part is recorded; they are named where they are first called."""
    named = [each for step in run.steps[:1] for each in step.head.not_seen]
    modules = run.header.modules
    return frozenset(modules[each.module].name for each in named if each.reason == "spread")
