"""`fork` and `tree`: a run branches, and the file shows how."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import call_main
from tracer import open_trace
from tracer.tracefile import check_file


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fork")
    return tiny_checkpoint(folder / "tiny")


@pytest.fixture
def trace_file(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    out = tmp_path / "run.trace"
    settings = ("--sample", "--seed", "7", "--temperature", "2", "--gen", "eos_token_id=null")
    arguments = ("--model", recorded, "--prompt", "w10 w11", "--max-new-tokens", "8", "--out", out, *settings)
    done = call_main(capsys, *arguments, "--quiet")
    assert done.returncode == 0, done.stderr
    return out


def test_forks_and_their_tree(trace_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = call_main(capsys, "fork", trace_file, "--at", "4")
    assert done.returncode == 0, done.stderr
    assert f"run 2 of {trace_file}: forked from run 1 at step 4: unchanged" in done.stdout
    assert "✓ the steps before step 4 repeat run 1 bit for bit" in done.stdout
    done = call_main(capsys, "fork", trace_file, "--run", "1", "--at", "3", "--top", "2")
    assert done.returncode == 0, done.stderr
    done = call_main(capsys, "fork", trace_file, "--run", "3", "--at", "6", "--seed", "3", "--greedy", "-q")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert check_file(trace_file).whole
    with open_trace(trace_file) as recording:
        sequences = [run.end.sequences for run in recording.runs if run.end is not None]
        best = [each.token for each in recording.run(1).steps[2].candidates[:2]]
        forks = [run.header.fork for run in recording.runs]
    assert sequences[1] == sequences[0]
    assert [fork.token for fork in forks[2:4] if fork is not None] == best
    shown = call_main(capsys, "tree", trace_file).stdout
    places = [shown.index(f"run {number}") for number in (1, 3, 5, 4, 2)]
    assert places == sorted(places)
    assert "run 5, from step 6: do_sample False, seed 3; p " in " ".join(shown.split())
    (root,) = json.loads(call_main(capsys, "tree", trace_file, "--json").stdout)["branches"]
    assert [each["number"] for each in root["branches"]] == [3, 4, 2]
    assert root["branches"][2]["log_probability"] == pytest.approx(root["log_probability"])
    again = call_main(capsys, "verify", trace_file, "--rerun")
    assert again.returncode == 0, again.stderr
    assert "4 forks not repeated" in again.stdout
    header = call_main(capsys, "show", trace_file, "--run", "3", "--steps", "none").stdout
    assert "forked from run 1 at step 3: chose" in header


def test_another_file(trace_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, out = trace_file.read_bytes(), tmp_path / "other.trace"
    arguments = ("fork", trace_file, "--at", "3", "--out", out)
    assert call_main(capsys, *arguments).returncode == 0
    assert trace_file.read_bytes() == before
    assert call_main(capsys, *arguments).returncode == 5
    assert call_main(capsys, *arguments, "--force").returncode == 0
    assert "forked from run 1 of run.trace at step 3" in " ".join(
        call_main(capsys, "tree", out).stdout.replace("│", " ").split()
    )


def test_fewer_candidates_than_forks_are_said(
    trace_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_trace(trace_file) as recording:
        best = recording.run(1).steps[1].candidates
    few = [f"--ban={each.token}" for each in best[2:]]
    arguments = (*few, "--at", "2", "--max-new-tokens", "1", "-q")
    for top, said in (
        ("2", ""),
        ("5", "! step 2 has 2 recorded candidates besides those banned: 2 forks, not 5\n"),
    ):
        out = tmp_path / f"top{top}.trace"
        done = call_main(capsys, "fork", trace_file, *arguments, "--top", top, "--out", out)
        assert (done.returncode, done.stderr) == (0, said)
        with open_trace(out) as recording:
            assert len(recording.runs) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--at", "99"), 2, "step 99 was not recorded; the last recorded step is 8"),
        (("--at", "3", "--token", "zebra"), 2, "mentions no token with this text"),
        (("--at", "3", "--token", "4", "--top", "2"), 2, "choose one"),
        (("--at", "3", "--row", "4"), 2, "row"),
        (("--at", "3", "--run", "4"), 2, "run 4"),
        (("--at", "3", "--gen", "num_beams=3"), 4, "decoding loop of its run"),
        (("--at", "3", "--gen", "max_new_tokens=2"), 2, "use --max-new-tokens"),
        (("--at", "3", "--temperature", "-1"), 2, "temperature"),
        (("--at", "3", "--force"), 2, "--out"),
        (("--at", "3", "--model", "./none"), 3, "no such folder"),
    ],
)
def test_one_line_and_the_file_as_it_was(
    arguments: tuple[str, ...],
    code: int,
    message: str,
    trace_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = trace_file.read_bytes()
    done = call_main(capsys, "fork", trace_file, *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert message in done.stderr
    assert trace_file.read_bytes() == before


def test_the_tree_of_an_older_trace(capsys: pytest.CaptureFixture[str]) -> None:
    fixture = Path(__file__).parents[1] / "tracefile" / "fixtures" / "version-1.trace"
    done = call_main(capsys, "tree", fixture)
    assert done.returncode == 0, done.stderr
