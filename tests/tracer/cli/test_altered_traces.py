"""A trace in which somebody altered a value and made the digests fit: every command reads or refuses it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.altered import Alteration, sign
from tests.support.breadth import slow
from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import SAMPLING, batch, tiny_model
from tracer import trace
from tracer.cli.main import main
from tracer.schema.columns import ScoreColumns
from tracer.schema.stamp import Stamp
from tracer.tracefile import stamp
from tracer.tracefile.encoding.columns import SCORES

RUN = ("--run", "1")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with every processor that can be repeated, and everything saved."""
    path = tmp_path_factory.mktemp("original") / "run.trace"
    model = tiny_model("qwen2", _attn_implementation="eager")
    save = ["logits", "kv", "hidden", "attention", "lens"]
    with trace(model, tiny_tokenizer(), path, capture="tensors", save=save, seed=1):
        torch.manual_seed(1)
        model.generate(
            **batch(2),
            **SAMPLING,
            max_new_tokens=4,
            pad_token_id=0,
            min_new_tokens=2,
            no_repeat_ngram_size=2,
            suppress_tokens=[5],
            begin_suppress_tokens=[7],
            bad_words_ids=[[8], [9, 10]],
            forced_eos_token_id=99,
            exponential_decay_length_penalty=(1, 1.1),
            typical_p=0.9,
            epsilon_cutoff=1e-4,
            eta_cutoff=1e-4,
            min_p=0.01,
            renormalize_logits=True,
            remove_invalid_values=True,
        )
        model.generate(**batch(1), max_new_tokens=3, pad_token_id=0, do_sample=False)
    record = Stamp(kind="rerun", ok=True, made_at="2026-01-02", summary="the same", details={"ids": "8 of 8"})
    stamp(path, record.model_copy(update={"run": 1}))
    stamp(path, record)
    return path


def commands(path: Path, original: Path, folder: Path) -> list[list[str | Path]]:
    """What people ask a trace, in three groups: one is asked of each altered trace."""
    out = (folder / "out", "--force")
    return [
        ["info", path],
        ["verify", path],
        ["show", path, "--steps", "all"],
        ["why", path, "--step", "2", *RUN],
        ["whatif", path, "--temperature", "0.5", "--no-torch", *RUN],
        ["lens", path, "--step", "2", *RUN],
        ["report", path, "-o", *out],
        ["export", path, "--format", "jsonl", "-o", *out],
        ["why", path, "--step", "3", "--row", "1", "--token", "id:12", "--no-torch", "--json", *RUN],
        ["whatif", path, "--top-k", "3", *RUN],
        ["attention", path, "--step", "2", *RUN],
        ["diff", path, original, "--run-a", "1", "--run-b", "1"],
        ["export", path, "--format", "csv", "--table", "candidates", "-o", *out],
        ["export", path, "--format", "safetensors", "-o", *out],
        ["diff", path, original, "--html", folder / "diff.html", "--force", "--run-a", "1", "--run-b", "1"],
        ["show", path, "--steps", "1", "--only", "--break", "p_chosen < 0.3 or removed('w10') or rank > 2"],
        ["whatif", path, "--greedy", "--run", "2"],
        ["why", path, "--step", "1", "--run", "2"],
        ["attention", path, "--step", "3", "--layer", "0", "--head", "0", *RUN],
        ["diff", original, path, "--json", "--run-a", "2", "--run-b", "2"],
        ["report", path, "--redact", "-o", *out],
        ["export", path, "--format", "safetensors", "--cache-at", "2", *RUN, "-o", *out],
    ]


def ended(arguments: list[str | Path]) -> tuple[int, str]:
    """Exit code and complaint of a command."""
    complaint = io.StringIO()
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(complaint),
        pytest.raises(SystemExit) as stop,
    ):
        main(list(map(str, arguments)))
    return int(stop.value.code or 0), complaint.getvalue()


def must_be_clear(original: Path, folder: Path, seed: int) -> None:
    path = folder / "run.trace"
    shutil.copy(original, path)
    with Alteration(path, seed) as alteration:
        for _ in range(1 + seed % 2):
            alteration.change()
    listed = commands(path, original, folder)
    for arguments in (*listed[:4], *listed[4 + seed % 3 :: 3]):
        code, complaint = ended(arguments)
        told = (seed, alteration.what, arguments, code, complaint)
        # 2: what is asked for, such as a step, is no longer there; 7: not whole; 1: the two differ.
        assert code in (0, 1, 2, 7, 8), told
        assert len(complaint.splitlines()) == (0 if code in (0, 1) else 1), told


def test_the_original_answers_everything(original: Path, tmp_path: Path) -> None:
    shutil.copy(original, tmp_path / "run.trace")
    for arguments in commands(tmp_path / "run.trace", original, tmp_path):
        assert ended(arguments)[0] == 0, arguments


@pytest.mark.parametrize("seed", range(8))
def test_an_altered_trace(original: Path, tmp_path: Path, seed: int) -> None:
    must_be_clear(original, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(100, 1000, 50))
def test_many_altered_traces(original: Path, tmp_path: Path, start: int) -> None:
    for seed in range(start, start + 50):
        must_be_clear(original, tmp_path, seed)


def changed_text(path: Path, column: str, change: Callable[[Any], None]) -> None:
    """Change the header or the end record of run 1."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        (text,) = connection.execute(f"SELECT {column} FROM run WHERE run = 1").fetchone()
        record = json.loads(text)
        change(record)
        connection.execute(f"UPDATE run SET {column} = ? WHERE run = 1", (json.dumps(record),))
        sign(connection)


def changed_scores(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the scores of step 2 of run 1."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        (blob,) = connection.execute("SELECT scores FROM step WHERE run = 1 AND step = 2").fetchone()
        record = SCORES.unpack(blob)
        arrays = {field.name: np.array(getattr(record, field.name)) for field in fields(record)}
        change(arrays)
        connection.execute(
            "UPDATE step SET scores = ? WHERE run = 1 AND step = 2", (SCORES.pack(ScoreColumns(**arrays)),)
        )
        sign(connection)


def asked(path: Path, original: Path, folder: Path) -> set[int]:
    """Exit codes of everything that is asked of run 1."""
    return {ended(arguments)[0] for arguments in commands(path, original, folder)}


@pytest.mark.parametrize("token", [1 << 63, *slow(1 << 31, -(1 << 31) - 1, 10**30)])
@pytest.mark.parametrize("place", ["ending", "header"])
def test_an_id_that_no_tensor_holds_ends_in_code_8(
    original: Path, tmp_path: Path, place: str, token: int
) -> None:
    path = Path(shutil.copy(original, tmp_path / "run.trace"))

    def change(record: Any) -> None:
        if place == "ending":
            record["sequences"][1][3] = token
        else:
            record["prompt"][1]["token_ids"][3] = token

    changed_text(path, place, change)
    assert asked(path, original, tmp_path) <= {0, 8}
    assert ended(["verify", path])[0] == ended(["why", path, "--step", "2", *RUN])[0] == 8


@pytest.mark.parametrize("token", [100, *slow(5000, -7, (1 << 31) - 1)])
def test_an_id_beyond_the_scores_is_no_defect(original: Path, tmp_path: Path, token: int) -> None:
    path = Path(shutil.copy(original, tmp_path / "run.trace"))

    def change(record: Any) -> None:
        record["sequences"][0][3] = record["sequences"][1][3] = token

    changed_text(path, "ending", change)
    assert asked(path, original, tmp_path) <= {0, 1, 7}


@pytest.mark.parametrize(
    ("name", "value"), [("tokens", -2), ("chosen", 100), *slow(("tokens", 100), ("chosen", -1))]
)
def test_a_token_outside_the_vocabulary_ends_in_code_8(
    original: Path, tmp_path: Path, name: str, value: int
) -> None:
    path = Path(shutil.copy(original, tmp_path / "run.trace"))

    def change(arrays: dict[str, Any]) -> None:
        arrays[name].reshape(-1)[0] = value

    changed_scores(path, change)
    assert asked(path, original, tmp_path) <= {0, 8}
    for command in ("why", "lens"):
        code, complaint = ended([command, path, "--step", "2", *RUN])
        assert code == 8
        assert "outside the vocabulary" in complaint


@pytest.mark.parametrize(
    ("class_name", "name", "value"),
    [
        ("ForcedEOSTokenLogitsProcessor", "eos_token_id", "[100]"),
        ("SuppressTokensLogitsProcessor", "suppress_tokens", str([10**30])),
        ("TemperatureLogitsWarper", "temperature", "nan"),
        *slow(
            ("ForcedEOSTokenLogitsProcessor", "eos_token_id", "[-3]"),
            ("ExponentialDecayLengthPenalty", "eos_token_id", "[5000]"),
            ("SuppressTokensLogitsProcessor", "suppress_tokens", "[" * 150),
            ("TemperatureLogitsWarper", "temperature", "-1"),
            ("TopKLogitsWarper", "top_k", "-9223372036854775808"),
            ("NoRepeatNGramLogitsProcessor", "ngram_size", "-1"),
            ("RepetitionPenaltyLogitsProcessor", "penalty", "0"),
        ),
    ],
)
def test_settings_that_no_processor_takes(
    original: Path, tmp_path: Path, class_name: str, name: str, value: str
) -> None:
    path = Path(shutil.copy(original, tmp_path / "run.trace"))

    def change(record: Any) -> None:
        found = next(each for each in record["processors"] if each["class_name"] == class_name)
        found["settings"][name] = value

    changed_text(path, "header", change)
    assert asked(path, original, tmp_path) <= {0, 1, 2, 8}
