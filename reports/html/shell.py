"""The HTML around every page: its one style sheet, its one script, and its data in inert blocks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.html.bundle import ASSETS, bundle, page_modules, page_style
from reports.html.pack import Section
from tracer.version import __version__

PROGRAM = f"trace-generate {__version__}"


def render_shell(
    sections: Iterable[Section], *, title: str, skip_to: str, entry: str, styles: tuple[str, ...] = ()
) -> str:
    """A page in one self-contained file.

    Args:
        sections: its data.
        title: of the window.
        skip_to: the section that a reader with a keyboard can go to at once, by its name in the address.
        entry: the module that makes the page.
        styles: style sheets beside that of all pages.
    """
    style, script = page_style(*styles), bundle(page_modules(), entry)
    return (
        _environment()
        .get_template("page.html")
        .render(
            policy=_policy(style, script),
            title=title,
            skip_to=skip_to,
            program=PROGRAM,
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
