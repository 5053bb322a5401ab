"""Group and constrained beam search through every command."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import Ended, call_main
from tests.support.models import batch, tiny_model
from tracer import open_trace, trace
from tracer.schema.beams import Continuation, Fate
from tracer.schema.step import Step
from tracer.tracefile import check_file

pytestmark = pytest.mark.reference_only

COMMON = ("--prompt", "w10 w11 w12 w10 w11", "--max-new-tokens", "5", "--seed", "7", "--no-html", "--greedy")
GROUPS = (
    *("--gen", "num_beams=4", "--gen", "num_beam_groups=2", "--gen", "diversity_penalty=0.5"),
    *("--gen", "eos_token_id=[43,65,99]"),
)
WORDS = (
    "--gen",
    "num_beams=3",
    "--gen",
    "force_words_ids=[[30,31],[[40],[41,42]]]",
    "--gen",
    "eos_token_id=[43]",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *arguments: call_main(capsys, *arguments)


@pytest.fixture
def run(model: Path, tmp_path: Path, call: Any) -> Any:
    def record(*arguments: str | Path, name: str = "run", code: int = 0) -> tuple[Ended, Path]:
        out = tmp_path / f"{name}.trace"
        done: Ended = call("--model", model, *COMMON, "--out", out, *arguments)
        assert done.returncode == code, done.stderr
        return done, out

    return record


def continuations(out: Path) -> list[tuple[Step, int, Continuation]]:
    with open_trace(out) as recording:
        return [
            (step, number, each)
            for step in recording.steps
            for number, row in enumerate(step.head.beams.rows if step.head.beams else ())
            for each in row.continuations
        ]


def test_groups_are_shown_and_asked(run: Any, call: Any) -> None:
    done, out = run(*GROUPS)
    assert check_file(out).whole
    assert call("show", out).stdout in done.stdout
    assert "decoding group beam search" in done.stdout
    shown = call("show", out, "--break", "group == 1 and penalty_paid > 0.1")
    assert "break: group == 1 and penalty_paid > 0.1 holds in step" in shown.stdout
    for arguments in (("tree", out), ("info", out), ("verify", out, "--rerun")):
        done = call(*arguments)
        assert done.returncode == 0, done.stderr
    paid = next(
        (step, each) for step, _, each in continuations(out) if each.taken_by and each.row is not None
    )
    place = ("--step", str(paid[0].number), "--row", str(paid[1].row))
    told = " ".join(call("why", out, *place, "--token", str(paid[1].token)).stdout.split())
    assert f"It paid 0.5000, as row {paid[1].taken_by[0]} of an earlier group goes on with" in told
    with open_trace(out) as recording:
        assert recording.why(step=paid[0].number, row=paid[1].row or 0).continuation == paid[1]


def test_constraints_are_shown_and_asked(run: Any, call: Any) -> None:
    done, out = run(*WORDS)
    assert check_file(out).whole
    assert call("show", out).stdout in done.stdout
    assert "decoding constrained beam search" in done.stdout
    assert "constraints after this step" in done.stdout
    shown = call("show", out, "--break", "constraints_met == 2")
    assert "break: constraints_met == 2 holds in step" in shown.stdout
    for asked in (("tree", out), ("info", out), ("verify", out, "--rerun")):
        done = call(*asked)
        assert done.returncode == 0, done.stderr
    found = {
        (each.fate, each.forced): (step, each)
        for step, _, each in continuations(out)
        if each.parent in step.parents  # else no row goes on from it that could be asked
    }
    said: dict[tuple[Fate, bool], str] = {
        ("beam", True): "for advancing a constraint",
        ("displaced", False): "gives way to ones that met more",
        ("cut", True): "advances, but its bank has better ones",
    }
    for kind, words in said.items():
        step, each = found[kind]
        row = step.parents.index(each.parent) if each.row is None else each.row
        arguments = ("--step", str(step.number), "--row", str(row), "--token", str(each.token))
        told = " ".join(call("why", out, *arguments).stdout.split())
        assert words in told, (kind, told)


def test_the_table_of_continuations(run: Any, call: Any, tmp_path: Path) -> None:
    for name, settings in (("groups", GROUPS), ("words", WORDS)):
        _, out = run("--quiet", *settings, name=name)
        wanted = continuations(out)
        done = call("export", out, "--table", "beams", "--format", "csv", "--out", tmp_path / f"{name}.csv")
        assert done.returncode == 0, done.stderr
        with (tmp_path / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = [*csv.DictReader(file)]
        assert [int(row["token"]) for row in rows] == [each.token for _, _, each in wanted]
        groups = [str(number % 2) if name == "groups" else "" for _, number, _ in wanted]
        assert [row["group"] for row in rows] == groups
        assert {row["batch_row"] for row in rows} == {"0"}
        forced = {"True": True, "False": False, "true": True, "false": False, "": None}
        assert [forced[row["forced"]] for row in rows] == [
            None if name == "groups" else each.forced for _, _, each in wanted
        ]
    done = call("export", out, "--format", "jsonl", "--out", tmp_path / "all.jsonl")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    heads = [line["head"] for line in lines if "head" in line]
    assert all(head["beams"]["constraints"]["progress"] for head in heads)


def test_runs_of_different_loops_are_compared(run: Any, call: Any) -> None:
    _, groups = run("--quiet", *GROUPS, name="groups")
    _, again = run("--quiet", *GROUPS, name="again")
    _, words = run("--quiet", *WORDS, name="words")
    assert json.loads(call("diff", groups, again, "--json").stdout)["reason"] == "identical"
    assert json.loads(call("diff", groups, words, "--json").stdout)["reason"] == "loop"


@pytest.mark.parametrize("settings", [GROUPS, WORDS], ids=["groups", "words"])
def test_other_settings_of_hypotheses(settings: tuple[str, ...], run: Any, call: Any) -> None:
    _, out = run("--quiet", *settings)
    done = call("whatif", out, "--length-penalty", "2", "--num-return-sequences", "2", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [len(row["returned"]) for row in told["rows"] if row is not None] == [2] * len(told["rows"])
    assert call("whatif", out, "--early-stopping", "never").returncode == 0


@pytest.mark.parametrize("arguments", [("whatif", "--temperature", "2"), ("fork", "--at", "2")], ids=str)
def test_questions_to_single_rows_are_refused(arguments: tuple[str, ...], run: Any, call: Any) -> None:
    for settings, of in ((GROUPS, "group beam search"), (WORDS, "constrained beam search")):
        _, out = run("--quiet", *settings, name=of.split(maxsplit=1)[0])
        done = call(arguments[0], out, *arguments[1:])
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"is not there for {of}" in done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("num_beams=5", "num_beam_groups=2", "diversity_penalty=0.5"), "divisible by `num_beam_groups`"),
        (("num_beams=4", "num_beam_groups=2"), "`diversity_penalty` should be greater than `0.0`"),
        (("num_beams=1", "force_words_ids=[[30]]"), "num_beams"),
        (("num_beams=4", "force_words_ids=[[30]]", "num_beam_groups=2"), "num_beam_groups"),
        (("num_beams=2", "force_words_ids=[[[30],[30,31]]]"), "complete subset"),
    ],
    ids=str,
)
def test_impossible_settings_are_the_librarys_message_in_one_line(
    settings: tuple[str, ...], said: str, run: Any
) -> None:
    given = [part for each in settings for part in ("--gen", each)]
    done, out = run("--quiet", *given, code=2)
    assert done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr
    assert not out.exists()


def test_constraints_of_python_are_shown_but_not_repeated(call: Any, model: Path, tmp_path: Path) -> None:
    from transformers import PhrasalConstraint

    tiny, path = tiny_model(), tmp_path / "run.trace"
    with trace(tiny, path=path):
        tiny.generate(
            **batch(1),
            num_beams=3,
            constraints=[PhrasalConstraint([30, 31])],
            max_new_tokens=4,
            pad_token_id=0,
        )
    shown = call("show", path)
    assert "PhrasalConstraint([30, 31])" in shown.stdout
    assert "30 31" in shown.stdout  # there is no tokenizer to spell them
    done = call("verify", path, "--rerun", "--model", model)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "its constraints are objects, which a trace does not keep" in done.stderr
