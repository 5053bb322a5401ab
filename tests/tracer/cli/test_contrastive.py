"""Contrastive search through every command."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import Ended, call_main
from tracer import open_trace
from tracer.analysis.ranking import winner
from tracer.schema.ranking import RowRanking
from tracer.tracefile import check_file

pytestmark = pytest.mark.reference_only

HOW = ("--greedy", "--gen", "penalty_alpha=0.6", "--gen", "top_k=4", "--repetition-penalty", "1.05")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *arguments: call_main(capsys, *arguments)


@pytest.fixture
def run(tmp_path: Path, call: Any) -> Any:
    tiny_checkpoint(tmp_path / "tiny")

    def record(*arguments: str | Path, name: str = "run", code: int = 0) -> tuple[Ended, Path]:
        out = tmp_path / f"{name}.trace"
        common = ("--model", tmp_path / "tiny", "--prompt", "w10 w11 w12 w10 w11", "--max-new-tokens", "6")
        done: Ended = call(*common, "--no-html", "--out", out, *arguments)
        assert done.returncode == code, done.stderr
        return done, out

    return record


def rankings(out: Path) -> list[RowRanking]:
    with open_trace(out) as recording:
        found = [step.head.contrastive for step in recording.steps]
    return [row for each in found if each is not None for row in each.rows if row is not None]


def one_line(done: Ended) -> str:
    return " ".join(done.stdout.split())


def test_a_search_is_shown_and_asked(run: Any, call: Any) -> None:
    done, out = run(*HOW)
    assert check_file(out).whole
    assert call("show", out).stdout in done.stdout
    assert "decoding contrastive search" in one_line(done)
    shown = call("show", out, "--break", "penalty_decided")
    assert "break: penalty_decided holds in step" in shown.stdout
    for arguments in (("info", out), ("tree", out)):
        assert call(*arguments).returncode == 0
    for step, row in enumerate(rankings(out), 1):
        for place, each in enumerate(row.candidates):
            answer = one_line(call("why", out, "--step", str(step), "--token", str(each.token)))
            if place == row.taken:
                assert "It was taken, by" in answer
                assert ("the penalty decided" in answer) == row.penalty_decided
            else:
                assert f"lost by {row.winner.score - each.score:.4f}" in answer
        others = {*range(90)} - {each.token for each in row.candidates}
        assert "It was no candidate" in one_line(
            call("why", out, "--step", str(step), "--token", f"id:{min(others)}")
        )


def test_why_names_what_would_have_made_a_candidate_win(run: Any, call: Any) -> None:
    """Whatever it names, the ranking with it gives the candidate."""
    _, out = run(*HOW, "--quiet")
    named = 0
    for step, row in enumerate(rankings(out), 1):
        for place, each in enumerate(row.candidates):
            answer = one_line(call("why", out, "--step", str(step), "--token", str(each.token)))
            if place != row.taken and "With penalty_alpha from " in answer:
                low, high = answer.split("With penalty_alpha from ")[1].split(" to ")[:2]
                middle = (float(low) + float(high.split()[0])) / 2
                assert winner(row, middle) == place
                named += 1
            if place != row.taken and "top_k of at most " in answer:
                assert winner(row, 0.6, int(answer.split("top_k of at most ")[1].split()[0])) == place
                named += 1
    assert named


def test_what_if_ranks_again(run: Any, call: Any) -> None:
    _, out = run(*HOW, "--quiet")
    rows = rankings(out)
    for option, alpha, top_k in (("--penalty-alpha=0", 0.0, 4), ("--top-k=2", 0.6, 2)):
        report = json.loads(call("whatif", out, option, "--json").stdout)
        (first,) = report["first"]
        wanted = [winner(row, alpha, top_k) for row in rows]
        other = next(step for step, row in enumerate(rows) if wanted[step] != row.taken)
        assert first["step"] == other + 1
        assert first["token"] == rows[other].candidates[wanted[other]].token
        assert first["certain"]
        # What it says is what the library does with that setting, up to there.
        gen = ("--gen", f"penalty_alpha={alpha}", "--gen", f"top_k={top_k}", "--repetition-penalty", "1.05")
        _, again = run("--greedy", *gen, "--quiet", name=option[2:5])
        with open_trace(again) as found, open_trace(out) as recorded:
            tokens = [step.choice().token for step in found.steps]  # type: ignore[union-attr]
            before = [step.choice().token for step in recorded.steps]  # type: ignore[union-attr]
        assert tokens[: other + 1] == [*before[:other], first["token"]]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("whatif", "--temperature", "0.5"), "contrastive search: a step ranks its candidates"),
        (("whatif", "--top-k", "9"), "the model has read 4 candidates"),
        (("whatif", "--penalty-alpha", "2"), "it must be from 0 to 1"),
        (("fork", "--at", "2", "--top", "2"), "contrastive search"),
    ],
)
def test_what_has_no_answer_is_refused_in_a_line(
    command: tuple[str, ...], said: str, run: Any, call: Any
) -> None:
    _, out = run(*HOW, "--quiet")
    done = call(command[0], out, *command[1:])
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_penalty_is_no_setting_of_another_run(run: Any, call: Any) -> None:
    _, out = run("--greedy", "--quiet")
    done = call("whatif", out, "--penalty-alpha", "0.5")
    assert done.returncode == 2
    assert "a setting of contrastive search" in done.stderr


def test_low_memory_is_repeated_too(run: Any, call: Any) -> None:
    done, out = run(*HOW, "--gen", "low_memory=true")
    assert "one candidate after the other" in one_line(done)
    assert "the model reads the one taken again" in one_line(done)
    verified = call("verify", out, "--rerun")
    assert verified.returncode == 0, verified.stdout


def test_the_table_of_rankings(run: Any, call: Any, tmp_path: Path) -> None:
    _, out = run(*HOW, "--quiet")
    done = call("export", out, "--table", "rankings", "--format", "csv", "--out", tmp_path / "r.csv")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    found = [each for row in rankings(out) for each in row.candidates]
    assert [(int(row["token"]), int(row["position"])) for row in rows] == [
        (each.token, each.position) for each in found
    ]
    assert [float(row["score"]) for row in rows] == pytest.approx([each.score for each in found], rel=1e-5)
    assert sum(row["taken"] in ("1", "True", "true") for row in rows) == len(rankings(out))


def test_it_is_repeated_and_compared(run: Any, call: Any) -> None:
    _, out = run(*HOW, "--quiet")
    done = call("verify", out, "--rerun")
    assert done.returncode == 0, done.stderr
    other = ("--greedy", "--gen", "penalty_alpha=0.2", "--gen", "top_k=4", "--repetition-penalty", "1.05")
    _, second = run(*other, "--quiet", name="other")
    assert call("diff", out, out).returncode == 0
    assert "penalty_alpha" in call("diff", out, second).stdout
