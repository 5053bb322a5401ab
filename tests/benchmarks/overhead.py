"""What tracing costs: run ``python -m tests.benchmarks.overhead`` with nothing else running.

Traced and untraced generations take turns of one step in one process (:mod:`tests.benchmarks.turns`). The
recorder writes when none of them has its turn, and that counts for the steps that it writes. Absolute times
drift with the machine; ratios hold. Of another decoding mode the ratio of sampling is measured too, with as
many rows in a forward pass.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch

from hooks.modules.tape import PlainTape, parts
from tests.benchmarks.demo import demo_subject
from tests.benchmarks.figures import opening_and_closing, sizes_and_speed
from tests.benchmarks.lanes import compare_lanes, runs
from tests.benchmarks.memory import memory_growth
from tests.benchmarks.models import MODES, Subject, random_subject
from tests.benchmarks.steps import steps
from tests.benchmarks.turns import Comparison, Lane
from tests.benchmarks.watchers import LEVELS, PEERS, Watcher, traced

Phase: TypeAlias = Literal["decode", "prefill"]

_QUICK_SECONDS = 10.0

_MOST_TOKENS = 4000
"""Prompts of more tokens together are left out on a CPU, where each lane would read them for a minute."""


@dataclass(frozen=True)
class Case:
    """What is generated.

    Attributes:
        phase: ``decode``, the steps after the first; or ``prefill``, ``generate()`` calls of one token.
        prompt: tokens of each prompt.
        rows: prompts.
        threads: of torch.
        mode: a key of :data:`~tests.benchmarks.models.MODES`.
    """

    phase: Phase
    prompt: int
    rows: int
    threads: int
    mode: str = "sample"

    def __str__(self) -> str:
        return f"{self.mode}, {self.phase}, {self.rows} x {self.prompt} tokens, threads {self.threads}"


@dataclass
class Report:
    """All figures of one run of the benchmark."""

    machine: str
    date: str
    comparisons: list[Comparison] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


def measure(
    subject: Subject, case: Case, watchers: dict[str, Watcher], *, seconds: float
) -> list[Comparison]:
    """Compare ways of watching with an untraced generation.

    Args:
        subject: the model.
        case: what it generates.
        watchers: the ways.
        seconds: time for all turns.
    """
    subject = replace(subject, mode=MODES[case.mode])
    inputs = subject.inputs(case.rows, case.prompt)
    torch.set_num_threads(case.threads)

    def lane(subject: Subject, watch: Watcher, path: Path) -> AbstractContextManager[Lane]:
        if case.phase == "prefill":
            return runs(subject, watch, path, inputs, new=1)
        return steps(subject, watch, path, inputs)

    with tempfile.TemporaryDirectory() as folder:
        found = compare_lanes(subject, watchers, Path(folder), lane, seconds=seconds)
    return [replace(each, what=f"{each.what}: {case}") for each in found]


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """What was asked for."""
    on_cpu, mode = arguments.device == "cpu", MODES[arguments.mode]
    for threads in arguments.threads:
        for phase in arguments.phase:
            for prompt in arguments.prompts:
                for rows in arguments.rows:
                    if on_cpu and rows * mode.rows * prompt > _MOST_TOKENS:
                        continue
                    yield Case(phase, prompt, rows, threads, arguments.mode)
                    if arguments.mode != "sample":
                        yield Case(phase, prompt, rows * mode.rows, threads)


def run(arguments: argparse.Namespace) -> Report:
    """Run what was asked for."""
    subject = random_subject("cuda") if arguments.device == "cuda" else demo_subject()
    report = Report(_machine(subject, arguments.device), time.strftime("%Y-%m-%d"))
    watchers = {name: traced(LEVELS[name]) for name in LEVELS if name.split()[0] in arguments.level}
    watchers |= PEERS if arguments.peers else {}
    for case in cases(arguments):
        for found in measure(subject, case, watchers, seconds=arguments.seconds):
            report.comparisons.append(found)
            if not arguments.json:
                print(found, flush=True)  # noqa: T201
    if arguments.figures:
        report.figures = sizes_and_speed(subject, 64)
        report.figures["opening and closing, ms"] = opening_and_closing(subject)
        growth = memory_growth(subject, arguments.long)
        report.figures |= {f"memory growth, bytes a step, {where}": grown for where, grown in growth.items()}
    return report


def _machine(subject: Subject, device: str) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU"
    tape = "plain" if parts.tape is PlainTape else "compiled"
    return f"{subject.name}; {name}, torch {torch.__version__}, {tape} tape"


def _threads() -> list[int]:
    """1, 2 and so on, up to one for each core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [1 << power for power in range(cores.bit_length())]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    levels = [name.split()[0] for name in LEVELS]
    parser.add_argument("--mode", choices=tuple(MODES), default="sample", help="default sample")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--phase", nargs="+", choices=get_args(Phase), default=[*get_args(Phase)])
    parser.add_argument("--prompts", nargs="+", type=int, default=[30, 2000], help="tokens of a prompt")
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 4, 16], help="prompts")
    parser.add_argument(
        "--threads", nargs="+", type=int, default=_threads(), help="of torch; default 1, 2, 4 … all cores"
    )
    parser.add_argument("--level", nargs="+", choices=levels, default=levels, help="default all")
    parser.add_argument("--peers", action="store_true", help="also measure other ways to look inside")
    parser.add_argument("--seconds", type=float, default=40, help="for all turns of a case (default 40)")
    parser.add_argument("--quick", action="store_true", help="one short case: stats, one prompt, one thread")
    parser.add_argument(
        "--figures", action="store_true", help="also memory, sizes, speed of writing and reading"
    )
    parser.add_argument("--long", type=int, default=1000, help="tokens for the memory figure (default 1000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main() -> None:
    """Parse arguments, measure, print."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.quick:
        short = {"phase": ["decode"], "prompts": [30], "rows": [1], "threads": arguments.threads[:1]}
        parser.set_defaults(**short, level=["stats"], seconds=_QUICK_SECONDS)
        arguments = parser.parse_args()
    report = run(arguments)
    if arguments.json:
        json.dump(asdict(report), sys.stdout, indent=1)
        return
    print(f"\n{report.machine}, {report.date}")  # noqa: T201
    for name, value in report.figures.items():
        print(f"{value:14,.1f}  {name}")  # noqa: T201


if __name__ == "__main__":
    main()
