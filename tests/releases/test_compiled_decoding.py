"""A forward pass that the library compiles by itself: decode steps are recorded from outside of the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
import transformers
from torch._dynamo.utils import counters

from reports.view.stops.checks import stop_notes
from tests.releases.architectures import architecture
from tests.support.models import GREEDY, SAMPLING, batch, generate
from tests.support.walkthrough import HALTS, ONLY_SAMPLING
from tracer import open_trace, trace
from tracer.tracefile import check_file

pytestmark = pytest.mark.skipif(
    not hasattr(transformers, "CompileConfig"), reason="this release compiles nothing by itself"
)

EVERYTHING = ("logits", "kv", "hidden", "attention", "lens")


def compiling() -> dict[str, Any]:
    """Settings with which the library compiles on a CPU too."""
    config = transformers.CompileConfig(backend="eager", mode=None, fullgraph=False)
    config._compile_all_devices = True
    return {"cache_implementation": "static", "compile_config": config, "max_new_tokens": 5}


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


@pytest.mark.parametrize(
    ("rows", "settings", "save"),
    [(1, GREEDY, ()), (3, SAMPLING, EVERYTHING)],
    ids=["greedy", "sampling, all saved"],
)
def test_what_is_compiled_stays_so_and_is_named(
    rows: int, settings: dict[str, Any], save: tuple[str, ...], tmp_path: Path
) -> None:
    torch._dynamo.reset()
    counters.clear()
    expected = generate(architecture("qwen2"), batch(rows), **settings, **compiling())
    untraced = graphs()
    assert untraced > 0
    torch._dynamo.reset()
    counters.clear()
    model, path = architecture("qwen2"), tmp_path / "run.trace"
    with trace(model, path=path, capture="tensors" if save else "stats", save=save):
        found = [generate(model, batch(rows), **settings, **compiling()) for _ in range(2)]
    found.append(generate(model, batch(rows), **settings, **compiling()))
    assert graphs() == untraced
    for each in found:
        assert torch.equal(each.sequences, expected.sequences)
        assert all(torch.equal(a, b) for a, b in zip(each.logits, expected.logits, strict=True))
    assert not [name for name, module in model.named_modules() if "Watched" in repr(vars(module))]
    assert check_file(path).ok
    with open_trace(path) as recording:
        assert [len(run.steps) for run in recording.runs] == [5, 5]
        for run in recording.runs:
            prefill, first, *others = run.steps
            assert run.header.not_seen == ()
            assert not prefill.head.not_seen
            assert prefill.layout is not None
            called = {run.header.modules[index].name for index in prefill.layout.modules}
            assert {"", "model.layers.1.mlp.down_proj"} <= called
            assert len({each.module for each in first.head.not_seen}) == len(run.header.modules)
            assert {each.reason for each in first.head.not_seen} == {"compiled"}
            notes = [note.text for note in stop_notes(first, "layers", run.header)]
            assert any(text.startswith("not seen: compiled, from this step on: ") for text in notes)
            assert not any(step.head.not_seen for step in others)
            for step in run.steps:
                assert not step.head.errors
                assert not step.head.violations
                assert step.head.forward is not None
                assert step.choice() is not None
                assert not any(check.failed for check in step.head.checks)
                assert step.head.forward.logits.shape[::2] == (rows, 100)
            said = {each.capture: each.reason for step in run.steps for each in step.head.uncaptured}
            assert {*said} == {"attention", "lens"}.intersection(save)
            assert all("was not seen" in reason for reason in said.values())


def test_a_halted_run_passes_the_compiled_forward_by(tmp_path: Path) -> None:
    torch._dynamo.reset()
    expected = generate(architecture("qwen2"), batch(), **GREEDY, **compiling()).sequences
    torch._dynamo.reset()
    model, seen = architecture("qwen2"), list[tuple[int, str | None]]()
    with trace(
        model,
        path=tmp_path / "run.trace",
        stops="all",
        stop_steps="1-2",
        on_stop=lambda halt: seen.append((halt.step, halt.stop)),
    ):
        assert torch.equal(generate(model, batch(), **GREEDY, **compiling()).sequences, expected)
    passed = [stop for stop in HALTS if stop not in ONLY_SAMPLING]
    assert [stop for step, stop in seen if step == 1] == passed
    assert [stop for step, stop in seen if step == 2] == [stop for stop in passed if stop != "forward-result"]
