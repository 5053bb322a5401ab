"""The run header is one screen, whatever the run."""

from __future__ import annotations

import pytest

from reports.terminal.header import LINES, render_header
from reports.view import header_view
from tests.reports.records import TOKENS, header, rendered
from tests.support.breadth import slow
from tracer.schema.run import CriterionInfo, NotSeen, ProcessorInfo, RunHeader

PARTS = (
    "Run 1",
    "run header",
    "what the configuration says",
    "module tree",
    "generation settings in force",
    "the scores pass, in this order",
    "what can stop a row",
    "prompt",
    "2026-01-02",
)


def long_prompt(run: RunHeader, tokens: int = 3112) -> RunHeader:
    text = "word " * tokens + "\n" + "line\n" * 40
    return run.model_copy(
        update={
            "prompt": tuple(
                row.model_copy(update={"token_ids": tuple(range(40, 40 + tokens)), "text": text})
                for row in run.prompt
            )
        }
    )


def large(run: RunHeader) -> RunHeader:
    """A model of many kinds of layers, on many devices, with every setting and many processors."""
    tree = "\n".join(["Model(", *(f"  (part{number}): Linear(in_features=1)" for number in range(300)), ")"])
    devices = {f"model.layers.{layer}": f"cuda:{layer % 8}" for layer in range(64)}
    return run.model_copy(
        update={
            "model": run.model.model_copy(update={"tree": tree, "devices": devices}),
            "embedded": 7,
            "cached": 9,
            "rank": 3,
            "world_size": 8,
            "not_seen": tuple(
                NotSeen(module=place, reason=reason)
                for reason in ("compiled", "scripted", "distributed")
                for place in range(1, 30)
            ),
            "prompt": tuple(row.model_copy(update={"images": (*range(1, 20), 25)}) for row in run.prompt),
            "generation_config": {f"setting_of_some_length_{number}": "x" * 90 for number in range(60)},
            "processors": tuple(
                ProcessorInfo(
                    list_name="logits_processor", class_name=f"Own{number}", settings={"words": "y" * 200}
                )
                for number in range(30)
            ),
            "criteria": tuple(
                CriterionInfo(class_name=f"Stop{number}", settings={"strings": "z" * 200})
                for number in range(30)
            ),
        }
    )


def lines_of(run: RunHeader, width: int = 100) -> list[str]:
    return rendered(render_header(header_view(run, TOKENS)), width=width).rstrip("\n").split("\n")


@pytest.mark.parametrize("width", [80, 200, *slow(100, 120)])
@pytest.mark.parametrize("rows", [1, 9, *slow(2, 4)])
@pytest.mark.parametrize("change", [lambda run: run, long_prompt, large, lambda run: long_prompt(large(run))])
def test_it_is_one_screen_with_every_part_in_order(change: object, rows: int, width: int) -> None:
    assert callable(change)
    lines = lines_of(change(header(rows=rows)), width)
    assert len(lines) <= LINES + (12 if width < 100 else 0)
    assert max(map(len, lines)) <= width
    places = [next(number for number, line in enumerate(lines) if part in line) for part in PARTS]
    assert places == sorted(places)


def test_what_is_folded_is_said() -> None:
    text = "\n".join(lines_of(long_prompt(large(header()))))
    assert "tokens not shown …" in text
    assert "lines not shown …" in text
    assert "3,112 prompt tokens" in text
    assert "… 5 more rows" in "\n".join(lines_of(header(rows=9)))


def test_a_module_tree_that_fits_is_whole() -> None:
    run = header()
    tree = "M(\n  (a): A(\n    (b): B()\n  )\n  (c): C()\n)"
    lines = lines_of(run.model_copy(update={"model": run.model.model_copy(update={"tree": tree})}))
    start = next(number for number, line in enumerate(lines) if "module tree" in line)
    assert [line.strip() for line in lines[start + 1 : start + 5]] == [
        "│ M(",
        "│   (a): A(",
        "│     (b): B())",
        "│   (c): C())",
    ]


def test_what_is_particular_to_a_run_is_said_with_its_meaning() -> None:
    run = header().model_copy(update={"embedded": 5, "cached": 3})
    text = "\n".join(lines_of(run))
    assert "embeddings 5 positions  given in place of token ids" in text
    assert "filled cache 3 positions  in it before this run" in text


def test_a_short_prompt_is_whole() -> None:
    text = "\n".join(lines_of(header()))
    assert "not shown" not in text
