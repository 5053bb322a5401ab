"""`trace-generate verify RUN.trace`: check a trace, and repeat its run without tracing."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.options import source_options, trace_argument
from tracer.cli.output import ProgressDisplay, output_console
from tracer.clock import utc_now
from tracer.errors import CheckFailedError, IncompleteTraceError, TraceFileError, UsageError
from tracer.messages import one_line, shown

if TYPE_CHECKING:
    from tracer.rerun.model_source import ModelSource
    from tracer.rerun.repeat_run import RerunResult
    from tracer.tracefile import FileReport, RunReport, TraceRun


@click.command("verify")
@trace_argument
@click.option(
    "--rerun",
    "repeat",
    is_flag=True,
    help="Generate again without tracing, compare, and note it in the file.",
)
@click.option("--run", "number", type=int, metavar="N", help="With --rerun: only this run of the file.")
@source_options("With --rerun: ")
@click.option("--stamp", "note_file", is_flag=True, help="Note in the file that it is sound, or its damage.")
def verify_command(
    path: Path, repeat: bool, number: int | None, source: ModelSource, note_file: bool
) -> None:
    r"""Check a trace: every checksum and count, and that each run is whole.

    A run is whole if it has its end, a step for each token, the scores of each step,
    choices that are its ids, and no capture error.

    --rerun loads the model again, compares a fingerprint of its weights, generates
    with the same seed and settings but without tracing, and compares the ids, and
    the logits where they were saved, bit for bit. The result is noted in the trace
    and shown by show and info.

    Ends with 0, or 7 if the trace is intact but not whole, 8 if it is damaged, 9 if
    a repetition differs.
    """
    from tracer.tracefile import check_file

    if not repeat and (number is not None or source.given):
        raise UsageError("--run, --model, --revision and --trust-remote-code need --rerun.")
    report = check_file(path)
    _print_report(report)
    # What is incomplete may still be growing; a note about it would soon be wrong.
    if note_file and (report.complete or not report.ok):
        _stamp(path, "file", report.ok, _file_summary(report), None, {})
    if not report.ok:
        raise TraceFileError(f"{shown(path)} is damaged: {report.problems[0]}")
    if repeat:
        _rerun(path, number, source)
    if not report.whole:
        raise IncompleteTraceError(f"{shown(path)} is intact but {_lacking(report)}.")


def _lacking(report: FileReport) -> str:
    """What is missing, for the one line of the error."""
    if not report.complete:
        return "incomplete"
    first = next(run for run in report.runs if run.gaps)
    return f"run {first.number} is not whole: {one_line(first.gaps[0])}"


def _print_report(report: FileReport) -> None:
    from reports.view.figures import byte_size, count
    from reports.view.text import plain

    info = report.info
    _line(
        f"{plain(str(report.path))}: trace format {info.format_version}, written by trace-generate "
        f"{plain(info.product_version)}, {byte_size(info.size)}"
    )
    for problem in report.problems:
        _line(f"✗ {plain(problem)}")
    if report.ok:
        _line(
            "✓ database structure, versions, checksum of every record and tensor, counts, and tables "
            "against records"
        )
        _print_releases(report.path)
    for run in report.runs:
        _line(f"{'✓' if run.whole else '!'} run {run.number}: {_run_line(run)}")
        _print_details(run)
    if not report.runs:
        _line("! no run: it ended before a generation began")
    _line(f"{'✓' if report.ok else '!'} {count(report.tokens)} token texts")


def _print_details(run: RunReport) -> None:
    from reports.view.figures import plural
    from reports.view.text import plain
    from tracer.schema.checks import OF_WHOLE_RUNS

    for gap in run.gaps:
        _line(f"  not whole: {plain(gap)}")
    for each in run.checks:
        where = "" if each.name in OF_WHOLE_RUNS else f" in {plural(each.steps, 'step')}"
        if each.result == "failed":
            _line(f"  check failed{where}: {each.name}")
        elif each.result == "not made":
            _line(f"  not checked{where}: {each.name}: {plain(each.reason or '')}")


def _print_releases(path: Path) -> None:
    """Say which runs were made by a release of transformers that nothing is known of."""
    from reports.view.run.release import release_notes
    from tracer.tracefile import TraceFile

    with TraceFile(path) as recording:
        for run in recording.runs:
            for note in release_notes(run.header):
                _line(f"! run {run.number}: {note.text}")


def _run_line(run: RunReport) -> str:
    from reports.view.figures import byte_size, plural

    parts = [plural(run.steps, "step")]
    if run.tensors:
        parts.append(f"{plural(run.tensors, 'saved tensor')} of {byte_size(run.tensor_bytes)}")
    state = "incomplete: no end record" if run.status is None else run.status.value
    if run.missing:
        state += f", steps missing: {', '.join(map(str, run.missing))}"
    return f"{', '.join(parts)}; {state}"


def _file_summary(report: FileReport) -> str:
    if not report.ok:
        return report.problems[0]
    steps = sum(run.steps for run in report.runs)
    return f"all {steps} steps are as they were written"


def _rerun(path: Path, number: int | None, source: ModelSource) -> None:
    """Repeat the runs, all of them even if one differs, and note the results in the file.

    Raises:
        CheckFailedError: one of them differed.
    """
    from reports.view.figures import plural
    from tracer.tracefile import TraceFile

    with TraceFile(path) as recording:
        runs = recording.runs if number is None else (recording.run(number),)
        numbers = [run.number for run in runs if number is not None or run.header.fork is None]
        forks = len(runs) - len(numbers)
    if forks:
        _line(f"{plural(forks, 'fork')} not repeated: the tokens before were given to them")
    differing = None
    for each in numbers:
        with TraceFile(path) as recording:
            result = _repeat(recording.run(each), source)
        _stamp(path, "rerun", result.ok, result.summary, each, _details(result))
        differing = differing or (None if result.ok else result.summary)
    if differing is not None:
        raise CheckFailedError(f"The repetition differs: {differing}.")


def _repeat(run: TraceRun, source: ModelSource) -> RerunResult:
    from reports.view.text import plain
    from tracer.analysis.rerun_plan import logits_follow
    from tracer.rerun.repeat_run import rerun

    recorded = run.header.model
    place = ", ".join(dict.fromkeys(recorded.devices.values()))
    _line(
        f"run {run.number}: repeating it with {plain(source.model or recorded.name)}, "
        f"{plain(recorded.dtype)}, on {plain(place)}"
    )
    with ProgressDisplay(output_console(), shown=True) as progress:
        result = rerun(
            run,
            model=source.model,
            revision=source.revision,
            trust_remote_code=source.trust_remote_code,
            progress=progress,
        )
    _line(f"{'✓' if result.ok else '✗'} run {run.number} repeated: {plain(result.summary)}")
    if not logits_follow(run.header):
        _line(f"  only ids were compared: no forward pass returns what {run.header.loop} saves as logits")
    elif not result.logits:
        _line("  its logits were not saved (--capture tensors --save logits), so only ids were compared")
    for note in result.notes:
        _line(f"  {plain(note)}")
    return result


_WEIGHTS = {True: "the same", False: "other", None: "not compared"}


def _details(result: RerunResult) -> dict[str, str]:
    return {
        "ids": f"{result.same_ids} of {result.ids} equal",
        "logits": f"{result.same_logits} of {result.logits} steps equal",
        "weights": _WEIGHTS[result.same_weights],
        "notes": "; ".join(result.notes),
    }


def _stamp(path: Path, kind: Any, ok: bool, summary: str, run: int | None, details: dict[str, str]) -> None:
    """Note the result of a check in the file."""
    from tracer.schema.stamp import Stamp
    from tracer.tracefile import stamp

    stamp(path, Stamp(kind=kind, ok=ok, made_at=utc_now(), summary=summary, run=run, details=details))


def _line(text: str) -> None:
    """Print a line; on a terminal, wrapped at its width."""
    console = output_console()
    if console.is_terminal:
        text = textwrap.fill(text, console.width, subsequent_indent="  ", break_on_hyphens=False)
    click.echo(text)
