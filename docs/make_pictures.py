"""Make the pictures of the README and the manual: ``uv run python docs/make_pictures.py``. Needs Chromium."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from reports.terminal import render_card
from reports.view.stops.step import stop_card
from tracer import open_trace
from tracer.replay.terminal.stepper import RecordedStepper
from tracer.stepper.lines import PipeLines

HERE = Path(__file__).parent
PROMPT = "Give me a short introduction to large language model."
STOPS = ("warpers", "softmax", "choice")
FORKED_PROMPT = "Name three colours."
FORKS = (("1", "3", "3"), ("3", "6", "2"), ("1", "16", "1"))
"""Run, step, and how many of its best candidates begin a fork there."""
OPEN = "#run=6&step=6"
"""The branch that the picture shows open."""
WAY_FROM = "model-call 12"
WAY_BACK = ("g 12", "rc p_chosen < 0.3", "top 3", "why", "b", "q")
"""Commands on the recording; the picture begins at the second."""
_NORMAL = "282c34 e06c75 7eb86e d6aa5c 61a0e2 ba80d6 56b6c2 c8ccd4"
_BRIGHT = "6e7684 f08088 96ce82 ecc478 82b8f0 ce98e8 6eccd6 ebeef2"


def colours(text: str) -> list[tuple[int, int, int]]:
    """Colours of hexadecimal words."""
    return [(int(word[:2], 16), int(word[2:4], 16), int(word[4:], 16)) for word in text.split()]


THEME = TerminalTheme((24, 26, 31), (215, 218, 224), colours(_NORMAL), colours(_BRIGHT))
PAGE = """<!doctype html><meta charset="utf-8"><style>{stylesheet}
body {{ margin: 0; padding: 20px 26px; background: {background}; color: {foreground}; width: max-content; }}
pre {{ margin: 0; font: 14px/1.35 "DejaVu Sans Mono", monospace; }}</style><pre>{code}</pre>"""


def terminal_page(trace: Path) -> str:
    """Some stops of the first step, as a terminal shows them."""
    console = _console()
    with open_trace(trace) as recording:
        run = recording.runs[0]
        for stop in STOPS:
            console.print(render_card(stop_card(run.header, run.steps[0], run.tokens, stop)))
    return _page(console)


def replay_page(trace: Path) -> str:
    """A way back through the recording, as a terminal shows it."""
    console = _console()
    with open_trace(trace) as recording:
        lines = PipeLines(io.StringIO("".join(f"{line}\n" for line in WAY_BACK)), console)
        RecordedStepper(recording.run(), lines, console).run()
    shown = _page(console)
    # The way there is long; the picture begins where the way back does.
    head, _, rest = shown.partition(f"({WAY_FROM}) ")
    return f"{head.partition('<pre>')[0]}<pre>({WAY_FROM}) {rest}"


def _console() -> Console:
    return Console(record=True, file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor")


def _page(console: Console) -> str:
    # Rich leaves the end of a link to a file as it would be for a terminal.
    return re.sub("\x1b]8;[^\x1b]*\x1b\\\\", "", console.export_html(theme=THEME, code_format=PAGE))


def photograph_report(browser: Browser, trace: Path, folder: Path) -> None:
    """The HTML report at the warpers of a step with several candidates."""
    report = folder / "run.html"
    with open_trace(trace) as recording:
        report.write_text(recording.to_html(), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1280, "height": 1280})
    page.goto(f"{report.as_uri()}#step=5&stop=warpers")
    page.wait_for_selector("html[data-shown]", state="attached")
    page.screenshot(path=HERE / "report.png")


def photograph_branches(browser: Browser, trace: Path, folder: Path) -> None:
    """The branches of a forked run in its HTML report, one of them open."""
    report = folder / "fork.html"
    with open_trace(trace) as recording:
        report.write_text(recording.to_html(), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{report.as_uri()}{OPEN}")
    page.wait_for_selector("html[data-shown]", state="attached")
    page.locator("#branches").evaluate("branches => branches.scrollIntoView()")
    page.screenshot(path=HERE / "fork.png")


def record(trace: Path, prompt: str, *options: str) -> None:
    """Trace the demo model."""
    command = ["trace-generate", "--prompt", prompt, *options, "--quiet", "--no-html", "--out", str(trace)]
    subprocess.run(command, check=True)


def record_forks(trace: Path) -> None:
    """Trace a run, and fork it at several steps."""
    record(trace, FORKED_PROMPT, "--seed", "1", "--max-new-tokens", "24")
    for run, step, count in FORKS:
        command = ["trace-generate", "fork", str(trace), "--run", run, "--at", step, "--top", count]
        subprocess.run([*command, "--quiet"], check=True)


def make(folder: Path) -> None:
    """Trace the walkthrough's prompt and a run that is forked, and photograph them."""
    trace, forked = folder / "run.trace", folder / "tree.trace"
    record(trace, PROMPT, "--seed", "0", "--max-new-tokens", "32")
    record_forks(forked)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(device_scale_factor=1.25)
        page.set_content(terminal_page(trace))
        page.locator("body").screenshot(path=HERE / "terminal.png")
        page.set_content(replay_page(trace))
        page.locator("body").screenshot(path=HERE / "replay.png")
        photograph_report(browser, trace, folder)
        photograph_branches(browser, forked, folder)
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        make(Path(name))
