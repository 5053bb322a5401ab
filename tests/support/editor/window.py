"""A window of the editor: what a person does in it, and what it shows."""

from __future__ import annotations

import contextlib
import re

from playwright.sync_api import FloatRect, Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

WIDTH = 1600
TIMEOUT = 60_000.0
"""Milliseconds to wait for anything; an editor that takes longer has failed."""

TRIES = 12

_HALTED = ".debug-toolbar .codicon-debug-continue"

_PLACE_OF_WORD = """(line, word) => {
  const texts = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const start = texts.currentNode.data.indexOf(word);
    if (start < 0) continue;
    const range = document.createRange();
    range.setStart(texts.currentNode, start);
    range.setEnd(texts.currentNode, start + word.length);
    const place = range.getBoundingClientRect();
    return [place.x + place.width / 2, place.y + place.height / 2];
  }
}"""


class Window:
    """A window of the editor.

    Args:
        page: an empty page of the browser.
        address: what to open in it.
        height: of the page; lists have only the rows that are in sight.
    """

    def __init__(self, page: Page, address: str, height: int) -> None:
        page.set_default_timeout(TIMEOUT)
        page.set_viewport_size({"width": WIDTH, "height": height})
        self._height = height
        self.page = page
        page.goto(address)
        # The workspace has been read when its configuration is offered.
        page.locator(".statusbar-item", has_text="Attach to trace-generate (9501)").wait_for()

    def command(self, title: str) -> None:
        """Choose a command by its title.

        Args:
            title: as the palette shows it.
        """
        self.page.keyboard.press("F1")
        self._choose(f">{title}", title)

    def attach(self) -> None:
        """F5, with the configuration that is chosen from the beginning."""
        # An editor that has only just been opened may not hear it.
        for _ in range(TRIES):
            self.page.keyboard.press("F5")
            with contextlib.suppress(PlaywrightTimeout):
                self.page.locator(".debug-toolbar").wait_for(timeout=TIMEOUT / TRIES)
                return
        raise AssertionError("nothing is attached to")

    def halts_at(self, line: int, title: str = "") -> None:
        """Wait until it shows a halt at a line.

        Args:
            line: the line.
            title: part of what it says about the halt.
        """
        self.page.locator(_HALTED).wait_for()
        expect(self._stack.locator(".stack-frame .line-number").first).to_have_text(
            re.compile(rf"^{line}:"), timeout=TIMEOUT
        )
        expect(self._stack).to_contain_text(title, timeout=TIMEOUT)
        # The line itself is marked in its source.
        self.page.locator(".editor-container .codicon-debug-stackframe").wait_for()

    def toolbar(self, name: str) -> None:
        """Press a button of the debugger's toolbar.

        Args:
            name: as it is named there.
        """
        self.page.locator(".debug-toolbar").get_by_role("button", name=name).click()
        self._point_at_nothing()

    def shows_frames(self, *names: str) -> None:
        """Wait until the call stack begins with frames.

        Args:
            names: of the functions, innermost first.
        """
        frames = self._stack.locator(".stack-frame > .label")
        for place, name in enumerate(names):
            expect(frames.nth(place)).to_have_text(name, timeout=TIMEOUT)

    def expand(self, name: str) -> None:
        """Open a scope or a variable.

        Args:
            name: its name.
        """
        row = self._variable(name)
        # Rows move while others are filled, so the click goes to the row and not to a place; and what is
        # opened while the list is being made anew is closed again.
        for _ in range(TRIES):
            if row.get_attribute("aria-expanded") != "true":
                row.locator(".monaco-tl-twistie").dispatch_event("click")
            with contextlib.suppress(AssertionError):
                expect(row).to_have_attribute("aria-expanded", "true", timeout=TIMEOUT / TRIES)
                return
        raise AssertionError(f"{name} cannot be opened")

    def shows_variable(self, name: str, text: str | re.Pattern[str]) -> None:
        """Wait until a variable that is in sight has a value.

        Args:
            name: its name.
            text: part of the value.
        """
        expect(self._variable(name).locator(".value")).to_contain_text(text, timeout=TIMEOUT)

    def _variable(self, name: str) -> Locator:
        """The row of a scope or a variable, which says both in words for those who do not see it."""
        rows = f'[aria-label="Scope {name}"], [aria-label^="{name}, value "]'
        return self.page.locator(".debug-variables .monaco-list-row").and_(self.page.locator(rows)).first

    def ask(self, text: str) -> None:
        """Type into the debug console.

        Args:
            text: a line.
        """
        self._type(".repl-input-wrapper", text)

    def answers(self, text: str) -> None:
        """Wait until the debug console shows a text among what is in sight.

        Args:
            text: part of it.
        """
        rows = self.page.locator(".repl-tree .monaco-list-row", has_text=text)
        expect(rows.last).to_be_visible(timeout=TIMEOUT)

    def break_at(self, line: int, condition: str) -> None:
        """Set a conditional breakpoint in the source that is open.

        Args:
            line: the line.
            condition: the condition.
        """
        self.page.keyboard.press("Control+G")
        self._choose(f":{line}", str(line))
        self.command("Debug: Add Conditional Breakpoint...")
        self._type(".breakpoint-widget", condition)

    def watch(self, expression: str) -> None:
        """Add an expression to the watched ones."""
        row = self.page.locator(".debug-watch .monaco-list-row", has_text=expression)
        # The list may be made anew, with an empty field, while values arrive.
        for _ in range(TRIES):
            self.page.locator(".pane-header", has_text="Watch").hover()
            self.page.get_by_role("button", name="Add Expression").click()
            with contextlib.suppress(AssertionError, PlaywrightTimeout):
                field = self.page.locator(".debug-watch input")
                field.fill(expression, timeout=TIMEOUT / TRIES)
                field.press("Enter", timeout=TIMEOUT / TRIES)
                expect(row).to_be_visible(timeout=TIMEOUT / TRIES)
                return
        raise AssertionError(f"{expression} cannot be watched")

    def hovers(self, line: str, word: str, text: str) -> None:
        """Point at a word of the source that is open, and wait until a hover shows its value.

        Args:
            line: part of the line.
            word: the word in it.
            text: part of the value.
        """
        widget = self.page.locator(".debug-hover-widget")
        # The source may still be on its way to the line where it has just halted.
        for _ in range(TRIES):
            x, y = self.page.locator(".view-line", has_text=line).first.evaluate(_PLACE_OF_WORD, word)
            self.page.mouse.move(x, y - 60)
            self.page.mouse.move(x, y)
            with contextlib.suppress(AssertionError):
                expect(widget).to_contain_text(text, timeout=TIMEOUT / TRIES)
                return
        raise AssertionError(f"no hover over {word} shows {text}")

    def watches(self, expression: str, text: str) -> None:
        """Wait until a watched expression has a value.

        Args:
            expression: the expression.
            text: the value.
        """
        row = self.page.locator(".debug-watch .monaco-list-row", has_text=f"{expression} =")
        expect(row.locator(".value")).to_have_text(text, timeout=TIMEOUT)

    def widen(self, more: int) -> None:
        """Make the side bar wider.

        Args:
            more: pixels.
        """
        place = self._place(".part.sidebar")
        edge, middle = place["x"] + place["width"], place["y"] + place["height"] / 2
        self._drag((edge, middle), (edge + more, middle))

    def lower(self, pane: str, more: int) -> None:
        """Give a pane of the side bar less room, and those above it more.

        Args:
            pane: its title.
            more: pixels.
        """
        header = f'.pane-header:has-text("{pane}")'
        target = self._place(header)["y"] + more
        # A pane that has just been folded is still moving.
        for _ in range(TRIES):
            place = self._place(header)
            if place["y"] > target - 1:
                return
            middle = place["x"] + place["width"] / 2
            self._drag((middle, place["y"]), (middle, target))
            self.page.wait_for_timeout(TIMEOUT / 100)
        raise AssertionError(f"{pane} cannot be moved")

    def fold(self, pane: str) -> None:
        """Fold a pane of the side bar.

        Args:
            pane: its title.
        """
        self.page.locator(".pane-header", has_text=pane).locator(".title").click()

    def disconnect(self) -> None:
        """Leave the program."""
        self.page.keyboard.press("Shift+F5")
        self.page.locator(".debug-toolbar").wait_for(state="hidden")

    @property
    def _stack(self) -> Locator:
        return self.page.locator(".pane:has(.debug-call-stack)")

    def _point_at_nothing(self) -> None:
        """Or what the mouse is over would be explained, in front of the rest."""
        self.page.mouse.move(WIDTH / 2, self._height - 5)

    def _place(self, selector: str) -> FloatRect:
        box = self.page.locator(selector).bounding_box()
        assert box is not None
        return box

    def _drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=5)
        self.page.mouse.up()
        self._point_at_nothing()

    def _type(self, place: str, text: str) -> None:
        """Type a line into a small editor, which may lose the first keys where it has only just appeared."""
        field = self.page.locator(f"{place} .inputarea")
        for _ in range(TRIES):
            field.press("Control+A")
            field.press_sequentially(text)
            with contextlib.suppress(AssertionError):
                expect(self.page.locator(f"{place} .view-lines")).to_have_text(text, timeout=TIMEOUT / TRIES)
                field.press("Enter")
                return
        raise AssertionError(f"{text} cannot be typed")

    def _choose(self, text: str, label: str) -> None:
        self.page.locator(".quick-input-widget input[type=text]").fill(text)
        first = self.page.locator(".quick-input-list .monaco-list-row").first
        expect(first).to_contain_text(label, timeout=TIMEOUT)
        self.page.keyboard.press("Enter")
