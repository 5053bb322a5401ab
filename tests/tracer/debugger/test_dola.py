"""A debugger halts in ``_dola_decoding``'s own lines."""

from __future__ import annotations

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
from tracer.library.loops.dola import DOLA_4_44
from tracer.tracefile import check_file

pytestmark = pytest.mark.reference_only


@pytest.mark.slow
def test_it_halts_at_every_stop(tmp_path: Path) -> None:
    checkpoint, out = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "run.trace"
    anchors = find_anchors(tiny_model(TINY), DOLA_4_44, do_sample=True)
    names = {(Path(anchor.path), anchor.line): anchor.stop for anchor in anchors}
    command = AttachedCommand(
        *("--model", checkpoint, "--prompt", "w10 w11", "--max-new-tokens", "3", "--seed", "3", "--sample"),
        *("--gen", "dola_layers=[0,1]", "--gen", "eos_token_id=null", "--json", *EAGER),
        *("--attach", "--port", "0", "--stop-at", "all", "--stop-steps", "2", "--out", out),
        start=PreparedProcess,
    )
    seen = []
    with command as running:
        with DebugClient(running.listening()) as client:
            client.attach()
            while (halted := client.halted()) is not None:
                stop = names[halted.path, halted.line]
                seen.append((stop, halted.function))
                if stop == "contrast":
                    assert client.evaluate(halted, "final_logits.shape") == "torch.Size([1, 100])"
                    assert client.evaluate(halted, "[*candidate_premature_logits]") == "[0, 1]"
                client.go_on(halted)
        answer = running.answer()
    stops = [stop for stop in DOLA_4_44.stops if stop not in ("run-header", "layers")]
    inside = {"forward-result": "forward"}
    assert seen == [(stop, inside.get(stop, "_dola_decoding")) for stop in stops]
    printed = "".join(client.output)
    assert printed.count(" contrast of layers ─") == 1
    assert "candidate layers" in printed
    assert check_file(out).whole
    with open_trace(out) as recording:
        assert recording.end is not None
        assert answer["token_ids"][0] == [step.choice().token for step in recording.steps]  # type: ignore[union-attr]
        assert all(step.head.contrast is not None for step in recording.steps)
