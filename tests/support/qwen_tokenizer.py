"""The real Qwen2 tokenizer, rebuilt from the ranks that the ``dashscope`` wheel carries."""

from __future__ import annotations

import base64
import itertools
import json
import tempfile
from pathlib import Path

from transformers import Qwen2TokenizerFast
from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

from tests.support.network import missing
from tracer.errors import ModelLoadError
from tracer.loading.fetch import WheelFile, fetch_wheel_file
from tracer.loading.progress import SilentProgress

_RANKS = WheelFile(
    package="dashscope",
    version="2.0.2",
    wheel_sha256="0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258",
    wheel_bytes=2_425_551,
    path="dashscope/resources/qwen.tiktoken",
    sha256="b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186",
)

_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def qwen_tokenizer(cache: Path) -> Qwen2TokenizerFast:
    """The tokenizer, made once.

    Args:
        cache: an existing folder that is kept between test runs.
    """
    if not (cache / "merges.txt").is_file():
        _write_vocabulary(cache)
    tokenizer = Qwen2TokenizerFast(str(cache / "vocab.json"), str(cache / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def _write_vocabulary(cache: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            source = fetch_wheel_file(_RANKS, Path(folder), SilentProgress())
        except ModelLoadError as error:
            missing(str(error))
        lines = source.read_text().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    letters = bytes_to_unicode()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = [_parts(token, rank, ranks) for token, rank in ranks.items() if len(token) > 1]
    vocabulary = {spelled(token): rank for token, rank in ranks.items()}
    (cache / "vocab.json").write_text(json.dumps(vocabulary))
    (cache / "merges.txt").write_text("\n".join(f"{spelled(a)} {spelled(b)}" for a, b in merges))


def _parts(token: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts that merge into a token: what byte-pair encoding gives when its own merge is left out."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        candidates = ((ranks.get(a + b, rank), i) for i, (a, b) in enumerate(itertools.pairwise(parts)))
        best, index = min(candidates)
        assert best < rank, token
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return parts[0], parts[1]
