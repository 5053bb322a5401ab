"""Draw the picture of the architecture: ``uv run python docs/draw_architecture.py``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

PICTURE = Path(__file__).with_name("architecture.svg")

WIDTH, HEIGHT = 960, 1086
LEFT, RIGHT = 40, 920
COLUMN, GAP = 205, 20
PATH_CHARACTERS = 31
"""A path that is longer takes two lines in a box."""

STYLE = """
  .ground { fill: #ffffff } .panel { fill: #f4f6f9; stroke: #d7dde6 }
  .box { fill: #ffffff; stroke: #b9c3d0 } .library { fill: #fff8ec; stroke: #e0bd7c }
  .file { fill: #e9f5ee; stroke: #7cb894 }
  text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #2b3440 }
  .head { font-size: 15px; font-weight: 600 } .name { font-size: 13px; font-weight: 600 }
  .dim { fill: #5c6877 } .code { font: 12px ui-monospace, "DejaVu Sans Mono", monospace }
  .path { font: 10.5px ui-monospace, "DejaVu Sans Mono", monospace; fill: #1f5fa8 }
  .badge { fill: #b3761a } .number { font-size: 11px; font-weight: 600; fill: #ffffff; text-anchor: middle }
  .line { stroke: #6b7787; stroke-width: 1.4; fill: none } .seen { stroke-dasharray: 4 3 }
  .tip { fill: #6b7787 } .end { text-anchor: end } .mid { text-anchor: middle }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #14181e } .panel { fill: #1b2129; stroke: #333d4a }
    .box { fill: #222a34; stroke: #465364 } .library { fill: #2e281c; stroke: #8a6d37 }
    .file { fill: #1d2f26; stroke: #4d8a66 }
    text { fill: #dbe1e9 } .dim { fill: #98a5b5 } .path { fill: #7fb4f0 }
    .badge { fill: #c9913b } .number { fill: #14181e } .line { stroke: #8a97a8 } .tip { fill: #8a97a8 }
  }
"""


@dataclass(frozen=True)
class Station:
    """A place on a step's way.

    Attributes:
        name: what it is called.
        what: what happens there.
        path: its file.
    """

    name: str
    what: str
    path: str


@dataclass(frozen=True)
class Watched:
    """A statement of the library, and what watches it.

    Attributes:
        stops: numbers of its stops.
        code: the statement.
        station: what watches it.
    """

    stops: str
    code: str
    station: Station


LOOP = (
    Watched(
        "1",
        "prepare_inputs_for_generation(…)",
        Station(
            "The step opens", "model inputs, mask, the cache's signature before", "hooks/loop/run_capture.py"
        ),
    ),
    Watched(
        "2\u20133",
        "outputs = self(**model_inputs)",
        Station("Module calls", "a tape notes order, specs and statistics", "hooks/modules/module_watch.py"),
    ),
    Watched(
        "4\u20136",
        "logits_processor(…), logits_warper(…)",
        Station("Score stages", "stand-ins copy the scores after each processor", "hooks/scores/stages.py"),
    ),
    Watched(
        "7\u20138",
        "softmax(…), multinomial(…)",
        Station("The draw", "the RNG state right before it", "hooks/scores/random_state.py"),
    ),
    Watched(
        "9\u201310",
        "cat(…), _update_model_kwargs_…(…)",
        Station("The KV cache", "new slots, checksums of the old ones", "hooks/kv_cache/watch.py"),
    ),
    Watched(
        "11",
        "stopping_criteria(…)",
        Station("The step closes", "everything comes to the host at once", "hooks/loop/open_step.py"),
    ),
)

WRITING = (
    Station("Job", "a caught step, handed over", "tracer/recording.py"),
    Station("Records", "the step is described, checked", "hooks/loop/step_builder.py"),
    Station("Commit", "to the file, then to listeners", "tracer/tracefile/writing/committer.py"),
    Station("Transaction", "one a step, with its digest", "tracer/tracefile/writing/writer.py"),
)
LISTENERS = (
    Station("Walkthrough", "", "reports/terminal/report.py"),
    Station("Conditions", "", "tracer/analysis/conditions/breaks.py"),
)
"""Who is called after each commit."""

READING = Station("Step", "read and checked on demand", "tracer/tracefile/reading/steps.py")
VIEW = Station("View", "stop cards, answers in words", "reports/view/stops/step.py")
ANALYSIS = Station("Answers", "why, what-if, diff", "tracer/analysis/why/answer.py")
TERMINAL = Station("Terminal", "cards laid out in lines", "reports/terminal/stops/card.py")
SECTIONS = Station("Sections", "its data, compressed", "reports/html/sections/page_sections.py")
PAGE = Station("Page", "one file, works offline", "reports/html/assets/recording/stops.js")


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """A line of text."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>'


def rectangle(x: float, y: float, width: float, height: float, kind: str, corner: int = 6) -> str:
    """A rectangle with round corners."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{corner}" class="{kind}"/>'


def arrow(points: str, kind: str = "") -> str:
    """A line through points (``M 0 0 L 1 1``) with a tip at its end."""
    return f'<path d="{points}" class="line {kind}" marker-end="url(#tip)"/>'


def path_lines(path: str) -> list[str]:
    """A path in one line, or in two where it is long."""
    folder, slash, name = path.rpartition("/")
    return [path] if len(path) <= PATH_CHARACTERS else [folder + slash, name]


def box(x: float, y: float, station: Station, width: float = COLUMN) -> Iterable[str]:
    """A station in a box of its own."""
    yield f"<g><title>{escape(station.path)}</title>"
    yield rectangle(x, y, width, 86, "box")
    yield text(x + 10, y + 21, station.name, "name")
    yield text(x + 10, y + 39, station.what, "dim")
    for line, part in enumerate(path_lines(station.path)):
        yield text(x + 10, y + 58 + 15 * line, part, "path")
    yield "</g>"


def panel(y: float, height: float, title: str, remark: str) -> Iterable[str]:
    """A thread or a time, with all that happens in it."""
    yield rectangle(20, y, WIDTH - 40, height, "panel", 10)
    yield text(LEFT, y + 27, title, "head")
    yield text(RIGHT, y + 27, remark, "dim end")


def watched(y: float, each: Watched) -> Iterable[str]:
    """A statement on the left, what watches it on the right."""
    yield f"<g><title>{escape(each.station.path)}</title>"
    yield rectangle(74, y, 336, 48, "library")
    yield rectangle(84, y + 14, 38, 20, "badge", 10)
    yield text(103, y + 28, each.stops, "number")
    yield text(132, y + 29, each.code, "code")
    yield arrow(f"M 410 {y + 24} L 504 {y + 24}", "seen")
    yield rectangle(510, y, 410, 48, "box")
    yield text(522, y + 20, each.station.name, "name")
    yield text(908, y + 20, each.station.path, "path end")
    yield text(522, y + 38, each.station.what, "dim")
    yield "</g>"


def columns(y: float, stations: Iterable[Station]) -> Iterable[str]:
    """Stations side by side, each leading to the next."""
    for place, station in enumerate(stations):
        x = LEFT + place * (COLUMN + GAP)
        if place:
            yield arrow(f"M {x - GAP} {y + 43} L {x - 2} {y + 43}")
        yield from box(x, y, station)


def generating(y: float) -> Iterable[str]:
    """The loop of the library, and the hooks."""
    yield from panel(y, 486, "While the model generates", "the generating thread")
    yield text(74, y + 55, "GenerationMixin._sample, unmodified", "dim")
    yield text(510, y + 55, "hooks, installed by", "dim")
    yield text(908, y + 55, "hooks/loop/generation_watch.py", "path end")
    for place, each in enumerate(LOOP):
        yield from watched(y + 68 + place * 58, each)
    first, last = y + 92, y + 92 + (len(LOOP) - 1) * 58
    yield arrow(f"M 74 {last} L 52 {last} L 52 {first} L 71 {first}")
    middle = (first + last) / 2
    yield f'<text transform="translate(45 {middle:g}) rotate(-90)" class="dim mid">next step</text>'
    yield arrow(f"M 715 {last + 24} L 715 {last + 42}")
    yield f"<g><title>hooks/caught_step.py</title>{rectangle(510, last + 44, 410, 34, 'box')}"
    yield text(522, last + 66, "CaughtStep", "name")
    yield text(614, last + 66, "values and private copies", "dim")
    yield text(908, last + 66, "hooks/caught_step.py", "path end") + "</g>"


def writing(y: float) -> Iterable[str]:
    """From the queue to the file."""
    yield from panel(y, 206, "Beside the model", "the writer's thread")
    yield from columns(y + 46, WRITING)
    x = LEFT + 2 * (COLUMN + GAP) + 102
    yield arrow(f"M {x} {y + 132} L {x} {y + 150}")
    yield rectangle(LEFT, y + 152, RIGHT - LEFT, 34, "box")
    yield text(LEFT + 10, y + 174, "Listeners", "dim")
    for place, each in zip((130, 480), LISTENERS, strict=True):
        yield f"<g><title>{escape(each.path)}</title>{text(place, y + 174, each.name, 'name')}"
        yield text(place + 100, y + 174, each.path, "path") + "</g>"


def reading(y: float) -> Iterable[str]:
    """From the file to the page."""
    yield from panel(y, 250, "Any time later", "no model, no torch")
    first, second = y + 46, y + 148
    x = [LEFT + place * (COLUMN + GAP) for place in range(4)]
    yield from box(x[0], first, READING)
    yield from box(x[1], first, VIEW)
    yield from box(x[2], first, TERMINAL)
    yield from box(x[1], second, ANALYSIS)
    yield from box(x[2], second, SECTIONS)
    yield from box(x[3], second, PAGE)
    yield arrow(f"M {x[1] - GAP} {first + 43} L {x[1] - 2} {first + 43}")
    yield arrow(f"M {x[0] + 102} {first + 86} L {x[0] + 102} {second + 43} L {x[1] - 2} {second + 43}")
    yield arrow(f"M {x[1] + 102} {second} L {x[1] + 102} {first + 88}")
    yield arrow(f"M {x[2] - GAP} {first + 43} L {x[2] - 2} {first + 43}")
    yield arrow(
        f"M {x[2] - GAP} {first + 70} L {x[2] - 10} {first + 70} "
        f"L {x[2] - 10} {second + 43} L {x[2] - 2} {second + 43}"
    )
    yield arrow(f"M {x[3] - GAP} {second + 43} L {x[3] - 2} {second + 43}")


def picture() -> str:
    """The whole picture."""
    top, middle, bottom = 20, 552, 822
    queue = middle - 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>The journey of one step, from _sample to the page</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M 0 0 L 8 4 L 0 8 z" class="tip"/></marker></defs>',
        rectangle(0, 0, WIDTH, HEIGHT, "ground", 0),
        *generating(top),
        *writing(middle),
        *reading(bottom),
        arrow(f"M 715 {queue - 26} L 715 {queue + 24} L 225 {queue + 24} L 225 {middle + 44}"),
        text(235, queue + 18, "a queue bounded by bytes", "dim"),
        text(705, queue + 18, "tracer/tracefile/writing/byte_queue.py", "path end"),
        *trace_file(middle + 132, middle + 206, bottom),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def trace_file(start: float, top: float, bottom: float) -> Iterable[str]:
    """The file between writing and reading."""
    y = (top + bottom) / 2 - 17
    yield arrow(f"M {RIGHT} {start - 43} L 930 {start - 43} L 930 {y + 17} L 572 {y + 17}")
    yield rectangle(430, y, 140, 34, "file", 17)
    yield text(500, y + 22, "run.trace", "name mid")
    yield arrow(f"M 430 {y + 17} L 225 {y + 17} L 225 {bottom + 44}")


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
