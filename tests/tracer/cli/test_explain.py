"""`why`, `whatif` and `diff` as commands: on real traces, at the exit codes, with bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import Ended, call_main, run_light
from tests.tracer.cli.test_bad_input import check
from tests.tracer.tracefile.samples import write_trace
from tracer.cli.options import token_of_option
from tracer.errors import UsageError
from tracer.schema.run import TokenText
from tracer.tracefile import TraceFile

Call = Callable[..., Ended]
SAMPLING = ("--sample", "--temperature", "1.5", "--top-k", "20", "--top-p", "0.9")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    tiny_checkpoint(folder / "tiny")
    tiny_checkpoint(folder / "other", "llama")
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> Call:
    monkeypatch.chdir(folder)
    return lambda *arguments: call_main(capsys, *arguments)


@pytest.fixture
def record(call: Call, folder: Path) -> Callable[..., str]:
    """Record a run once and give the name of its trace."""

    def run(name: str, *arguments: str, model: str = "tiny") -> str:
        path = f"{name}.trace"
        if not (folder / path).exists():
            shared = ("--model", model, "--max-new-tokens", "6", "--out", path, "--quiet")
            done = call("--prompt", "w10 w11 w12", *shared, *arguments)
            assert done.returncode == 0, done.stderr
        return path

    return run


@pytest.fixture
def sampled(record: Callable[..., str]) -> str:
    return record("sampled", *SAMPLING, "--seed", "1")


@pytest.fixture
def saved(record: Callable[..., str]) -> str:
    return record("saved", *SAMPLING, "--seed", "1", "--capture", "tensors", "--save", "logits")


def document(ended: Ended) -> Any:
    assert ended.stderr == ""
    return json.loads(ended.stdout)


def test_why_the_chosen_token(call: Call, sampled: str) -> None:
    done = call("why", sampled, "--step", "2")
    assert done.returncode == 0
    assert "It was chosen" in done.stdout
    assert "won" in done.stdout


def test_the_winner_of_the_repeated_draw_is_the_chosen_token(call: Call, sampled: str) -> None:
    for step in range(1, 7):
        found = document(call("why", sampled, "--step", str(step), "--json"))
        assert found["draw"]["reproduced"]
        assert found["draw"]["places"][0]["token"] == found["why"]["chosen"]


def test_every_token_is_answered_from_saved_logits(call: Call, saved: str, folder: Path) -> None:
    with TraceFile(folder / saved) as recording:
        logits = recording.runs[0].tensor(3, "logits")[0]
    for token in (0, 17, 98):
        found = document(call("why", saved, "--step", "3", "--token", f"id:{token}", "--json"))["why"]
        assert found["source"] == "saved logits"
        assert found["stages"][0]["score"] == pytest.approx(float(logits[token]))
        above = int((logits > logits[token]).sum())
        assert found["stages"][0]["rank"] == {"value": above + 1, "exact": True, "at_most": None}


def test_a_token_that_was_not_recorded_needs_saved_logits(call: Call, record: Callable[..., str]) -> None:
    path = record("few", *SAMPLING, "--seed", "1", "--candidates", "4")
    with TraceFile(path) as recording:
        known = set(recording.steps[0].scores.tokens[0].tolist())  # type: ignore[union-attr]
    token = next(token for token in range(100) if token not in known)
    done = call("why", path, "--step", "1", "--token", f"id:{token}")
    assert done.returncode == 0
    assert "--save logits" in done.stdout


def test_which_token_is_meant(call: Call, sampled: str) -> None:
    found = document(call("why", sampled, "--step", "1", "--token", "w10", "--json"))
    assert found["why"]["token"] == 10
    check(call("why", sampled, "--step", "1", "--token", "nonsense"), 2, ["nonsense", "id"])
    check(call("why", sampled, "--step", "1", "--token", "w10w11"), 2, ["several tokens", "id:10", "id:11"])
    check(call("why", sampled, "--step", "1", "--token", "id:100"), 2, ["vocabulary of 100"])
    check(call("why", sampled, "--step", "1", "--token", ""), 2, ["--token"])


def test_ambiguous_text_lists_the_choices(record: Callable[..., str], folder: Path) -> None:
    texts = {3: "4", 4: "b", 7: "Large", 8: " Large", **{token: f" x{token % 2}" for token in range(20, 40)}}
    tokens = {number: TokenText(id=number, text=text, piece=text) for number, text in texts.items()}
    with TraceFile(folder / record("greedy", "--greedy")) as recording:
        run = recording.runs[0]
        run.tokens = tokens
        assert token_of_option('" Large"', run) == 8
        with pytest.raises(UsageError, match=r'may mean id:7 "Large", id:8 " Large"; choose one'):
            token_of_option("Large", run)
        with pytest.raises(UsageError, match=r'id:4 "b", id:3 "4"'):
            token_of_option("4", run)
        with pytest.raises(UsageError, match="and 2 more"):
            token_of_option("x0", run)


def test_whatif_the_recorded_settings_change_nothing(call: Call, sampled: str, saved: str) -> None:
    for path in (sampled, saved):
        found = document(call("whatif", path, "--temperature", "1.5", "--json"))
        assert all(step["same"] and step["certain"] for step in found["steps"])
        assert found["first"][0]["step"] is None


def test_whatif_agrees_with_a_run_under_the_other_settings(
    call: Call, saved: str, record: Callable[..., str]
) -> None:
    hot = ("--sample", "--temperature", "3.0", "--top-k", "50", "--top-p", "0.9", "--seed", "1")
    path = record("hot", *hot, "--capture", "tensors", "--save", "logits")
    found = document(call("whatif", saved, "--temperature", "3.0", "--top-k", "50", "--json"))
    first = document(call("diff", saved, path, "--json"))["tokens"]
    assert len(first) == 1
    assert first[0]["step"] == found["first"][0]["step"]
    assert first[0]["token_b"] == found["first"][0]["token"]
    page = call("whatif", saved, "--temperature", "3.0", "--top-k", "50").stdout
    assert "Exact" in page
    assert f"first another token in step {first[0]['step']}" in page


def test_whatif_says_what_is_an_estimate(call: Call, record: Callable[..., str]) -> None:
    path = record("few", *SAMPLING, "--seed", "1", "--candidates", "4")
    page = call("whatif", path, "--top-k", "40").stdout
    assert "An estimate" in page
    assert "--save logits" in page


def test_whatif_grid(call: Call, saved: str) -> None:
    done = call("whatif", saved, "--grid", "temperature=0.5,1.5", "top_p=0.5,0.9", "--json")
    found = document(done)
    settings = [(each["settings"]["temperature"], each["settings"]["top_p"]) for each in found]
    assert settings == [(0.5, 0.5), (0.5, 0.9), (1.5, 0.5), (1.5, 0.9)]
    assert found[3]["first"][0]["step"] is None
    page = call("whatif", saved, "--grid", "temperature=0.5,1.5", "top-p=0.5,0.9").stdout
    assert page.count("\n") == 6


def test_whatif_bad_input(call: Call, sampled: str) -> None:
    check(call("whatif", sampled), 2, ["Nothing is to be different"])
    check(call("whatif", sampled, "temperature=1"), 2, ["--grid"])
    check(call("whatif", sampled, "--grid", "temperature"), 2, ["NAME=VALUE"])
    check(call("whatif", sampled, "--grid", "temperature=hot"), 2, ["NAME=VALUE"])
    check(call("whatif", sampled, "--grid", "heat=1"), 2, ["heat"])
    check(call("whatif", sampled, "--grid", "top_p=1", "top-p=0.5"), 2, ["twice"])
    check(call("whatif", sampled, "--grid", "top_p=1", "--top-p", "0.5"), 2, ["alone and in --grid"])
    check(call("whatif", sampled, "--grid", "top_p=1,2"), 2, ["at most 1"])
    check(call("whatif", sampled, "--temperature", "0"), 2, ["above 0"])


def test_diff_of_a_run_with_itself(call: Call, saved: str) -> None:
    done = call("diff", saved, saved)
    assert done.returncode == 0
    assert "The same, to the last bit" in done.stdout


def test_diff_with_another_seed_is_a_draw(call: Call, sampled: str, record: Callable[..., str]) -> None:
    other = record("seed2", *SAMPLING, "--seed", "2")
    done = call("diff", sampled, other)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "another draw" in done.stdout
    assert "Other random numbers were drawn" in done.stdout
    found = json.loads(call("diff", sampled, other, "--json").stdout)
    assert (found["same"], found["reason"]) == (False, "draw")
    assert found["first_beyond"] is None


def test_diff_within_a_tolerance(call: Call, record: Callable[..., str]) -> None:
    eager = record("eager", "--greedy", "--attn", "eager")
    sdpa = record("sdpa", "--greedy", "--attn", "sdpa")
    assert call("diff", eager, sdpa).returncode == 0
    exact = call("diff", eager, sdpa, "--tolerance", "0")
    assert exact.returncode == 1
    assert "module model.layers.0." in exact.stdout
    assert "the tolerance is 0" in exact.stdout


def test_diff_bad_input(call: Call, sampled: str, record: Callable[..., str], tmp_path: Path) -> None:
    other = record("llama", *SAMPLING, "--seed", "1", model="other")
    torn = tmp_path / "torn.trace"
    torn.write_bytes(Path(sampled).read_bytes()[:5000])
    check(call("diff", sampled, other), 2, ["different models", "LlamaForCausalLM"])
    check(call("diff", sampled, "none.trace"), 8, ["no such file"])
    check(call("diff", sampled, torn), 8, ["torn.trace"])
    check(call("diff", sampled, sampled, "--tolerance", "-1"), 2, ["at least 0"])
    check(call("diff", sampled, sampled, "--run-a", "7"), 2, ["no run 7"])
    check(call("why", torn, "--step", "1"), 8, ["torn.trace"])
    check(call("whatif", torn, "--greedy"), 8, ["torn.trace"])


def test_diff_makes_a_page(call: Call, sampled: str, record: Callable[..., str], tmp_path: Path) -> None:
    other = record("seed2", *SAMPLING, "--seed", "2")
    done = call("diff", sampled, other, "--html")
    usual = Path(f"{Path(sampled).stem}-{Path(other).stem}.html")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith(f"report: {usual}\n")
    assert 'data-section="rows0"' in usual.read_text(encoding="utf-8")
    check(call("diff", sampled, other, "--html"), 5, ["exists already", "--force"])
    named = tmp_path / "page.html"
    done = call("diff", sampled, other, "--json", "--html", named, "--force")
    assert document(done)["reason"] == "draw"
    assert named.exists()
    usual.unlink()


def test_a_page_that_cannot_be_made(
    call: Call, sampled: str, record: Callable[..., str], tmp_path: Path
) -> None:
    other, torn = record("llama", *SAMPLING, "--seed", "1", model="other"), tmp_path / "torn.trace"
    torn.write_bytes(Path(sampled).read_bytes()[:5000])
    page = tmp_path / "page.html"
    check(call("diff", sampled, other, "--html", page), 2, ["different models"])
    check(call("diff", sampled, torn, "--html", page), 8, ["torn.trace"])
    check(call("diff", sampled, "none.trace", "--html", page), 8, ["no such file"])
    check(call("diff", sampled, sampled, "--html", sampled, "--force"), 2, ["one of the traces"])
    check(call("diff", sampled, sampled, "--html", tmp_path / "no" / "p.html"), 5, ["no folder"])
    check(call("diff", "--html", sampled, sampled), 2, ["B.trace"])
    assert list(tmp_path.iterdir()) == [torn]


def test_steps_rows_and_runs_that_are_not_there(call: Call, sampled: str, tmp_path: Path) -> None:
    two = tmp_path / "two.trace"
    write_trace(two, runs=2)
    check(call("why", sampled, "--step", "99"), 2, ["step 99", "6"])
    check(call("why", sampled, "--step", "0"), 2, ["step 0"])
    check(call("why", sampled, "--step", "1", "--row", "1"), 2, ["row 1"])
    check(call("why", sampled, "--step", "1", "--run", "2"), 2, ["no run 2"])
    check(call("why", two, "--step", "1"), 2, ["2 runs", "--run"])
    check(call("diff", two, sampled), 2, ["--run-a"])


def test_the_record_is_enough_without_torch(saved: str, folder: Path) -> None:
    commands = [
        ("why", saved, "--step", "2", "--no-torch"),
        ("whatif", saved, "--temperature", "0.5", "--no-torch"),
        ("diff", saved, saved),
    ]
    for command, done in zip(commands, run_light(commands, folder), strict=True):
        assert (done.code, done.imported) == (0, []), command
        assert done.printed, command
