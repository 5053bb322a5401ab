"""`trace-generate fork RUN.trace --at STEP …`: repeat a run up to a step, and go on another way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracer.cli.generation_options import GenerationOptions, generation_options
from tracer.cli.invocation import Invocation
from tracer.cli.options import (
    FILE,
    force_option,
    option_group,
    row_option,
    run_of_option,
    run_option,
    source_options,
    token_of_option,
    trace_argument,
)
from tracer.cli.output import ProgressDisplay, output_console, print_repetition, say
from tracer.errors import UsageError
from tracer.messages import shown

if TYPE_CHECKING:
    from tracer.forking.forking import Forked
    from tracer.forking.plan import Fork
    from tracer.rerun.model_source import ModelSource
    from tracer.tracefile import TraceRun


@dataclass(frozen=True)
class ChoiceOptions:
    """What to choose in the step of the fork; texts and ids as they were given."""

    token: str | None
    ban: tuple[str, ...]
    top: int | None

    def forks(self, run: TraceRun, step: int, row: int) -> list[Fork]:
        """What to do, without settings: a fork, or one for each of the best candidates.

        Args:
            run: the run.
            step: number of the step.
            row: row of the batch.

        Raises:
            UsageError: a token is not known, or there are no candidates.
        """
        from tracer.analysis.runs import check_row, step_of
        from tracer.forking.plan import Fork

        check_row(run.header, row)
        recorded = step_of(run, step)
        banned = tuple(token_of_option(each, run) for each in self.ban)
        if self.top is None:
            token = None if self.token is None else token_of_option(self.token, run)
            return [Fork(step, row, token, banned)]
        if self.token is not None:
            raise UsageError("--top takes the best candidates, --token one of your own; choose one.")
        best = [each.token for each in recorded.candidates_of(row) if each.token not in banned]
        if not best:
            raise UsageError(f"step {step} has no recorded candidates in row {row}.")
        return [Fork(step, row, token, banned) for token in best[: self.top]]


_choice_options = option_group(
    "choice",
    ChoiceOptions,
    click.option("--token", metavar="TEXT|ID", help="Choose this token there."),
    click.option("--ban", multiple=True, metavar="TEXT|ID", help="Do not choose this token; repeatable."),
    click.option(
        "--top", type=click.IntRange(1), metavar="K", help="A fork for each of the K best candidates there."
    ),
)


@click.command("fork")
@trace_argument
@click.option("--at", "step", type=int, required=True, metavar="STEP", help="First step of its own.")
@_choice_options
@row_option
@generation_options
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    metavar="N",
    help="Tokens from there on (default: up to the limit of the run).",
)
@click.option("--out", type=FILE, metavar="FILE", help="A new file (default: another run in RUN.trace).")
@force_option("an existing --out")
@run_option
@source_options()
@click.option("--quiet", "-q", is_flag=True, help="Print the generated text only.")
@click.pass_obj
def fork_command(
    invocation: Invocation,
    path: Path,
    step: int,
    choice: ChoiceOptions,
    row: int,
    generation: GenerationOptions,
    max_new_tokens: int | None,
    out: Path | None,
    force: bool,
    run_number: int | None,
    source: ModelSource,
    quiet: bool,
) -> None:
    r"""Repeat a run with its model up to a step, and go on from there another way.

    The steps before are given the recorded tokens, so cache, positions and random
    state are what they were, and the library's own generate() goes on: with another
    token (--token, --ban, --top), other settings, other draws (--seed), or as it did.

    The fork is a run of its own, linked to its parent; tree shows how runs branch.
    """
    from dataclasses import replace

    from tracer.forking.plan import plan_fork
    from tracer.tracefile import TraceFile

    if force and out is None:
        raise UsageError("--force replaces an existing --out, which is not given.")
    with TraceFile(path) as recording:
        run = run_of_option(recording, run_number)
        forks = [
            replace(fork, settings=_settings(generation), seed=generation.seed, max_new_tokens=max_new_tokens)
            for fork in choice.forks(run, step, row)
        ]
        for fork in forks:
            plan_fork(run, fork)  # refuses what is impossible before torch is imported
        number = run.number
    if choice.top is not None and len(forks) < choice.top:
        say(_fewer(step, len(forks), choice), err=True)
    made = _generate(path, number, forks, out, force, source, invocation, quiet)
    for each in made:
        _print(each, quiet)


def _fewer(step: int, count: int, choice: ChoiceOptions) -> str:
    """Why there are fewer forks than asked for."""
    from reports.view.figures import plural

    besides = " besides those banned" if choice.ban else ""
    return (
        f"! step {step} has {plural(count, 'recorded candidate')}{besides}: "
        f"{plural(count, 'fork')}, not {choice.top}"
    )


def _settings(generation: GenerationOptions) -> dict[str, object]:
    from tracer.loading.generation_settings import checked_settings

    if "max_new_tokens" in generation.gen:
        raise UsageError("--gen max_new_tokens: it counts from the fork on; use --max-new-tokens N.")
    return dict(checked_settings(generation.settings))


def _generate(
    path: Path,
    number: int,
    forks: list[Fork],
    out: Path | None,
    force: bool,
    source: ModelSource,
    invocation: Invocation,
    quiet: bool,
) -> tuple[Forked, ...]:
    import tracer.own_packages  # noqa: F401 - says which file is in the way
    from tracer.forking.forking import generate_forks

    invocation.interrupts.begin()
    with ProgressDisplay(output_console(), shown=not quiet) as progress:
        return generate_forks(
            path,
            number,
            forks,
            out=out,
            force=force,
            source=source,
            progress=progress,
            check_interrupt=invocation.interrupts.check,
        )


def _print(forked: Forked, quiet: bool) -> None:
    """Print what came of a fork."""
    from reports.view.run.fork import fork_text
    from reports.view.text import plain_lines
    from tracer.tracefile import TraceFile

    with TraceFile(forked.path) as recording:
        run = recording.run(forked.run)
        texts = run.end.texts if run.end is not None else ()
        if not quiet:
            click.echo(f"run {run.number} of {shown(forked.path)}: {fork_text(forked.origin, run.tokens)}")
            print_repetition(forked)
        for text in texts:
            click.echo(plain_lines(text))
