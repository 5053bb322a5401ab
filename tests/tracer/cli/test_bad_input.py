"""Bad input gives one clear line and its exit code, before anything is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Protocol

import pytest
from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import Ended, call_main, trace_generate
from tracer.library.release import installed_release

PROMPT = ("--prompt", "w10")


def ended(done: CompletedProcess[str]) -> Ended:
    return Ended(done.returncode, done.stdout, done.stderr)


class OneLine(Protocol):
    def __call__(self, code: int, words: Sequence[str], *arguments: str | Path) -> None: ...


def check(ended: Ended, code: int, words: Sequence[str]) -> None:
    lines = ended.stderr.strip().splitlines()
    assert ended.returncode == code, ended.stderr
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("trace-generate: ")
    for word in words:
        assert word in lines[0]
    assert ended.stdout == ""


@pytest.fixture
def one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> OneLine:
    # The variable CUDA_VISIBLE_DEVICES means nothing to a process that has used a GPU.
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)

    def run(code: int, words: Sequence[str], *arguments: str | Path) -> None:
        check(call_main(capsys, *arguments), code, words)

    return run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_prompts(one_line: OneLine, tmp_path: Path) -> None:
    messages = write(tmp_path / "m.json", json.dumps([{"role": "user", "content": "hi"}]))
    broken = write(tmp_path / "broken.json", '[{"role": "user",\n "content": }]')
    one_line(2, ["empty"], "--prompt", "  ")
    one_line(2, ["--prompt"], "run")
    one_line(2, ["not both"], *PROMPT, "--messages", messages)
    one_line(2, ["line 2", "column"], "--messages", broken)
    one_line(2, ["list of messages"], "--messages", write(tmp_path / "x.json", '{"a": 1}'))
    one_line(2, ["message 1"], "--messages", write(tmp_path / "y.json", '[{"role": 1}]'))
    one_line(2, ["missing.txt"], "--prompt-file", tmp_path / "missing.txt")
    one_line(2, ["cannot be read"], "--prompt-file", tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    one_line(2, ["UTF-8"], "--prompt-file", tmp_path / "latin.txt")


def test_options(one_line: OneLine) -> None:
    one_line(2, ["--steps"], *PROMPT, "--steps", "0")
    one_line(2, ["ends before"], *PROMPT, "--steps", "5-2")
    one_line(2, ["KEY=VALUE"], *PROMPT, "--gen", "nonsense")
    one_line(2, ["temperature"], *PROMPT, "--gen", "temprature=1")
    one_line(2, ["at least 1"], *PROMPT, "--max-new-tokens", "0")
    one_line(2, ["--no-such-option"], *PROMPT, "--no-such-option")
    one_line(2, ["nonsense"], "nonsense")
    one_line(2, ["exclude"], *PROMPT, "--quiet", "--json")


@pytest.mark.parametrize(
    "setting", ["constraints=[3]", "force_words_ids=[3]", "force_words_ids=[]", "force_words_ids=[[]]"]
)
def test_constraints_that_are_none_are_refused_before_loading(one_line: OneLine, setting: str) -> None:
    one_line(2, [f"--gen {setting.partition('=')[0]}"], *PROMPT, "--model", "./none", "--gen", setting)


def test_models(one_line: OneLine, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    T5ForConditionalGeneration(
        T5Config(vocab_size=10, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    ).save_pretrained(tmp_path / "t5")
    BertModel(
        BertConfig(
            vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        )
    ).save_pretrained(tmp_path / "bert")
    one_line(3, ["no such folder"], *PROMPT, "--model", "./none")
    one_line(3, ["config.json"], *PROMPT, "--model", empty)
    one_line(3, ["not found"], *PROMPT, "--model", "somebody/unknown-model")
    one_line(4, ["T5ForConditionalGeneration", "encoder-decoder"], *PROMPT, "--model", tmp_path / "t5")
    one_line(4, ["BertModel"], *PROMPT, "--model", tmp_path / "bert")


def test_damaged_checkpoints(one_line: OneLine, checkpoint: Path, tmp_path: Path) -> None:
    bare = tiny_checkpoint(tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    one_line(3, ["no weights"], *PROMPT, "--model", bare)
    (bare / "model.safetensors").write_bytes(b"\0" * 100)
    one_line(3, ["cannot be loaded"], *PROMPT, "--model", bare)
    untokenized = tiny_checkpoint(tmp_path / "untokenized")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (untokenized / name).unlink()
    one_line(3, ["tokenizer"], *PROMPT, "--model", untokenized)


def test_devices_and_attention(one_line: OneLine, checkpoint: Path) -> None:
    one_line(6, ["CUDA"], *PROMPT, "--model", checkpoint, "--device-map", "cuda:0")
    one_line(2, ["--device-map"], *PROMPT, "--model", checkpoint, "--device-map", "moon")
    one_line(2, ["--dtype"], *PROMPT, "--model", checkpoint, "--dtype", "int3")
    one_line(2, ["--attn psychic"], *PROMPT, "--model", checkpoint, "--attn", "psychic")


def test_prompt_longer_than_the_model(one_line: OneLine, checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    small = tiny_checkpoint(tmp_path / "small")
    write(small / "config.json", json.dumps({**config, "max_position_embeddings": 16}))
    one_line(2, ["16 positions"], "--prompt", "w10 " * 20, "--model", small, "--out", tmp_path / "a.trace")
    assert not (tmp_path / "a.trace").exists()


def test_outputs(one_line: OneLine, checkpoint: Path, tmp_path: Path) -> None:
    existing = write(tmp_path / "old.trace", "mine")
    one_line(5, ["--force"], *PROMPT, "--model", checkpoint, "--out", existing)
    assert existing.read_text() == "mine"
    one_line(5, ["no"], *PROMPT, "--model", checkpoint, "--out", tmp_path / "no" / "a.trace")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(one_line: OneLine, checkpoint: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    one_line(5, ["a.trace"], *PROMPT, "--model", checkpoint, "--out", tmp_path / "a.trace")


@pytest.mark.slow
def test_package_index_out_of_reach(tmp_path: Path) -> None:
    # Port 9 of this machine refuses every connection at once.
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}
    isolated = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
    cache = {"TRACE_GENERATE_CACHE": str(tmp_path)}
    check(ended(trace_generate(*PROMPT, variables={**cache, **nowhere, **isolated})), 3, ["--model", "index"])
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_wrong_transformers_version(
    one_line: OneLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A distribution of that name earlier on the path is what importlib.metadata finds first.
    fake = tmp_path / "transformers-4.45.0.dist-info"
    fake.mkdir()
    write(fake / "METADATA", "Metadata-Version: 2.1\nName: transformers\nVersion: 4.45.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    installed_release.cache_clear()
    try:
        one_line(4, ["4.44.2", "4.45.0"], *PROMPT, "--model", "x/y")
    finally:
        installed_release.cache_clear()


def test_traces(one_line: OneLine, tmp_path: Path) -> None:
    one_line(8, ["none.trace"], "show", tmp_path / "none.trace")
    one_line(8, ["text.trace"], "show", write(tmp_path / "text.trace", "hello"))
    one_line(8, [str(tmp_path)], "info", tmp_path)
