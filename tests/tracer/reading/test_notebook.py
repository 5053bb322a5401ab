"""What Python and a notebook show of a recording: one line, or a card in which every text is only text."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.reports.html.samples import HOSTILE, hostile_trace, make_trace
from tests.support.synthetic import synthetic_header
from tracer.reading import Recording, open_trace
from tracer.schema.step import Step

pytestmark = pytest.mark.no_transformers


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return open_trace(make_trace(tmp_path / "run.trace", count=4))


@pytest.fixture
def hostile(tmp_path: Path) -> Recording:
    return open_trace(hostile_trace(tmp_path / "run.trace"))


def shown(recording: Recording) -> dict[str, Any]:
    """Everything that a person would print, by name."""
    step = recording.steps[1]
    return {
        "recording": recording,
        "run": recording.runs[0],
        "steps": recording.steps,
        "step": step,
        "head": step.head,
        "header": recording.header,
        "model": recording.header.model,
        "end": recording.end,
        "candidate": step.candidates[0],
        "choice": step.choice(),
        "why": recording.why(2, 13, use_torch=False),
        "why it": recording.why(2, use_torch=False),
        "what if": recording.whatif(temperature=0.1, use_torch=False),
        "diff": recording.diff(recording),
    }


def test_everything_prints_as_one_line(recording: Recording) -> None:
    for name, value in shown(recording).items():
        line = repr(value)
        assert "\n" not in line, name
        assert line.isprintable(), name
        assert len(line) < 420, (name, len(line))
        assert line.startswith("<"), name


def test_lines_say_what_it_is(recording: Recording) -> None:
    lines = {name: repr(value) for name, value in shown(recording).items()}
    assert lines["step"] == "<step 2 of run 1: decode, chose 'sub12' (12)>"
    assert re.match(r"<candidate 'sub12' \(12\): p 0\.\d{4}, score", lines["candidate"])
    assert re.match(r"<choice 'sub12' \(12\): p 0\.\d{4}, rank 1>", lines["choice"])
    assert lines["header"] == (
        "<header of a run of Qwen2ForCausalLM: 29 prompt tokens, sampling, 4 processors>"
    )
    assert "Why not ␣word13 (13)? TopKLogitsWarper removed it" in lines["why"]
    assert "Chosen was sub12 (12), with probability" in lines["why"]
    assert "Why sub12 (12)? It was chosen, with probability" in lines["why it"]
    assert lines["what if"].startswith("<what if temperature=0.1: Row 0: ")
    assert lines["diff"].startswith("<A run 1, B run 1: ")


def test_a_batch_names_its_first_rows(tmp_path: Path) -> None:
    header = synthetic_header(rows=5, layers=1)
    with open_trace(make_trace(tmp_path / "run.trace", header=header)) as recording:
        line = repr(recording.steps[0])
    word = "' word11' (11)"
    assert line == f"<step 1 of run 1: prefill, 5 rows, chose {word}, {word}, {word}, …>"


@pytest.mark.parametrize("name", ["run", "step", "why", "why it", "what if", "diff"])
def test_a_notebook_shows_a_card(recording: Recording, name: str) -> None:
    card = shown(recording)[name]._repr_html_()
    assert card.startswith("<pre style=")
    assert card.endswith("</pre>")
    assert "script" not in card
    expected = {"run": "run 1 complete", "step": "probability", "diff": "run 1", "what if": "temperature=0.1"}
    assert expected.get(name, "12") in card


@pytest.mark.parametrize("name", ["run", "step", "why", "why it", "what if", "diff"])
def test_a_hostile_text_is_only_text(hostile: Recording, name: str) -> None:
    value = shown(hostile)[name]
    card = value._repr_html_()
    tags = set(re.findall(r"<[^>]*>", card))
    assert {re.split(r"[ >]", tag)[0] for tag in tags} <= {
        "<pre",
        "</pre",
        "<strong",
        "</strong",
        "<span",
        "</span",
    }
    for text in HOSTILE:
        assert not ("<" in text and text in card)
    assert "\u202e" not in card + repr(value)
    assert "\x00" not in card + repr(value)


def test_all_reprs_of_hostile_texts_are_harmless(hostile: Recording) -> None:
    for name, value in shown(hostile).items():
        assert repr(value).isprintable(), name


def test_a_step_that_is_copied_or_sent_is_a_plain_step(recording: Recording) -> None:
    step = recording.steps[1]
    for other in (copy.deepcopy(step), pickle.loads(pickle.dumps(step))):
        assert type(other) is Step
        assert other.head == step.head
        assert other.candidates == step.candidates
        assert repr(other) == "<step 2 of run 1: decode, chose token 12>"
    assert asdict(recording.why(2, 13, use_torch=False))["token"] == 13


def test_an_answer_outlives_its_recording(recording: Recording) -> None:
    answers = [shown(recording)[name] for name in ("why", "what if", "diff")]
    recording.close()
    for answer in answers:
        assert repr(answer).startswith("<")
        assert answer._repr_html_().startswith("<pre")
