"""verify checks the file; --rerun proves that an untraced run gives the same, or says what differs."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from hooks.loop.generation_watch import GenerationWatch
from tests.support.checkpoints import TINY, tiny_checkpoint, tiny_tokenizer
from tests.support.command import Ended, call_main, trace_generate
from tests.support.models import SAMPLING, batch, tiny_model
from tests.tracer.tracefile.samples import write_trace
from tracer import open_trace, trace
from tracer.analysis.rerun_plan import generation_settings, plan_rerun
from tracer.errors import GenerationError, UsageError
from tracer.schema.changes import Intervention
from tracer.schema.run import WeightsFingerprint
from tracer.session import TraceSession
from tracer.tracefile import TraceWriter
from tracer.tracefile.format import SCHEMA_VERSION


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str | Path) -> Ended:
        return call_main(capsys, *arguments)

    return run


@pytest.fixture
def recorded(checkpoint: Path, tmp_path: Path, call: Any) -> Any:
    def run(*arguments: str) -> Path:
        path = tmp_path / "run.trace"
        done = call(
            *("--model", checkpoint, "--prompt", "w10 w11", "--prompt", "w12", "--max-new-tokens", "6"),
            *("--seed", "7", "--quiet", "--force", "--out", path, *arguments),
        )
        assert done.returncode == 0, done.stderr
        return path

    return run


def test_a_sound_file(tmp_path: Path, call: Any) -> None:
    write_trace(tmp_path / "run.trace", 4, runs=2, saved=True)
    before = (tmp_path / "run.trace").read_bytes()
    done = call("verify", tmp_path / "run.trace")
    assert (done.returncode, done.stderr) == (0, "")
    assert "✓ run 1: 4 steps, 8 saved tensors of 240 B; complete" in done.stdout
    assert "✓ run 2:" in done.stdout
    assert f"trace format {SCHEMA_VERSION}" in done.stdout
    assert (tmp_path / "run.trace").read_bytes() == before


def test_an_incomplete_file(tmp_path: Path, call: Any) -> None:
    write_trace(tmp_path / "run.trace", 3, end=False)
    done = call("verify", tmp_path / "run.trace", "--stamp")
    assert done.returncode == 7
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.runs[0].stamps == ()
    assert "! run 1: 3 steps; incomplete: no end record" in done.stdout
    assert len(done.stderr.splitlines()) == 1


def test_a_damaged_file(tmp_path: Path, call: Any) -> None:
    write_trace(tmp_path / "run.trace", 3)
    with sqlite3.connect(tmp_path / "run.trace") as connection:
        connection.execute("UPDATE step SET scores = zeroblob(length(scores)) WHERE step = 2")
    done = call("verify", tmp_path / "run.trace", "--rerun", "--stamp")
    assert done.returncode == 8
    assert "✗ " in done.stdout
    assert "step 2" in done.stderr
    assert "File found damaged" in call("info", tmp_path / "run.trace").stdout


def test_options_that_need_rerun(tmp_path: Path, call: Any) -> None:
    write_trace(tmp_path / "run.trace", 1)
    for option in (["--model", "x"], ["--run", "1"], ["--trust-remote-code"], ["--revision", "main"]):
        done = call("verify", tmp_path / "run.trace", *option)
        assert (done.returncode, done.stdout) == (2, "")


def test_the_file_check_can_be_noted(tmp_path: Path, call: Any) -> None:
    write_trace(tmp_path / "run.trace", 2)
    assert call("verify", tmp_path / "run.trace", "--stamp").returncode == 0
    assert "File verified on 20" in call("show", tmp_path / "run.trace", "--steps", "none").stdout
    assert call("verify", tmp_path / "run.trace").returncode == 0


@pytest.mark.parametrize(
    "settings",
    [
        ["--greedy"],
        ["--sample", "--temperature", "0.7", "--top-k", "20", "--repetition-penalty", "1.05"],
        ["--sample", "--gen", "top_k=null", "--gen", "eos_token_id=null", "--gen", "min_p=0.05"],
        ["--sample", "--gen", "suppress_tokens=[5,6]", "--gen", "no_repeat_ngram_size=2"],
        ["--sample", "--gen", "num_return_sequences=2", "--gen", "min_new_tokens=3"],
        ["--sample", "--dtype", "bfloat16", "--attn", "eager"],
    ],
    ids=lambda settings: " ".join(settings),
)
def test_rerun_gives_the_same(recorded: Any, call: Any, settings: list[str]) -> None:
    path = recorded("--capture", "tensors", "--save", "logits", *settings)
    done = call("verify", path, "--rerun")
    assert done.returncode == 0, done.stderr
    rows = 4 if any("num_return" in setting for setting in settings) else 2
    how = "(greedy)" if settings == ["--greedy"] else "with seed 7"
    with open_trace(path) as recording:
        steps = len(recording.steps)
        (stamp,) = recording.runs[0].stamps
        assert (stamp.kind, stamp.ok, stamp.run) == ("rerun", True, 1)
        assert stamp.details["logits"] == f"{steps} of {steps} steps equal"
    assert (
        f"an untraced run {how} gave the same {rows * steps} ids and the same logits in {steps} of {steps} "
        "steps, bit for bit" in done.stdout
    )
    for report in (["info", path], ["show", path, "--steps", "none"]):
        shown = " ".join(call(*report).stdout.split())
        assert f"an untraced run {how} gave the same" in shown
    assert call("verify", path).returncode == 0


def test_rerun_traces_nothing(recorded: Any, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recorded()

    def forbidden(*_args: object) -> None:
        raise AssertionError("the repetition was traced")

    monkeypatch.setattr(GenerationWatch, "__enter__", forbidden)
    done = call("verify", path, "--rerun")
    assert done.returncode == 0, done.stderr
    assert "logits were not saved" in done.stdout


def test_rerun_of_a_run_that_was_cut_short(recorded: Any, call: Any) -> None:
    path = recorded("--sample", "--break", "step == 3", "--on-break", "stop", "--gen", "eos_token_id=null")
    done = call("verify", path, "--rerun")
    assert done.returncode == 0, done.stderr
    assert "same 6 ids" in done.stdout


def test_rerun_of_a_crashed_run(recorded: Any, call: Any) -> None:
    path = recorded("--sample", "--gen", "eos_token_id=null")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE run SET ending = NULL, steps_digest = NULL, ending_digest = NULL")
        connection.execute("DELETE FROM step WHERE step > 4")
        for table in ("choice", "stage"):
            connection.execute(f"DELETE FROM {table} WHERE step > 4")
    done = call("verify", path, "--rerun")
    assert done.returncode == 7
    assert "same 8 ids" in done.stdout


def test_a_processor_with_forward_passes_of_its_own(recorded: Any, call: Any) -> None:
    path = recorded("--capture", "tensors", "--save", "logits", "--sample", "--gen", "guidance_scale=1.5")
    with open_trace(path) as recording:
        assert recording.steps[1].head.extra_forwards == 1
        steps = len(recording.steps)
    done = call("verify", path, "--rerun")
    assert done.returncode == 0, done.stderr
    assert f"same logits in {steps} of {steps} steps" in done.stdout


def test_rerun_that_goes_on_longer_differs(recorded: Any, call: Any, tmp_path: Path) -> None:
    path = recorded("--greedy", "--gen", "eos_token_id=null")
    with open_trace(path) as recording:
        header = recording.header
        tokens = [step.choice(0) for step in recording.steps]
    assert tokens[2] is not None
    # The same run, had it ended by an end token in its third step.
    with TraceWriter(tmp_path / "short.trace") as writer, open_trace(path) as recording:
        writer.begin_run(header, list(recording.tokens.values()))
        for step in recording.steps[:3]:
            writer.write_step(step)
        assert recording.end is not None
        length = len(header.prompt[0].token_ids) + 3
        ids = tuple(row[:length] for row in recording.end.sequences)
        writer.end_run(1, recording.end.model_copy(update={"steps": 3, "sequences": ids}))
    done = call("verify", tmp_path / "short.trace", "--rerun")
    assert done.returncode == 9
    assert "in step 4, row 0" in done.stderr


def test_settings_that_the_library_refuses(recorded: Any, call: Any, tmp_path: Path) -> None:
    path = recorded("--greedy")
    with open_trace(path) as recording, TraceWriter(tmp_path / "odd.trace") as writer:
        odd = {**recording.header.generation_config, "temperature": "-1.0", "do_sample": "True"}
        writer.begin_run(recording.header.model_copy(update={"generation_config": odd}))
        writer.write_step(recording.steps[0])
    done = call("verify", tmp_path / "odd.trace", "--rerun")
    assert done.returncode == GenerationError.exit_code
    assert "The repetition failed: ValueError" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_rerun_that_differs(recorded: Any, call: Any, tmp_path: Path, checkpoint: Path) -> None:
    path = recorded("--greedy", "--capture", "tensors", "--save", "logits", "--gen", "eos_token_id=null")
    other = tmp_path / "other"
    model = tiny_model(TINY, seed=5)
    model.save_pretrained(other)
    tiny_tokenizer().save_pretrained(other)
    done = call("verify", path, "--rerun", "--model", other)
    assert done.returncode == 9
    assert "chose another token in step 1, row 0" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with open_trace(path) as recording:
        (stamp,) = recording.runs[0].stamps
        assert not stamp.ok
    assert "Repetition differed" in call("show", path, "--steps", "none").stdout
    # The smallest change of one weight leaves the ids alone; the logits tell.
    close = tiny_model(TINY)
    with torch.no_grad():
        close.model.norm.weight[0] *= 1 + 1e-6
    close.save_pretrained(other)
    done = call("verify", path, "--rerun", "--model", other)
    assert done.returncode == 9
    assert "gave other logits in step 1, by up to" in done.stderr
    # The newest result counts.
    assert call("verify", path, "--rerun").returncode == 0
    assert "Repetition differed" not in call("show", path, "--steps", "none").stdout


def test_weights_that_are_not_the_folders(recorded: Any, call: Any, checkpoint: Path, tmp_path: Path) -> None:
    """As after an adapter was merged, or weights were edited: the name is the same, the weights are not."""
    path = tmp_path / "merged.trace"
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    up = model.model.layers[1].mlp.up_proj.weight
    up.data += torch.outer(torch.ones(len(up)), torch.ones(up.shape[1])) * 1e-6
    with trace(model, path=path):
        model.generate(**batch(2), max_new_tokens=4, pad_token_id=0, do_sample=False)
    done = call("verify", path, "--rerun")
    assert done.returncode == 9
    assert "the weights are not the folder's" in done.stderr
    assert "gave the same 8 ids" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with open_trace(path) as recording:
        (stamp,) = recording.runs[0].stamps
    assert not stamp.ok
    assert stamp.details["weights"] == "other"
    assert "the weights are not the folder's" in call("show", path, "--steps", "none").stdout
    # The folder changes after the run.
    path = recorded("--greedy")
    assert call("verify", path, "--rerun").returncode == 0
    model.save_pretrained(checkpoint.parent / "edited")
    tiny_tokenizer().save_pretrained(checkpoint.parent / "edited")
    done = call("verify", path, "--rerun", "--model", checkpoint.parent / "edited")
    assert done.returncode == 9
    assert "the weights are not the folder's" in done.stderr


def test_weights_that_cannot_be_compared(
    checkpoint: Path, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.trace"
    for weights, said in (
        (WeightsFingerprint(not_taken="the model is quantised"), "not compared: the model is quantised"),
        (None, "not compared: the trace has no fingerprint"),
    ):
        monkeypatch.setattr("hooks.loop.generation_watch.fingerprint", lambda *_, found=weights: found)
        api_trace(path, checkpoint, do_sample=False)
        done = call("verify", path, "--rerun")
        assert done.returncode == 0, done.stderr
        assert f"the weights were {said}" in " ".join(done.stdout.split())
        with open_trace(path) as recording:
            assert recording.runs[0].stamps[0].details["weights"] == "not compared"


def api_trace(
    path: Path, checkpoint: Path, *, generations: int = 1, device_map: Any = None, **settings: Any
) -> TraceSession:
    model = AutoModelForCausalLM.from_pretrained(checkpoint, device_map=device_map)
    inputs = {name: tensor.to(model.device) for name, tensor in batch(2).items()}
    settings = {"max_new_tokens": 5, "pad_token_id": 0, "do_sample": True, **settings}
    with trace(model, path=path, seed=settings.pop("seed", None), force=True) as session:
        for _ in range(generations):
            model.generate(**inputs, **settings)
    return session


def test_without_a_seed_the_recorded_random_state_serves(checkpoint: Path, tmp_path: Path, call: Any) -> None:
    path = tmp_path / "run.trace"
    api_trace(path, checkpoint, generations=2)
    done = call("verify", path, "--rerun")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("from the recorded random state gave the same 10 ids") == 2
    # A seed that was named but never set is noticed.
    api_trace(path, checkpoint, seed=99)
    assert "from the recorded random state" in call("verify", path, "--rerun").stdout


def test_a_model_spread_by_a_device_map_is_spread_again(
    checkpoint: Path, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.trace"
    parts = {"model.embed_tokens": "cpu", "model.layers": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    api_trace(path, checkpoint, device_map=parts)
    with open_trace(path) as recording:
        assert recording.header.model.devices == parts
    maps: list[Any] = []
    load = AutoModelForCausalLM.from_pretrained

    def loading(*args: Any, **kwargs: Any) -> Any:
        maps.append(kwargs.get("device_map"))
        return load(*args, **kwargs)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", loading)
    done = call("verify", path, "--rerun")
    assert done.returncode == 0, done.stderr
    assert maps == [parts]


class Forbid(LogitsProcessor):  # type: ignore[misc]
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores.index_fill(1, torch.tensor([7]), -float("inf"))


class Never(StoppingCriteria):  # type: ignore[misc]
    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.zeros(len(input_ids), dtype=torch.bool)


def test_what_the_caller_passed_cannot_be_repeated(checkpoint: Path, tmp_path: Path, call: Any) -> None:
    path = tmp_path / "run.trace"
    for settings, words in (
        ({"logits_processor": LogitsProcessorList([Forbid()])}, "processors do not follow"),
        ({"stopping_criteria": StoppingCriteriaList([Never()])}, "criteria do not follow"),
    ):
        api_trace(path, checkpoint, **settings)
        done = call("verify", path, "--rerun")
        assert done.returncode == 2
        assert words in done.stderr
        assert "came from the caller" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_model_that_is_gone_or_another(recorded: Any, checkpoint: Path, tmp_path: Path, call: Any) -> None:
    path = recorded()
    done = call("verify", path, "--rerun", "--model", tmp_path / "gone")
    assert done.returncode == 3
    assert "no such folder" in done.stderr
    llama = tiny_checkpoint(tmp_path / "llama", "llama")
    done = call("verify", path, "--rerun", "--model", llama)
    assert done.returncode == 2
    assert "another class (LlamaForCausalLM, not Qwen2ForCausalLM)" in done.stderr


def test_interventions_and_gaps_are_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from tests.tracer.analysis.runs import real_run

    run = real_run(inputs=batch(2), max_new_tokens=3, **SAMPLING)
    assert plan_rerun(run).ids.expected.shape == (2, 9)
    changed = run.steps[1].head.model_copy(
        update={"interventions": (Intervention(kind="force", detail="force 7"),)}
    )
    for steps, reason in (
        ([], "no step"),
        ([run.steps[0], run.steps[2]], "missing"),
        ([run.steps[0], replace(run.steps[1], head=changed)], "changed something in step 2"),
        ([run.steps[0], replace(run.steps[1], scores=None)], "choice of step 2"),
    ):
        with pytest.raises(UsageError, match=reason):
            plan_rerun(replace(run, steps=steps))
    seedless = run.steps[0].head.model_copy(update={"draw": None})
    with pytest.raises(UsageError, match="neither a seed nor the random state"):
        plan_rerun(replace(run, steps=[replace(run.steps[0], head=seedless)]))


def test_settings_come_back_as_values() -> None:
    from tests.reports.records import header

    texts = {"top_k": "None", "eos_token_id": "[1, 2]", "temperature": "0.7", "low": "low", "max_length": "9"}
    assert generation_settings(header(generation_config=texts)) == {
        "top_k": None,
        "eos_token_id": [1, 2],
        "temperature": 0.7,
        "low": "low",
        "max_length": 9,
    }
    assert (
        generation_settings(header(generation_config={**texts, "max_new_tokens": "3"}))["max_new_tokens"] == 3
    )
    assert "max_length" not in generation_settings(header(generation_config={**texts, "max_new_tokens": "3"}))


def test_a_result_that_cannot_be_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    path = tmp_path / "run.trace"
    write_trace(path, 2)
    monkeypatch.setattr("tracer.tracefile.stamps.BUSY_SECONDS", 0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = call("verify", path, "--stamp")
    assert done.returncode == 5
    assert "✓ run 1: 2 steps; complete" in done.stdout
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.demo
@pytest.mark.slow
def test_the_demo_model_repeats_its_own_run(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    arguments = ("--prompt", "Name three colours.", "--max-new-tokens", "8", "--seed", "1", "--quiet")
    done = trace_generate(*arguments, "--capture", "tensors", "--save", "logits", "--out", path)
    assert done.returncode == 0, done.stderr
    done = trace_generate("verify", path, "--rerun")
    assert done.returncode == 0, done.stderr
    assert "same 8 ids and the same logits in 8 of 8 steps" in done.stdout
