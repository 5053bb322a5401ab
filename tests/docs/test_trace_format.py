"""The page about the trace file names every table and column, and its queries work on a real trace."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
import torch

from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import SAMPLING, batch, tiny_model
from tracer import open_trace, trace
from tracer.tracefile.format import APPLICATION_ID, CREATE_TABLES, SCHEMA_VERSION

PAGE = (Path(__file__).parents[2] / "docs/trace-format.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"\n([^\n]+[?:])\n\n```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows of which one fails a check, since a weight of the second layer becomes NaN."""
    path = tmp_path_factory.mktemp("trace") / "run.trace"
    model = tiny_model()
    torch.manual_seed(1)
    with trace(model, tiny_tokenizer(), path, capture="tensors", save=["logits"], seed=1):
        model.generate(**batch(2), max_new_tokens=40, eos_token_id=None, **SAMPLING)
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
        model.generate(**batch(1), max_new_tokens=2, do_sample=False)
    return path


def test_tables_and_columns_are_those_of_the_file() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", PAGE, re.MULTILINE))
    documented = {
        table: re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", columns)) for table, columns in rows.items()
    }
    with sqlite3.connect(":memory:") as connection:
        for statement in CREATE_TABLES.values():
            connection.execute(statement)
        actual = {
            table: [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
            for table in CREATE_TABLES
        }
    assert documented == actual
    assert hex(APPLICATION_ID).lower() in PAGE.lower()
    assert f"format version {SCHEMA_VERSION}" in PAGE


@pytest.mark.parametrize(("question", "query"), QUERIES, ids=[question for question, _ in QUERIES])
def test_queries_answer(question: str, query: str, recorded: Path) -> None:
    with sqlite3.connect(f"file:{recorded}?mode=ro", uri=True) as connection:
        rows = connection.execute(query).fetchall()
    assert rows, question
    with open_trace(recorded) as recording:
        if "under p" in question:
            expected = [
                (step.number, row, recording.tokens[choice.token].text, choice.probability)
                for step in recording.steps
                for row in range(step.rows)
                if (choice := step.choice(row)) and choice.probability < 0.3 and not choice.padding
            ]
            assert sorted(rows) == sorted(expected)
        if "check" in question:
            assert rows[0][4] == "model.layers.1.mlp.up_proj"


def test_there_are_queries() -> None:
    assert len(QUERIES) == PAGE.count("```sql") >= 8
