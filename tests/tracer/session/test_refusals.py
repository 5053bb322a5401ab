"""What is refused is refused before the trace file is created or an old one replaced."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.models import GREEDY, batch, generate, tiny_model
from tracer import open_trace, trace
from tracer.errors import OutputError, TraceGenerateError, UnsupportedError, UsageError
from tracer.tracefile import Recorder

REFUSED: list[dict[str, Any]] = [
    {"capture": "everything"},
    {"save": ["logits"]},
    {"capture": "tensors", "save": ["logit"]},
    {"capture": "tensors", "save": ["modules=("]},
    {"capture": "tensors", "save": ["modules=nowhere"]},
    {"candidates": 0},
    {"breaks": "p_chosn < 1"},
    {"breaks": ["step == 1", "("]},
    {"on_break": "dance"},
    {"stops": "choice"},
    {"stop_steps": "1"},
    {"stops": "nowhere", "on_stop": print},
    {"stop_steps": "0", "on_stop": print},
    {"on_stop": print, "halt": object()},
]


def attributes(model: torch.nn.Module) -> dict[str, dict[str, object]]:
    return {name: dict(vars(module)) for name, module in model.named_modules()}


def refused(model: Any, path: Path, error: type[TraceGenerateError], **options: Any) -> None:
    """Neither an old file nor the model is changed, and no new file appears."""
    before = attributes(model)
    path.write_text("old")
    with pytest.raises(error), trace(model, path=path, force=True, **options):
        pass
    assert path.read_text() == "old"
    path.unlink()
    with pytest.raises(error), trace(model, path=path, **options):
        pass
    assert not list(path.parent.iterdir())
    assert attributes(model) == before


@pytest.mark.parametrize("options", REFUSED, ids=lambda options: "-".join(options))
def test_options(options: dict[str, Any], tmp_path: Path) -> None:
    refused(tiny_model(), tmp_path / "run.trace", UsageError, **options)


def test_a_model_that_hides_what_is_asked_for(tmp_path: Path) -> None:
    hidden = tiny_model()
    hidden.config._attn_implementation = "flash_attention_2"
    refused(hidden, tmp_path / "run.trace", UnsupportedError, capture="tensors", save=["attention"])
    headless = tiny_model()
    headless.get_output_embeddings = lambda: None
    refused(headless, tmp_path / "run.trace", UnsupportedError, save=["lens"])


def test_a_file_that_cannot_be_created_leaves_the_model_alone(tmp_path: Path) -> None:
    model, path = tiny_model(), tmp_path / "run.trace"
    before = attributes(model)
    path.write_text("old")
    with pytest.raises(OutputError), trace(model, path=path):
        pass
    assert path.read_text() == "old"
    assert attributes(model) == before


def test_the_model_is_put_back_before_the_file_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, close = tiny_model(), Recorder.close
    before, seen = attributes(model), list[bool]()

    def noting(recorder: Recorder) -> None:
        seen.append(attributes(model) == before)
        close(recorder)

    monkeypatch.setattr(Recorder, "close", noting)
    with trace(model, path=tmp_path / "run.trace"):
        generate(model, batch(), **GREEDY)
        assert attributes(model) != before
    assert seen == [True]
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.complete


def test_a_warning_names_the_line_of_the_block(tmp_path: Path) -> None:
    class Failing:
        def on_run(self, *_: Any) -> None:
            raise ValueError("boom")

        on_step = on_end = on_run

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with trace(model := tiny_model(), path=tmp_path / "run.trace", listeners=[Failing()]):
            generate(model, batch(), **GREEDY)
    assert {(each.category, each.filename) for each in caught} == {(RuntimeWarning, __file__)}


@pytest.mark.parametrize(
    "settings",
    [{"num_beams": 4, "num_beam_groups": 2}, {"no_such_argument": 1}, {"top_k": -1, "do_sample": True}],
)
def test_what_generate_refuses_leaves_no_file_and_an_old_one_as_it_was(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    model, path = tiny_model(), tmp_path / "run.trace"

    def generate_refused(*, force: bool) -> None:
        with trace(model, path=path, force=force):
            model.generate(**batch(), max_new_tokens=2, **settings)

    with pytest.raises((TraceGenerateError, ValueError)):
        generate_refused(force=False)
    assert not list(tmp_path.iterdir())
    path.write_text("old")
    with pytest.raises((TraceGenerateError, ValueError)):
        generate_refused(force=True)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["run.trace"]


def test_an_old_trace_is_replaced_when_the_first_run_begins(tmp_path: Path) -> None:
    model, path = tiny_model(), tmp_path / "run.trace"
    path.write_text("old")
    with trace(model, path=path, force=True):
        assert path.read_text() == "old"
        model.generate(**batch(), **GREEDY, max_new_tokens=2)
    with open_trace(path) as recording:
        assert len(recording.steps) == 2


@pytest.mark.parametrize(
    ("options", "python", "command_line"),
    [
        ({"save": ["logits"]}, "capture='tensors'", "--capture tensors"),
        ({"capture": "tensors", "save": ["logit"]}, "Did you mean logits?", "--save logit"),
        (
            {"capture": "tensors", "save": ["modules=nowhere"]},
            "save=modules=nowhere",
            "--save modules=nowhere",
        ),
        ({"capture": "stat"}, "Did you mean stats?", "Did you mean stats?"),
    ],
)
def test_python_and_the_command_line_each_have_their_own_words(
    options: dict[str, Any], python: str, command_line: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as refused, trace(tiny_model(), path=tmp_path / "run.trace", **options):
        pass
    assert python in str(refused.value)
    assert "--" not in str(refused.value)
    assert command_line in refused.value.command_line
