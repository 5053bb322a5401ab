"""A debugger halts in the own lines of ``_beam_search`` and ``_assisted_decoding``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hooks.loop.anchors import find_anchors
from tests.support.breadth import slow
from tests.support.checkpoints import TINY, tiny_checkpoint
from tests.support.command import EAGER
from tests.support.models import tiny_model
from tests.support.prepared import PreparedProcess
from tests.tracer.debugger.client import DebugClient
from tests.tracer.debugger.command import AttachedCommand
from tracer import open_trace
from tracer.library.loop import Loop
from tracer.library.loops.assisted import ASSISTED_4_44
from tracer.library.release import installed_release
from tracer.tracefile import check_file

LOOP = installed_release().loop_of("beam_search")
assert LOOP is not None

NO_HALTS = ("run-header", "candidates", "layers")


def halted(
    tmp_path: Path,
    loop: Loop,
    evaluated: dict[str, str],
    *settings: str | Path,
    speculative: bool = False,
    how: str = "--sample",
) -> tuple[list[tuple[str, str]], dict[str, str], str]:
    """Halt at every stop of step 2: stops with their functions, what was evaluated, and what was printed."""
    checkpoint, out = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "run.trace"
    anchors = find_anchors(tiny_model(TINY), loop, do_sample=True, speculative=speculative)
    names = {(Path(anchor.path), anchor.line): anchor.stop for anchor in anchors}
    command = AttachedCommand(
        *("--model", checkpoint, "--prompt", "w10 w11 w12 w10 w11", "--max-new-tokens", "12", "--seed", "3"),
        *(how, "--repetition-penalty", "1.05", "--json", *settings, *EAGER),
        *("--attach", "--port", "0", "--stop-at", "all", "--stop-steps", "2", "--out", out),
        start=PreparedProcess,
    )
    seen, found = list[tuple[str, str]](), dict[str, str]()
    with command as running:
        with DebugClient(running.listening()) as client:
            client.attach()
            while (stands := client.halted()) is not None:
                stop = names[stands.path, stands.line]
                seen.append((stop, stands.function))
                if stop in evaluated:
                    found[stop] = client.evaluate(stands, evaluated[stop])
                client.go_on(stands)
        answer = running.answer()
    assert check_file(out).whole
    with open_trace(out) as recording:
        assert recording.end is not None
        assert recording.end.status.value == "complete"
        prompt = len(recording.header.prompt[0].token_ids)
        assert answer["token_ids"][0] == [*recording.end.sequences[0][prompt:]]
    return seen, found, "".join(client.output)


def expected(loop: Loop, *left_out: str) -> list[tuple[str, str]]:
    own = {
        each.stop: each.function or loop.method
        for each in loop.statements
        if each.phase != "prefill" and each.runs(do_sample=True)
    }
    return [(stop, own[stop]) for stop in loop.stops if stop not in (*NO_HALTS, *left_out)]


def test_it_halts_at_every_stop_of_a_beam_search(tmp_path: Path) -> None:
    assert LOOP is not None
    evaluated = {
        "choice": "next_token_scores.shape",
        "append": "[*beam_idx.shape]",
        "reorder": "input_ids.shape",
    }
    values = {"choice": "torch.Size([1, 300])", "append": "[3]", "reorder": "torch.Size([3, "}
    if LOOP.helpers:
        evaluated = {
            "choice": "accumulated_log_probs.shape",
            "append": "[*topk_ids.shape]",
            "beams": "cur_len",
        }
        values = {"choice": "torch.Size([1, 300])", "append": "[1, 6]", "beams": ""}
    seen, found, printed = halted(tmp_path, LOOP, evaluated, "--gen", "num_beams=3")
    assert seen == expected(LOOP)
    assert set(found) == set(values)
    assert all(found[stop].startswith(value) for stop, value in values.items())
    for title in ("scores of the beams", "beams", "reorder the cache"):
        assert len(re.findall(rf"^ *\d+ {title} ─", printed, re.MULTILINE)) == 1
    with open_trace(tmp_path / "run.trace") as recording:
        assert all(step.head.beams is not None for step in recording.steps)


@pytest.mark.reference_only
@pytest.mark.parametrize("proposer", ["lookup", *slow("draft")])
def test_it_halts_at_every_stop_of_assisted_decoding(proposer: str, tmp_path: Path) -> None:
    settings: tuple[str | Path, ...] = ("--prompt-lookup", "2")
    if proposer == "draft":
        settings = ("--assistant-model", tmp_path / "tiny")
    evaluated = {"append": "[*valid_tokens.shape]", "strategy": "n_matches >= 0"}
    seen, found, printed = halted(
        tmp_path, ASSISTED_4_44, evaluated, *settings, speculative=proposer == "draft"
    )
    left_out = ("softmax",) if proposer == "draft" else ()  # done inside of the choice
    assert seen == expected(ASSISTED_4_44, *left_out)
    assert found["append"].startswith("[1, ")
    assert "True" in found["strategy"]
    for title in ("candidates", "crop the cache", "next candidates"):
        assert len(re.findall(rf"^ *\d+ {title} ─", printed, re.MULTILINE)) == 1
    with open_trace(tmp_path / "run.trace") as recording:
        assert all(step.head.assisted is not None for step in recording.steps)
