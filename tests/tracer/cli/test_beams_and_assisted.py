"""Beam search and assisted decoding through every command."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import TINY, tiny_checkpoint, tiny_tokenizer
from tests.support.command import Ended, call_main
from tests.support.decoding import drafted
from tests.support.models import tiny_model
from tracer import open_trace
from tracer.tracefile import check_file

PROMPT = ("--prompt", "w10 w11 w12 w10 w11")
COMMON = ("--max-new-tokens", "6", "--seed", "7", "--no-html")
BEAMS = ("--greedy", "--gen", "num_beams=3", "--gen", "eos_token_id=[43,65,99]")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ``tiny``, ``draft``, which mostly agrees with it, and ``other``, of another vocabulary."""
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny")
    for name, model in (("draft", drafted(tiny_model())), ("other", tiny_model(vocab_size=90))):
        model.save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *arguments: call_main(capsys, *arguments)


@pytest.fixture
def run(models: Path, tmp_path: Path, call: Any) -> Any:
    def record(*arguments: str | Path, name: str = "run", code: int = 0) -> tuple[Ended, Path]:
        out = tmp_path / f"{name}.trace"
        done: Ended = call("--model", models / "tiny", *PROMPT, *COMMON, "--out", out, *arguments)
        assert done.returncode == code, done.stderr
        return done, out

    return record


def proposers(models: Path) -> dict[str, tuple[str | Path, ...]]:
    return {"draft": ("--assistant-model", models / "draft"), "lookup": ("--prompt-lookup", "3")}


def test_a_beam_search_is_shown_and_asked(run: Any, call: Any, tmp_path: Path) -> None:
    done, out = run(*BEAMS)
    assert check_file(out).whole
    assert call("show", out).stdout in done.stdout
    assert "decoding beam search" in done.stdout
    assert "hypotheses kept" in done.stdout
    shown = call("show", out, "--break", "beam_switched")
    assert shown.returncode == 0, shown.stderr
    assert "break: beam_switched holds in step" in shown.stdout
    assert "w10 w11 w12 w10 w11" in call("tree", out).stdout
    for arguments in (("info", out), ("verify", out)):
        assert call(*arguments).returncode == 0
    with open_trace(out) as recording:
        tokens = {
            (each.fate, step.number): (each, [*step.parents].index(each.parent))
            for step in recording.steps
            for row in (step.head.beams.rows if step.head.beams else ())
            for each in row.continuations
            if each.parent in step.parents
        }
    fates = {fate for fate, _ in tokens}
    assert {"beam", "hypothesis", "cut"} <= fates
    for (fate, step), (each, row) in tokens.items():
        done = call("why", out, "--step", str(step), "--row", str(row), "--token", str(each.token), "--json")
        assert done.returncode == 0, (fate, step, done.stderr)
        done = call("why", out, "--step", str(step), "--row", str(row), "--token", str(each.token))
        assert done.returncode == 0
        if fate == "cut":
            assert "it missed the cut" in " ".join(done.stdout.split())


@pytest.mark.parametrize("proposer", ["draft", "lookup"])
@pytest.mark.parametrize("how", ["--greedy", "--sample"])
def test_an_assisted_run_is_shown_and_asked(
    proposer: str, how: str, run: Any, call: Any, models: Path
) -> None:
    done, out = run(how, *proposers(models)[proposer])
    assert check_file(out).whole
    assert call("show", out).stdout in done.stdout
    assert "decoding assisted" in done.stdout
    assert " proposals accepted" in done.stdout
    shown = call("show", out, "--break", "accepted < 2")
    assert shown.returncode == 0, shown.stderr
    assert "break: accepted < 2 holds in step" in shown.stdout
    for arguments in (("tree", out), ("info", out), ("verify", out), ("why", out, "--step", "1")):
        assert call(*arguments).returncode == 0


def test_the_table_of_continuations(run: Any, call: Any, tmp_path: Path) -> None:
    _, out = run("--quiet", *BEAMS)
    with open_trace(out) as recording:
        wanted = [
            (step.number, each.token, each.fate)
            for step in recording.steps
            for row in (step.head.beams.rows if step.head.beams else ())
            for each in row.continuations
        ]
    for name in ("csv", "parquet"):
        done = call("export", out, "--table", "beams", "--format", name, "--out", tmp_path / f"b.{name}")
        assert done.returncode == 0, done.stderr
        assert f"{len(wanted)} rows (the continuations" in done.stdout
    with (tmp_path / "b.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [(int(row["step"]), int(row["token"]), row["fate"]) for row in rows] == wanted
    assert (tmp_path / "b.parquet").read_bytes()[:4] == b"PAR1"
    done = call("export", out, "--table", "beams", "--format", "jsonl", "--out", tmp_path / "b.jsonl")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    done = call("export", out, "--format", "jsonl", "--out", tmp_path / "b.jsonl")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text(encoding="utf-8").splitlines()]
    heads = [line["head"] for line in lines if "head" in line]
    assert all(head["beams"]["rows"] for head in heads)


def test_two_searches_and_a_plain_run_are_compared(run: Any, call: Any, models: Path) -> None:
    _, beams = run("--quiet", *BEAMS, name="beams")
    _, again = run("--quiet", *BEAMS, name="again")
    _, plain = run("--quiet", "--greedy", name="plain")
    _, drafts = run("--quiet", "--greedy", *proposers(models)["draft"], name="drafts")
    same = call("diff", beams, again, "--json")
    assert same.returncode == 0, same.stdout
    assert json.loads(same.stdout)["reason"] == "identical"
    for other in (beams, drafts):
        done = call("diff", plain, other, "--json")
        assert done.returncode == 1
        assert json.loads(done.stdout)["reason"] == "loop"


def test_other_settings_of_a_search(run: Any, call: Any) -> None:
    _, out = run("--quiet", *BEAMS)
    done = call("whatif", out, "--length-penalty", "-2", "--num-return-sequences", "2")
    assert done.returncode == 0, done.stderr
    assert "What if  length_penalty -2.0, num_return_sequences 2" in done.stdout
    assert "hypothesis would win" in done.stdout or "would go on behind step" in done.stdout
    asked = ("--early-stopping", "never", "--json")
    found = json.loads(call("whatif", out, *asked).stdout)
    assert found["settings"]["early_stopping"] == "never"
    with open_trace(out) as recording:
        report = recording.whatif_beams(early_stopping="never")
        assert found["parts"] == [*report.parts]
    both = call("whatif", out, "--length-penalty", "2", "--top-k", "3")
    assert (both.returncode, both.stderr.count("\n")) == (2, 1)
    _, plain = run("--quiet", "--greedy", name="plain")
    none = call("whatif", plain, "--length-penalty", "2")
    assert (none.returncode, none.stderr.count("\n")) == (2, 1)
    assert "settings of beam search" in none.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("whatif", "--temperature", "2"), "What-if is not there for"),
        (("fork", "--at", "2"), "A fork is not there for"),
    ],
)
def test_questions_to_single_rows_are_refused(
    arguments: tuple[str, ...], said: str, run: Any, call: Any
) -> None:
    for settings, of in ((BEAMS, "beam search"), (("--greedy", "--prompt-lookup", "3"), "assisted decoding")):
        _, out = run("--quiet", *settings, name=of.split(maxsplit=1)[0])
        done = call(arguments[0], out, *arguments[1:])
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"{said} {of}" in done.stderr


@pytest.mark.reference_only("what the library refuses, and how it says so, is another thing in each release")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--prompt", "w10", "--prompt-lookup", "3"), 2, "batch_size = 1"),
        (("--assistant-model", "other"), 2, "same tokenizer"),
        (("--gen", "num_beams=2", "--gen", "num_return_sequences=3"), 2, "`num_return_sequences` (3)"),
        (("--assistant-model", "gone"), 3, "--assistant-model "),
        (("--prompt-lookup", "0"), 2, "--prompt-lookup"),
        (("--prompt-lookup", "3", "--assistant-model", "draft"), 2, "exclude each other"),
        (("--prompt-lookup", "3", "--gen", "num_beams=2"), 2, "assisted generate is only supported"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_line(
    arguments: tuple[str, ...], code: int, said: str, run: Any, models: Path
) -> None:
    given = [models / each if each in ("other", "gone", "draft") else each for each in arguments]
    done, out = run("--quiet", "--greedy", *given, code=code)
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "how"),
    [
        (("--gen", "num_return_sequences=2", *BEAMS), "(greedy)"),
        pytest.param(
            ("--gen", "low_memory=true", *BEAMS, "--prompt", "w12"),
            "(greedy)",
            marks=pytest.mark.reference_only,
        ),
        (("--sample", *BEAMS[1:], "--prompt", "w12"), "with seed 7"),
        (("--sample", "--prompt-lookup", "3"), "with seed 7"),
    ],
)
def test_a_repetition_gives_the_same(
    settings: tuple[str, ...], how: str, run: Any, call: Any, models: Path, tmp_path: Path
) -> None:
    _, out = run("--quiet", "--capture", "tensors", "--save", "logits", *settings)
    done = call("verify", out, "--rerun")
    assert done.returncode == 0, done.stderr
    with open_trace(out) as recording:
        assert recording.end is not None
        length = len(recording.header.prompt[0].token_ids)
        ids = sum(len(row) - length for row in recording.end.sequences)
        steps = recording.end.steps
    searched = "num_beams=3" in settings
    saved = f" and the same logits in {steps} of {steps} steps" if searched else ""
    assert f"an untraced run {how} gave the same {ids} ids{saved}, bit for bit" in done.stdout
    other = tmp_path / "seed"
    tiny_model(TINY, seed=5).save_pretrained(other)
    tiny_tokenizer().save_pretrained(other)
    done = call("verify", out, "--rerun", "--model", other)
    assert (done.returncode, done.stderr.count("\n")) == (9, 1)
    other_token = (
        "returned another token 1 in sequence 0" if searched else "chose another token in step 1, row 0"
    )
    assert other_token in done.stderr


def test_what_cannot_be_repeated(run: Any, call: Any, models: Path) -> None:
    _, out = run("--quiet", "--greedy", *proposers(models)["draft"])
    done = call("verify", out, "--rerun")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "its tokens were proposed by a model or an object (AssistedCandidateGenerator)" in done.stderr
