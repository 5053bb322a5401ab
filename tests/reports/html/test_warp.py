"""The page's processors (``warp.js``) give what NumPy's give, on vectors that transformers' own pass too."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import playwright
import pytest

from reports.html.sections.index_entry import _processor
from tests.support.synthetic import merged_header, synthetic_header
from tests.tracer.analysis.library import Case
from tests.tracer.analysis.vectors import VECTORS
from tracer.analysis.processors.edits import RepetitionPenalty
from tracer.analysis.processors.parsing import describe, parse_processors
from tracer.analysis.processors.processor import Context, PlacedProcessor, ScoreRow, final_row
from tracer.analysis.processors.roles import roles
from tracer.analysis.processors.settings import Settings, change_processors
from tracer.json_values import json_ready
from tracer.schema.arrays import F32, I64
from tracer.schema.run import ProcessorInfo, RunHeader

WARP = Path(__file__).parents[3] / "reports/html/assets/recording/warp.js"

UNSEEN_DOUBT = "equal scores: min_p 0.3, three kept"
"""``min_tokens_to_keep`` falls between equal scores: the page keeps as many, but does not call that open."""

CASES = [case for name, case in VECTORS.items() if name != UNSEEN_DOUBT]

SCRIPT = """
import { readFileSync } from "node:fs";
import { applied } from "./warp.mjs";

const decoded = (text) => new Float32Array(Uint8Array.from(Buffer.from(text, "base64")).buffer);
const encoded = (values) => Buffer.from(Float32Array.from(values).buffer).toString("base64");
const cases = JSON.parse(readFileSync(0, "utf8"));
const results = cases.map(({ scores, bound, tokens, history, number, processors }) => {
  const row = { scores: decoded(scores), bound: decoded(bound)[0], estimate: "" };
  const found = applied(processors, row, { tokens, history, number, recorded: null });
  return { scores: encoded(found.scores), bound: encoded([found.bound]), estimate: found.estimate };
});
process.stdout.write(JSON.stringify(results));
"""

PLACES = """
import { readFileSync } from "node:fs";
import { changedProcessors, settingsOf } from "./warp.mjs";

const { processors, changes } = JSON.parse(readFileSync(0, "utf8"));
const places = (found) => found.map(({ name, role }) => [name, role]);
const now = settingsOf(processors);
const results = changes.map((each) => places(changedProcessors(processors, { ...now, ...each })));
process.stdout.write(JSON.stringify(results));
"""


@dataclass(frozen=True, eq=False)
class Row:
    """A row as the page has it: scores by column, and what is known of all other tokens."""

    tokens: I64
    scores: F32
    bound: float
    estimate: str = ""


def in_page(folder: Path, cases: list[tuple[Case, Row]], number: int = 0) -> list[Row]:
    """The rows after the processors of each case, by the page's own module.

    Args:
        folder: where scripts can be put.
        cases: the cases, with what is known of their rows.
        number: the rows' number in the batch.
    """
    found = _in_node(folder, SCRIPT, [{**_request(case, row), "number": number} for case, row in cases])
    return [
        Row(row.tokens, _decoded(each["scores"]), float(_decoded(each["bound"])[0]), each["estimate"])
        for (_, row), each in zip(cases, found, strict=True)
    ]


def _in_node(folder: Path, script: str, request: Any) -> Any:
    node = shutil.which("node") or str(Path(playwright.__file__).parent / "driver/node")
    (folder / "warp.mjs").write_bytes(WARP.read_bytes())
    (folder / "apply.mjs").write_text(script)
    text = json.dumps(json_ready(request))
    done = subprocess.run(
        [node, "apply.mjs"], cwd=folder, input=text, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def _request(case: Case, row: Row) -> dict[str, Any]:
    infos = [describe(placed) for placed in case.placed]
    return {
        "scores": _encoded(row.scores),
        "bound": _encoded(np.array([row.bound])),
        "tokens": row.tokens.tolist(),
        "history": case.history.tolist(),
        "processors": [{"name": info.class_name, **_processor(info)} for info in infos],
    }


def _encoded(values: Any) -> str:
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()


def _decoded(text: str) -> F32:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def whole(case: Case) -> Row:
    """The row of a case with every token in it."""
    return Row(np.arange(case.logits.size), case.logits, -np.inf)


def partial(case: Case, count: int) -> Row:
    """What a step records of a row: its highest scores."""
    order = np.argsort(-case.logits, kind="stable")[:count]
    return Row(order, case.logits[order], float(case.logits[order[-1]]))


def in_numpy(case: Case, row: Row) -> ScoreRow:
    """The same row after NumPy's processors."""
    scores = np.full(case.logits.size, -np.inf, dtype=np.float32)
    scores[row.tokens] = row.scores
    return final_row(case.placed, ScoreRow(scores, row.bound), Context(case.history))


MERGED = tuple(
    ProcessorInfo(list_name="logits_processor", class_name=name, settings=settings)
    for name, settings in {
        "NoRepeatNGramLogitsProcessor": {"ngram_size": "3"},
        "TemperatureLogitsWarper": {"temperature": "0.7"},
        "TopPLogitsWarper": {"top_p": "0.8"},
        "LogitNormalization": {},
    }.items()
)
CHANGES: list[dict[str, float]] = [
    {},
    {"top_k": 5},
    {"min_p": 0.1},
    {"repetition_penalty": 1.2},
    {"temperature": 1.0, "top_p": 1.0},
    {"temperature": 1.0, "top_p": 1.0, "top_k": 5, "min_p": 0.1},
]


@pytest.mark.parametrize("header", [merged_header(MERGED), synthetic_header()], ids=["one list", "two lists"])
def test_a_setting_goes_where_numpy_puts_it(tmp_path: Path, header: RunHeader) -> None:
    expected = [
        [
            (each.name, each.role)
            for each in change_processors(parse_processors(header), Settings.of(changed), do_sample=True)[0]
        ]
        for changed in CHANGES
    ]
    processors = [
        {"name": info.class_name, "role": role, **_processor(info)}
        for info, role in zip(header.processors, roles(header), strict=True)
    ]
    found = _in_node(tmp_path, PLACES, {"processors": processors, "changes": CHANGES})
    assert [[tuple(each) for each in one] for one in found] == expected


@pytest.mark.parametrize("row", [0, 2])
def test_leading_ids_that_do_not_count(tmp_path: Path, row: int) -> None:
    case = VECTORS["usual: penalty"]
    penalty = RepetitionPenalty(1.3, prompt_ignore_length=(1, 0, 5))
    case = replace(case, placed=(PlacedProcessor("processor", penalty),))
    (found,) = in_page(tmp_path, [(case, whole(case))], row)
    expected = penalty.apply(ScoreRow(case.logits), Context(case.history, row=row))
    assert (found.scores == expected.scores).all()
    assert (found.scores != penalty.apply(ScoreRow(case.logits), Context(case.history)).scores).any() == bool(
        row
    )


def assert_agree(case: Case, row: Row, found: Row) -> None:
    """Bit for bit, except for tokens about which rounding decides; both say so then."""
    expected = in_numpy(case, row)
    own = expected.scores[row.tokens]
    differing = row.tokens[own != found.scores]
    assert set(differing.tolist()) <= set(expected.doubtful.tolist()), case
    assert found.bound == np.float32(expected.bound), case
    assert bool(found.estimate) == bool(expected.estimated or expected.doubtful.size), (found.estimate, case)


def test_whole_rows(tmp_path: Path) -> None:
    cases = [(case, whole(case)) for case in CASES]
    for (case, row), found in zip(cases, in_page(tmp_path, cases), strict=True):
        assert_agree(case, row, found)


@pytest.mark.parametrize("count", [5, 40])
def test_rows_that_are_known_in_part(tmp_path: Path, count: int) -> None:
    long = [case for case in CASES if np.isfinite(case.logits).sum() > count]
    cases = [(case, partial(case, count)) for case in long]
    for (case, row), found in zip(cases, in_page(tmp_path, cases), strict=True):
        assert_agree(case, row, found)


def test_a_difference_is_noticed(tmp_path: Path) -> None:
    """The comparison itself: with other settings the page must not agree."""
    case = VECTORS["usual: the walkthrough"]
    (found,) = in_page(tmp_path, [(case, whole(case))])
    with pytest.raises(AssertionError):
        assert_agree(VECTORS["usual: all"], whole(case), found)
