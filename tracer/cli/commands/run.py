"""`trace-generate --prompt …`: generate with a real model and print the walkthrough as it happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.conditions import checked_conditions
from tracer.cli.display import ProgressDisplay, output_console
from tracer.cli.halts import halt_options, make_stepper, stop_handler_maker
from tracer.cli.steps import StepSet
from tracer.errors import CheckFailedError, IncompleteTraceError, UsageError

if TYPE_CHECKING:
    from tracer.analysis.conditions.condition import Hit
    from tracer.interrupts import Interrupts
    from tracer.loading.prompts import ModelInputs, PromptSpec
    from tracer.running.generation import GenerationRequest, GenerationResult
    from tracer.stepper import Stepper

_SETTINGS = ("temperature", "top_k", "top_p", "repetition_penalty")


def _gen_pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{value!r}: expected KEY=VALUE, e.g. min_p=0.1.")
        try:
            pairs[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            pairs[name.strip()] = {"True": True, "False": False, "None": None}.get(text, text)
    return pairs


@click.command()
@click.option(
    "--prompt", "prompts", multiple=True, metavar="TEXT", help="What to ask; repeat it for a batch."
)
@click.option(
    "--prompt-file", type=click.Path(path_type=Path), metavar="FILE", help="Read the prompt from a file."
)
@click.option(
    "--messages",
    "messages_file",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Read chat messages: a JSON list of {role, content}.",
)
@click.option("--system", metavar="TEXT", help='System text (default: "You are a helpful assistant.").')
@click.option("--no-chat-template", is_flag=True, help="Feed the prompt as it is.")
@click.option("--model", metavar="ID|FOLDER", help="Hub id or checkpoint folder (default: the demo model).")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a hub model.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, float16 or bfloat16.")
@click.option("--device-map", metavar="MAP", help="auto, cpu, cuda:0, … (default: a GPU when there is one).")
@click.option("--attn", metavar="NAME", help="Attention: sdpa, eager, flash_attention_2.")
@click.option("--trust-remote-code", is_flag=True, help="Allow code that comes with the model to run.")
@click.option(
    "--max-new-tokens", default=128, show_default=True, metavar="N", help="Generate at most N tokens."
)
@click.option(
    "--greedy/--sample", "greedy", default=None, help="Take the best token, or draw (default: the model's)."
)
@click.option("--temperature", type=float, metavar="T", help="Scores are divided by it.")
@click.option("--top-k", type=int, metavar="K", help="Keep the K best tokens.")
@click.option("--top-p", type=float, metavar="P", help="Keep the best tokens up to this probability.")
@click.option("--repetition-penalty", type=float, metavar="R", help="Make tokens that occurred less likely.")
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), metavar="N", help="Seed of the draws (default: a new one)."
)
@click.option(
    "--gen",
    "gen",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_gen_pairs,
    help="Any other generation setting.",
)
@click.option(
    "--capture",
    type=click.Choice(["shapes", "stats", "tensors"]),
    default="stats",
    show_default=True,
    help="What to record; a step of the demo model takes 6 KB with shapes, 14 KB with stats.",
)
@click.option(
    "--save",
    multiple=True,
    metavar="WHAT",
    help="With --capture tensors: logits (197 KB a step), hidden (124), kv (63), attention, modules=REGEX.",
)
@click.option("--lens", is_flag=True, help="Record what each layer would have predicted.")
@click.option(
    "--candidates", default=64, show_default=True, metavar="N", help="Longest list of candidates to record."
)
@click.option("--max-trace-size", type=float, metavar="MB", help="Stop to store tensors beyond this size.")
@click.option(
    "--break",
    "breaks",
    multiple=True,
    metavar="EXPR",
    callback=checked_conditions,
    help="Look out for a condition such as 'p_chosen < 0.3'; repeatable.",
)
@click.option(
    "--on-break",
    type=click.Choice(["report", "stop", "exit"]),
    help="Where one holds: print that step in full (default), end the run after it, or end it with code 9.",
)
@halt_options
@click.option("--strict", is_flag=True, help="End the generation at the first check that does not hold.")
@click.option(
    "--steps",
    type=StepSet(),
    default="1,2",
    show_default=True,
    metavar="1,2|3-7|all|none",
    help="Print these in full.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The trace file (default: trace-TIME.trace).",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The HTML report (default: beside the trace).",
)
@click.option("--no-html", is_flag=True, help="Make no HTML report.")
@click.option("--force", is_flag=True, help="Replace existing output files.")
@click.option("--quiet", "-q", is_flag=True, help="Print the answer only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the walkthrough.")
@click.pass_obj
def run(interrupts: Interrupts, /, **options: Any) -> None:
    """Generate with a real model and print the walkthrough as it happens (the default)."""
    quiet, as_json = options["quiet"], options["as_json"]
    if quiet and as_json:
        raise UsageError("--quiet and --json exclude each other.")
    if options["stepping"] and (quiet or as_json):
        raise UsageError(f"--step shows each stop; {'--quiet' if quiet else '--json'} would hide it.")
    if options["on_break"] is not None and not options["breaks"]:
        raise UsageError("--on-break needs a --break condition.")
    make_stop_handler = stop_handler_maker(options)
    # Prompts are checked before torch is imported, which takes seconds.
    request = generation_request(options, prompt_spec(options))
    page = _page(options, request.path)

    from tracer.running.generation import generate_traced

    console = output_console()
    with ProgressDisplay(console, shown=not (quiet or as_json)) as progress:
        listeners: list[Any] = [progress]
        on_hit: Callable[[Hit], None] | None = _print_hit if quiet else None
        stepper = make_stepper(options, console, progress.stop)
        if stepper is not None:
            listeners.append(_stepped_report(console, options["steps"], request.path, stepper))
        elif not quiet and not as_json:
            report = _report(console, options["steps"], request.path)
            listeners.append(report)
            on_hit = report.on_hit
        result = generate_traced(
            request,
            listeners=listeners,
            progress=progress,
            on_hit=on_hit,
            on_prepared=print_notes,
            check_interrupt=interrupts.check,
            make_stop_handler=make_stop_handler if stepper is None else lambda: stepper,
        )
    for fault in stepper.faults if stepper is not None else ():
        click.echo(f"note: the stepper failed {fault}", err=True)
    _print_result(result, page, quiet=quiet, as_json=as_json)
    if page is not None and result.failure is None:
        _write_page(page, result.path, force=options["force"])
        if not quiet and not as_json:
            click.echo(f"report {page}")
    raise_if_incomplete(result)
    if result.hits and request.on_break == "exit":
        raise CheckFailedError(f"--break {result.hits[0]} (the run ended there; {result.path} has it).")


def print_notes(inputs: ModelInputs) -> None:
    """Say on standard error what the user should know about the prompt."""
    for note in inputs.notes:
        click.echo(f"note: {note}", err=True)


def _print_hit(hit: Hit) -> None:
    click.echo(f"break: {' '.join(str(hit).split())}", err=True)


def _report(console: Any, full_steps: Callable[[int], bool], path: Path) -> Any:
    from reports.terminal import TerminalReport

    return TerminalReport(console, full_steps=full_steps, path=str(path))


def _stepped_report(console: Any, full_steps: Callable[[int], bool], path: Path, stepper: Stepper) -> Any:
    from tracer.stepper import SteppedReport

    return SteppedReport(_report(console, full_steps, path), stepper)


def generation_request(options: dict[str, Any], prompt: PromptSpec) -> GenerationRequest:
    """What is to be generated, from the options of this command."""
    from tracer.loading.models import ModelSpec
    from tracer.running.generation import GenerationRequest

    settings = dict(options["gen"])
    if options["greedy"] is not None:
        settings["do_sample"] = not options["greedy"]
    settings.update({name: options[name] for name in _SETTINGS if options[name] is not None})
    size = options["max_trace_size"]
    if size is not None and size <= 0:
        raise UsageError(f"--max-trace-size is {size}; it must be above 0.")
    return GenerationRequest(
        model=ModelSpec(
            name=options["model"],
            dtype=options["dtype"],
            device_map=options["device_map"],
            attention=options["attn"],
            revision=options["revision"],
            trust_remote_code=options["trust_remote_code"],
        ),
        prompt=prompt,
        path=options["out"] or Path(datetime.now().strftime("trace-%Y%m%d-%H%M%S.trace")),
        max_new_tokens=options["max_new_tokens"],
        settings=settings,
        seed=options["seed"],
        capture=options["capture"],
        save=(*options["save"], *(("lens",) if options["lens"] else ())),
        candidates=options["candidates"],
        strict=options["strict"],
        force=options["force"],
        max_trace_bytes=None if size is None else int(size * 1e6),
        breaks=options["breaks"],
        on_break=options["on_break"] or "report",
    )


def prompt_spec(options: dict[str, Any]) -> PromptSpec:
    """From which words, checked before torch is imported, which takes seconds."""
    from tracer.loading.prompts import PromptSpec, check_prompts, read_messages, read_prompt_file

    prompts = list(options["prompts"])
    if options["prompt_file"] is not None:
        prompts.append(read_prompt_file(options["prompt_file"]))
    messages = options["messages_file"]
    spec = PromptSpec(
        prompts=tuple(prompts),
        conversations=(read_messages(messages),) if messages is not None else (),
        system=options["system"],
        chat_template=not options["no_chat_template"],
    )
    check_prompts(spec)
    return spec


def _page(options: dict[str, Any], trace: Path) -> Path | None:
    """Where the HTML report goes, refused before any work is done for it; None for no report."""
    from tracer.output_files import check_target

    page: Path | None = options["html"]
    if options["no_html"]:
        if page is not None:
            raise UsageError("--html and --no-html exclude each other.")
        return None
    page = page or trace.with_suffix(".html")
    if page.resolve() == trace.resolve():
        raise UsageError(f"--html and --out are the same file, {page}.")
    check_target(page, force=options["force"])
    return page


def _write_page(page: Path, trace: Path, *, force: bool) -> None:
    from tracer.output_files import write_text
    from tracer.reading import open_trace

    with open_trace(trace) as recording:
        write_text(page, recording.to_html(), force=force)


def _print_result(result: GenerationResult, page: Path | None, *, quiet: bool, as_json: bool) -> None:
    if as_json:
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
        click.echo(json.dumps(document, ensure_ascii=False))
    elif quiet:
        for text in result.texts:
            click.echo(text)


def raise_if_incomplete(result: GenerationResult) -> None:
    """Raise what is wrong with a recording, so that the exit code says it."""
    if result.failure is not None:
        raise IncompleteTraceError(str(result.failure))
    if result.faults:
        more = f" (and {len(result.faults) - 1} more)" if len(result.faults) > 1 else ""
        raise IncompleteTraceError(f"Something could not be recorded: {result.faults[0]}{more}")
    if result.violated:
        raise CheckFailedError(f"A check did not hold; {result.path} says where.")
