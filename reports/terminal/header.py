"""The run header, on one screen: what is long is folded, and how much was folded is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import INDENT, Page, PageRenderable
from reports.terminal.stops.card import draw_heading, draw_note, draw_rule
from reports.terminal.stops.variables import fitted_tokens
from reports.view.figures import plural
from reports.view.run.header import HeaderView, PromptView
from reports.view.run.named_value import NamedValue

LINES = 60
"""Lines of a header in 100 columns, at most."""

_CONDITIONS, _PARTICULARS, _SETTINGS, _PIPELINE, _CRITERIA = 3, 6, 5, 3, 3
"""Lines of each of these parts, at most."""

_PROMPTS = 12
"""Lines of all prompts together, at most."""

_TREE = 8
"""Lines of the module tree, at least."""

_ROWS = 4
_INNER = INDENT + 2


def render_header(view: HeaderView, number: int = 1, *, same_model: bool = False) -> RenderableType:
    """The header of a run.

    Args:
        view: the header.
        number: number of the run.
        same_model: the model was shown with an earlier run and is not shown again.
    """

    def draw(page: Page) -> None:
        if number > 1:
            page.blank()
        name = view.model if view.model == view.class_name else f"{view.model}, {view.class_name}"
        draw_rule(page, f"Run {number}", name)
        draw_heading(page, 0, "run header")
        draw_model = _draw_particulars if same_model else _draw_configuration
        parts = [_part(page, draw_model, view), *([] if same_model else [None])]
        parts += [
            _part(page, draw_part, view) for draw_part in (_draw_generation, _draw_prompts, _draw_versions)
        ]
        used = len(page.items) + sum(len(part) for part in parts if part is not None)
        parts = [_tree(page, view.tree, LINES - used) if part is None else part for part in parts]
        _place(page, [part for part in parts if part])

    return PageRenderable(draw)


def _part(page: Page, draw: Callable[[Page, HeaderView], None], view: HeaderView) -> list[RenderableType]:
    inner = page.another()
    draw(inner, view)
    return inner.items


def _place(page: Page, parts: Sequence[list[RenderableType]]) -> None:
    """Add parts, with an empty line before each where there is room for it."""
    spare = LINES - len(page.items) - sum(map(len, parts))
    for place, part in enumerate(parts):
        if place and spare > 0:
            page.blank()
            spare -= 1
        page.items += part


def _draw_configuration(page: Page, view: HeaderView) -> None:
    _draw_title(page, "what the configuration says")
    names = max((len(each.name) for each in view.sizes), default=0)
    values = max((len(each.value) for each in view.sizes), default=0)
    for each in view.sizes:
        line = Text.styled(each.name.ljust(names + 2), theme.NAME).append(
            each.value.ljust(values + 2), theme.VALUE
        )
        page.hanging(line, Text.styled(each.meaning or "", theme.QUIET), _INNER)
    _draw_flow(page, view.conditions, _CONDITIONS)
    _draw_particulars(page, view)


def _draw_particulars(page: Page, view: HeaderView) -> None:
    """What few runs have."""
    inner = page.another()
    for each in view.particulars:
        text = _fact(each).append(f"  {each.meaning}" if each.meaning else "", theme.QUIET)
        inner.wrapped(text, _INNER, hanging=2)
    page.items += _folded(inner, _PARTICULARS)


def _draw_generation(page: Page, view: HeaderView) -> None:
    """What is particular to this run of the model."""
    pipeline = [
        NamedValue(f"{number} {each.name}", each.value) for number, each in enumerate(view.pipeline, 1)
    ]
    for title, values, limit, separator in (
        ("generation settings in force", view.settings, _SETTINGS, " · "),
        ("the scores pass, in this order", pipeline, _PIPELINE, " → "),
        ("what can stop a row", view.criteria, _CRITERIA, " · "),
    ):
        if values:
            _draw_title(page, title)
            _draw_flow(page, values, limit, separator)


def _draw_prompts(page: Page, view: HeaderView) -> None:
    shown = view.prompts[:_ROWS]
    for prompt in shown:
        _draw_prompt(page, prompt, rows=len(shown), batch=len(view.prompts))
    if len(view.prompts) > len(shown):
        hidden = plural(len(view.prompts) - len(shown), "more row")
        page.line(Text.styled(f"… {hidden}", theme.QUIET), INDENT)


def _draw_versions(page: Page, view: HeaderView) -> None:
    versions = " · ".join(f"{each.name} {each.value}" for each in view.versions)
    page.wrapped(Text.styled(f"{versions} · started {view.started_at}", theme.QUIET))
    for note in view.notes:
        draw_note(page, note)


def _draw_title(page: Page, title: str) -> None:
    page.line(Text.styled(title, theme.TITLE), INDENT)


def _draw_flow(
    page: Page, values: Sequence[NamedValue], limit: int | None = None, separator: str = " · "
) -> None:
    """Names with their values, one after the other; lines break between them, and in those that need more."""
    inner = page.another()
    for long, facts in groupby(map(_fact, values), lambda fact: fact.cell_len > page.width - _INNER):
        if not long:
            inner.flow(facts, _INNER, separator)
            continue
        for fact in facts:
            inner.wrapped(fact, _INNER, hanging=2)
    page.items += inner.items if limit is None else _folded(inner, limit)


def _fact(value: NamedValue) -> Text:
    text = Text.styled(value.name, theme.NAME)
    return text.append(f" {value.value}" if value.value else "", theme.VALUE)


def _folded(page: Page, limit: int) -> list[RenderableType]:
    """The lines of a page; of too many the first ones and the last one, with the number of those between."""
    items = page.items
    if len(items) <= limit:
        return items
    tail = 1 if limit > 2 else 0
    hidden = len(items) - (limit - 1 - tail) - tail
    gap = page.another()
    gap.line(Text.styled(f"… {plural(hidden, 'line')} not shown …", theme.QUIET), _INNER)
    head = items[: limit - 1 - tail]
    return [*head, *gap.items, *items[len(items) - tail :]]


def _tree(page: Page, tree: str, room: int) -> list[RenderableType]:
    """The module tree, a closing bracket at the end of the line before it."""
    inner = page.another()
    _draw_title(inner, "module tree, as print(model) shows it")
    lines = list(_closed(tree.rstrip("\n").split("\n")))
    limit = max(_TREE, room - 1)
    if len(lines) > limit:
        half = limit // 2
        hidden = f"… {plural(len(lines) - limit + 1, 'line')} not shown …"
        lines = [*lines[:half], hidden, *lines[len(lines) - (limit - half - 1) :]]
    for line in lines:
        inner.line(Text.styled("│ ", "dim").append(line, theme.QUIET), INDENT)
    return inner.items


def _closed(lines: Sequence[str]) -> Iterator[str]:
    """Lines without those that only close a bracket."""
    waiting = ""
    for place, line in enumerate(lines):
        if place and line.strip() == ")":
            waiting += ")"
            continue
        if place:
            yield waiting
        waiting = line
    yield waiting


def _draw_prompt(page: Page, prompt: PromptView, rows: int, batch: int) -> None:
    """Text and tokens of one row, each folded to its share of the lines."""
    share = _PROMPTS // rows
    padding = f", the first {prompt.padding} padding" if prompt.padding else ""
    place = f"row {prompt.row}: " if batch > 1 else ""
    tokens = f"{place}{plural(len(prompt.tokens), 'prompt token')}, id and text{padding}"
    if prompt.text is None:
        _draw_title(page, tokens)
        _draw_tokens(page, prompt, share - 1)
        return
    if batch > 1:  # one title for both
        _draw_title(page, f"{tokens}, and the text with the chat template applied")
        _draw_tokens(page, prompt, (share - 1) // 2)
        _draw_text(page, prompt.text, max(1, (share - 1) // 2))
        return
    _draw_title(page, "prompt text with the chat template applied")
    _draw_text(page, prompt.text, share // 2)
    _draw_title(page, tokens)
    _draw_tokens(page, prompt, share // 2 - 1)


def _draw_text(page: Page, text: str, limit: int) -> None:
    inner = page.another()
    for line in text.rstrip("\n").split("\n"):
        inner.barred(Text.styled(line, theme.VALUE))
    page.items += _folded(inner, limit)


def _draw_tokens(page: Page, prompt: PromptView, limit: int) -> None:
    page.items += fitted_tokens(page, prompt.tokens, max(1, limit), _INNER)
