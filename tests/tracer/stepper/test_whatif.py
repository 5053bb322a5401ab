"""`whatif` and `diff` of the stepper: exact for the very step, and the same as the commands afterwards."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from hooks.scores.replay import TorchReplayer
from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import GREEDY, SAMPLING, batch, generate, tiny_model
from tests.support.synthetic import synthetic_header, synthetic_steps
from tests.support.walkthrough import CHOSEN, SCORES
from tests.tracer.analysis.runs import real_run
from tests.tracer.stepper.sessions import Session, stepped, untouched
from tests.tracer.tracefile.samples import write_trace
from tracer import trace
from tracer.analysis.processors.settings import Settings
from tracer.analysis.processors.settings_in_force import header_in_force
from tracer.analysis.whatif import whatif
from tracer.schema.changes import Intervention


def record(path: Path, seed: int = 1, rows: int = 1, kind: str = "qwen2", **mode: Any) -> Path:
    model = tiny_model(kind)
    with trace(model, tiny_tokenizer(), path):
        generate(model, batch(rows), seed=seed, **mode)
    return path


def rows_of(answer: str) -> list[list[str]]:
    """Lines of the table of a `whatif`: step, recorded, what then."""
    return [
        re.split(r"\s{2,}", line.strip()) for line in answer.splitlines() if re.match(r"\s+\d+\s{2}", line)
    ]


@pytest.mark.parametrize("stop", ["choice", CHOSEN])
@pytest.mark.parametrize("typed", ["temperature=4.0 top_k=0 top_p=1", "temperature=9", "greedy=true"])
def test_a_step_says_what_a_run_with_these_settings_chooses(typed: str, stop: str, tmp_path: Path) -> None:
    session = stepped(tmp_path, f"whatif {typed}", "c", stops=stop, rows=2, **SAMPLING)
    answer = session.text.split(f") whatif {typed}\n")[1].split("\n(")[0]
    settings = Settings(
        **{
            name: value == "true" if name == "greedy" else float(value)
            for name, value in (part.split("=") for part in typed.split())
        }  # type: ignore[arg-type]
    )
    whole = real_run(inputs=batch(2), **SAMPLING)
    assert session.sequences is not None
    report = whatif(whole, settings, replayer=TorchReplayer())
    first = [step for step in report.steps if step.step == 1]
    assert [step.recorded for step in first] == session.sequences[:, batch(2)["input_ids"].shape[1]].tolist()
    assert "Exact: candidates and probabilities are what transformers gives." in answer
    for line, step in zip(rows_of(answer), first, strict=True):
        assert line[:3] == ["1", str(step.row), f"{step.recorded} w{step.recorded}"]
        assert line[3] == ("same" if step.same else f"{step.token} w{step.token}")
    assert ("has not chosen yet" in answer) == (stop == "choice")
    mode = {
        **SAMPLING,
        **settings.changes,
        "top_k": int(settings.top_k if settings.top_k is not None else 20),
    }
    if mode.pop("greedy", False):
        mode = {"do_sample": False, "repetition_penalty": SAMPLING["repetition_penalty"]}
    really = generate(tiny_model(), batch(2), **mode, max_new_tokens=1).sequences[:, -1].tolist()
    assert [step.token for step in first] == really


def test_it_looks_on_only(tmp_path: Path) -> None:
    session = stepped(tmp_path, *["whatif temperature=5", "n"] * 12, **SAMPLING)
    assert session.sequences is not None
    assert session.sequences.tolist() == untouched(**SAMPLING).tolist()


def test_the_step_before_answers_until_the_processors_have_run(tmp_path: Path) -> None:
    session = stepped(tmp_path, "whatif temperature=5", "s", "whatif temperature=5", **SAMPLING)
    first, second = session.text.split(") whatif temperature=5\n")[1:]
    assert "have not run yet" in first[:200]
    assert [line[0] for line in rows_of(second)] == ["1"]
    assert "has not chosen yet" not in second


def test_greedy_and_later_steps(tmp_path: Path) -> None:
    session = stepped(tmp_path, "n", "n", "whatif repetition_penalty=50", stops="choice", **GREEDY)
    answer = session.after("whatif repetition_penalty=50")
    ((step, recorded, then, *_),) = rows_of(answer)
    assert step == "3"
    whole = real_run(**GREEDY)
    report = whatif(whole, Settings(repetition_penalty=50.0), replayer=TorchReplayer())
    third = report.steps[2]
    assert recorded == f"{third.recorded} w{third.recorded}"
    logits = torch.from_numpy(whole.saved[3]["logits"])
    ids = untouched(**GREEDY)[:, : 6 + 2].cpu()
    expected = int(RepetitionPenaltyLogitsProcessor(50.0)(ids, logits).argmax())
    assert then == ("same" if expected == third.recorded else f"{expected} w{expected}")


def test_a_setting_that_was_changed_counts(tmp_path: Path) -> None:
    typed = "whatif temperature=0.9"
    lines = ("set temperature 9", "n", typed, "whatif temperature=9")
    session = stepped(tmp_path, *lines, stops=f"{SCORES},choice", steps="2", **SAMPLING)
    assert "TopKLogitsWarper" in session.after(typed)
    assert rows_of(session.after("whatif temperature=9"))[0][2] == "same"


def test_a_forced_token_is_what_will_be_chosen(tmp_path: Path) -> None:
    session = stepped(tmp_path, "force w60", "whatif temperature=0.9", stops="choice", **SAMPLING)
    answer = session.after("whatif temperature=0.9")
    assert 'it will choose "w60" (60)' in answer
    assert "The user changed step 1" in answer


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("whatif", "whatif needs NAME=VALUE"),
        ("whatif temperature", "expected NAME=VALUE"),
        ("whatif heat=3", "unknown setting heat"),
        ("whatif temperature=0", "above 0"),
        ("whatif top_k=1.5", "whole number"),
        ("whatif top_p=nan", "not possible"),
        ("whatif top_k=1 top-k=2", "twice"),
        ("diff", "diff needs PATH"),
        ("diff nowhere.trace", "no such file"),
        ("diff .", "is a folder"),
    ],
)
def test_nonsense_is_answered_in_one_line(typed: str, words: str, tmp_path: Path) -> None:
    session = stepped(tmp_path, typed, "c", stops="choice", **SAMPLING)
    answer = session.after(typed)
    assert answer.count("✗") == 1
    assert words in " ".join(answer.split())
    assert session.sequences is not None


def diffed(tmp_path: Path, other: Path, *before: str, **options: Any) -> Session:
    return stepped(tmp_path, *before, f"diff {other}", "c", **options)


def test_the_run_so_far_is_compared(tmp_path: Path) -> None:
    same = record(tmp_path / "same.trace", rows=2, **SAMPLING)
    session = diffed(tmp_path, same, "n", "n", rows=2, stops=CHOSEN, **SAMPLING)
    text = session.text.split(") diff")[1]
    assert "this run up to step 3" in text
    assert "The same, to the last bit" in text
    assert "2 rows compared in 3 steps of 3." in text
    assert "incomplete" not in text


def test_another_draw_is_found_as_soon_as_it_is_made(tmp_path: Path) -> None:
    other = record(tmp_path / "other.trace", seed=5, **SAMPLING)
    session = diffed(tmp_path, other, stops=f"choice,{CHOSEN}", **SAMPLING)
    assert "No step is over yet" in session.text.split(") diff")[1][:200]
    again = diffed(tmp_path, other, "n", stops=f"choice,{CHOSEN}", **SAMPLING)
    text = again.text.split(") diff")[1]
    assert "They differ: another draw" in text
    assert "the first differing token: step 1" in text


def test_a_shorter_recording_and_a_forced_token(tmp_path: Path) -> None:
    short = record(tmp_path / "short.trace", **{**GREEDY, "max_new_tokens": 2})
    session = diffed(tmp_path, short, "n", "n", stops=CHOSEN, **GREEDY)
    assert "run A has 3 steps and run B 2" in " ".join(session.text.split())
    forced = diffed(tmp_path, short, "force w60", "n", "n", stops=CHOSEN, steps="1-3", **GREEDY)
    assert "a step was changed by the user" in forced.text


def test_what_cannot_be_compared_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # so that a command and its answer fit into one line
    torn, two, llama = tmp_path / "torn.trace", tmp_path / "two.trace", tmp_path / "llama.trace"
    write_trace(two, runs=2)
    torn.write_bytes(two.read_bytes()[:5000])
    record(llama, kind="llama", **GREEDY)
    lines = [f"diff {path.name}" for path in (torn, two, llama)]
    session = stepped(tmp_path, *lines, "c", stops=CHOSEN, **GREEDY)
    for line, words in zip(lines, ("torn.trace", "2 runs", "different models"), strict=True):
        answer = session.text.split(f") {line}\n")[1].split("\n(")[0]
        assert answer.count("✗") == 1
        assert words in " ".join(answer.split())


def test_settings_in_force_are_found_under_either_name() -> None:
    header = synthetic_header(layers=1)
    step = next(synthetic_steps(header, 1))
    values = {"repetition_penalty": 3.0, "top_k": 7, "temperature": 0.5}
    changes = tuple(
        Intervention(kind="set", detail=f"{name} {value}", setting=name, value=value)
        for name, value in values.items()
    )
    ban = Intervention(kind="ban", detail='"top_p 1" (7)')
    changed = replace(step, head=step.head.model_copy(update={"interventions": (*changes, ban)}))
    found = {
        name: value
        for info in header_in_force(header, changed).processors
        for name, value in info.settings.items()
    }
    assert found | {"penalty": "3.0", "top_k": "7", "temperature": "0.5", "top_p": "0.8"} == found
    assert header_in_force(header, step) == header
