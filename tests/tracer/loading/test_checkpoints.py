"""A checkpoint that does not fit its model is refused by name, or allowed and then recorded."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.support.checkpoints import TINY, tiny_checkpoint
from tests.support.command import Ended, call_main
from tracer import open_trace

RUN = ("--prompt", "w10 w11", "--max-new-tokens", "2", "--greedy")
Weights = dict[str, torch.Tensor]
Change = Callable[[Weights], Weights]


def without_a_layer(weights: Weights) -> Weights:
    return {name: weight for name, weight in weights.items() if "layers.1." not in name}


def renamed(weights: Weights) -> Weights:
    return {name.replace("model.", "mdl."): weight for name, weight in weights.items()}


def with_another(weights: Weights) -> Weights:
    return {**weights, "model.layers.9.mlp.up_proj.weight": torch.zeros(2, 2)}


def misshapen(weights: Weights) -> Weights:
    return {**weights, "model.layers.0.mlp.up_proj.weight": torch.zeros(7, 7)}


LAYER = {"qwen2": 12, "llama": 9}[TINY]
"""Weights of a layer; Qwen2 has three biases."""

CHANGES: dict[Change, str] = {
    without_a_layer: f"{LAYER} weights are missing, and would be random (model.layers.1.",
    renamed: "unknown to the model (mdl.embed_tokens.weight",
    with_another: "1 weight is unknown to the model (model.layers.9.mlp.up_proj.weight)",
    misshapen: "of another shape (model.layers.0.mlp.up_proj.weight is [7, 7], [64, 32] in the model)",
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("sound") / "tiny")


@pytest.fixture
def changed(sound: Path, tmp_path: Path) -> Callable[[Change], Path]:
    def make(change: Change) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(sound, folder)
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, {"format": "pt"})
        return folder

    return make


def refused(ended: Ended, code: int, *words: str) -> None:
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    for word in words:
        assert word in ended.stderr


@pytest.mark.parametrize("device_map", ["cpu", "auto"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_weights_are_named(
    change: Change,
    device_map: str,
    changed: Callable[[Change], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, out = changed(change), tmp_path / "run.trace"
    done = call_main(capsys, *RUN, "--model", folder, "--out", out, "--device-map", device_map)
    refused(done, 3, CHANGES[change])
    assert not out.exists()


@pytest.mark.parametrize("change", [without_a_layer, with_another, misshapen], ids=lambda each: each.__name__)
def test_what_was_allowed_is_recorded_and_shown(
    change: Change, changed: Callable[[Change], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = changed(change), tmp_path / "run.trace"
    done = call_main(capsys, *RUN, "--model", folder, "--out", out, "--allow-damaged")
    assert done.returncode == 0, done.stderr
    name = "model.layers.9" if change is with_another else "model.layers."
    with open_trace(out) as recording:
        faults = recording.header.model.checkpoint_faults
        assert faults is not None
        found = (*faults.missing, *faults.unexpected, *faults.mismatched)
        assert found
        assert all(key.startswith(name) for key in found)
        page, hidden = recording.to_html(), recording.to_html(redact=True)
    assert page
    assert hidden
    shown = call_main(capsys, "show", out, "--steps", "none").stdout
    for text in (done.stdout, shown):
        assert "! " in text
        assert found[0].split()[0] in text


def test_a_sound_checkpoint_has_no_faults(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.trace"
    done = call_main(capsys, *RUN, "--model", sound, "--out", out, "--allow-damaged", "--quiet")
    assert done.returncode == 0, done.stderr
    with open_trace(out) as recording:
        assert recording.header.model.checkpoint_faults is None
        assert recording.header.model.adapters == ()


@pytest.mark.parametrize("text", ['{"top_k": 5,\n "top_p": }', "[1, 2]", "", '{"a": "\udcff"}'])
def test_generation_settings_that_cannot_be_read(
    text: str, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "changed", tmp_path / "run.trace"
    shutil.copytree(sound, folder)
    (folder / "generation_config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(
        call_main(capsys, *RUN, "--model", folder, "--out", out),
        3,
        "generation_config.json",
        "--allow-damaged",
    )
    assert not out.exists()


def test_generation_settings_that_were_allowed_to_be_unreadable(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "changed", tmp_path / "run.trace"
    shutil.copytree(sound, folder)
    (folder / "generation_config.json").write_text("{")
    done = call_main(capsys, *RUN, "--model", folder, "--out", out, "--allow-damaged")
    assert done.returncode == 0, done.stderr
    assert "! generation settings" in done.stdout
    with open_trace(out) as recording:
        faults = recording.header.model.checkpoint_faults
        assert faults is not None
        assert faults.generation_config is not None


@pytest.fixture(scope="module")
def adapter(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "lora"
    config = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], task_type=TaskType.CAUSAL_LM, init_lora_weights=False
    )
    torch.manual_seed(0)
    get_peft_model(AutoModelForCausalLM.from_pretrained(sound), config).save_pretrained(folder)
    return folder


def answer(capsys: pytest.CaptureFixture[str], model: Path, out: Path) -> str:
    done = call_main(capsys, *RUN, "--max-new-tokens", "8", "--model", model, "--out", out, "--quiet")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_folder_of_an_adapter_is_a_model(
    sound: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.trace"
    assert answer(capsys, adapter, out) != answer(capsys, sound, tmp_path / "plain.trace")
    with open_trace(out) as recording:
        (found,) = recording.header.model.adapters
        assert (found.name, found.kind, found.rank, found.base) == ("default", "LORA", 4, str(sound))
        assert recording.header.model.name == str(adapter)
    assert "LORA, rank 4" in call_main(capsys, "show", out, "--steps", "none").stdout


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_adapter_with_other_weights(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(adapter, folder)
    file = folder / "adapter_model.safetensors"
    save_file({name.replace("q_proj", "qq"): weight for name, weight in load_file(file).items()}, file)
    refused(call_main(capsys, *RUN, "--model", folder), 3, "q_proj.lora_A", "unknown to the model")


@pytest.mark.reference_only(
    "the installed peft hands a tuned prompt's cache over as this transformers takes it"
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_tuned_prompt_is_an_adapter(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4)
    get_peft_model(AutoModelForCausalLM.from_pretrained(sound), config).save_pretrained(tmp_path / "prompt")
    answer(capsys, tmp_path / "prompt", tmp_path / "run.trace")


def test_adapters_that_cannot_be_loaded(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def based_on(name: str, base: object) -> Path:
        (tmp_path / name).mkdir()
        settings = {
            **json.loads((adapter / "adapter_config.json").read_text()),
            "base_model_name_or_path": base,
        }
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(settings))
        return tmp_path / name

    refused(call_main(capsys, *RUN, "--model", based_on("none", None)), 3, "which model it was made for")
    refused(call_main(capsys, *RUN, "--model", based_on("gone", "/gone")), 3, "base model", "no such folder")
    circle = based_on("circle", str(tmp_path / "circle"))
    refused(call_main(capsys, *RUN, "--model", circle), 3, "adapter itself")
    base = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    refused(call_main(capsys, *RUN, "--model", based_on("bare", base)), 3, "no weights")
    monkeypatch.setitem(sys.modules, "peft", None)
    refused(call_main(capsys, *RUN, "--model", adapter), 3, "pip install peft")
