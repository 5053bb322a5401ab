"""Make the README's pictures of VS Code: ``uv run python docs/make_editor_pictures.py``.

Needs Chromium, and npm the first time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.support.browser import chromium
from tests.support.editor.installed import installed_editor
from tests.support.editor.server import EditorServer, serving_editor
from tests.support.editor.window import Window
from tests.tracer.debugger.command import AttachedCommand
from tracer import open_trace
from tracer.schema.run import StopName

HERE = Path(__file__).parent
HEIGHT = 1000
PROMPT = "Give me a short introduction to large language model."
RUN = ("--prompt", PROMPT, "--seed", "0", "--quiet", "--no-html")
TOKENS = 32
STEP = 12


def photograph_run(page: Page, server: EditorServer, trace: Path) -> None:
    """A run that halts in the library's own frame; the run is recorded."""
    command = (*RUN, "--max-new-tokens", str(TOKENS), "--out", trace, "--attach", "--port", "0")
    with AttachedCommand(*command) as running:
        window = Window(page, server.address("run", running.listening()), HEIGHT)
        window.attach()
        window.shows_frames("_sample", "generate")
        _make_room(window)
        window.toolbar("Continue")
        window.shows_frames("forward", "_sample")
        window.shows_variable("logits", "float32")
        window.answers("before transformers/models")
        page.screenshot(path=HERE / "attach.png")
        window.disconnect()
        assert running.wait() == 0, running.stderr


def photograph_replay(page: Page, server: EditorServer, trace: Path) -> None:
    """A recording: back to where an improbable token was chosen, and why it was."""
    lines = _lines(trace)
    with AttachedCommand("replay", trace, "--port", "0") as running:
        window = Window(page, server.address("recording", running.listening()), HEIGHT)
        window.attach()
        window.halts_at(lines["model-call"])
        window.break_at(lines["choice"], "p_chosen < 0.3")
        window.ask(f"step {STEP}")
        window.halts_at(lines["model-call"], f"Step {STEP}")
        window.toolbar("Reverse")
        window.halts_at(lines["choice"], "p_chosen < 0.3")
        _make_room(window)
        window.expand("Candidates")
        window.ask("why")
        window.answers("repetition_penalty")
        page.screenshot(path=HERE / "replay_editor.png")
        window.disconnect()


def _make_room(window: Window) -> None:
    """Fold what is empty or names a path of this machine, and show the variables in full."""
    window.widen(150)
    window.fold("Watch")
    window.fold("Breakpoints")
    window.lower("Call Stack", 180)


def _lines(trace: Path) -> dict[StopName, int]:
    """The lines of the stops."""
    with open_trace(trace) as recording:
        return {anchor.stop: anchor.line for anchor in recording.header.anchors}


def make(room: Path) -> None:
    """Record a run under the editor, and look at the recording in it.

    Args:
        room: an empty folder.
    """
    files, trace = installed_editor(), room / "introduction.trace"
    with serving_editor(files, room / "editor") as server, sync_playwright() as playwright:
        browser = chromium(playwright)
        # Each has a profile of its own, or the second would begin with the layout of the first.
        photograph_run(browser.new_context().new_page(), server, trace)
        photograph_replay(browser.new_context().new_page(), server, trace)
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        make(Path(name))
