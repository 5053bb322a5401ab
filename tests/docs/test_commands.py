"""The commands that the README and the manual show work as they are written there."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from tests.docs.papers import (
    MANUAL,
    README,
    command_lines,
    first_column,
    options_of,
    section,
    text_of,
    unknown_options,
)
from tests.support.command import Ended, call_main
from tests.support.models import SAMPLING
from tests.support.network import demo_checkpoint
from tests.tracer.stepper.sessions import stepped
from tests.tracer.tracefile.samples import write_trace
from tracer.cli.group import COMMAND_NAMES
from tracer.errors import EXIT_CODES, TraceGenerateError
from tracer.replay.terminal.commands import COMMANDS as RECORDED
from tracer.stepper.commands import COMMANDS, Command

LINES = {paper: command_lines(paper) for paper in (README, MANUAL)}
SHOWN = [arguments for lines in LINES.values() for arguments in lines]
STEPPED = r"^printf '(.*)' \| trace-generate .* --step$"
STEPPED_BACK = r"^printf '(.*)' \| trace-generate step colours\.trace$"


@pytest.mark.parametrize("paper", LINES)
def test_there_are_commands(paper: str) -> None:
    assert len(LINES[paper]) >= 8


@pytest.mark.parametrize("arguments", SHOWN, ids=" ".join)
def test_options_exist(arguments: list[str]) -> None:
    assert not unknown_options(arguments)


@pytest.mark.slow
@pytest.mark.demo
def test_commands_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo_checkpoint()
    monkeypatch.chdir(tmp_path)
    done: list[list[str]] = []
    for arguments in SHOWN:
        # Some wait for a debugger or for commands; tests of their own have them.
        if {"--attach", "--step", "replay", "step"} & {*arguments} or arguments in done:
            continue
        done.append(arguments)
        ended: Ended = call_main(capsys, *arguments)
        # Two runs that differ are an answer.
        allowed = (0, 1) if arguments[0] == "diff" else (0,)
        assert ended.returncode in allowed, f"{arguments}: {ended.stderr}"
        assert ended.stdout


def test_stepper_example(tmp_path: Path) -> None:
    (script,) = {each for paper in LINES for each in re.findall(STEPPED, text_of(paper), re.MULTILINE)}
    session = stepped(tmp_path, *script.replace("\\n", "\n").splitlines(), **SAMPLING)
    assert "✗" not in session.text
    assert "torch.Size([1, 6, 100])" in session.text
    assert "End of step 2" in session.text
    choice = session.steps[0].choice()
    assert choice is not None
    assert choice.token == 28


def test_example_on_a_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (script,) = {each for paper in LINES for each in re.findall(STEPPED_BACK, text_of(paper), re.MULTILINE)}
    write_trace(tmp_path / "colours.trace")
    monkeypatch.setattr("sys.stdin", io.StringIO(script.replace("\\n", "\n")))
    ended = call_main(capsys, "step", tmp_path / "colours.trace")
    assert ended.returncode == 0
    assert "✗" not in ended.stdout
    halts = re.findall(r"^\((\S+ \d)\) q$", ended.stdout, re.MULTILINE)
    assert halts == ["stopping 1"]


@pytest.mark.parametrize("command", sorted(COMMAND_NAMES))
def test_every_option_is_in_the_manual_and_no_other(command: str) -> None:
    assert f"trace-generate {command} " in text_of(MANUAL) or command == "run"
    expected = options_of(command)
    if not expected:
        assert f"`{command}` has no options." in text_of(MANUAL)
        return
    cells = " ".join(first_column(section(MANUAL, f"Options of {command}")))
    assert set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", cells)) == expected


@pytest.mark.parametrize(
    ("title", "commands"),
    [("Step through it in the terminal", COMMANDS), ("In the terminal", RECORDED)],
    ids=["run in progress", "recording"],
)
def test_every_command_of_the_stepper_is_in_the_manual(title: str, commands: tuple[Command, ...]) -> None:
    cells = first_column(section(MANUAL, title))
    assert [cell.split("`")[1] for cell in cells] == [
        f"{each.name} {each.argument}".strip() for each in commands
    ]


def test_exit_codes_are_those_of_the_errors() -> None:
    codes = [int(cell) for cell in first_column(section(MANUAL, "Exit codes"))]
    assert codes == sorted(EXIT_CODES)
    assert {error.exit_code for error in TraceGenerateError.__subclasses__()} < set(codes)


def test_readme_is_short_and_has_the_test_command() -> None:
    text = text_of(README)
    assert len(text.splitlines()) < 150
    (command,) = re.findall(r"^<!-- test command -->\n```sh\n(.*)\n```\n<!-- end -->$", text, re.MULTILINE)
    assert command.endswith("pytest -q -n 2")
