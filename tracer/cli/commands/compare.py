"""`trace-generate compare --prompt … --vary WHAT`: run a pair and say where the two part."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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
    NUMBER,
    Word,
    comparison_page,
    comparison_page_option,
    force_option,
    json_option,
)
from tracer.cli.output import ProgressDisplay, output_console, print_difference, print_notes
from tracer.errors import OutputError
from tracer.large_imports import large_imports
from tracer.messages import reason, shown

if TYPE_CHECKING:
    from tracer.loading.model_spec import ModelSpec
    from tracer.loading.prompts import PromptSpec
    from tracer.running.comparison import Variant, Vary
    from tracer.running.request import GenerationRequest
    from tracer.running.result import GenerationResult


@click.command("compare")
@click.option(
    "--vary",
    type=Word(["cache", "attn", "dtype", "batch", "seed"]),
    required=True,
    help="What differs: cache on and off, eager and sdpa, float32 and bfloat16, alone and padded in a "
    "batch, one seed and the next.",
)
@click.option("--values", metavar="A,B", help="Two other values for attn, dtype or seed.")
@max_new_tokens_option(32)
@click.option(
    "--out-dir",
    type=FILE,
    metavar="FOLDER",
    help="Keep both traces here (default: they are thrown away).",
)
@comparison_page_option("compare-WHAT.html, in --out-dir if there is one")
@force_option("existing output files")
@click.option("--tolerance", type=NUMBER, metavar="X", help="As in `diff`.")
@json_option
@prompt_options
@model_options
@generation_options
@click.pass_obj
def compare_command(
    invocation: Invocation,
    /,
    vary: Vary,
    values: str | None,
    max_new_tokens: int,
    out_dir: Path | None,
    page: str | None,
    force: bool,
    tolerance: float | None,
    as_json: bool,
    prompt: PromptOptions,
    model: ModelSpec,
    generation: GenerationOptions,
) -> int:
    """Run a pair that differs in one thing and say where the two part.

    Unless told otherwise, tokens are chosen greedily; with --vary seed they are drawn.

    Exit code 0: the same; 1: they differ.
    """
    request = _request(prompt.spec(), model, generation, max_new_tokens, force=force)
    chosen = tuple(value.strip() for value in values.split(",")) if values else ()
    with _folder(out_dir) as folder:
        # All of it is checked before torch is imported, which takes seconds.
        pair = _checked_pair(request, vary, folder, chosen)
        target = comparison_page(page, (out_dir or Path()) / f"compare-{vary}.html", force=force)
        results = _generate_all(pair, invocation, shown=not as_json)
        names = [
            f"{variant.label}: {result.path}" if out_dir else variant.label
            for variant, result in zip(pair, results, strict=True)
        ]
        return _print_difference(
            results, names, tolerance=tolerance, as_json=as_json, page=target, force=force
        )


def _request(
    prompt: PromptSpec, model: ModelSpec, generation: GenerationOptions, max_new_tokens: int, *, force: bool
) -> GenerationRequest:
    """What both runs have in common; logits are saved, so that they can be compared exactly."""
    from tracer.running.request import GenerationRequest

    return GenerationRequest(
        model=model,
        prompt=prompt,
        path=Path(),
        max_new_tokens=max_new_tokens,
        settings=generation.settings,
        seed=generation.seed,
        capture="tensors",
        save=("logits",),
        force=force,
    )


def _checked_pair(
    request: GenerationRequest, vary: Vary, folder: Path, values: tuple[str, ...]
) -> tuple[Variant, Variant]:
    from tracer.running.comparison import make_pair
    from tracer.running.request import check_request

    pair = make_pair(request, vary, folder, values)
    for variant in pair:
        check_request(variant.request)
    return pair


@contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    """The folder for both traces; a temporary one unless one is chosen."""
    if chosen is None:
        try:
            temporary = tempfile.TemporaryDirectory(prefix="trace-generate-")
        except OSError as error:
            raise OutputError(f"there is no temporary folder: {reason(error)}; use --out-dir.") from error
        with temporary as name:
            yield Path(name)
        return
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--out-dir {shown(chosen)} cannot be made: {reason(error)}.") from error
    yield chosen


def _generate_all(
    variants: tuple[Variant, ...], invocation: Invocation, *, shown: bool
) -> list[GenerationResult]:
    results = []
    invocation.interrupts.begin()
    invocation.starting_line.clear()
    with ProgressDisplay(output_console(), shown=shown) as progress:
        # It imports torch, which takes seconds.
        with large_imports():
            from tracer.running.generation import generate_traced

        for variant in variants:
            result = generate_traced(
                variant.request,
                listeners=[progress],
                progress=progress,
                on_prepared=print_notes,
                check_interrupt=invocation.interrupts.check,
            )
            result.raise_if_incomplete()
            results.append(result)
    return results


def _print_difference(
    results: list[GenerationResult],
    names: list[str],
    *,
    tolerance: float | None,
    as_json: bool,
    page: Path | None,
    force: bool,
) -> int:
    from tracer.tracefile import TraceFile

    a, b = results
    with TraceFile(a.path) as first, TraceFile(b.path) as second:
        return print_difference(
            (first.runs[0], second.runs[0]),
            (names[0], names[1]),
            tolerance=tolerance,
            as_json=as_json,
            page=page,
            force=force,
        )
