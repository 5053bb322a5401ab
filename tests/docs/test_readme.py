"""What the README shows works as it is written there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from tests.support.checkpoints import tiny_tokenizer
from tests.support.command import Ended, call_main
from tests.support.models import SAMPLING, tiny_model
from tests.support.network import demo_checkpoint
from tests.tracer.stepper.sessions import stepped
from tracer.cli.main import cli
from tracer.errors import EXIT_CODES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def command_lines() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    calls = [line.split("trace-generate", 1)[1] for line in lines if "trace-generate " in line]
    assert len(calls) >= 4
    return [shlex.split(call, comments=True) for call in calls]


@pytest.mark.parametrize("arguments", command_lines(), ids=" ".join)
def test_options_exist(arguments: list[str]) -> None:
    assert not unknown_options(arguments)


def command_named(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def unknown_options(arguments: list[str]) -> set[str]:
    name, rest = ("run", arguments) if arguments[0].startswith("-") else (arguments[0], arguments[1:])
    command = command_named(name)
    options = {text for param in command.params for text in (*param.opts, *param.secondary_opts)}
    given = {argument.partition("=")[0] for argument in rest if argument.startswith("-")}
    return given - options


@pytest.mark.slow
@pytest.mark.demo
def test_commands_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo_checkpoint()
    monkeypatch.chdir(tmp_path)
    for arguments in command_lines():
        # One waits for a debugger, the other for commands; tests of their own have them.
        if {"--attach", "--step"} & {*arguments}:
            continue
        done: Ended = call_main(capsys, *arguments)
        # Two runs that differ are an answer.
        allowed = (0, 1) if arguments[0] == "diff" else (0,)
        assert done.returncode in allowed, f"{arguments}: {done.stderr}"
        assert done.stdout


def test_stepper_example(tmp_path: Path) -> None:
    (script,) = re.findall(r"^printf '(.*)' \| trace-generate .* --step$", README, re.MULTILINE)
    session = stepped(tmp_path, *script.replace("\\n", "\n").splitlines(), **SAMPLING)
    assert "✗" not in session.text
    assert "torch.Size([1, 6, 100])" in session.text
    assert "End of step 2" in session.text
    choice = session.steps[0].choice()
    assert choice is not None
    assert choice.token == 28


def test_python_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = tiny_tokenizer()
    inputs = tokenizer(["w10 w11"], return_tensors="pt")
    (example,) = blocks("python")
    names = {"model": tiny_model("qwen2"), "tokenizer": tokenizer, "inputs": inputs}
    exec(compile(example, "README.md", "exec"), names)
    recording = names["recording"]
    assert recording.steps[0].candidates
    assert recording.why(step=2, token=28).token == 28
    assert recording.diff(recording).reason == "identical"


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_exit_codes_are_those_of_the_errors() -> None:
    documented = set(re.findall(r"^\| (\d+) \|", README, re.MULTILINE))
    assert documented == {str(code) for code in EXIT_CODES}
