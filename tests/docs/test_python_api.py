"""The page about the Python API: its examples run, and it names every parameter and member."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import tracer.errors
from tests.docs.papers import PYTHON_API, README, blocks, first_column, section
from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import tiny_model
from tracer import Recording, TraceSession, open_trace, trace
from tracer.debugger import attach
from tracer.halting.callback import Halt
from tracer.schema.choice import Candidate, Choice
from tracer.schema.step import Step
from tracer.tracefile import TraceRun

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "trace": trace,
    "open_trace": open_trace,
    "why": Recording.why,
    "whatif": Recording.whatif,
    "whatif_beams": Recording.whatif_beams,
    "diff": Recording.diff,
    "fork": Recording.fork,
    "to_html": Recording.to_html,
    "cache_at": Recording.cache_at,
    "attach": attach,
}

CLASSES: dict[str, type] = {
    "TraceSession": TraceSession,
    "Recording": Recording,
    "Runs": TraceRun,
    "Steps": Step,
    "Candidates": Candidate,
    "Choice": Choice,
    "Halt": Halt,
}


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the examples take for granted."""
    tokenizer = tiny_tokenizer()
    inputs = tokenizer(["w10 w11"], return_tensors="pt")
    return {"model": tiny_model("qwen2"), "tokenizer": tokenizer, "inputs": inputs}


def run(paper: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run the examples of a paper, one after the other, in one namespace."""
    namespace = {**names}
    torch.manual_seed(1)
    for example in blocks(paper, "python"):
        exec(compile(example, paper, "exec"), namespace)
    return namespace


def test_readme_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, Any]) -> None:
    monkeypatch.chdir(tmp_path)
    recording = run(README, names)["recording"]
    assert recording.steps[0].candidates
    assert recording.why(step=2, token=28).token == 28
    assert recording.diff(recording).reason == "identical"


def test_examples_of_the_page(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    names: dict[str, Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(PYTHON_API, names)
    assert done["session"].hits
    assert done["other"].first_step
    assert done["page"].startswith("<!doctype html>")
    printed = capsys.readouterr().out
    assert "Qwen2ForCausalLM" in printed
    assert "1 choice" in printed
    assert "2 4 (1, 2, 4, 8)" in printed


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_described(name: str) -> None:
    parameters = [each for each in inspect.signature(FUNCTIONS[name]).parameters if each != "self"]
    described = [cell.strip("`") for cell in first_column(section(PYTHON_API, name))]
    assert described == parameters


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_are_those_of_the_code(name: str) -> None:
    shown = section(PYTHON_API, name).split("```py\n")[1].split("\n")[0]
    assert [*_parameters(shown)] == [
        (each.name, each.kind, each.default)
        for each in inspect.signature(FUNCTIONS[name]).parameters.values()
        if each.name != "self"
    ]


def _parameters(call: str) -> Iterator[tuple[str, Any, Any]]:
    """Name, kind and default of each parameter of a signature without annotations."""
    definition = ast.parse(f"def {_bare(call)}: ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    arguments, empty = definition.args, inspect.Parameter.empty
    missing = [None] * (len(arguments.args) - len(arguments.defaults))
    positional = zip(arguments.args, [*missing, *arguments.defaults], strict=True)
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    for kind, pairs in zip(
        kinds, (positional, zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)), strict=True
    ):
        for argument, default in pairs:
            yield argument.arg, kind, empty if default is None else ast.literal_eval(default)
    if arguments.kwarg is not None:
        yield arguments.kwarg.arg, inspect.Parameter.VAR_KEYWORD, empty


def _bare(call: str) -> str:
    """A signature without the object that a method is called on."""
    name, bracket, rest = call.partition("(")
    return name.rpartition(".")[2] + bracket + rest


@pytest.mark.parametrize("name", CLASSES)
def test_every_member_is_described(name: str) -> None:
    cells = " ".join(first_column(section(PYTHON_API, name)))
    assert set(re.findall(r"`(\w+)(?:\(\w*(?:, \w+)*\))?`", cells)) == _members(CLASSES[name])


def _members(kind: type) -> set[str]:
    """Public attributes, properties and methods, those that are set on instances too."""
    found = {name for name in dir(kind) if not name.startswith("_")}
    if is_dataclass(kind):
        return found | {field.name for field in fields(kind) if not field.name.startswith("_")}
    for each in kind.__mro__[:-1]:
        found.update(re.findall(r"self\.([a-z]\w*)(?::.*)? = ", inspect.getsource(each)))
    return found


def test_errors_are_described_with_their_codes() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", section(PYTHON_API, "Errors"), re.MULTILINE)
    kinds = tracer.errors.TraceGenerateError.__subclasses__()
    assert {(name, int(code)) for name, code in rows} == {
        (kind.__name__, kind.exit_code) for kind in kinds if kind.__module__ == "tracer.errors"
    }
