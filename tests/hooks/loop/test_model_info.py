"""What the header says of the model and the prompt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig, GPTQConfig, LlavaConfig, Qwen2Config

from hooks.loop import model_info
from reports.view.run.header import header_view
from tests.support.models import DEVICE, batch, collected, generate, tiny_model
from tests.support.synthetic import synthetic_header


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (None, None),
        (GPTQConfig(bits=4), "gptq, 4 bits"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq, 4 bits"),
        (
            {"quant_method": "bitsandbytes", "_load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            "bitsandbytes, 4 bits, nf4",
        ),
        (SimpleNamespace(quant_method="quanto", weights="int8", activations=None), "quanto, int8"),
    ],
)
def test_quantised_weights_are_named(settings: Any, words: str | None) -> None:
    model = tiny_model()
    if settings is not None:
        model.config.quantization_config = settings
        # Only its attributes are read, whether transformers can write it as JSON or not.
        model.config.to_json_string = lambda **_: "{}"
    assert model_info.describe_model(model, None).quantization == words


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.bfloat16, torch.float32])
@given(mask=st.lists(st.lists(st.integers(0, 1), min_size=5, max_size=5), min_size=1, max_size=3))
def test_padding_is_what_the_mask_hides_at_the_left(dtype: torch.dtype, mask: list[list[int]]) -> None:
    ids = torch.ones(len(mask), 5, dtype=torch.int64, device=DEVICE)
    rows = model_info.prompt_rows(ids, torch.tensor(mask, dtype=dtype, device=DEVICE))
    assert [row.padding for row in rows] == [[*row, 1].index(1) for row in mask]
    assert {type(row.padding) for row in rows} == {int}


def test_image_positions_are_in_the_header() -> None:
    ids = torch.tensor([[5, 7, 7, 7, 9, 7], [0, 5, 8, 9, 10, 11]])
    assert model_info.image_id(LlavaConfig(image_token_index=7)) == 7
    assert model_info.image_id(Qwen2Config()) is None
    rows = model_info.prompt_rows(ids, None, 7)
    assert [row.images for row in rows] == [(1, 2, 3, 5), ()]
    assert [row.images for row in model_info.prompt_rows(ids, None)] == [(), ()]
    header = synthetic_header(rows=2).model_copy(update={"prompt": rows})
    shown = {each.name: each.value for each in header_view(header, {}).metadata}
    assert shown["images"] == "row 0: 1 to 3, 5"


@pytest.mark.parametrize(
    ("ids", "texts", "shown"),
    [
        ([[1, 2], [3, 4]], ["a", "b"], ["a", "b"]),
        ([[1, 2]] * 3, ["a"], ["a", "a", "a"]),
        ([[1, 2], [1, 2], [3, 4], [3, 4]], ["a", "b"], ["a", "a", "b", "b"]),
        ([[1, 2], [3, 4]], ["a"], [None, None]),
        ([[1, 2], [1, 2], [3, 4]], ["a", "b"], [None, None, None]),
        ([[1, 2]], ["a", "b"], [None]),
        ([[1, 2]], [], [None]),
        ([[], []], ["a", "b"], ["a", "b"]),
        ([[], []], ["a"], [None, None]),
    ],
)
def test_rows_of_one_prompt_have_its_text(
    ids: list[list[int]], texts: list[str], shown: list[str | None]
) -> None:
    rows = model_info.with_texts(model_info.prompt_rows(torch.tensor(ids), None), texts)
    assert [row.text for row in rows] == shown
    assert [list(row.token_ids) for row in rows] == ids


def test_what_generate_fills_in_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in 5.x, where a bare config has nothing in it."""
    filled_in = {"top_k": 50, "temperature": 1.0, "num_assistant_tokens": 7, "top_h": None}
    monkeypatch.setattr(GenerationConfig, "_get_default_generation_params", lambda: filled_in, raising=False)
    config = GenerationConfig(top_k=50, top_p=0.9, temperature=1.0, num_assistant_tokens=7, do_sample=True)
    config.unheard_of_flag = False
    config.unheard_of_number = 0
    expected = {"do_sample": "True", "top_p": "0.9", "unheard_of_number": "0"}
    assert model_info.settings_in_force(config) == expected


@pytest.mark.parametrize("settings", [{}, {"do_sample": True}], ids=["greedy", "sampling"])
def test_settings_that_nobody_set_are_not_in_force(settings: dict[str, Any]) -> None:
    model = tiny_model()
    with collected(model) as run:
        generate(model, batch(), **settings)
    given = {"bos_token_id", "eos_token_id", "pad_token_id", "max_new_tokens", "max_length"}
    asked = {"output_logits", "return_dict_in_generate", *settings}
    assert {*run.header.generation_config} == given | asked
    assert run.header.do_sample is bool(settings)
