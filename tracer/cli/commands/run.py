"""`trace-generate --prompt …`: generate with a real model and print the walkthrough as it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.generation_options import (
    GenerationOptions,
    PromptOptions,
    generation_options,
    max_new_tokens_option,
    model_options,
    prompt_options,
)
from tracer.cli.invocation import Invocation
from tracer.cli.options import (
    FILE,
    Number,
    StepChoice,
    Word,
    break_option,
    force_option,
    option_group,
    page_beside,
    steps_option,
)
from tracer.cli.output import (
    OutputConsole,
    ProgressDisplay,
    output_console,
    print_json,
    print_notes,
    print_repetition,
    say,
    say_path,
)
from tracer.cli.stop_options import StopOptions, stop_options
from tracer.errors import CheckFailedError, GenerationError, OutputError, UsageError
from tracer.large_imports import large_imports
from tracer.messages import reason, shown
from tracer.processes import path_of_rank

if TYPE_CHECKING:
    from rich.console import Console

    from tracer.analysis.conditions.breaks import OnBreak
    from tracer.analysis.conditions.condition import Hit
    from tracer.capture_settings import Level
    from tracer.forking.order import ForkDesk
    from tracer.halting.live_run import StopHandler
    from tracer.halting.stops import StopPlan
    from tracer.loading.model_spec import ModelSpec
    from tracer.loading.prompts import PromptSpec
    from tracer.running.request import GenerationRequest
    from tracer.running.result import GenerationResult
    from tracer.stepper.stepper import Stepper
    from tracer.tracefile import Listener


@dataclass(frozen=True)
class CaptureOptions:
    """What to record."""

    capture: Level
    save: tuple[str, ...]
    lens: bool
    candidates: int
    max_trace_size: float | None

    @property
    def max_trace_bytes(self) -> int | None:
        """The size from which on tensors are left out; None for no limit."""
        return None if self.max_trace_size is None else int(self.max_trace_size * 1e6)


@dataclass(frozen=True)
class AssistanceOptions:
    """What proposes tokens in assisted decoding."""

    assistant_model: str | None
    prompt_lookup: int | None

    def added_to(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Generation settings with those of prompt lookup.

        Args:
            settings: the others.

        Raises:
            UsageError: it is asked for twice, or both ways.
        """
        name = "prompt_lookup_num_tokens"
        if self.prompt_lookup is None:
            return settings
        if self.assistant_model is not None:
            raise UsageError("--assistant-model and --prompt-lookup exclude each other.")
        if name in settings:
            raise UsageError(f"{name} is given twice, by --prompt-lookup and by --gen; choose one.")
        return {**settings, name: self.prompt_lookup}


@dataclass(frozen=True)
class BreakOptions:
    """Conditions, and what happens where one holds."""

    breaks: tuple[str, ...]
    on_break: OnBreak | None

    def check(self) -> None:
        """Refuse a consequence without a condition.

        Raises:
            UsageError: there is none.
        """
        if self.on_break is not None and not self.breaks:
            raise UsageError("--on-break needs a --break condition.")


@dataclass(frozen=True)
class OutputOptions:
    """What is printed and which files are written."""

    steps: StepChoice
    out: Path | None
    html: Path | None
    no_html: bool
    force: bool
    quiet: bool
    as_json: bool

    @property
    def walkthrough(self) -> bool:
        """Whether the walkthrough is printed."""
        return not self.quiet and not self.as_json

    def check(self, *, stepping: bool) -> None:
        """Refuse what cannot be printed at once.

        Args:
            stepping: whether the stepper asks at the terminal.

        Raises:
            UsageError: naming the options that exclude each other.
        """
        if self.quiet and self.as_json:
            raise UsageError("--quiet and --json exclude each other.")
        if stepping and not self.walkthrough:
            raise UsageError(
                f"--step shows each stop; {'--quiet' if self.quiet else '--json'} would hide it."
            )

    def trace_file(self) -> Path:
        """The trace file; without ``--out`` the time names it, and the rank of one of several processes."""
        return self.out or path_of_rank(Path(datetime.now().strftime("trace-%Y%m%d-%H%M%S.trace")))

    def page(self, trace: Path) -> Path | None:
        """Where the HTML report goes, refused before any work is done for it; None for no report.

        Args:
            trace: the trace file.

        Raises:
            UsageError: for options that do not go together.
            OutputError: the page exists or cannot be written.
        """
        from tracer.output_files import check_output, same_place

        if self.no_html:
            if self.html is not None:
                raise UsageError("--html and --no-html exclude each other.")
            return None
        page = self.html or page_beside(trace)
        if same_place(page, trace):
            raise UsageError(f"--html and --out are the same file, {shown(page)}.")
        check_output(page, force=self.force)
        return page


_capture_options = option_group(
    "capture",
    CaptureOptions,
    click.option(
        "--capture",
        type=Word(["shapes", "stats", "tensors"]),
        default="stats",
        show_default=True,
        help="What to record; a step of the demo model takes 6 KB with shapes, 14 KB with stats.",
    ),
    click.option(
        "--save",
        multiple=True,
        metavar="WHAT",
        help="With --capture tensors: logits (197 KB a step), hidden (124), kv (63), attention, "
        "modules=REGEX.",
    ),
    click.option("--lens", is_flag=True, help="Record what each layer would have predicted."),
    click.option(
        "--candidates",
        default=64,
        show_default=True,
        metavar="N",
        help="Longest list of candidates to record.",
    ),
    click.option(
        "--max-trace-size", type=Number(above=0), metavar="MB", help="Stop to store tensors beyond this size."
    ),
)

_break_options = option_group(
    "conditions",
    BreakOptions,
    break_option("Look out for a condition such as 'p_chosen < 0.3'; repeatable."),
    click.option(
        "--on-break",
        type=Word(["report", "stop", "exit"]),
        help="Where one holds: print that step in full (default), end the run after it, or end it with "
        "code 9.",
    ),
)

_output_options = option_group(
    "output",
    OutputOptions,
    steps_option("1,2", "Print these in full."),
    click.option(
        "--out",
        type=FILE,
        metavar="PATH",
        help="The trace file (default: trace-TIME.trace).",
    ),
    click.option(
        "--html",
        type=FILE,
        metavar="PATH",
        help="The HTML report (default: beside the trace).",
    ),
    click.option("--no-html", is_flag=True, help="Make no HTML report."),
    force_option("existing output files"),
    click.option("--quiet", "-q", is_flag=True, help="Print the answer only."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the walkthrough."),
)


_assistance_options = option_group(
    "assistance",
    AssistanceOptions,
    click.option(
        "--assistant-model",
        metavar="ID|FOLDER",
        help="Assisted decoding: a smaller model with the same tokenizer, which proposes tokens.",
    ),
    click.option(
        "--prompt-lookup",
        type=click.IntRange(1),
        metavar="N",
        help="Assisted decoding: propose the N tokens that followed the last ones further up in the text.",
    ),
)


@dataclass(frozen=True)
class RunOptions:
    """All options of the command."""

    prompt: PromptOptions
    model: ModelSpec
    max_new_tokens: int
    generation: GenerationOptions
    assistance: AssistanceOptions
    capture: CaptureOptions
    conditions: BreakOptions
    stops: StopOptions
    strict: bool
    output: OutputOptions

    def request(self, prompt: PromptSpec) -> GenerationRequest:
        """What is to be generated and recorded.

        Args:
            prompt: the prompts, which are checked before torch is imported here.

        Raises:
            UsageError: an option has an impossible value.
        """
        from tracer.running.request import GenerationRequest

        capture, generation = self.capture, self.generation
        return GenerationRequest(
            model=self.model,
            prompt=prompt,
            path=self.output.trace_file(),
            max_new_tokens=self.max_new_tokens,
            settings=self.assistance.added_to(generation.settings),
            assistant=self.assistance.assistant_model,
            seed=generation.seed,
            capture=capture.capture,
            save=(*capture.save, *(("lens",) if capture.lens else ())),
            candidates=capture.candidates,
            strict=self.strict,
            force=self.output.force,
            max_trace_bytes=capture.max_trace_bytes,
            breaks=self.conditions.breaks,
            on_break=self.conditions.on_break or "report",
        )


@click.command("run")
@prompt_options
@model_options
@max_new_tokens_option(128)
@generation_options
@_assistance_options
@_capture_options
@_break_options
@stop_options
@click.option("--strict", is_flag=True, help="End the generation at the first check that does not hold.")
@_output_options
@click.pass_obj
def run_command(invocation: Invocation, /, **options: Any) -> None:
    """Generate with a real model and print the walkthrough as it happens (the default)."""
    chosen = RunOptions(**options)
    request, page, plan = _checked(chosen, invocation)
    console = output_console(outlives_output=True)
    try:
        result = _generate(request, chosen, plan, invocation, console)
    except GenerationError:
        # The trace is kept up to the step that failed, which is what a person wants to look at.
        if page is not None and request.path.exists():
            _write_page(page, request.path, chosen.output)
        raise
    _print_result(result, page, chosen.output)
    if page is not None and result.failure is None:
        _write_page(page, result.path, chosen.output)
    result.raise_if_incomplete()
    if console.fault is not None:
        raise OutputError(
            f"cannot write to standard output: {reason(console.fault)}; {shown(result.path)} is complete"
        )
    if result.hits and request.on_break == "exit":
        raise CheckFailedError(
            f"--break {result.hits[0]} (the run ended there; {shown(result.path)} has it)."
        )


def _checked(
    chosen: RunOptions, invocation: Invocation
) -> tuple[GenerationRequest, Path | None, StopPlan | None]:
    """What is to be done, all of it checked before torch is imported, which takes seconds."""
    from tracer.running.request import check_request

    chosen.output.check(stepping=chosen.stops.stepping)
    if chosen.stops.stepping and 0 in invocation.closed:
        raise UsageError("--step reads its commands from standard input, which is closed.")
    chosen.conditions.check()
    plan = chosen.stops.plan(chosen.conditions.breaks, chosen.max_new_tokens)
    request = chosen.request(chosen.prompt.spec())
    check_request(request)
    chosen.output.steps.check(request.max_new_tokens, "this run")
    return request, chosen.output.page(request.path), plan


def _generate(
    request: GenerationRequest,
    options: RunOptions,
    plan: StopPlan | None,
    invocation: Invocation,
    console: OutputConsole,
) -> GenerationResult:
    """Generate, and print the walkthrough meanwhile."""
    invocation.starting_line.clear()
    with ProgressDisplay(console, shown=options.output.walkthrough) as progress:
        # It imports torch, which takes seconds.
        with large_imports():
            from tracer.forking.order import ForkDesk
            from tracer.running.generation import generate_traced

        invocation.interrupts.begin()
        desk = ForkDesk()
        stepper = _stepper(plan, desk, console, progress) if options.stops.stepping else None
        listeners, on_hit = _listeners(options.output, console, request.path, stepper)
        result = generate_traced(
            request,
            listeners=[progress, *listeners],
            progress=progress,
            on_hit=on_hit,
            on_prepared=print_notes,
            check_interrupt=invocation.interrupts.check,
            make_stop_handler=_stop_handler_maker(options.stops, plan, desk, stepper),
            desk=desk,
        )
    for fault in stepper.faults if stepper is not None else ():
        say(f"note: the stepper failed {fault}", err=True)
    return result


def _stepper(plan: StopPlan | None, desk: ForkDesk, console: Console, progress: ProgressDisplay) -> Stepper:
    from tracer.replay.terminal.past import PastOfRun
    from tracer.stepper.lines import open_lines
    from tracer.stepper.stepper import Stepper

    assert plan is not None
    return Stepper(plan, open_lines(console), console, PastOfRun, desk=desk, on_begin=progress.stop)


def _stop_handler_maker(
    stops: StopOptions, plan: StopPlan | None, desk: ForkDesk, stepper: Stepper | None
) -> Callable[[], StopHandler] | None:
    """Makes what halts the run, once the request was checked; None if nothing does."""
    if stepper is not None:
        return lambda: stepper
    return None if plan is None else lambda: stops.wait_for_debugger(plan, desk)


def _listeners(
    output: OutputOptions, console: Console, path: Path, stepper: Stepper | None
) -> tuple[list[Listener], Callable[[Hit], None] | None]:
    """Who prints the recorded steps, and the conditions that hold."""
    if not output.walkthrough:
        return [], _print_hit if output.quiet else None
    from reports.terminal import TerminalReport

    report = TerminalReport(console, full_steps=output.steps, path=str(path))
    if stepper is None:
        return [report], report.on_hit
    from tracer.stepper.stepper import SteppedReport

    return [SteppedReport(report, stepper)], None


def _print_hit(hit: Hit) -> None:
    say(f"break: {' '.join(str(hit).split())}", err=True)


def _print_result(result: GenerationResult, page: Path | None, output: OutputOptions) -> None:
    if output.as_json:
        document = {
            "trace": str(result.path),
            "report": None if page is None else str(page),
            "texts": result.texts,
            "token_ids": result.token_ids,
            "seed": result.seed,
            "complete": result.failure is None and not result.faults,
            "violated": result.violated,
            "breaks": [vars(hit) for hit in result.hits],
            "problems": [*([str(result.failure)] if result.failure else []), *result.faults],
        }
        print_json(document)
    elif output.quiet:
        for text in result.texts:
            say(text)
    else:
        for forked in result.forks:
            print_repetition(forked)


def _write_page(page: Path, trace: Path, output: OutputOptions) -> None:
    from tracer.output_files import write_text
    from tracer.reading import open_trace

    with open_trace(trace) as recording:
        write_text(page, recording.to_html(), force=output.force)
    if output.walkthrough:
        say_path(page, f"report: {page}")
