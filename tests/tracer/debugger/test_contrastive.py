"""A debugger halts in the own lines of ``_contrastive_search``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hooks.loop.anchors import find_anchors
from tests.support.checkpoints import TINY, tiny_checkpoint
from tests.support.command import EAGER
from tests.support.models import tiny_model
from tests.support.prepared import PreparedProcess
from tests.tracer.debugger.client import DebugClient
from tests.tracer.debugger.command import AttachedCommand
from tracer import open_trace
from tracer.library.loops.contrastive import CONTRASTIVE_4_44
from tracer.tracefile import check_file

pytestmark = pytest.mark.reference_only

STOPS = [stop for stop in CONTRASTIVE_4_44.stops if stop not in ("run-header", "layers")]
EVALUATED = {
    "processors": "logit_for_next_step.shape",
    "repeat": "top_k_ids.shape",
    "select": "selected_idx.tolist()",
    "update": "input_ids.shape",
}


def test_it_halts_at_every_stop_of_a_contrastive_search(tmp_path: Path) -> None:
    checkpoint, out = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "run.trace"
    anchors = find_anchors(tiny_model(TINY), CONTRASTIVE_4_44.with_low_memory(False), do_sample=False)
    names = {(Path(anchor.path), anchor.line): anchor.stop for anchor in anchors}
    command = AttachedCommand(
        *("--model", checkpoint, "--prompt", "w10 w11 w12 w10 w11", "--max-new-tokens", "4", "--json"),
        *("--greedy", "--gen", "penalty_alpha=0.6", "--gen", "top_k=4", *EAGER),
        *("--attach", "--port", "0", "--stop-at", "all", "--stop-steps", "1,2", "--out", out),
        start=PreparedProcess,
    )
    seen, found = list[tuple[str, str]](), list[tuple[str, str]]()
    with command as running:
        with DebugClient(running.listening()) as client:
            client.attach()
            while (stands := client.halted()) is not None:
                stop = names[stands.path, stands.line]
                seen.append((stop, stands.function))
                if stop in EVALUATED:
                    found.append((stop, client.evaluate(stands, EVALUATED[stop])))
                client.go_on(stands)
        answer = running.answer()
    later = [stop for stop in STOPS if stop not in ("prefill", "next-logits")]
    expected = [
        (stop, "forward" if stop == "forward-result" else "_contrastive_search") for stop in [*STOPS, *later]
    ]
    assert seen == expected
    assert check_file(out).whole
    with open_trace(out) as recording:
        assert recording.end is not None
        assert recording.end.status.value == "complete"
        prompt = len(recording.header.prompt[0].token_ids)
        assert answer["token_ids"][0] == [*recording.end.sequences[0][prompt:]]
        rankings = [step.head.contrastive for step in recording.steps[:2]]
    taken = [ranking.rows[0].taken for ranking in rankings if ranking is not None and ranking.rows[0]]
    assert [text for stop, text in found if stop == "select"] == [f"[{place}]" for place in taken]
    assert {text for stop, text in found if stop == "repeat"} == {"torch.Size([1, 4])"}
    printed = "".join(client.output)
    for title in ("prefill", "candidates", "repeat the cache", "choice", "select from the cache"):
        assert len(re.findall(rf"^ *\d+ {title}(?: \(skipped\))? ─", printed, re.MULTILINE)) == 2
