from __future__ import annotations

from reports.view import summary
from tests.reports.records import end, header
from tracer.schema.run import RunStatus


def test_a_complete_run() -> None:
    run = header(rows=2)
    view = summary(end(run, 8), header=run, path="run.trace")
    assert (view.status, view.level, view.steps, view.generated) == ("complete", "fact", 8, 16)
    assert view.tokens_per_second == 8.0
    assert view.answers[1].text == "A large language model is a model of language."
    assert view.answers[0].token_ids == tuple(range(11, 19))
    assert view.notes == ()


def test_padding_is_not_counted_as_generated() -> None:
    run = header(rows=2)
    assert summary(end(run, 8), header=run, generated=11).generated == 11


def test_a_run_without_end_is_incomplete_and_bad() -> None:
    view = summary(None, header=header(), steps=5)
    assert (view.status, view.level, view.steps, view.seconds) == ("incomplete", "error", 5, None)
    assert view.tokens_per_second is None
    assert "no end record" in view.notes[0].text


def test_violations_and_capture_errors_are_bad() -> None:
    run = header()
    assert summary(end(run), header=run, violations=1).level == "error"
    assert summary(end(run), header=run, errors=2).level == "error"


def test_a_failure_names_the_error() -> None:
    run = header()
    view = summary(end(run, status=RunStatus.FAILED, error="RuntimeError: boom\x1b"), header=run)
    assert view.level == "error"
    assert view.notes[0].text == "The model failed: RuntimeError: boom\\x1b"


def test_an_interruption_is_a_warning() -> None:
    run = header()
    assert summary(end(run, status=RunStatus.INTERRUPTED), header=run).level == "warning"


def test_what_else_is_worth_knowing() -> None:
    run = header()
    found = end(run, tensors_stopped_at=7, queue_waits=2, queue_wait_seconds=0.5)
    view = summary(found, header=run, interventions=1)
    assert view.level == "fact"
    assert [note.level for note in view.notes] == ["warning"] * 3
    assert "from step 7 on" in view.notes[1].text
    assert "waited 2 times" in view.notes[2].text


def test_without_a_tokenizer_there_are_ids() -> None:
    run = header()
    view = summary(end(run, 3, texts=()), header=run)
    assert (view.answers[0].text, view.answers[0].token_ids) == (None, (11, 12, 13))
