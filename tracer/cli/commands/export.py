"""`trace-generate export RUN.trace`: a recording in the formats of other programs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from tracer.cli.options import FILE, Word, force_option, only_run_option, redact_option, trace_argument
from tracer.cli.output import say_path
from tracer.errors import UsageError
from tracer.messages import shown

if TYPE_CHECKING:
    from reports.recorded_run import Run
    from tracer.tracefile import TraceFile, TraceRun

TABLE_NAMES = ("choices", "candidates", "stages", "beams", "rankings", "modules", "cache")
"""Names of :data:`reports.export.tables.TABLES`, here so that ``--help`` need not import them."""


@click.command("export")
@trace_argument
@click.option(
    "--format",
    "kind",
    type=Word(["jsonl", "csv", "parquet", "safetensors"]),
    required=True,
    help="What to write; see above.",
)
@click.option(
    "-o",
    "--out",
    type=FILE,
    metavar="PATH",
    help="The file (default: the trace's name with another ending; - for standard output).",
)
@only_run_option
@click.option("--table", type=Word(TABLE_NAMES), help="For csv and parquet: which table (default: choices).")
@click.option(
    "--cache-at",
    type=click.IntRange(min=1),
    metavar="STEP",
    help="For safetensors: the whole KV cache after this step, of --save kv.",
)
@redact_option
@force_option("an existing file")
def export_command(
    path: Path,
    kind: str,
    out: Path | None,
    run_number: int | None,
    table: str | None,
    cache_at: int | None,
    redact: bool,
    force: bool,
) -> None:
    """Write a recording for other programs, step after step, whatever its size.

    jsonl: everything but the values of saved tensors: a line for the file, then for
    each run its header, a line a step with head, choices, candidates, stages,
    modules and cache norms, and its end.

    csv, parquet: one table. choices: a line for each step and row with the chosen
    token and its figures; candidates: the recorded tokens; stages: what each
    processor removed; modules: statistics of each call; cache: norms of new slots.

    safetensors: every saved tensor in its own dtype, named run/1/step/12/logits, or
    with --cache-at the whole KV cache after a step, named cache/0/key.

    The file appears when it is complete. parquet needs the extra
    trace-generate[parquet].
    """
    _check(kind, table, cache_at, redact=redact)
    if out is None:
        out = path.with_suffix(f".{kind}")
    from tracer.output_files import check_output, new_file
    from tracer.tracefile import TraceFile

    if str(out) != "-":
        check_output(out, force=force)
    with TraceFile(path) as recording:
        runs = recording.runs if run_number is None else (recording.run(run_number),)
        with _standard_output() if str(out) == "-" else new_file(out, force=force) as file:
            said = _write(file, kind, recording, runs, table, cache_at, redact=redact)
    if str(out) != "-":
        say_path(out, f"{out}: {said}")


def _check(kind: str, table: str | None, cache_at: int | None, *, redact: bool) -> None:
    if redact and kind == "safetensors":
        raise UsageError(
            "--redact is for jsonl, csv and parquet: from saved tensors the text can be had again."
        )
    if table is not None and kind not in ("csv", "parquet"):
        raise UsageError(f"--table is for csv and parquet, not {kind}.")
    if cache_at is not None and kind != "safetensors":
        raise UsageError(f"--cache-at is for safetensors, not {kind}.")
    if kind == "parquet":
        from reports.export.parquet_file import require_pyarrow

        require_pyarrow()


def _write(
    file: BinaryIO,
    kind: str,
    recording: TraceFile,
    runs: tuple[TraceRun, ...],
    table_name: str | None,
    cache_at: int | None,
    *,
    redact: bool,
) -> str:
    from reports.export import tables
    from reports.export.csv_file import write_csv
    from reports.export.jsonl_file import write_jsonl
    from reports.export.parquet_file import write_parquet
    from reports.redaction import redacted_runs
    from reports.view.figures import plural

    if kind == "safetensors":
        return plural(_write_tensors(file, recording, runs, cache_at), "tensor")
    exported: Sequence[Run] = redacted_runs(runs) if redact else runs
    if kind == "jsonl":
        write_jsonl(file, recording.info, exported)
        return plural(sum(len(run.steps) for run in runs), "step")
    table = tables.TABLES[table_name or TABLE_NAMES[0]]
    written = 0

    def rows() -> Iterator[tuple[int | float | str | bool | None, ...]]:
        nonlocal written
        for run in exported:
            for row in table.of_run(run):
                written += 1
                yield row

    (write_csv if kind == "csv" else write_parquet)(file, table, rows())
    return f"{plural(written, 'row')} ({table.meaning})"


def _write_tensors(
    file: BinaryIO, recording: TraceFile, runs: tuple[TraceRun, ...], cache_at: int | None
) -> int:
    from reports.export.safetensors_file import cache_entries, saved_entries, write_safetensors

    if not runs:
        raise UsageError(f"{shown(recording.path)} holds no run.")
    metadata = {
        "format": "pt",
        "trace_generate": recording.info.product_version,
        "model": runs[0].header.model.name,
        "trace": recording.path.name,
    }
    if cache_at is None:
        return write_safetensors(file, saved_entries(runs), metadata)
    if len(runs) > 1:
        raise UsageError(f"The trace has {len(runs)} runs; say with --run whose cache is meant.")
    return write_safetensors(file, cache_entries(runs[0], cache_at), {**metadata, "step": str(cache_at)})


@contextlib.contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()
