from __future__ import annotations

import numpy as np

from reports.view.blocks import LayerTable, Range
from reports.view.layers import WHOLE_MODEL, layer_table
from tests.reports.records import header, steps
from tracer.schema.calls import CallLayout, CallShape
from tracer.schema.columns import ModuleColumns
from tracer.schema.run import ModuleInfo
from tracer.schema.step import Step
from tracer.schema.tensors import TensorInfo


def table(
    calls: list[tuple[str, str, tuple[int, ...]]],
    *,
    uncalled: tuple[str, ...] = (),
    statistics: bool = True,
    devices: dict[int, str] | None = None,
) -> LayerTable:
    """The table of calls given as module name, class and output shape."""
    names = list(dict.fromkeys([*(name for name, _, _ in calls), *uncalled]))
    classes = {name: class_name for name, class_name, _ in calls}
    shapes = {
        index: CallShape(
            inputs=(),
            outputs=(TensorInfo(shape=shape, dtype="float32", device=(devices or {}).get(index, "cpu")),),
        )
        for index, (_, _, shape) in enumerate(calls)
    }
    size = len(calls)
    column = np.arange(size, dtype=np.float32)
    step = Step(
        head=steps(header(), 1)[0].head,
        scores=None,
        modules=ModuleColumns(
            shapes=np.arange(size, dtype=np.int32),
            mean=column,
            std=column,
            low=-column,
            high=column,
            nonfinite=np.full(size, 0 if statistics else -1, dtype=np.int32),
        ),
        layout=CallLayout(
            modules=tuple(names.index(name) for name, _, _ in calls),
            not_called=tuple(names.index(name) for name in uncalled),
        ),
        shapes=shapes,
    )
    found = layer_table([ModuleInfo(name=n, class_name=classes.get(n, "Module")) for n in names], step)
    assert found is not None
    return found


def layer(number: int, width: int = 8) -> list[tuple[str, str, tuple[int, ...]]]:
    prefix = f"model.layers.{number}"
    return [(f"{prefix}.mlp", "MLP", (1, 4, width)), (prefix, "Layer", (1, 4, width))]


def test_equal_layers_share_a_line_and_their_insides_too() -> None:
    found = table(
        [("model.embed", "Embedding", (1, 4, 8)), *layer(0), *layer(1), *layer(2), ("", "LM", (1, 4, 9))]
    )
    assert [row.name for row in found.rows] == ["model.embed", "model.layers.0\u20132", WHOLE_MODEL]
    row = found.rows[1]
    assert (row.calls, row.outputs, row.class_name) == (3, "[1, 4, 8]", "Layer")
    assert [(child.name, child.calls) for child in row.children] == [("mlp", 3)]


def test_a_layer_of_another_shape_or_device_gets_its_own_line() -> None:
    found = table([*layer(0), *layer(1, 16), *layer(2)])
    assert [row.name for row in found.rows] == ["model.layers.0", "model.layers.1", "model.layers.2"]
    found = table([*layer(0), *layer(1)], devices={2: "cuda:0", 3: "cuda:0"})
    assert [(row.name, row.device) for row in found.rows] == [
        ("model.layers.0", "cpu"),
        ("model.layers.1", "cuda:0"),
    ]


def test_statistics_become_ranges_over_the_layers() -> None:
    row = table([*layer(0), *layer(1)]).rows[0]
    assert row.statistics is not None
    assert row.statistics.mean == Range(1.0, 3.0)
    assert (row.statistics.low, row.statistics.high) == (-3.0, 3.0)


def test_no_statistics() -> None:
    assert all(row.statistics is None for row in table([*layer(0)], statistics=False).rows)


def test_experts_are_folded_and_differing_dimensions_are_ranges() -> None:
    experts = [(f"model.layers.0.mlp.experts.{i}", "Expert", (i + 1, 8)) for i in range(4)]
    found = table([*experts, ("model.layers.0", "Layer", (1, 4, 8))])
    assert [(row.name, row.calls, row.outputs) for row in found.rows[0].children] == [
        ("mlp.experts.*", 4, "[1\u20134, 8]")
    ]


def test_modules_that_were_not_called_are_folded_by_number() -> None:
    uncalled = ("model.layers.0.drop", "model.layers.1.drop", "model.layers")
    assert table([*layer(0)], uncalled=uncalled).not_called == ("model.layers.*.drop (2)", "model.layers")


def test_other_numbered_stacks_and_flat_models() -> None:
    found = table(
        [("transformer.h.0", "Block", (1, 8)), ("transformer.h.1", "Block", (1, 8)), ("0", "Linear", (1,))]
    )
    assert [row.name for row in found.rows] == ["transformer.h.0\u20131", "0"]


def test_calls_that_were_not_recorded() -> None:
    step = steps(header(), 1)[0]
    assert layer_table(header().modules, Step(head=step.head, scores=step.scores)) is None
