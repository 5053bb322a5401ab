"""What a user may expect of a fork that it does not do, one line each."""

from __future__ import annotations

from collections.abc import Iterator

from tracer.analysis.runs import RecordedRun
from tracer.forking.plan import SAMPLING_ONLY, ForkPlan
from tracer.schema.fork import ForkOrigin
from tracer.schema.run import RunStatus


def caveats(run: RecordedRun, number: int, plan: ForkPlan) -> tuple[str, ...]:
    """What can be said before it is generated.

    Args:
        run: the run that it branches off.
        number: number of that run.
        plan: how the fork is brought about.
    """
    return (*_not_repeated(run, number, plan), *_without_effect(plan))


def _not_repeated(run: RecordedRun, number: int, plan: ForkPlan) -> Iterator[str]:
    """What was done to the run from the step of the fork on, which the fork leaves to the model."""
    fork, origin = plan.fork, run.header.fork
    chooses = fork.token is None and not fork.banned
    later = run.steps[fork.step - (1 if chooses else 0) :]
    changed = next((step.number for step in later if step.head.interventions), None)
    if changed is not None:
        yield f"what was changed in step {changed} of run {number} or later is not repeated"
    if origin is not None and _drew_again_later(origin, plan):
        yield f"run {number} drew with seed {origin.seed} from step {origin.step} on, which is not repeated"


def _drew_again_later(origin: ForkOrigin, plan: ForkPlan) -> bool:
    seeded = origin.seed is not None and plan.samples
    return seeded and plan.fork.seed is None and plan.fork.step < origin.step


def _without_effect(plan: ForkPlan) -> Iterator[str]:
    names = [name for name in plan.fork.settings if name in SAMPLING_ONLY]
    names += [] if plan.fork.seed is None else ["seed"]
    if names and not plan.samples:
        yield f"{', '.join(names)}: without effect, since the best token is taken each time; --sample draws"


def early_end(forked: RecordedRun, plan: ForkPlan) -> tuple[str, ...]:
    """Why a fork has no step of its own, where its criteria ended it before.

    Args:
        forked: the fork, as it was generated.
        plan: how it was brought about.
    """
    steps, end = len(forked.steps), forked.end
    if steps >= plan.fork.step or end is None or end.status is not RunStatus.COMPLETE:
        return ()
    return (
        f"it ended with step {steps}, before step {plan.fork.step}: its settings hold for those before too",
    )
