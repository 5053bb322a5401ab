"""Texts of token ids, looked up once each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from tracer.schema.run import TokenText

_BUSY_RETRIES = 50


class TokenTexts:
    """Looks up the text of every id that a recording mentions.

    It runs beside the generation. A fast tokenizer cannot be read while another thread changes its padding or
    truncation ("Already borrowed"); such a look-up is tried again.
    """

    def __init__(self, tokenizer: Any | None) -> None:
        self._tokenizer = tokenizer
        self._known: set[int] = set()
        self._special = set(getattr(tokenizer, "all_special_ids", ()))

    def new(self, ids: Iterable[int]) -> tuple[TokenText, ...]:
        """Texts of the ids that were not asked for before; nothing without a tokenizer.

        Args:
            ids: token ids, repeats and negative fillers allowed.
        """
        if self._tokenizer is None:
            return ()
        fresh = sorted({int(token) for token in ids} - self._known)
        fresh = [token for token in fresh if token >= 0]
        self._known.update(fresh)
        return tuple(self._text(token) for token in fresh)

    def ids_of(self, texts: Iterable[str]) -> tuple[int, ...]:
        """Ids of texts that are one token, alone or after a space; nothing without a tokenizer.

        Args:
            texts: names of tokens as people write them.
        """
        if self._tokenizer is None:
            return ()
        variants = [variant for text in texts for variant in (text, f" {text}")]
        encoded = [self._tokenizer.encode(variant, add_special_tokens=False) for variant in variants]
        return tuple(int(ids[0]) for ids in encoded if len(ids) == 1)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a sequence, special tokens left out; empty without a tokenizer."""
        if self._tokenizer is None:
            return ""
        return self._try(lambda tokenizer: str(tokenizer.decode(ids, skip_special_tokens=True)))

    def _text(self, token: int) -> TokenText:
        piece = self._try(lambda tokenizer: str(tokenizer.convert_ids_to_tokens(token)))
        text = self._try(
            lambda tokenizer: str(
                tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
            )
        )
        # SentencePiece decoders drop the space that a first token stands for.
        if piece.startswith("\u2581") and not text.startswith(" "):
            text = " " + text
        return TokenText(id=token, text=text, piece=piece, special=token in self._special)

    def _try(self, look_up: Any) -> str:
        for attempt in range(1, _BUSY_RETRIES + 1):
            try:
                return str(look_up(self._tokenizer))
            except RuntimeError as error:  # noqa: PERF203 - the usual case is one pass
                if attempt == _BUSY_RETRIES or "borrowed" not in str(error).lower():
                    raise
                time.sleep(0.001)
        return ""
