"""What is noted of module calls, beyond what the usual models do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hooks.modules.call_notes import CallNotes
from hooks.modules.module_watch import ModuleWatch
from hooks.modules.records import CallDescriber, StepCalls
from hooks.modules.statistics import gather, join, reduce_one
from hooks.tensors import to_host
from tests.support.models import GREEDY, batch, collected, generate, reduced_calls, tiny_model, watching

pytestmark = pytest.mark.usefixtures("both_ways")


def step(watch: ModuleWatch, model: nn.Module, *inputs: Any, early: bool = False, **named: Any) -> StepCalls:
    watch.begin(early=early)
    model(*inputs, **named)
    notes = watch.take()
    assert notes is not None
    assert not notes.errors
    return described(watch, notes)


def described(watch: ModuleWatch, notes: CallNotes) -> StepCalls:
    return CallDescriber(len(watch.modules.infos)).describe(reduced_calls(watch, notes))


def row(watch: ModuleWatch, calls: StepCalls, name: str) -> int:
    """Where the call of a module stands."""
    return [watch.modules.infos[index].name for index in calls.layout.modules].index(name)


def shapes(
    watch: ModuleWatch, calls: StepCalls, name: str
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    shape = calls.shapes[int(calls.columns.shapes[row(watch, calls, name)])]
    return [info.shape for info in shape.inputs], [info.shape for info in shape.outputs]


class Doubled(nn.Module):
    """Returns what the next module then writes to."""

    def forward(self, values: Tensor) -> Tensor:
        return values * 2


class Negated(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.neg_()


def test_an_activation_in_place_keeps_its_statistics(both_ways: str) -> None:
    linear = nn.Linear(4, 4, bias=False)
    nn.init.eye_(linear.weight)
    model = nn.Sequential(linear, nn.ReLU(inplace=True))
    values = torch.linspace(-1, 1, 4).reshape(1, 1, 4)
    expected = model(values).detach()
    with watching(model) as watch:
        for number in range(3):
            calls = step(watch, model, values)
            assert calls.columns.high[row(watch, calls, "1")] == pytest.approx(float(expected.max()))
            # What the linear layer returned was negative in places; once it is over nobody can tell.
            low = calls.columns.low[row(watch, calls, "0")]
            assert np.isnan(low) if number == 0 and both_ways == "plain" else low < 0


def test_an_output_that_is_written_to_later_is_looked_at_in_time_from_then_on(both_ways: str) -> None:
    model = nn.Sequential(Doubled(), Negated())
    with watching(model) as watch:
        first, second = (step(watch, model, torch.ones(1, 1, 3)) for _ in range(2))
        mean = first.columns.mean[row(watch, first, "0")]
        assert np.isnan(mean) if both_ways == "plain" else mean == 2
        assert second.columns.mean[row(watch, second, "0")] == 2
        assert second.columns.mean[row(watch, second, "1")] == -2


def test_outputs_of_inference_mode_are_looked_at_in_time() -> None:
    class Frozen(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            with torch.inference_mode():
                return values + 1

    model = nn.Sequential(Frozen())
    with watching(model) as watch:
        for _ in range(2):
            calls = step(watch, model, torch.ones(1, 1, 3))
            assert calls.columns.mean[row(watch, calls, "0")] == 2


class Table(nn.Module):
    """As rotary embeddings with a table: what comes out grows with the sequence, and is its own buffer's."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("rows", torch.arange(64, dtype=dtype).reshape(32, 2))

    def forward(self, values: Tensor, length: int) -> tuple[Tensor, Tensor]:
        rows: Tensor = self.rows  # type: ignore[assignment]
        return rows[:length], rows[:length]


class Tables(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide, self.again = Table(torch.float32), Table(torch.float64), Table(torch.float32)

    def forward(self, values: Tensor, length: int, extra: Tensor | None = None) -> Tensor:
        for table in (self.narrow, self.wide, self.again):
            table(values, length=length)
        return values


@pytest.mark.parametrize("statistics", [True, False])
def test_shapes_that_grow_are_told_apart(statistics: bool) -> None:
    model = Tables()
    with watching(model, statistics=statistics) as watch:
        for length in (3, 4, 5, 5, 9):
            calls = step(watch, model, values=torch.zeros(1, 1, 2), length=length, early=length == 3)
            for name in ("narrow", "wide", "again"):
                assert shapes(watch, calls, name) == ([(1, 1, 2)], [(length, 2), (length, 2)])
                assert np.isnan(calls.columns.mean[row(watch, calls, name)])  # a table is no activation
            dtypes = {
                name: calls.shapes[int(calls.columns.shapes[row(watch, calls, name)])].outputs[0].dtype
                for name in ("narrow", "wide", "again")
            }
            assert dtypes == {"narrow": "float32", "wide": "float64", "again": "float32"}


@pytest.mark.parametrize("statistics", [True, False])
def test_an_argument_that_comes_and_goes_changes_the_shape(statistics: bool) -> None:
    model = Tables()
    values, extra = torch.zeros(1, 1, 2), torch.zeros(5)
    with watching(model, statistics=statistics) as watch:
        seen = [
            shapes(watch, step(watch, model, values=values, length=2, **named), "")[0]
            for named in ({}, {"extra": extra}, {"extra": None}, {"extra": extra})
        ]
    alone, both = [(1, 1, 2)], [(1, 1, 2), (5,)]
    assert seen == [alone, both, alone, both]


@pytest.mark.parametrize("early", [True, False])
def test_an_output_that_is_stored_is_reduced_once(both_ways: str, early: bool) -> None:
    model = nn.Sequential(Doubled(), Doubled())
    with watching(model, save={1: "modules/1"}) as watch:
        watch.begin(early=early)
        model(torch.arange(3.0).reshape(1, 1, 3))
        notes = watch.take()
        assert notes is not None
        calls = described(watch, notes)
        assert torch.equal(notes.saved["modules/1"], torch.tensor([[[0.0, 2.0, 4.0]]]))
        assert calls.columns.mean[row(watch, calls, "0")] == 2
        assert calls.columns.nonfinite.tolist() == [0, 0, 0]
        # The tape has taken its statistics already, or else it is reduced once, here or at the end.
        reduced = [*notes.early, *notes.deferred.places]
        assert reduced == ([] if both_ways == "compiled" else [0, 1, 2])


@pytest.mark.parametrize("statistics", [True, False])
def test_a_module_that_returns_no_tensor_has_nothing_to_save(statistics: bool) -> None:
    class Silent(nn.Module):
        def forward(self, values: Tensor) -> None:
            return None

    model = nn.Sequential(Doubled(), Silent())
    with watching(model, statistics=statistics, save={1: "modules/1", 2: "modules/2"}) as watch:
        for _ in range(2):
            watch.begin(early=False)
            model(torch.ones(1, 1, 3))
            notes = watch.take()
            assert notes is not None
            assert (list(notes.saved), notes.errors) == (["modules/1"], [])
            assert shapes(watch, described(watch, notes), "1") == ([(1, 1, 3)], [])


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("early", [True, False])
def test_an_output_that_cannot_be_looked_at_costs_no_other_call(statistics: bool, early: bool) -> None:
    class Broken(dict[str, Tensor]):
        def values(self) -> Any:
            raise RuntimeError("no values")

    class Breaking(nn.Module):
        def forward(self, values: Tensor) -> Broken:
            return Broken()

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.broken, self.after = Doubled(), Breaking(), Doubled()

        def forward(self, values: Tensor) -> Tensor:
            self.broken(self.before(values))
            after: Tensor = self.after(values)
            return after

    model = Around()
    with watching(model, statistics=statistics) as watch:
        for _ in range(2):
            watch.begin(early=early)
            model(torch.ones(1, 1, 3))
            notes = watch.take()
            assert notes is not None
            calls = described(watch, notes)
            assert notes.errors == ["broken: RuntimeError: no values"]
            assert [watch.modules.infos[index].name for index in calls.layout.modules] == [
                "before",
                "after",
                "",
            ]


@pytest.mark.parametrize("statistics", [True, False])
def test_shapes_that_never_come_again_are_forgotten(statistics: bool) -> None:
    class Now(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.often, self.once = Doubled(), Doubled()

        def forward(self, values: Tensor) -> Tensor:
            if values.shape[-1] in (1, 999):
                self.once(values[..., :1])
            doubled: Tensor = self.often(values)
            return doubled

    model = Now()
    with watching(model, statistics=statistics) as watch:
        describer = CallDescriber(len(watch.modules.infos))
        for length in (*range(1, 700), 5, 999, 1):
            watch.begin(early=False)
            model(torch.ones(1, 1, length))
            notes = watch.take()
            assert notes is not None
            calls = describer.describe(reduced_calls(watch, notes))
            assert shapes(watch, calls, "often") == ([(1, 1, length)], [(1, 1, length)])
            if length in (1, 999):
                assert shapes(watch, calls, "once") == ([(1, 1, 1)], [(1, 1, 1)])
        assert len(watch._signatures._table) < 200
        assert len(describer._interned._shapes) < 200


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 7, 30_000, 9_000_001])
def test_an_output_alone_is_reduced_as_in_a_stack(size: int, dtype: torch.dtype) -> None:
    values = (torch.randn(size, generator=torch.Generator().manual_seed(size)) * 3 + 100).to(dtype)
    (queued,) = gather({5: reduce_one(values.requires_grad_())})
    assert queued.places == [5]
    alone = queued.complete(to_host(queued.values))[:, 0]
    exact = values.detach().double()
    expected = [exact.mean(), exact.std(correction=0), exact.min(), exact.max()]
    assert alone == pytest.approx([float(each) for each in expected], rel=1e-4, abs=1e-6)
    if size < 1_000_000:  # a long chunk is not reduced in parts, and loses digits
        (joined,) = join([values])
        together = joined.complete(to_host(joined.reduce([values])))[:, 0]
        assert together == pytest.approx(alone, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_outputs_of_many_sizes_are_reduced_together(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [
        (1, 1, 96),
        (1, 1, 32),
        (2, 1, 96),
        (1, 1, 7),
        (1, 1, 96),
        (1, 1, 5),
        (2, 1, 64),
        (),
        (3,),
        (2, 1, 96),
    ]
    tensors = [
        (torch.randn(size, generator=generator) * 2 + 50 * index).to(dtype)
        for index, size in enumerate(sizes)
    ]
    tensors[2] = tensors[2].transpose(0, 2).contiguous().transpose(0, 2)
    before = [tensor.clone() for tensor in tensors]
    joined = join(tensors)
    assert [each.members for each in joined] == [[0, 1, 4], [3], [5], [2, 6, 9], [7], [8]]
    for each in joined:
        found = each.complete(to_host(each.reduce(tensors)))
        for column, index in enumerate(each.members):
            exact = tensors[index].double()
            expected = [exact.mean(), exact.std(correction=0), exact.min(), exact.max()]
            assert found[:, column] == pytest.approx([float(value) for value in expected], rel=1e-5)
    assert all(torch.equal(tensor, old) for tensor, old in zip(tensors, before, strict=True))


def test_what_is_not_finite_stays_with_its_output() -> None:
    tensors = [torch.ones(1, 32), torch.tensor([[1.0, float("nan")] * 16]), torch.ones(1, 64)]
    tensors[2][0, 40] = float("-inf")
    (joined,) = join(tensors)
    mean, deviation, low, high = joined.complete(to_host(joined.reduce(tensors)))
    assert (mean[0], deviation[0], low[0], high[0]) == (1, 0, 1, 1)
    assert np.isnan([mean[1], deviation[1], low[1], high[1], deviation[2]]).all()
    assert (low[2], high[2]) == (-np.inf, 1)


def test_not_too_much_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hooks.modules.statistics._TOGETHER", 100)
    tensors = [torch.ones(1, 48), torch.ones(1, 48), torch.ones(1, 48), torch.ones(1, 200)]
    assert [each.members for each in join(tensors)] == [[0, 1], [2], [3]]


class Strange(nn.Module):
    """Returns an output of its own kind in every call."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.make = output

    def forward(self, values: Tensor) -> Any:
        return self.make(values)


class Wrapper(torch.Tensor):
    """A tensor subclass that holds another tensor, as DTensor does."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapper:
        made: Wrapper = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.held = inner  # type: ignore[attr-defined]
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> Wrapper:
        return Wrapper(inner["held"])

    @classmethod
    def __torch_dispatch__(cls, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    "output",
    [
        lambda values: values.to_sparse(),
        lambda values: values.to_mkldnn(),
        lambda values: values[0, 0, 0].expand(1 << 20, 1 << 20),
        Wrapper,
    ],
    ids=["sparse", "mkldnn", "expanded", "wrapper"],
)
def test_an_output_that_cannot_be_reduced_costs_its_own_statistics(output: Any) -> None:
    model = nn.Sequential(Doubled(), Strange(output), Strange(lambda _: torch.ones(1, 2)))
    with watching(model) as watch:
        for _ in range(2):
            calls = step(watch, model, torch.ones(1, 2, 3))
            nonfinite = {name: calls.columns.nonfinite[row(watch, calls, name)] for name in ("0", "1", "2")}
            assert nonfinite == {"0": 0, "1": -1, "2": 0}


def test_an_output_that_cannot_be_saved_costs_itself() -> None:
    model = tiny_model()
    layer = model.model.layers[0]

    class Sparse(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner
            self.sparse = Strange(lambda values: values.to_sparse())

        def forward(self, values: Tensor) -> Any:
            return self.inner(self.sparse(values).to_dense())

    layer.mlp = Sparse(layer.mlp)
    expected = generate(model, batch(), **GREEDY)
    with collected(model, level="tensors", save=("modules=mlp",)) as run:
        assert torch.equal(generate(model, batch(), **GREEDY).sequences, expected.sequences)
    assert [len(step.head.errors) for step in run.steps] == [1, 0, 0, 0, 0, 0]
    message = run.steps[0].head.errors[0].message
    assert "model.layers.0.mlp.sparse: " in message
    assert "cannot be saved: a tensor of layout sparse_coo" in message


def test_memory_that_is_gone_is_not_read() -> None:
    class Freeing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.halved = Strange(lambda values: (values * 2).half())

        def forward(self, values: Tensor) -> Tensor:
            output: Tensor = self.halved(values)
            output.untyped_storage().resize_(0)
            return values

    model = Freeing()
    with watching(model) as watch:
        for turn in range(3):
            calls = step(watch, model, torch.ones(1, 2, 1 << 16))
            assert calls.columns.nonfinite[row(watch, calls, "halved")] == (0 if turn else -1)
            assert calls.columns.mean[row(watch, calls, "")] == 1


def test_statistics_that_cannot_be_taken_cost_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(ModuleWatch, "queue", full)
    model = tiny_model()
    with collected(model) as run:
        generate(model, batch(), **GREEDY)
    assert len(run.steps) == 6
    assert all(step.scores is not None and step.modules is not None for step in run.steps)
    assert {(each.stop, each.message) for step in run.steps for each in step.head.errors} == {
        ("layers", "RuntimeError: CUDA out of memory")
    }
    assert all(step.layout is not None and len(step.layout.modules) > 20 for step in run.steps)


class Rotated(nn.Module):
    """Writes to what another module returned as a kernel of a library does, where one position goes in."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Doubled()
        self.last = Doubled()
        self.written = 7.0

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.first(values)
        if len(values) == 1:
            found.numpy()[:] = self.written
        last: Tensor = self.last(found)
        return last


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_an_output_that_a_kernel_writes_to_has_the_statistics_of_what_was_returned(
    both_ways: str, dtype: torch.dtype
) -> None:
    model = Rotated()
    with watching(model) as watch:
        with torch.inference_mode():  # nothing is deferred there
            watch.begin(early=False, single=True)
            model(torch.ones(1, 4))
            watch.take()
        found = []
        for length in (2, 1, 1, 1):
            values = torch.arange(4, dtype=dtype).repeat(length, 1)
            watch.begin(early=False, single=length == 1)
            model(values)
            notes = watch.take()
            assert notes is not None
            calls = described(watch, notes)
            at = row(watch, calls, "first"), row(watch, calls, "last")
            found.append([calls.columns.high[place] for place in at])
            assert notes.calls["module"].tolist() == [1, 2, 0]
    at_once = both_ways == "compiled" and dtype == torch.float32
    seen = [6, 14] if at_once else [np.nan, 14]  # the step that finds it out
    np.testing.assert_equal(found, [[6, 12], seen, [6, 14], [6, 14]])
    assert watch.modules.overwritten == (set() if at_once else {1})


def test_an_output_that_was_written_to_is_not_taken_for_one_that_is_not_finite() -> None:
    model = Rotated()
    model.written = 4e4  # doubled it is infinite
    with watching(model) as watch:
        watch.begin(early=False, single=True)
        model(torch.ones(1, 4, dtype=torch.float16))
        notes = watch.take()
        assert notes is not None
        found = reduced_calls(watch, notes)
    assert found.lost == [0]
    assert found.nonfinite.keys() == {1, 2}
