"""All measurements on a GPU in one call of a few minutes: ``python -m tests.benchmarks.gpu_check OUT.json``.

What is traced is compared with what is not, bit for bit; the kernel that reduces a step's outputs with
outputs that are joined; then follow the costs, and whether memory grows. The file is written after each part,
so that a call that is cut short leaves what it has. Without a GPU a tiny model shows that all of it runs.

Needs this package with what it requires, and nothing else that the tests need.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers

from hooks.modules.pointer_table import KERNEL, put_together
from hooks.modules.statistics import Statistics, join
from tests.benchmarks.lanes import compare_lanes, runs
from tests.benchmarks.memory import memory_growth
from tests.benchmarks.models import Subject, random_subject
from tests.benchmarks.turns import Lane
from tests.benchmarks.watchers import LEVELS, Watcher, traced

CAPTURES: dict[str, dict[str, Any]] = {
    **LEVELS,
    "attention": {"capture": "tensors", "save": ("attention",)},
    "lens": {"capture": "stats", "save": ("lens",)},
}

_JOINED = "stats, outputs joined"


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        new: tokens of a run.
        rows: prompts of the larger batch.
        prompt: tokens of the long prompt.
        steps: of the run whose memory is watched.
        seconds: for each comparison of costs, the first of which has most lanes and takes twice as long.
        step_outputs: values of the outputs that are reduced by the kernel and joined.
    """

    new: int
    rows: int
    prompt: int
    steps: int
    seconds: float
    step_outputs: tuple[int, ...]


_SIZES = {
    "cuda": Size(32, rows=8, prompt=4000, steps=1000, seconds=35, step_outputs=(3584, 18944, 152064)),
    "cpu": Size(3, rows=2, prompt=100, steps=200, seconds=0, step_outputs=(32, 64, 5000)),
}


def identity(subject: Subject, size: Size) -> dict[str, bool]:
    """Whether ids and logits of a traced run are those of the untraced one, by what is captured."""
    inputs = subject.inputs(size.rows, 30)
    kept = {"output_logits": True, "return_dict_in_generate": True}
    plain = subject.generate(inputs, size.new, **kept)
    same = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, settings) in enumerate(CAPTURES.items()):
            with traced(settings)(subject.model, Path(folder) / f"{number}.trace"):
                found = subject.generate(inputs, size.new, **kept)
            logits = zip(found.logits, plain.logits, strict=True)
            same[name] = torch.equal(found.sequences, plain.sequences) and all(
                torch.equal(one, other) for one, other in logits
            )
    return same


def kernel(subject: Subject, size: Size) -> dict[str, bool | float]:
    """Whether the kernel is in use, and how far its statistics are from those of joined outputs.

    Minimum and maximum have to be the same; mean and deviation are told as a part of the largest value.
    """
    generator = torch.Generator().manual_seed(0)
    outputs = [
        (torch.randn(rows, 1, values, generator=generator) * 2 + 1).to(subject.model.device, dtype)
        for values in size.step_outputs
        for rows in (1, size.rows)
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    ]
    outputs += [torch.tensor([value, 1.0], device=subject.model.device) for value in (np.nan, np.inf, 1e30)]
    found = _statistics(outputs, put_together(outputs))
    expected = _statistics(outputs, join(outputs))
    largest = np.abs(np.nan_to_num(expected[2:], posinf=0, neginf=0)).max(axis=0) + 1e-30
    with np.errstate(invalid="ignore"):
        off = np.abs(found[:2] - expected[:2]) / largest
    return {
        "used": all(KERNEL.takes(output) for output in outputs),
        "extremes are the same": bool(np.array_equal(found[2:], expected[2:], equal_nan=True)),
        "not finite in the same places": bool(
            np.array_equal(np.isfinite(found), np.isfinite(expected), equal_nan=True)
        ),
        "mean and deviation, largest difference": float(off[np.isfinite(expected[:2])].max()),
    }


def _statistics(outputs: list[torch.Tensor], plan: Any) -> Statistics:
    statistics = np.full((4, len(outputs)), np.nan, dtype=np.float32)
    with np.errstate(all="ignore"):
        for each in plan:
            statistics[:, each.members] = each.complete(each.reduce(outputs).cpu().numpy())
    return statistics


def costs(subject: Subject, size: Size) -> dict[str, list[dict[str, Any]]]:
    """Times of traced runs over those of untraced ones, by what is generated."""
    watchers = {name: traced(settings) for name, settings in CAPTURES.items()}
    watchers[_JOINED] = _without_kernel(watchers["stats"])
    some = {name: watchers[name] for name in ("shapes", "stats", _JOINED)}
    return {
        "one prompt": _cost(subject, watchers, 1, 30, size.new, 2 * size.seconds),
        "batch": _cost(subject, some, size.rows, 30, size.new, size.seconds),
        "long prompt": _cost(subject, some, 1, size.prompt, size.new, size.seconds),
        "prefill of a long prompt": _cost(subject, some, 1, size.prompt, 1, size.seconds),
    }


def _cost(
    subject: Subject, watchers: Mapping[str, Watcher], rows: int, prompt: int, new: int, seconds: float
) -> list[dict[str, Any]]:
    inputs = subject.inputs(rows, prompt)

    def lane(subject: Subject, watch: Watcher, path: Path) -> AbstractContextManager[Lane]:
        return runs(subject, watch, path, inputs, new)

    with tempfile.TemporaryDirectory() as folder:
        found = compare_lanes(subject, watchers, Path(folder), lane, seconds=seconds)
    for each in found:
        print(f"{each}: {rows} x {prompt} and {new} tokens", flush=True)  # noqa: T201
    return [asdict(each) for each in found]


def _without_kernel(watch: Watcher) -> Watcher:
    """The same, with outputs joined as where there is no Triton."""

    @contextmanager
    def joining(model: Any, path: Path) -> Any:
        with watch(model, path) as settle:
            inner = model.generate

            def generate(*args: Any, **kwargs: Any) -> Any:
                with patch.object(KERNEL, "_usable", False):
                    return inner(*args, **kwargs)

            with patch.object(model, "generate", generate):
                yield settle

    return joining


def _machine(subject: Subject) -> dict[str, str]:
    cuda = subject.model.device.type == "cuda"
    return {
        "subject": subject.name,
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "CPU",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def check(out: Path, device: str) -> dict[str, Any]:
    """Measure everything.

    Args:
        out: the JSON file, which is written after each part.
        device: ``cuda`` or ``cpu``.
    """
    began, size, subject = time.perf_counter(), _SIZES[device], random_subject(device)
    parts: dict[str, Callable[[Subject, Size], Any]] = {
        "identity": identity,
        "kernel": kernel,
        "costs": costs,
        "memory growth, bytes a step": lambda subject, size: memory_growth(subject, size.steps),
    }
    report: dict[str, Any] = {"machine": _machine(subject)}
    for name, part in parts.items():
        report[name] = part(subject, size)
        report["seconds"] = time.perf_counter() - began
        out.write_text(json.dumps(report, indent=1))
        if name != "costs":
            print(f"{name}: {report[name]}", flush=True)  # noqa: T201
    return report


def main() -> None:
    """Parse arguments, measure; the exit code is 1 where a traced run is not what the untraced one is.

    On a GPU it is 1 too where the kernel is not used, or says something else than joining the outputs.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="the JSON file to write")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default)
    arguments = parser.parse_args()
    report = check(arguments.out, arguments.device)
    right = [*report["identity"].values()]
    if arguments.device == "cuda":
        right += [each for each in report["kernel"].values() if isinstance(each, bool)]
    sys.exit(0 if all(right) else 1)


if __name__ == "__main__":
    main()
