"""Generate the forks of a recorded run with its model, and record each as a run of its own.

A fork repeats the run from its prompt: each step before the fork is given the recorded tokens, so that the KV
cache, the positions, rows that have ended and processors with a memory are what they were, whatever kind of
cache and processor the model has. From the step of the fork on it is the library's own ``generate()``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import GenerationConfig

from hooks.loop.course import Course, TokenChange
from hooks.loop.model_arguments import takes_attention_mask
from hooks.loop.traced_model import generating_model
from hooks.scores.random_state import set_generator_state
from hooks.scores.replay import TorchReplayer
from tracer.analysis.conditions.breaks import OnBreak
from tracer.analysis.conditions.condition import Condition, Hit
from tracer.analysis.draw import DrawStates
from tracer.analysis.rerun_plan import unset_arguments
from tracer.errors import GenerationError, TraceGenerateError, UnsupportedError, UsageError
from tracer.forking.caveats import caveats, early_end
from tracer.forking.plan import Fork, ForkPlan, plan_fork
from tracer.halting.live_run import StopHandler
from tracer.interrupts import LeftRun
from tracer.loading.models import LoadedModel
from tracer.loading.progress import Progress, SilentProgress
from tracer.loading.quiet import quiet_library
from tracer.messages import first_line, named
from tracer.rerun.checks import checking_pipeline, compare_weights, version_differences
from tracer.rerun.model_source import ModelSource
from tracer.rerun.random_state import set_random_state, state_of
from tracer.rerun.recorded_model import model_of_run
from tracer.schema.choice import named_token
from tracer.schema.fork import ForkOrigin
from tracer.session import TraceBlock, TraceOptions
from tracer.tracefile import Listener, TraceFile, TraceRun


@dataclass(frozen=True)
class Forked:
    """A fork that was generated and recorded.

    Attributes:
        path: the file that holds it.
        run: its number there.
        origin: where it branches off, and what it does there.
        same_prefix: whether the steps before it have the very scores that they had; None where that says
            nothing, because its settings differ, or there is no such step, or it was left before it.
        notes: what the user should know, one line each.
        faults: those of them that could not be recorded or shown.
        violated: whether a check did not hold.
        hits: where conditions held.
    """

    path: Path
    run: int
    origin: ForkOrigin
    same_prefix: bool | None
    notes: tuple[str, ...]
    faults: tuple[str, ...] = ()
    violated: bool = False
    hits: tuple[Hit, ...] = ()


@dataclass(frozen=True)
class Onlookers:
    """Who follows a fork while it is generated.

    Attributes:
        listeners: receive its header, steps and end.
        breaks: conditions to watch for, from the step of the fork on.
        on_break: what to do where one holds.
        on_hit: receives each condition that holds.
        halt: halts it.
        check_interrupt: called after each step; what it raises ends the generation.
        max_trace_bytes: file size from which on tensors are left out; None for no limit.
    """

    listeners: tuple[Listener, ...] = ()
    breaks: tuple[Condition, ...] = ()
    on_break: OnBreak = "report"
    on_hit: Callable[[Hit], None] | None = None
    halt: StopHandler | None = None
    check_interrupt: Callable[[], None] | None = None
    max_trace_bytes: int | None = None


def generate_forks(
    path: Path,
    number: int | None,
    forks: Sequence[Fork],
    *,
    out: Path | None = None,
    force: bool = False,
    source: ModelSource | None = None,
    progress: Progress | None = None,
    check_interrupt: Callable[[], None] | None = None,
) -> tuple[Forked, ...]:
    """Load the model of a run and generate forks of it.

    Args:
        path: the trace.
        number: number of the run; None for the first.
        forks: what to do; all are planned before the model is loaded.
        out: the file to create; None to add them to the trace.
        force: replace an existing ``out``.
        source: where the model is now.
        progress: receives the phases.
        check_interrupt: called after each step; what it raises ends the generation.

    Returns:
        Each fork, in order.

    Raises:
        UsageError: a fork is impossible, or the run cannot be repeated, with the reason.
        GenerationError: generating failed.
        TraceGenerateError: the model cannot be loaded, or the trace not be written.
    """
    progress = progress or SilentProgress()
    with TraceFile(path) as recording:
        run = recording.run(number)
        makers = [_ForkMaker(path, run, plan_fork(run, fork)) for fork in forks]
    # Closed by now, since the forks may be added to the same file.
    made: list[Forked] = []
    with model_of_run(run, makers[0].plan.prefix, source or ModelSource(), progress) as loaded:
        notes = _differences(run, loaded)
        for maker in makers:
            progress.phase(f"repeating the steps before step {maker.plan.fork.step}, and going on from there")
            target = _Target(out or path, append=out is None or bool(made), force=force and not made)
            made.append(maker.make(loaded, target, Onlookers(check_interrupt=check_interrupt)))
    return tuple(replace(each, notes=(*notes, *each.notes)) for each in made)


def fork_with(loaded: LoadedModel, path: Path, number: int, fork: Fork, onlookers: Onlookers) -> Forked:
    """Generate a fork with the model that has generated the run, and add it to the run's trace.

    Args:
        loaded: the model.
        path: the trace.
        number: number of the run.
        fork: what to do.
        onlookers: who follows it. One that halts it may leave it for a fork of its own.

    Returns:
        The fork, as far as it has come.

    Raises:
        UsageError: the fork is impossible, or the run cannot be repeated, with the reason.
        GenerationError: generating failed.
        TraceGenerateError: the trace cannot be written.
    """
    with TraceFile(path) as recording:
        run = recording.run(number)
        maker = _ForkMaker(path, run, plan_fork(run, fork))
    return maker.make(loaded, _Target(path, append=True, force=False), onlookers)


def _differences(run: TraceRun, loaded: LoadedModel) -> tuple[str, ...]:
    weights = compare_weights(run, loaded.model)
    if weights.same is False:
        return ("the weights are not those that the run had: they were merged, edited or trained since",)
    return (*(() if weights.note is None else (weights.note,)), *version_differences(run))


@dataclass(frozen=True)
class _Target:
    """Where a fork is recorded."""

    path: Path
    append: bool
    force: bool


class _ForkMaker:
    """Makes one fork; what the trace says is read at once, so that the trace may be closed."""

    def __init__(self, path: Path, run: TraceRun, plan: ForkPlan) -> None:
        self.plan = plan
        self._path = path
        self._run = run
        self._changes = _changes(run, plan.fork)
        self._seed = plan.fork.seed
        if plan.samples and not plan.continues_draws and self._seed is None:
            self._seed = secrets.randbelow(1 << 31)
        self._state = _state_at_fork(run, plan)
        self._caveats = caveats(run, run.number, plan)

    def make(self, loaded: LoadedModel, target: _Target, onlookers: Onlookers) -> Forked:
        """Generate and record it.

        Args:
            loaded: the model.
            target: where to record it.
            onlookers: who follows it.
        """
        header = self._run.header
        start = _StartOfDraws(self.plan, self._seed, self._state, onlookers.check_interrupt)
        course = self._course(target.path)
        options = TraceOptions(
            path=target.path,
            capture=header.capture,
            force=target.force and not target.append,
            max_trace_bytes=onlookers.max_trace_bytes,
            listeners=onlookers.listeners,
            breaks=onlookers.breaks,
            on_break=onlookers.on_break,
            on_hit=onlookers.on_hit,
            stop_callback=None,
            halt=onlookers.halt,
            between_steps=start.step_is_over,
            name=header.model.name,
            seed=header.seed,
            prompt_texts=tuple(row.text for row in header.prompt if row.text is not None),
            course=course,
            append=target.append,
        )
        block = TraceBlock(loaded.model, loaded.tokenizer, options)
        # One that is left for a fork of its own has been recorded up to there.
        with suppress(LeftRun), quiet_library(), block as session:
            self._generate(loaded, start)
        if session.failure is not None:
            raise session.failure
        with TraceFile(self._path) as original, TraceFile(target.path) as recording:
            forked = recording.run(session.last_run)
            same = self._same_prefix(original.run(self._run.number), forked)
            return Forked(
                target.path,
                forked.number,
                course.origin,
                same,
                (*session.faults, *self._caveats, *early_end(forked, self.plan), *self._unlike(same)),
                session.faults,
                session.violated,
                session.hits,
            )

    def _course(self, path: Path) -> Course:
        plan, fork = self.plan, self.plan.fork
        origin = ForkOrigin(
            trace=None if path.resolve() == self._path.resolve() else self._path.name,
            run=self._run.number,
            step=fork.step,
            row=fork.row if self._changes else None,
            token=fork.token,
            banned=fork.banned,
            settings=plan.changed_settings,
            seed=self._seed,
        )
        steps = plan.changed if plan.same_settings else range(1, fork.step)
        told = dict.fromkeys(steps, f"given by run {self._run.number}")
        return Course(origin, plan.given, self._changes, told)

    def _generate(self, loaded: LoadedModel, start: _StartOfDraws) -> None:
        plan, model = self.plan, loaded.model
        tensors = {"input_ids": torch.from_numpy(plan.prefix.ids.prompt).to(model.device)}
        if takes_attention_mask(generating_model(model)):
            tensors["attention_mask"] = torch.from_numpy(plan.prefix.ids.mask).to(model.device)
        arguments = unset_arguments(plan.settings)
        if "stop_strings" in plan.settings:
            arguments["tokenizer"] = loaded.tokenizer
        before, changed = model.generation_config, not plan.same_settings
        try:
            # As arguments they would be completed by the model's own end tokens where the run had none.
            model.generation_config = GenerationConfig(**plan.settings)
            set_random_state(plan.prefix)
            start.begin()
            with checking_pipeline(self._run, model, extra_criteria=0, settings_changed=changed):
                model.generate(**tensors, **arguments)
        except TraceGenerateError:
            raise
        except (ValueError, TypeError) as error:
            raise UsageError(f"generate() refuses these settings: {first_line(error)}") from error
        except Exception as error:
            raise GenerationError(f"The fork failed: {named(error)}") from error
        finally:
            model.generation_config = before

    def _same_prefix(self, run: TraceRun, forked: TraceRun) -> bool | None:
        """Whether the steps that were repeated have the very scores that they had."""
        count = self.plan.fork.step - 1
        # It may have been left on the way there.
        if not count or not self.plan.same_settings or len(forked.steps) < count:
            return None
        pairs = zip(run.steps[:count], forked.steps[:count], strict=True)
        return all(_same_scores(before.scores, now.scores) for before, now in pairs)

    def _unlike(self, same: bool | None) -> tuple[str, ...]:
        if same is not False:
            return ()
        return (
            f"the steps before have other scores than in run {self._run.number} (another machine, release or "
            "weights); their tokens were put back",
        )


class _StartOfDraws:
    """Sets the random number generators right before the first step that is the fork's own."""

    def __init__(
        self,
        plan: ForkPlan,
        seed: int | None,
        state: bytes | None,
        check_interrupt: Callable[[], None] | None,
    ) -> None:
        self._left = plan.fork.step - 1
        self._device = torch.device(plan.prefix.state_device)
        self._seed = seed
        self._state = state
        self._check_interrupt = check_interrupt

    def begin(self) -> None:
        """The generation begins."""
        self._set()

    def step_is_over(self) -> None:
        """A step is over."""
        self._left -= 1
        self._set()
        if self._check_interrupt is not None:
            self._check_interrupt()

    def _set(self) -> None:
        if self._left:
            return
        if self._seed is not None:
            torch.manual_seed(self._seed)
        elif self._state is not None:
            set_generator_state(state_of(self._state), self._device)


def _changes(run: TraceRun, fork: Fork) -> tuple[TokenChange, ...]:
    """The changes of the choice of the fork's first step, as its record names them."""
    row = fork.row if len(run.header.prompt) > 1 else None
    place = "" if row is None else f" row {row}"

    def change(kind: Literal["force", "ban"], token: int) -> TokenChange:
        text = run.tokens[token].text if token in run.tokens else None
        return TokenChange(kind, token, row, named_token(token, text) + place)

    forced = () if fork.token is None else (fork.token,)
    return (*(change("ban", token) for token in fork.banned), *(change("force", token) for token in forced))


def _state_at_fork(run: TraceRun, plan: ForkPlan) -> bytes | None:
    """The recorded random state; None where the fork does not go on with it."""
    if not (plan.samples and plan.continues_draws):
        return None
    try:
        return DrawStates(run, TorchReplayer()).before(plan.fork.step)
    except UnsupportedError as error:
        raise UsageError(f"This run cannot go on with its own draws: {error}; give a seed.") from error


def _same_scores(before: Any, now: Any) -> bool:
    if before is None or now is None:
        return before is now
    return np.array_equal(before.tokens, now.tokens) and np.array_equal(
        before.scores, now.scores, equal_nan=True
    )
