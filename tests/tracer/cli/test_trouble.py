"""Full disks, vanished folders, limits, NaNs and damaged files, as the command line meets them."""

from __future__ import annotations

import functools
import random
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
import torch

from tests.hooks.kv_cache.test_proofs import Overwriting, overwrite_value
from tests.support.checkpoints import tiny_checkpoint, tiny_tokenizer
from tests.support.command import EAGER, call_main, environment
from tests.support.models import GREEDY, batch, tiny_model
from tests.support.prepared import PreparedProcess
from tests.support.synthetic import synthetic_end, synthetic_header, synthetic_steps
from tests.tracer.cli.test_run import _steps
from tests.tracer.tracefile.samples import some_tokens, write_trace
from tests.tracer.tracefile.test_damage import mutate
from tracer import open_trace, trace
from tracer.errors import CheckFailedError
from tracer.tracefile import TraceWriter, check_file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


def start(checkpoint: Path, out: Path, tokens: int, **options: Any) -> Popen[str]:
    return PreparedProcess(
        [
            *(sys.executable, "-m", "tracer", "--model", str(checkpoint), "--prompt", "w10", "--seed", "1"),
            *("--max-new-tokens", str(tokens), "--gen", "eos_token_id=null", "--steps", "none"),
            *("--out", str(out), *EAGER),
        ],
        env=environment(),
        stdout=PIPE,
        stderr=PIPE,
        text=True,
        **options,
    )


def answer_of(stdout: str) -> str:
    return stdout.split("Answer", 1)[1]


@pytest.mark.slow
def test_a_vanished_folder_ends_the_trace_not_the_run(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    out = folder / "run.trace"
    with start(checkpoint, out, 600) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and _steps(out) < 5:
            time.sleep(0.02)
        shutil.rmtree(folder)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 7
    assert len(stderr.splitlines()) == 1
    assert "was deleted or replaced while it was written" in stderr
    assert len(answer_of(stdout).split()) > 590


def test_a_full_disk_ends_the_trace_not_the_run(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.trace"
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (300_000, 300_000))
    with start(checkpoint, out, 300, preexec_fn=limit) as process:
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 7, stderr
    assert len(stderr.splitlines()) == 1
    assert "run.trace ends before step" in stderr
    assert len(answer_of(stdout).split()) > 290
    report = check_file(out)
    assert report.ok
    assert not report.complete
    assert 0 < report.runs[0].steps < 300
    shown = call_main(capsys, "show", out, "--steps", "none")
    assert shown.returncode == 0
    assert "no end record: the trace is incomplete" in shown.stdout
    assert call_main(capsys, "verify", out).returncode == 7


def test_the_size_limit_stops_tensors_not_the_run(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.trace"
    done = call_main(
        capsys,
        *("--model", checkpoint, "--prompt", "w10", "--max-new-tokens", "60", "--gen", "eos_token_id=null"),
        *("--capture", "tensors", "--save", "logits", "--save", "hidden", "--max-trace-size", "0.15"),
        *("--steps", "none", "--out", out),
    )
    assert done.returncode == 0, done.stderr
    with open_trace(out) as recording:
        assert len(recording.steps) == 60
        end = recording.end
        assert end is not None
        stopped = end.tensors_stopped_at
        assert stopped is not None
        assert 1 < stopped <= 60
        assert recording.runs[0].tensor_names(stopped - 1)
        assert not recording.runs[0].tensor_names(stopped)
    assert f"Tensors are left out from step {stopped} on" in done.stdout
    assert check_file(out).complete


@pytest.mark.parametrize("strict", [False, True])
def test_a_nan_in_a_weight_is_named_in_every_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], strict: bool
) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = float("nan")
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    out = tmp_path / "run.trace"
    done = call_main(
        capsys,
        *("--model", tmp_path / "model", "--prompt", "w10", "--greedy", "--max-new-tokens", "4"),
        *("--steps", "none", *(("--strict",) if strict else ()), "--out"),
        out,
    )
    assert done.returncode == 9
    assert len(done.stderr.splitlines()) == 1
    shown = call_main(capsys, "show", out)
    for text in (done.stdout, shown.stdout):
        said = " ".join(text.split())
        assert "first non-finite output of the run: model.layers.1.mlp.up_proj" in said
        assert "its inputs were finite" in said
        assert "1 check did not hold" in said
    with open_trace(out) as recording:
        assert len(recording.steps) == (1 if strict else 4)
        assert recording.complete


def test_a_weight_that_is_nan_in_step_7_only(tmp_path: Path) -> None:
    model, forwards = tiny_model(), 0
    weight = model.model.layers[1].self_attn.v_proj.weight
    whole = weight.detach().clone()

    def poison(*_: Any) -> None:
        nonlocal forwards
        forwards += 1
        with torch.no_grad():
            weight.copy_(whole)
            if forwards == 7:
                weight[2, 2] = float("nan")

    handle = model.register_forward_pre_hook(poison)
    with trace(model, path=tmp_path / "run.trace") as session:
        model.generate(**batch(2), **GREEDY, max_new_tokens=6 + 3, pad_token_id=0, eos_token_id=None)
    handle.remove()
    assert session.violated
    with open_trace(tmp_path / "run.trace") as recording:
        found = [(step.number, each) for step in recording.steps for each in step.head.violations]
        number, violation = found[0]
        assert number == 7
        assert violation.module is not None
        assert recording.header.modules[violation.module].name == "model.layers.1.self_attn.v_proj"
        assert "its inputs were finite" in violation.message


def test_strict_ends_the_generation_at_the_first_wrong_step(tmp_path: Path) -> None:
    model = tiny_model()
    for strict in (False, True):
        cache = Overwriting(overwrite_value)
        path = tmp_path / f"{strict}.trace"
        settings = {**GREEDY, "max_new_tokens": 8, "eos_token_id": None, "past_key_values": cache}
        if strict:
            with pytest.raises(CheckFailedError, match="step 4"), trace(model, path=path, strict=True):
                model.generate(**batch(), **settings)
        else:
            with trace(model, path=path):
                model.generate(**batch(), **settings)
        with open_trace(path) as recording:
            assert len(recording.steps) == (4 if strict else 8)
            assert [step.number for step in recording.steps if step.head.violations] == [4]


@pytest.fixture(scope="module")
def long_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4,000 steps of a model with 28 layers."""
    path = tmp_path_factory.mktemp("long") / "run.trace"
    run = synthetic_header()
    prefill, *decodes = synthetic_steps(run, 16)
    with TraceWriter(path) as writer:
        writer.begin_run(run, some_tokens())
        for number in range(1, 4001):
            step = prefill if number == 1 else decodes[number % len(decodes)]
            writer.write_step(replace(step, head=step.head.model_copy(update={"step": number})))
        writer.end_run(1, synthetic_end(run, 4000))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_step_of_4000_is_printed_with_little_memory(long_trace: Path) -> None:
    code = (
        "import re, sys\n"
        "from tracer.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n    code = stop.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "status = open('/proc/self/status').read()\n"
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', status)[1], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "show", str(long_trace), "--steps", "3999", "--only"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Step 3999" in done.stdout
    assert done.stdout.count("prepare inputs") == 1
    assert int(done.stderr) < 150_000


def test_a_late_step_of_a_long_trace_is_read_at_once(long_trace: Path) -> None:
    started = time.perf_counter()
    with open_trace(long_trace) as recording:
        assert recording.steps[3998].number == 3999
    assert time.perf_counter() - started < 0.5  # some milliseconds on an idle machine


def test_a_late_step_takes_no_more_reads_than_an_early_one(long_trace: Path) -> None:
    with open_trace(long_trace) as recording:
        counts = []
        for number in (3, 3999):
            statements: list[str] = []
            recording._database._connection.set_trace_callback(statements.append)
            recording.steps.number(number)
            recording._database._connection.set_trace_callback(None)
            counts.append(len(statements))
    assert counts[1] <= counts[0]


def damaged_files_end_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], rounds: int, seed: int
) -> None:
    write_trace(folder / "sound.trace", 3, rows=2, runs=2, saved=True)
    original, rng, path = (folder / "sound.trace").read_bytes(), random.Random(seed), folder / "run.trace"
    commands: list[list[str | Path]] = [
        ["show", path],
        ["info", path],
        ["verify", path],
        ["show", path, "--only", "--steps", "none", "--break", 'p_chosen < 2 and removed("x")'],
        *(
            ["export", path, "--format", kind, "--force"]
            for kind in ("jsonl", "csv", "parquet", "safetensors")
        ),
        ["export", path, "--format", "csv", "--table", "modules", "--force"],
    ]
    endings = set()
    for number in range(rounds):
        data = bytearray(original)
        for _ in range(rng.choice([1, 2, 8])):
            mutate(data, rng)
        path.write_bytes(data)
        done = call_main(capsys, *commands[number % len(commands)])
        assert done.returncode in (0, 2, 7, 8), done.stderr
        assert len(done.stderr.splitlines()) == (done.returncode != 0), done.stderr
        endings.add(done.returncode)
        for left in (path, *folder.glob("run.*")):
            left.unlink(missing_ok=True)
    assert {0, 8} <= endings


def test_damaged_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged_files_end_in_one_line(tmp_path, capsys, 72, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_damaged_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    damaged_files_end_in_one_line(tmp_path, capsys, 1000, seed)
