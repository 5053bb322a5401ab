"""The papers of the repository, and the parts of them that tests run or look up."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

from tracer.cli.program import cli

ROOT = Path(__file__).parents[2]

README = "README.md"
MANUAL = "docs/manual.md"
PYTHON_API = "docs/python-api.md"

PAPERS = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))


def text_of(paper: str) -> str:
    """The text of a paper, by its path in the repository."""
    return (ROOT / paper).read_text(encoding="utf-8")


def blocks(paper: str, language: str) -> list[str]:
    """The code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(paper), re.MULTILINE | re.DOTALL)


def without_blocks(text: str) -> str:
    """A paper's text between its code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def command_lines(paper: str) -> list[list[str]]:
    """Arguments of every call of the command line, in order."""
    lines = [line for block in blocks(paper, "sh") for line in block.splitlines()]
    calls = [line.split("trace-generate", 1)[1] for line in lines if "trace-generate " in line]
    return [shlex.split(call, comments=True) for call in calls]


def section(paper: str, title: str) -> str:
    """The text below a heading, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", text_of(paper), re.MULTILINE | re.DOTALL)
    assert found is not None, f"{paper} has no heading {title!r}"
    return found[1]


def first_column(table: str) -> list[str]:
    """The first cell of each line of the tables in a text, headings left out."""
    rows = re.findall(
        r"^\| (.+?) \| ", re.sub(r"^\|.*\n\|---.*\n", "", table, flags=re.MULTILINE), re.MULTILINE
    )
    return [str(row) for row in rows]


def unknown_options(arguments: list[str]) -> set[str]:
    """Options that a call names and its command does not have."""
    name, rest = ("run", arguments) if arguments[0].startswith("-") else (arguments[0], arguments[1:])
    given = {argument.partition("=")[0] for argument in rest if argument.startswith("-")}
    return given - options_of(name)


def command_named(name: str) -> click.Command:
    """A command of the command line."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def options_of(command: str) -> set[str]:
    """All options of a command, short forms too."""
    params = [param for param in command_named(command).params if param.param_type_name == "option"]
    return {text for param in params for text in (*param.opts, *param.secondary_opts)}
