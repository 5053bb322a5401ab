"""`trace-generate compare --prompt … --vary WHAT`: run a pair and say where the two part."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.commands.diff import page_option, page_target, show_difference
from tracer.cli.commands.run import generation_request, print_notes, prompt_spec, raise_if_incomplete, run
from tracer.cli.display import ProgressDisplay, output_console
from tracer.errors import OutputError

if TYPE_CHECKING:
    from tracer.interrupts import Interrupts
    from tracer.running.comparison import Variant
    from tracer.running.generation import GenerationResult

_SHARED = {
    "prompts",
    "prompt_file",
    "messages_file",
    "system",
    "no_chat_template",
    "model",
    "revision",
    "dtype",
    "device_map",
    "attn",
    "trust_remote_code",
    "greedy",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "seed",
    "gen",
}
"""Options of `run` that both runs of a pair have in common."""

_FIXED: dict[str, Any] = {
    "capture": "tensors",
    "save": ("logits",),
    "lens": False,
    "candidates": 64,
    "strict": False,
    "max_trace_size": None,
    "breaks": (),
    "on_break": None,
    "out": None,
}


@click.command()
@click.option(
    "--vary",
    type=click.Choice(["cache", "attn", "dtype", "batch", "seed"]),
    required=True,
    help="What differs: cache on and off, eager and sdpa, float32 and bfloat16, alone and padded in a "
    "batch, one seed and the next.",
)
@click.option("--values", metavar="A,B", help="Two other values for attn, dtype or seed.")
@click.option(
    "--max-new-tokens", default=32, show_default=True, metavar="N", help="Generate at most N tokens."
)
@click.option(
    "--out-dir",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keep both traces here (default: they are thrown away).",
)
@page_option("compare-WHAT.html, in --out-dir if there is one")
@click.option("--force", is_flag=True, help="Replace existing output files.")
@click.option("--tolerance", type=float, metavar="X", help="As in `diff`.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def compare(
    interrupts: Interrupts,
    /,
    vary: Any,
    values: str | None,
    out_dir: Path | None,
    page: str | None,
    tolerance: float | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Run a pair that differs in one thing and say where the two part.

    Unless told otherwise, tokens are chosen greedily; with --vary seed they are drawn.

    Exit code 0: the same; 1: they differ.
    """
    # Prompts are checked before torch is imported, which takes seconds.
    prompt = prompt_spec(_FIXED | options)
    from tracer.running.comparison import make_pair

    request = generation_request(_FIXED | options, prompt)
    with _folder(out_dir) as folder:
        chosen = tuple(value.strip() for value in values.split(",")) if values else ()
        pair = make_pair(request, vary, folder, chosen)
        usual = (out_dir or Path()) / f"compare-{vary}.html"
        target = page_target(page, usual, force=request.force)
        console = output_console()
        with ProgressDisplay(console, shown=not as_json) as progress:
            results = [_generated(variant, progress, interrupts) for variant in pair]
        names = [
            f"{variant.label}: {result.path}" if out_dir else variant.label
            for variant, result in zip(pair, results, strict=True)
        ]
        shown: dict[str, Any] = {"tolerance": tolerance, "as_json": as_json, "page": target}
        return _compared(results, names, force=request.force, **shown)


compare.params += [parameter for parameter in run.params if parameter.name in _SHARED]


@contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    """The folder for both traces; a temporary one unless one is chosen."""
    if chosen is None:
        with tempfile.TemporaryDirectory(prefix="trace-generate-") as name:
            yield Path(name)
        return
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--out-dir {chosen} cannot be made: {error.strerror}.") from error
    yield chosen


def _generated(variant: Variant, progress: ProgressDisplay, interrupts: Interrupts) -> GenerationResult:
    from tracer.running.generation import generate_traced

    result = generate_traced(
        variant.request,
        listeners=[progress],
        progress=progress,
        on_prepared=print_notes,
        check_interrupt=interrupts.check,
    )
    raise_if_incomplete(result)
    return result


def _compared(results: list[GenerationResult], names: list[str], **shown: Any) -> int:
    from tracer.tracefile import TraceFile

    a, b = results
    with TraceFile(a.path) as first, TraceFile(b.path) as second:
        return show_difference((first.runs[0], second.runs[0]), (names[0], names[1]), **shown)
