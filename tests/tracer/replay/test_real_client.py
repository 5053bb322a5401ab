"""Microsoft's own test client of the Debug Adapter Protocol drives a served recording."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.models import SAMPLING
from tests.support.walkthrough import HALTS
from tests.tracer.debugger.command import AttachedCommand
from tests.tracer.replay.recordings import Recorded, recorded

SOURCES = Path(__file__).parent / "npm"
STEPS = 3

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside its installed packages."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("npm")
    for file in SOURCES.iterdir():
        shutil.copy(file, folder)
    done = subprocess.run(
        [npm, "install", "--no-fund", "--no-audit", "--no-package-lock"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm cannot install the client: {(done.stderr.strip() or '?').splitlines()[-1]}")
    return folder / "drive.js"


@pytest.fixture(scope="module")
def run() -> Recorded:
    return recorded(2, ("logits", "kv"), 5, **SAMPLING)


@pytest.fixture(scope="module")
def seen(script: Path, run: Recorded) -> dict[str, Any]:
    """What the client saw."""
    anchor = run.open().header.anchor("choice")
    assert anchor is not None
    with AttachedCommand("replay", run.path, "--port", "0") as command:
        arguments = [str(command.listening()), str(STEPS), anchor.path, str(anchor.line), "step > 4"]
        target = script.with_name("seen.json")
        done = subprocess.run(
            ["node", str(script), str(target), *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert command.wait() == 0
    found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return found


def test_it_goes_there_and_back_over_all_stops(seen: dict[str, Any], run: Recorded) -> None:
    anchors = {anchor.stop: (anchor.path, anchor.line) for anchor in run.open().header.anchors}
    places = [anchors[stop] for _ in range(STEPS) for stop in HALTS] + [anchors["model-call"]]
    assert [tuple(halt["frames"][0][1:]) for halt in seen["seen"]] == places
    assert [tuple(halt["frames"][0][1:]) for halt in seen["back"]] == places[::-1]
    assert {halt["reason"] for halt in seen["seen"][1:] + seen["back"][1:]} == {"step"}
    assert seen["seen"][0]["reason"] == "entry"
    inner, outer = seen["seen"][1]["frames"]
    assert (inner[0], outer[0]) == ("Qwen2ForCausalLM.forward", "_sample")
    assert seen["capabilities"]["supportsStepBack"]


def test_variables_are_the_recording(seen: dict[str, Any], run: Recorded) -> None:
    steps = run.open().steps
    for place, content in enumerate(seen["contents"][: STEPS * len(HALTS)]):
        number, stop = place // len(HALTS) + 1, HALTS[place % len(HALTS)]
        frame, step = run.frames[number, stop], steps[number - 1]
        candidates = content["Candidates"].values()
        ids = [int(dict(inside)["token"]) for _, inside in candidates]
        assert ids == [each.token for each in step.candidates_of(0)]
        chances = np.array([dict(inside)["probability"] for _, inside in candidates], np.float32)
        np.testing.assert_array_equal(
            chances, np.array([each.probability for each in step.candidates_of(0)], np.float32)
        )
        assert len(content["KV cache"]) == (0 if place == 0 else 2)
        assert all(value.startswith("checked") for value, _ in content["Checks"].values())
        assert {"model", "lm_head", "saved tensors"} <= set(content["Modules"])
        if stop == "append":
            value, inside = content["Locals"]["next_tokens"]
            assert value == f"[2] int64: {', '.join(map(str, frame['next_tokens'].tolist()))}"
            assert dict(inside)["shape"] == "[2]"


def test_breakpoints_halt_both_ways(seen: dict[str, Any]) -> None:
    assert seen["bound"]["verified"]
    assert (seen["hit"]["reason"], seen["hitStep"]) == ("breakpoint", "5")
    assert seen["end"]["reason"] == "step"
    assert (seen["again"]["reason"], seen["againStep"]) == ("breakpoint", "5")
    assert seen["refused"] == "there is no frame 1; it belongs to an earlier halt"
