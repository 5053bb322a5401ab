"""The fingerprint of the weights: the same for the same weights anywhere, another for others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hooks.loop import weights
from hooks.loop.weights import fingerprint
from hooks.native import compiled
from tests.support.models import DEVICE, batch, tiny_model
from tracer import open_trace, trace


def test_it_is_the_same_for_the_same_weights() -> None:
    model, again = tiny_model(), tiny_model()
    found = fingerprint(model)
    assert found == fingerprint(again)
    assert found.digest is not None
    assert found.not_taken is None
    assert found.parameters == len(list(model.parameters()))
    assert found == fingerprint(model.to("cpu"))


def large(columns: int = 300) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(columns, 400), nn.Linear(400, columns)).to(DEVICE)


def test_large_parameters_are_sampled_all_over() -> None:
    model = large()
    before = fingerprint(model)
    assert before.elements < 2000
    rows, columns = set(), set()
    for place in weights._places(300 * 400, torch.device("cpu")).tolist():
        rows.add(place // 300)
        columns.add(place % 300)
    assert len(rows) > 60
    assert len(columns) > 60
    left, right = torch.full((400, 1), 1e-3, device=DEVICE), torch.ones(1, 300, device=DEVICE)
    model.get_parameter("0.weight").data.add_(left @ right)  # as a merged adapter of rank 1
    assert fingerprint(model).digest != before.digest


@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_one_element_of_a_small_parameter_counts(name: str) -> None:
    model = tiny_model()
    before = fingerprint(model)
    model.get_parameter(name).data.reshape(-1)[-1] += 1
    assert fingerprint(model).digest != before.digest


def test_names_dtypes_and_layout_in_memory() -> None:
    model = large()
    before = fingerprint(model)
    turned = large()
    turned.get_submodule("0").weight = nn.Parameter(
        turned.get_parameter("0.weight").detach().t().contiguous().t()
    )
    assert not turned.get_parameter("0.weight").is_contiguous()
    assert fingerprint(turned) == before
    assert fingerprint(large().to(torch.bfloat16)).digest not in (None, before.digest)
    assert fingerprint(nn.ModuleDict({"a": model})).digest != before.digest


class Packed(nn.Parameter):
    """As a quantised parameter is."""


def test_where_it_is_not_taken_it_says_why() -> None:
    offloaded, packed, quantised, empty = large(), large(), tiny_model(), large()
    offloaded.get_submodule("1").to("meta")
    packed.get_submodule("0").weight = Packed(packed.get_parameter("0.weight").detach())
    quantised.is_quantized = True
    empty.get_submodule("0").weight = nn.Parameter(torch.empty(0))
    for model, reason in (
        (offloaded, "1.weight is offloaded, its values are not in memory"),
        (packed, "0.weight is a Packed, not a plain tensor"),
        (quantised, "the model is quantised"),
        (empty, "0.weight is not dense, or empty"),
    ):
        found = fingerprint(model)
        assert (found.digest, found.not_taken) == (None, reason)


DTYPES = (
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.float8_e4m3fn,
)
sizes = st.lists(st.integers(1, 90), min_size=0, max_size=3)


def parameter(dtype: torch.dtype, size: list[int], kind: str, seed: int) -> torch.Tensor:
    count = math.prod(size) * torch.empty((), dtype=dtype).itemsize
    values = torch.randint(0, 2, (count,), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    found = values.view(dtype).reshape(size)
    if kind == "turned":
        found = found.mT.contiguous().mT if found.dim() > 1 else found
    if kind == "inner":
        found = torch.stack([found, found], -1)[..., 1]
    if kind == "conjugated" and dtype.is_complex:
        found = found.conj()
    return found if kind == "plain" else nn.Parameter(found, requires_grad=dtype.is_floating_point)


@pytest.mark.skipif(compiled._native is None, reason="built without a C compiler")
@given(
    specs=st.lists(
        st.tuples(
            st.sampled_from(DTYPES),
            sizes,
            st.sampled_from(["parameter", "plain", "turned", "inner", "conjugated"]),
            st.integers(0, 3),
        ),
        max_size=4,
    )
)
def test_compiled_code_reads_what_torch_does(specs: list[Any]) -> None:
    parameters = {str(place): parameter(*spec) for place, spec in enumerate(specs)}
    found = fingerprint(nn.Module(), parameters)
    with mock.patch.object(compiled, "_native", None):
        assert fingerprint(nn.Module(), parameters) == found
    # torch takes no elements of a large tensor of float8
    large = [spec for spec in specs if spec[0] is torch.float8_e4m3fn and math.prod(spec[1]) > weights.WHOLE]
    assert (found.digest is None) is bool(large)


@pytest.mark.parametrize("part", [slice(200), slice(100, 300), slice(9000), slice(5000, 15000)])
def test_a_parameter_whose_storage_was_freed_is_not_read(part: slice) -> None:
    flat = torch.ones(20000, device=DEVICE)
    parameters = {"shard": nn.Parameter(flat[part])}
    assert fingerprint(nn.Module(), parameters).digest is not None
    flat.untyped_storage().resize_(0)
    assert fingerprint(nn.Module(), parameters).not_taken == "shard has no memory at present"


def test_what_compiled_code_does_not_read() -> None:
    small = torch.ones(3)
    left = (
        Packed(small),
        small.to("meta"),
        small.to_sparse(),
        torch.ones(3, 2).T,
        torch.ones(9)[3:],
        torch.ones(3, dtype=torch.complex64),
        torch.ones([1] * 9),
        "text",
    )
    assert compiled.samples([*left], 8, 2, 1) == [None] * len(left)  # type: ignore[list-item]
    if compiled._native is not None:
        assert compiled.samples([small, nn.Parameter(small)], 8, 2, 1) == [small.numpy().tobytes()] * 2
        for wrong in (([small], 2, 3, 1), ([small], 8, 0, 1)):
            with pytest.raises(ValueError, match="sample"):
                compiled.samples(*wrong)
        with pytest.raises(TypeError):
            compiled._native.samples("text", 8, 2, 1)


def test_a_fault_is_a_reason_and_no_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("no values")

    monkeypatch.setattr(weights, "_taken", broken)
    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace") as session:
        model.generate(**batch(1), max_new_tokens=2, pad_token_id=0)
    assert session.faults == ()
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.header.weights is not None
        assert "RuntimeError: no values" in (recording.header.weights.not_taken or "")


def test_it_reads_what_is_there_when_a_run_begins(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace"):
        model.generate(**batch(1), max_new_tokens=2, pad_token_id=0)
        model.lm_head.weight.data.mul_(2)
        model.generate(**batch(1), max_new_tokens=2, pad_token_id=0)
    with open_trace(tmp_path / "run.trace") as recording:
        first, second = (run.header.weights for run in recording.runs)
    assert first is not None
    assert second is not None
    assert first.digest != second.digest
