"""Traces of several releases of transformers: shown, explained, replayed and compared by any of them."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from hooks.scores.replay import TorchReplayer
from tests.releases.make_traces import unpacked
from tests.support.command import call_main
from tests.tracer.stepper.sessions import exchanges
from tracer import open_trace
from tracer.analysis.diff import diff
from tracer.analysis.draw import Replayer, context_of
from tracer.analysis.processors.roles import roles
from tracer.analysis.processors.settings import Settings
from tracer.analysis.runs import saved_logits
from tracer.analysis.whatif import whatif
from tracer.analysis.why.stages import row_stages
from tracer.reading import Recording
from tracer.replay.terminal.stepper import RecordedStepper
from tracer.stepper.lines import PipeLines

VERSIONS = ("4.44.2", "4.57.6", "5.24.0")
PAIRS = [*itertools.permutations(VERSIONS, 2)]
RUNS = (1, 2)
"""Greedy, and sampled."""

SAMPLED = 2
REPLAYERS = pytest.mark.parametrize("replayer", [TorchReplayer(), None], ids=["transformers", "NumPy"])


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("traces")
    return {version: unpacked(version, folder) for version in VERSIONS}


@pytest.fixture(params=VERSIONS)
def path(request: pytest.FixtureRequest, traces: dict[str, Path]) -> Path:
    return traces[request.param]


@pytest.fixture
def recording(path: Path) -> Iterator[Recording]:
    with open_trace(path) as recording:
        yield recording


@REPLAYERS
@pytest.mark.parametrize("number", RUNS)
def test_processors_are_repeated_to_the_bit(
    recording: Recording, number: int, replayer: Replayer | None
) -> None:
    run = recording.run(number)
    for step in run.steps:
        logits = saved_logits(run, step.number)
        assert logits is not None
        for row in range(step.rows):
            context = context_of(run, step, row)
            found = row_stages(run.header, step, row, context, logits=logits[row], replayer=replayer)
            assert found.notes == ()
            assert found.start == 0
            assert all(stage.exact for stage in found.rows)


def test_a_greedy_question_drops_the_warpers_alone(recording: Recording) -> None:
    run = recording.run(SAMPLED)
    assert roles(run.header) == ("processor", "warper", "warper", "warper")
    report = whatif(run, Settings(greedy=True))
    assert [info.class_name for info in report.processors] == ["RepetitionPenaltyLogitsProcessor"]
    assert report.exact


@REPLAYERS
def test_other_settings_have_the_same_effect_in_every_release(
    traces: dict[str, Path], replayer: Replayer | None
) -> None:
    found = []
    for each in traces.values():
        with open_trace(each) as recording:
            report = whatif(recording.run(SAMPLED), Settings(min_p=0.1, top_k=0), replayer=replayer)
        # Older releases penalise padding too; row 0 has none.
        found.append([(step.token, step.kept) for step in report.steps if step.row == 0])
        names = [info.class_name for info in report.processors]
        assert names[1:] == ["TemperatureLogitsWarper", "TopPLogitsWarper", "MinPLogitsWarper"]
        assert all(step.reproduced is not False for step in report.steps)
    assert found[0] == found[1] == found[2]


def test_the_commands(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shown = call_main(capsys, "show", path)
    assert shown.returncode == 0
    settings = shown.stdout.partition("generation settings in force")[2].partition("the scores pass")[0]
    assert " ".join(settings.split()) == (
        "bos_token_id 1 · eos_token_id 99 · max_length 10 · max_new_tokens 4 · output_logits True "
        "pad_token_id 0 · repetition_penalty 1.1 · return_dict_in_generate True"
    )
    verified = call_main(capsys, "verify", path)
    assert (verified.returncode, "none of the releases" in verified.stdout) == (0, False)
    why = call_main(capsys, "why", path, "--run", "2", "--step", "2", "--token", "20")
    assert "TopPLogitsWarper removed it" in " ".join(why.stdout.split())
    page = tmp_path / "page.html"
    assert call_main(capsys, "report", path, "--output", page, "--run", "2").returncode == 0
    assert page.stat().st_size > 10_000


def test_the_stepper_comes_to_every_stop(recording: Recording) -> None:
    target = io.StringIO()
    console = Console(file=target, width=100, highlight=False)
    run = recording.run(SAMPLED)
    stops = tuple(stop for stop in run.header.stops if stop not in ("run-header", "layers"))
    lines = PipeLines(io.StringIO("w\nn\n" * len(stops) + "whatif top_k=3\nwhy 20\nb\n"), console)
    RecordedStepper(run, lines, console, stops=stops).run()
    halts = [prompt for prompt, command, _ in exchanges(target.getvalue()) if command == "w"]
    assert halts == [f"({stop} 1)" for stop in stops]
    answers = {command: answer for _, command, answer in exchanges(target.getvalue())}
    assert "Exact" in answers["whatif top_k=3"]


@pytest.mark.parametrize("number", RUNS)
@pytest.mark.parametrize("versions", PAIRS, ids="-".join)
def test_a_difference_is_put_down_to_the_release(
    traces: dict[str, Path], versions: tuple[str, str], number: int
) -> None:
    with open_trace(traces[versions[0]]) as a, open_trace(traces[versions[1]]) as b:
        report = diff(a.run(number), b.run(number))
    assert report.reason == "numerics"
    assert f"versions transformers {versions[0]} / {versions[1]}" in report.explanation
    names = {fact.name for fact in report.facts}
    padded = {"RepetitionPenaltyLogitsProcessor"} if "5.24.0" in versions else set()
    assert names == {"transformers", "tokenizers", *padded}
    assert report.steps == 4
    assert max(each.largest for each in report.logits) < 1e-4
