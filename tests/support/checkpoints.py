"""Tiny checkpoint folders for tests of the whole program."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from tests.support.models import EOS, VOCAB, tiny_model
from tracer.library.release import RELEASES, installed_release

TEMPLATE = (
    "{% for message in messages %}<s> {{ message['role'] }} {{ message['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<s> assistant {% endif %}"
)


def tiny_tokenizer(*, chat_template: bool = True) -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the vocabulary of the tiny models."""
    words = ["<pad>", "<s>", "system", "user", "assistant", *(f"w{index}" for index in range(5, EOS)), "</s>"]
    assert len(words) == VOCAB
    core = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="w5"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="w5",
        chat_template=TEMPLATE if chat_template else None,
        model_input_names=["input_ids", "attention_mask"],
    )


TINY = "llama" if installed_release() is RELEASES[-1] else "qwen2"
"""The architecture of a checkpoint: since 5.0 the tokenizer of every Qwen2 is replaced by Qwen's own."""


def tiny_checkpoint(folder: Path, name: str = TINY, *, chat_template: bool = True) -> Path:
    """Write a random model and its tokenizer.

    Args:
        folder: where to; made if missing.
        name: a key of ``CONFIGS``.
        chat_template: whether the tokenizer has one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in _checkpoint(name, chat_template).items():
        (folder / file).write_bytes(content)
    return folder


@functools.cache
def _checkpoint(name: str, chat_template: bool) -> Mapping[str, bytes]:
    """The files of a checkpoint, which take longer to make than to write again."""
    model = tiny_model(name)
    model.generation_config.eos_token_id = EOS
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tiny_tokenizer(chat_template=chat_template).save_pretrained(folder)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}
