"""VS Code itself, driven as a person does, attaches to a run and to a recording."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Playwright

from hooks.loop.anchors import find_anchors
from tests.support.browser import chromium
from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import EAGER
from tests.support.editor.installed import EditorMissingError, installed_editor
from tests.support.editor.server import EditorServer, serving_editor
from tests.support.editor.window import Window
from tests.support.models import SAMPLING, tiny_model
from tests.support.network import missing
from tests.tracer.debugger.command import AttachedCommand
from tests.tracer.replay.recordings import Recorded, recorded
from tracer.library.release import installed_release
from tracer.schema.run import StopName

STEPS = 14
HEIGHT = 1800
"""Tall enough for whatever is opened: a list has only the rows that are in sight."""

LINES: dict[StopName, int] = {
    anchor.stop: anchor.line
    for anchor in find_anchors(tiny_model(), installed_release().sample, do_sample=True)
}

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EditorServer]:
    try:
        files = installed_editor()
    except EditorMissingError as error:
        missing(f"VS Code is not there: {error}")
        raise
    with serving_editor(files, tmp_path_factory.mktemp("editor")) as serving:
        yield serving


@pytest.fixture(scope="module")
def page(driver: Playwright) -> Iterator[Page]:
    browser = chromium(driver)
    yield browser.new_page()
    browser.close()


@pytest.fixture(scope="module")
def run() -> Recorded:
    return recorded(1, ("logits", "kv"), STEPS, **SAMPLING)


def test_a_recording(server: EditorServer, page: Page, run: Recorded) -> None:
    """There and back with the buttons, all scopes, a condition, a hover, a watch, and questions."""
    steps = run.open().steps
    with AttachedCommand("replay", run.path, "--port", "0") as command:
        window = Window(page, server.address("recording", command.listening()), HEIGHT)
        window.attach()
        window.halts_at(LINES["model-call"], "Step 1, stop 1 prepare inputs")
        window.shows_frames("_sample")
        _moves(window)
        _scopes(window, run)
        _condition(window, [step.number for step in steps if _chance(step.number, run) < 0.3])
        _questions(window)
        window.disconnect()
        command.said("Debugger detached")


def _moves(window: Window) -> None:
    window.toolbar("Step Over")
    window.halts_at(LINES["forward-result"], "Step 1, stop 3 forward result")
    window.shows_frames("Qwen2ForCausalLM.forward", "_sample")
    window.toolbar("Step Back")
    window.halts_at(LINES["model-call"], "Step 1, stop 1 prepare inputs")
    window.toolbar("Step Out")
    window.halts_at(LINES["model-call"], "Step 2, stop 1 prepare inputs")


def _scopes(window: Window, run: Recorded) -> None:
    (best, *_) = run.open().steps[1].candidates_of(0)
    window.shows_variable("input_ids", "] int64: ")
    window.shows_variable("do_sample", "True")
    window.expand("Candidates")
    window.shows_variable("0", f"({best.token})")
    window.expand("KV cache")
    window.shows_variable("layer 0", re.compile(r"^\(\[1, 2, \d+, 8\] float32: "))
    window.expand("Modules")
    window.shows_variable("lm_head", "Linear: [1, 1, 100]")
    window.expand("Checks")
    window.shows_variable("update", "checked: ")


def _chance(number: int, run: Recorded) -> float:
    choice = run.open().steps[number - 1].choice(0)
    assert choice is not None
    return choice.probability


def _condition(window: Window, improbable: list[int]) -> None:
    """A conditional breakpoint halts where it should, in both directions."""
    window.break_at(LINES["choice"], "p_chosen < 0.3")
    ahead = [number for number in improbable if number >= 2]
    assert len(ahead) > 1
    for number in ahead[:2]:
        window.toolbar("Continue")
        window.halts_at(LINES["choice"], f"Step {number}, stop 8 choice: p_chosen < 0.3 holds")
    window.toolbar("Reverse")
    window.halts_at(LINES["choice"], f"Step {ahead[0]}, stop 8 choice: p_chosen < 0.3 holds")
    window.hovers("torch.multinomial(probs", "probs", "[1, 100] float32")
    window.watch("step + 1")
    window.watches("step + 1", str(ahead[0] + 1))


def _questions(window: Window) -> None:
    window.ask("why")
    window.answers("It was chosen, with probability")
    window.ask("step 12")
    window.halts_at(LINES["model-call"], "Step 12, stop 1 prepare inputs")
    window.watches("step + 1", "13")


def test_a_run(server: EditorServer, page: Page, tmp_path: Path) -> None:
    """It halts in the library's own frames and on a condition, and goes on when the editor leaves."""
    model = tiny_checkpoint(tmp_path / "tiny")
    with AttachedCommand(
        *("--attach", "--port", "0", "--model", model, "--prompt", "w10 w11", "--max-new-tokens", "5"),
        *("--sample", "--top-k", "5", "--gen", "eos_token_id=null", "--json", *EAGER),
        *("--seed", "3", "--out", tmp_path / "run.trace", "--no-html"),
    ) as command:
        window = Window(page, server.address("run", command.listening()), HEIGHT)
        window.attach()
        window.halts_at(LINES["model-call"], "Paused on breakpoint")
        window.shows_frames("_sample", "generate")
        window.shows_variable("input_ids", re.compile(r"^int64 \[1, \d+\] "))
        window.answers("Step 1, before transformers/generation/utils.py")
        window.toolbar("Continue")
        window.halts_at(LINES["forward-result"])
        window.shows_frames("forward")
        window.break_at(LINES["forward-result"] + 1, "logits.shape[1] == 1")
        window.toolbar("Continue")
        window.halts_at(LINES["warpers"])
        window.toolbar("Continue")
        window.halts_at(LINES["choice"])
        window.hovers("torch.multinomial(probs", "probs", "float32 [1, 100] mean 0.01, std ")
        window.ask("(probs > 0).sum().item()")
        window.answers("5")
        window.watch("probs.shape[1] + 11")
        window.watches("probs.shape[1] + 11", "111")
        window.break_at(LINES["append"], "next_tokens.numel() == 1")
        window.toolbar("Continue")
        window.halts_at(LINES["append"])
        window.disconnect()
        assert len(command.answer()["token_ids"][0]) == 5
