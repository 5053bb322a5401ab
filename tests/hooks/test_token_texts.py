"""Texts of ids, also of those that a tokenizer cannot spell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertTokenizer, GPT2Tokenizer, GPT2TokenizerFast

from hooks.token_texts import TokenTexts
from tests.support.models import GREEDY, VOCAB, batch, generate, tiny_model
from tracer import open_trace, trace


def gpt2(folder: Path, kind: type[Any], words: int = 50) -> Any:
    """A byte-level tokenizer of few words; the model has more ids."""
    vocabulary = {f"w{number}": number for number in range(words - 1)} | {"<|endoftext|>": words - 1}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return kind(str(folder / "vocab.json"), str(folder / "merges.txt"))


def bert(folder: Path) -> Any:
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\nw2\nw3\n")
    return BertTokenizer(str(folder / "vocab.txt"))


class Raising:
    """A tokenizer of somebody's own that knows one id."""

    def convert_ids_to_tokens(self, token: int) -> str:
        return ["w0"][token]

    def decode(self, ids: list[int], **options: object) -> str:
        return " ".join(["w0"][token] for token in ids)


@pytest.mark.parametrize("kind", [GPT2Tokenizer, GPT2TokenizerFast])
def test_an_id_beyond_the_vocabulary_has_no_text(kind: type[Any], tmp_path: Path) -> None:
    texts = TokenTexts(gpt2(tmp_path, kind))
    found = {text.id: text for text in texts.new([3, 60, 2**40])}
    assert (found[3].text, found[3].piece) == ("w3", "w3")
    for unknown in (60, 2**40):
        assert (found[unknown].text, found[unknown].piece, found[unknown].spelled) == ("", "", False)
    assert texts.decode([3, 60, 4]) == "w3w4"


def test_other_tokenizers(tmp_path: Path) -> None:
    unknown, known = TokenTexts(bert(tmp_path)).new([1, 90])
    assert (unknown.piece, known.piece) == ("[UNK]", "")
    own = TokenTexts(Raising())
    assert [text.piece for text in own.new([0, 5])] == ["w0", ""]
    assert own.decode([0, 5, 0]) == "w0 w0"


@pytest.mark.parametrize("kind", [GPT2Tokenizer, GPT2TokenizerFast])
def test_no_step_is_lost_by_an_id_without_a_text(kind: type[Any], tmp_path: Path) -> None:
    def raised(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        changed = scores.clone()
        changed[:, VOCAB - 1] += 1000
        return changed

    model, tokenizer = tiny_model(), gpt2(tmp_path, kind)
    with trace(model, tokenizer, tmp_path / "run.trace") as session:
        generate(model, batch(), logits_processor=[raised], eos_token_id=None, **GREEDY)
    assert session.failure is None
    with open_trace(tmp_path / "run.trace") as recording:
        run = recording.runs[0]
        assert run.complete
        choices = [step.choice() for step in run.steps]
        assert [choice.token for choice in choices if choice] == [VOCAB - 1] * 6
        assert not run.tokens[VOCAB - 1].spelled
