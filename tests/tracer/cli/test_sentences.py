"""What the command line says is what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import MambaConfig, MambaForCausalLM, Qwen2ForCausalLM

from tests.support.checkpoints import tiny_checkpoint, tiny_tokenizer
from tests.support.command import Ended, call_main
from tests.support.models import EOS, VOCAB
from tests.support.network import demo_checkpoint
from tests.tracer.tracefile.samples import write_trace
from tracer import open_trace
from tracer.tracefile import TraceWriter


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


def generate(capsys: pytest.CaptureFixture[str], model: Path, out: Path, *more: str) -> Ended:
    run = ("--prompt", "w10 w11", "--max-new-tokens", "6", "--greedy", "--no-html", "--quiet")
    return call_main(capsys, "--model", model, *run, "--out", out, *more)


def test_a_prompt_may_look_like_an_option(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, prompt in enumerate(("-h", "--help", "--version", "--debug", "show")):
        out = tmp_path / f"{number}.trace"
        run = ("--max-new-tokens", "1", "--no-html", "--quiet", "--no-chat-template", "--out", out)
        done = call_main(capsys, "--prompt", prompt, "--model", checkpoint, *run)
        assert done.returncode == 0, done.stderr
        with open_trace(out) as recording:
            assert recording.header.prompt[0].text == prompt


def test_without_arguments_the_help_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    bare, asked = call_main(capsys), call_main(capsys, "--help")
    assert (bare.returncode, bare.stderr) == (0, "")
    assert bare.stdout == asked.stdout
    assert max(map(len, bare.stdout.splitlines())) <= 100


def test_debug_at_any_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("--debug", "info"), ("info", "--debug")):
        done = call_main(capsys, *arguments, tmp_path / "none.trace")
        assert done.returncode == 8
        assert "Traceback" in done.stderr
    assert "Traceback" not in call_main(capsys, "info", tmp_path / "none.trace").stderr


def test_a_command_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean show?" in call_main(capsys, "shwo", "run.trace").stderr


def test_stop_strings_that_the_tokenizer_cannot_be_searched_for(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = generate(capsys, checkpoint, tmp_path / "a.trace", "--gen", 'stop_strings="w10"')
    assert done.returncode == 2
    assert "generate() refuses these settings" in done.stderr
    assert not (tmp_path / "a.trace").exists()


@pytest.mark.demo
def test_stop_strings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo_checkpoint()
    run = ("--prompt", "Hi.", "--max-new-tokens", "8", "--seed", "1", "--no-html", "--quiet")
    out = tmp_path / "a.trace"
    done = call_main(capsys, *run, "--out", out, "--gen", 'stop_strings=["there"]')
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("there")


def test_a_dictionary_is_an_answer_too(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = generate(capsys, checkpoint, tmp_path / "a.trace")
    wrapped = generate(capsys, checkpoint, tmp_path / "b.trace", "--gen", "return_dict_in_generate=true")
    assert wrapped == plain


def test_a_model_without_an_attention_mask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mamba"
    config = MambaConfig(
        vocab_size=VOCAB, hidden_size=32, state_size=8, num_hidden_layers=2, eos_token_id=EOS
    )
    MambaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    done = generate(capsys, folder, tmp_path / "a.trace")
    assert "refuses" not in done.stderr
    with open_trace(tmp_path / "a.trace") as recording:
        assert recording.steps
    batch = generate(capsys, folder, tmp_path / "b.trace", "--prompt", "w12")
    assert batch.returncode == 2
    assert "MambaForCausalLM takes no attention mask" in batch.stderr
    assert not (tmp_path / "b.trace").exists()


@pytest.mark.parametrize("kind", [ValueError, TypeError])
def test_an_error_of_the_model_is_not_one_of_the_settings(
    kind: type[Exception],
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forward(*_: Any, **__: Any) -> Any:
        raise kind("the mask does not fit")

    monkeypatch.setattr(Qwen2ForCausalLM, "forward", forward)
    done = generate(capsys, checkpoint, tmp_path / "a.trace")
    assert done.returncode == 10
    assert "The model failed in generation" in done.stderr
    assert "the mask does not fit" in done.stderr


def test_what_a_processor_refuses_is_a_setting(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = generate(capsys, checkpoint, tmp_path / "a.trace", "--gen", "bad_words_ids=[[5000]]")
    assert done.returncode == 2
    assert "generate() refuses these settings" in done.stderr


def test_a_file_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    TraceWriter(tmp_path / "run.trace").close()
    done = call_main(capsys, "show", tmp_path / "run.trace")
    assert done.returncode == 2
    assert "holds no run: it ended before a generation began" in done.stderr


@pytest.mark.parametrize("steps", ["99", "1,99", "3-7"])
def test_steps_that_there_are_not(steps: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(tmp_path / "run.trace", 2)
    for command in (["show"], ["whatif", "--top-k", "5", "--no-torch"]):
        done = call_main(capsys, command[0], tmp_path / "run.trace", *command[1:], "--steps", steps)
        assert done.returncode == 2, done.stdout
        assert f"--steps {steps}: the run has 2 steps at most." in done.stderr
    for fine in ("2-99", "all", "none"):
        assert call_main(capsys, "show", tmp_path / "run.trace", "--steps", fine).returncode == 0
