"""`trace-generate whatif RUN.trace …`: the recorded run under other settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.options import (
    NUMBER,
    StepChoice,
    json_option,
    no_torch_option,
    option_group,
    run_of_option,
    run_option,
    steps_option,
    trace_argument,
)
from tracer.cli.output import output_console, print_json
from tracer.errors import UsageError

if TYPE_CHECKING:
    from tracer.analysis.processors.settings import Settings
    from tracer.analysis.whatif.beams import BeamSettings
    from tracer.analysis.whatif.report import WhatIfReport
    from tracer.tracefile import TraceRun


def _settings(**options: Any) -> Settings:
    from tracer.analysis.processors.settings import Settings

    return Settings(**options)


_setting_options = option_group(
    "settings",
    _settings,
    click.option("--temperature", type=NUMBER, metavar="T", help="Scores are divided by it."),
    click.option("--top-k", type=int, metavar="K", help="Keep the K best tokens; 0 keeps all."),
    click.option("--top-p", type=NUMBER, metavar="P", help="Keep the best tokens up to this probability."),
    click.option("--min-p", type=NUMBER, metavar="P", help="Keep tokens with this share of the best one's."),
    click.option("--typical-p", type=NUMBER, metavar="P", help="Keep the tokens of typical surprise."),
    click.option("--epsilon-cutoff", type=NUMBER, metavar="E", help="Keep tokens with this probability."),
    click.option("--eta-cutoff", type=NUMBER, metavar="E", help="The same, adapted to the entropy."),
    click.option(
        "--repetition-penalty", type=NUMBER, metavar="R", help="Make tokens that occurred less likely."
    ),
    click.option(
        "--penalty-alpha",
        type=NUMBER,
        metavar="A",
        help="In contrastive search: weigh what is repeated.",
    ),
    click.option("--greedy/--sample", "greedy", default=None, help="Take the best token, or draw."),
)


def _beam_settings(**options: Any) -> BeamSettings:
    from tracer.analysis.whatif.beams import BeamSettings

    return BeamSettings(**options)


_beam_options = option_group(
    "beam_settings",
    _beam_settings,
    click.option(
        "--length-penalty", type=NUMBER, metavar="X", help="Of a beam search: the exponent of the length."
    ),
    click.option(
        "--early-stopping",
        type=click.Choice(["True", "False", "never"], case_sensitive=False),
        help="Of a beam search: when a row is done.",
    ),
    click.option(
        "--num-return-sequences",
        type=int,
        metavar="N",
        help="Of a beam search: how many hypotheses are returned.",
    ),
)


@click.command("whatif")
@trace_argument
@click.argument("more", nargs=-1, metavar="")
@_setting_options
@_beam_options
@click.option(
    "--grid",
    multiple=True,
    metavar="NAME=V,V…",
    help="Compare several values; further NAME=V,V… may follow.",
)
@steps_option("1-16", "List these steps.")
@run_option
@no_torch_option("draws are not repeated")
@json_option
def whatif_command(
    path: Path,
    more: tuple[str, ...],
    settings: Settings,
    beam_settings: BeamSettings,
    grid: tuple[str, ...],
    steps: StepChoice,
    run_number: int | None,
    no_torch: bool,
    as_json: bool,
) -> None:
    """Say which tokens other settings would have chosen, from the recorded logits and random states."""
    from tracer.analysis.whatif import whatif, whatif_grid
    from tracer.rerun.replayer import benefits_from_torch, make_replayer
    from tracer.tracefile import TraceFile

    axes = _asked_axes(grid, more, settings)
    if beam_settings.changes:
        if axes or settings.changes:
            raise UsageError("Settings of a beam search are asked for by themselves.")
        _ask_beams(path, run_number, beam_settings, as_json=as_json)
        return
    if not axes and not settings.changes:
        raise UsageError("Nothing is to be different: give a setting, e.g. --temperature 1.0, or a --grid.")
    with TraceFile(path) as recording:
        run = run_of_option(recording, run_number)
        steps.check(run.steps.numbers[-1] if len(run.steps) else 0, "the run")
        replayer = make_replayer(wanted=not no_torch and benefits_from_torch(run))
        if axes:
            found = whatif_grid(run, axes, base=settings, replayer=replayer)
            _print_grid(found, run, tuple(axes), as_json=as_json)
            return
        report = whatif(run, settings, replayer=replayer)
        _print_report(report, run, steps, as_json=as_json)


def _asked_axes(grid: tuple[str, ...], more: tuple[str, ...], settings: Settings) -> dict[str, list[float]]:
    """The axes of the grid; those that the settings have too are refused."""
    if more and not grid:
        raise UsageError(f"{more[0]!r} is one argument too many; a grid begins with --grid.")
    axes = _axes((*grid, *more))
    both = sorted(set(axes) & set(settings.changes))
    if both:
        raise UsageError(f"{both[0]} is given alone and in --grid; choose one.")
    return axes


def _ask_beams(path: Path, run_number: int | None, settings: BeamSettings, *, as_json: bool) -> None:
    from reports.terminal.questions.whatif_beams import render_beam_whatif
    from reports.view.questions.whatif_beams import beam_whatif_view
    from tracer.analysis.whatif.beams import beam_whatif
    from tracer.tracefile import TraceFile

    with TraceFile(path) as recording:
        report = beam_whatif(run_of_option(recording, run_number), settings)
        if as_json:
            print_json(report)
        else:
            output_console().print(render_beam_whatif(beam_whatif_view(report)))


def _axes(texts: Sequence[str]) -> dict[str, list[float]]:
    axes: dict[str, list[float]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        try:
            numbers = [float(value) for value in values.split(",")]
        except ValueError:
            numbers = []
        if not equals or not name or not numbers:
            raise UsageError(f"--grid {text!r}: expected NAME=VALUE,VALUE…, e.g. temperature=0.5,1.0.")
        if name in axes:
            raise UsageError(f"--grid names {name} twice.")
        axes[name] = numbers
    return axes


def _print_grid(found: Any, run: TraceRun, names: tuple[str, ...], *, as_json: bool) -> None:
    from reports.terminal.questions.whatif import render_grid
    from reports.view.questions.whatif import grid_view

    if as_json:
        print_json(found)
    else:
        output_console().print(render_grid(grid_view(found, names, run.tokens)))


def _print_report(
    report: WhatIfReport, run: TraceRun, steps: Callable[[int], bool], *, as_json: bool
) -> None:
    from reports.terminal.questions.whatif import render_whatif
    from reports.view.questions.whatif import whatif_view

    if as_json:
        print_json(report)
    else:
        output_console().print(render_whatif(whatif_view(report, run.tokens, steps=steps)))
