"""Assemble a page: its shell, its one style, its one script, and its data in inert blocks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.html.bundle import ASSETS, bundle, page_modules, page_style
from reports.html.payload import Run, page_sections
from reports.html.redaction import Aliases, RedactedRun
from reports.view.text import plain
from tracer.tracefile import RunReading
from tracer.version import __version__


def render_page(runs: Sequence[RunReading], *, source: str, redact: bool = False) -> str:
    """A page that shows runs, in one file that needs nothing else.

    Args:
        runs: the runs, at least one.
        source: what the trace is called; only its last part is shown.
        redact: leave out the text of prompts and tokens, token ids and absolute paths.
    """
    style, script = page_style(), bundle(page_modules())
    program = f"trace-generate {__version__}"
    numbers = Aliases()
    shown: Sequence[Run] = [RedactedRun(run, numbers) for run in runs] if redact else runs
    sections = page_sections(shown, source=source, program=program, redacted=redact)
    return (
        _environment()
        .get_template("page.html")
        .render(
            policy=_policy(style, script),
            title=plain(source, 120),
            program=program,
            style=Markup(style),  # noqa: S704 - this package's own files, nothing of the trace
            script=Markup(script),  # noqa: S704
            sections=[(section.name, section.packed()) for section in sections],
        )
    )


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded, and only this style and this script may act."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
