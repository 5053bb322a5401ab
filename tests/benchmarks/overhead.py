"""What tracing costs: run ``python -m tests.benchmarks.overhead`` with nothing else running.

Ratios are medians of alternating runs in one process: untraced, traced, untraced, traced … with each way of
watching in turn, and each traced run divided by the mean of the untraced runs before and after it. Absolute
times drift with the machine; ratios hold. Where even those scatter, ``--steps`` sets traced steps against
their neighbours, and ``--parts`` measures what can be measured closely.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import torch
from torch import nn

from hooks.modules.tape import PlainTape, parts
from tests.benchmarks.models import MODES, Subject, cuda_subject, demo_subject
from tests.benchmarks.neighbours import StepCost, step_cost
from tests.benchmarks.parts import Parts, measure_parts
from tracer import open_trace, trace
from tracer.tracefile import Recorder

LEVELS: dict[str, dict[str, Any]] = {
    "shapes": {"capture": "shapes"},
    "stats": {"capture": "stats"},
    "tensors (kv, logits)": {"capture": "tensors", "save": ("kv", "logits")},
}


@dataclass(frozen=True)
class Ratio:
    """Traced time over untraced time.

    Attributes:
        what: what was compared.
        median: of the pairs.
        low: the smallest pair.
        high: the largest pair.
        pairs: how many.
        seconds: median time of the untraced runs.
    """

    what: str
    median: float
    low: float
    high: float
    pairs: int
    seconds: float


@dataclass
class Report:
    """All figures of one run of the benchmark."""

    machine: str
    date: str
    ratios: list[Ratio] = field(default_factory=list)
    steps: list[StepCost] = field(default_factory=list)
    parts: list[Parts] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


Watcher = Callable[[Path], AbstractContextManager[Any]]


def measure(
    subject: Subject, watchers: dict[str, Watcher], *, rows: int, length: int, new: int, pairs: int
) -> Iterator[Ratio]:
    """Measure several ways of watching in alternating runs."""
    inputs = subject.inputs(rows, length)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.trace"

        def timed(watcher: Watcher | None) -> float:
            path.unlink(missing_ok=True)
            gc.collect()
            began = time.perf_counter()
            if watcher is None:
                subject.generate(inputs, new)
            else:
                with watcher(path):
                    subject.generate(inputs, new)
            return time.perf_counter() - began

        for watcher in (*watchers.values(), None):
            timed(watcher)
        plain = [timed(None)]
        ratios: dict[str, list[float]] = {what: [] for what in watchers}
        for _ in range(pairs):
            for what, watcher in watchers.items():
                seconds = timed(watcher)
                plain.append(timed(None))
                ratios[what].append(2 * seconds / (plain[-2] + plain[-1]))
        for what, found in ratios.items():
            yield Ratio(
                what=f"{what}, batch {rows}, prompt {length}, {new} new tokens",
                median=statistics.median(found),
                low=min(found),
                high=max(found),
                pairs=pairs,
                seconds=statistics.median(plain),
            )


def traced(subject: Subject, settings: dict[str, Any]) -> Watcher:
    """This product, writing a real trace file; opening and closing it count."""
    return lambda path: trace(subject.model, path=path, **settings)


def peers(subject: Subject) -> dict[str, Watcher]:
    """Other ways to look inside, where they are installed."""
    found: dict[str, Watcher] = {
        "peer: forward hook on every module, noting shapes": lambda _: _plain_hooks(subject.model),
        "peer: generate(output_scores, output_logits)": lambda _: _kept_scores(subject),
        "peer: torch.profiler": lambda _: torch.profiler.profile(),
    }
    return found


@contextmanager
def _kept_scores(subject: Subject) -> Iterator[None]:
    """What the library itself offers: raw logits and final scores, kept in memory to the end."""
    config = subject.model.generation_config
    before = config.output_scores, config.output_logits, config.return_dict_in_generate
    config.output_scores = config.output_logits = config.return_dict_in_generate = True
    try:
        yield
    finally:
        config.output_scores, config.output_logits, config.return_dict_in_generate = before


@contextmanager
def _plain_hooks(model: nn.Module) -> Iterator[list[Any]]:
    shapes: list[Any] = []

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            shapes.append((output.shape,))

    handles = [module.register_forward_hook(note) for module in model.modules()]
    try:
        yield shapes
    finally:
        for handle in handles:
            handle.remove()


def memory_growth(subject: Subject, new: int) -> float:
    """Bytes a step by which resident memory grows beyond an untraced run, from the middle half of the run.

    The model's own KV cache grows too, so the slope of an untraced run is taken off.
    """
    process = psutil.Process()

    def slope(watcher: Watcher | None) -> float:
        samples: list[int] = []

        class Sampler:
            def put(self, _value: Any) -> None:
                samples.append(process.memory_info().rss)

            def end(self) -> None:
                pass

        inputs = subject.inputs(1, 30)
        with tempfile.TemporaryDirectory() as folder:
            if watcher is None:
                subject.model.generate(**inputs, **_long(new), streamer=Sampler())
            else:
                with watcher(Path(folder) / "run.trace"):
                    subject.model.generate(**inputs, **_long(new), streamer=Sampler())
        middle = samples[len(samples) // 4 : -len(samples) // 4]
        return statistics.linear_regression(range(len(middle)), middle).slope

    plain = slope(None)
    return slope(traced(subject, LEVELS["stats"])) - plain


def _long(new: int) -> dict[str, Any]:
    return {
        "do_sample": True,
        "max_new_tokens": new,
        "min_new_tokens": new,
        "pad_token_id": 2,
        "eos_token_id": 2,
    }


def sizes_and_speed(subject: Subject, new: int) -> dict[str, float]:
    """Bytes a step on disk per level, the queue's peak, and the time to read a step."""
    figures: dict[str, float] = {}
    inputs = subject.inputs(1, 30)
    with tempfile.TemporaryDirectory() as folder:
        for level, settings in LEVELS.items():
            sizes = []
            for tokens in (8, new):
                path = Path(folder) / f"{len(figures)}-{tokens}.trace"
                with trace(subject.model, path=path, **settings):
                    subject.generate(inputs, tokens)
                sizes.append(path.stat().st_size)
            figures[f"bytes a step, {level}"] = (sizes[1] - sizes[0]) / (new - 8)
        figures["steps written a second"] = _written_a_second(subject, inputs, new, Path(folder))
        with open_trace(path) as recording:
            end = recording.end
            figures["queue peak, bytes"] = float(end.queue_peak_bytes) if end else 0.0
            figures["queue waits"] = float(end.queue_waits) if end else 0.0
            began = time.perf_counter()
            for step in recording.steps:
                assert step.scores is not None
            figures["steps read a second"] = len(recording.steps) / (time.perf_counter() - began)
    return figures


def _written_a_second(subject: Subject, inputs: dict[str, Any], new: int, folder: Path) -> float:
    """How fast the writer's thread works off steps that are all there already, at level ``stats``."""
    held: list[Any] = []
    put, path = Recorder.put, folder / "speed.trace"

    def hold(self: Recorder, job: Any) -> None:
        held.append((self, job))
        if len(held) == new:
            began = time.perf_counter()
            for recorder, each in held:
                put(recorder, each)
            held[0][0].flush()
            held.append(new / (time.perf_counter() - began))

    with patch.object(Recorder, "put", hold), trace(subject.model, path=path):
        subject.generate(inputs, new)
    speed: float = held.pop()
    return speed


def run(arguments: argparse.Namespace) -> Report:
    """Run what was asked for."""
    subject = cuda_subject() if arguments.device == "cuda" else demo_subject()
    subject = replace(subject, mode=arguments.mode, name=f"{subject.name}, mode {arguments.mode}")
    report = Report(_machine(subject, arguments.device), time.strftime("%Y-%m-%d"))
    chosen = {
        name: settings for name, settings in LEVELS.items() if arguments.level in (None, name.split()[0])
    }
    say: Callable[[str], None] = (lambda _: None) if arguments.json else partial(print, flush=True)
    for name, settings in chosen.items():
        if arguments.steps:
            for written in (False, True):
                cost = step_cost(subject, name, settings, generations=arguments.steps, written=written)
                report.steps.append(cost)
                say(_step_line(cost))
        if arguments.parts:
            report.parts.append(measure_parts(subject, name, settings, new=64, pairs=arguments.parts))
            say(_parts_line(report.parts[-1]))
    if arguments.pairs:
        _measure_runs(arguments, subject, chosen, report, say)
    return report


def _machine(subject: Subject, device: str) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU"
    tape = "plain" if parts.tape is PlainTape else "compiled"
    threads = torch.get_num_threads()
    return f"{subject.name}; {name}, {threads} threads, torch {torch.__version__}, {tape} tape"


def _measure_runs(
    arguments: argparse.Namespace,
    subject: Subject,
    chosen: dict[str, dict[str, Any]],
    report: Report,
    say: Callable[[str], None],
) -> None:
    """Whole runs, and what only they show."""
    watchers = {name: traced(subject, settings) for name, settings in chosen.items()}
    cases = [(1, 30)] if arguments.quick else [(1, 30), (4, 30), (1, 2000)]
    for rows, length in cases:
        every = watchers | (peers(subject) if arguments.peers and (rows, length) == (1, 30) else {})
        for ratio in measure(subject, every, rows=rows, length=length, new=64, pairs=arguments.pairs):
            report.ratios.append(ratio)
            say(_line(ratio))
    if not arguments.quick:
        report.figures.update(sizes_and_speed(subject, 64))
        report.figures["memory growth, bytes a step"] = memory_growth(subject, arguments.long)


def _line(ratio: Ratio) -> str:
    spread = f"{ratio.low:.3f} to {ratio.high:.3f}, {ratio.seconds:.2f} s untraced"
    return f"{ratio.median:6.3f}  ({spread})  {ratio.what}"


def _step_line(cost: StepCost) -> str:
    spread = f"± {cost.error:.2f}, {cost.steps} steps, {cost.untraced:.1f} ms untraced"
    return f"{cost.milliseconds:+6.2f} ms a step  ({spread})  {cost.what}"


def _parts_line(parts: Parts) -> str:
    between = (
        f"{parts.between:+6.2f} ms (± {parts.error:.2f}) between forward passes ({parts.untraced:.1f} ms)"
    )
    return f"{between}, writer {parts.writer:.1f} ms of a processor a step  {parts.what}"


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7, help="alternating pairs a figure (default 7)")
    parser.add_argument(
        "--steps",
        type=int,
        default=0,
        help="also measure steps against their neighbours, in so many generations",
    )
    parser.add_argument(
        "--parts", type=int, default=0, help="also measure parts of the cost closely, in so many pairs"
    )
    parser.add_argument(
        "--mode", choices=tuple(MODES), default="sample", help="decoding mode (default sample)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--level", choices=("shapes", "stats", "tensors"), help="only this capture level")
    parser.add_argument("--quick", action="store_true", help="only batch 1 after a short prompt")
    parser.add_argument("--peers", action="store_true", help="also measure other ways to look inside")
    parser.add_argument("--long", type=int, default=1000, help="tokens for the memory figure (default 1000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if arguments.parts == 1:
        parser.error("--parts 1: a spread needs at least two pairs")
    report = run(arguments)
    if arguments.json:
        json.dump(asdict(report), sys.stdout, indent=1)
        return
    print(f"\n{report.machine}, {report.date}")  # noqa: T201
    for name, value in report.figures.items():
        print(f"{value:14,.1f}  {name}")  # noqa: T201


if __name__ == "__main__":
    main()
