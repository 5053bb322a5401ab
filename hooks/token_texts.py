"""Texts of token ids, looked up once each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hooks.faults import is_ours
from tracer.schema.run import TokenText

_BUSY_RETRIES = 50


class TokenTexts:
    """Looks up the text of every id that a recording mentions.

    It runs beside the generation. A fast tokenizer cannot be read while another thread changes its padding or
    truncation ("Already borrowed"); such a look-up is tried again.

    A model may have more ids than its tokenizer can spell: embeddings padded to a round number, or ids behind
    the vocabulary. Fast tokenizers answer None for them, slow ones raise whatever their class raises. Such an
    id is recorded without a text, and costs nothing else.
    """

    def __init__(self, tokenizer: Any | None) -> None:
        self._tokenizer = tokenizer
        self._known: set[int] = set()
        self._special = set(getattr(tokenizer, "all_special_ids", ()))

    @property
    def spells(self) -> bool:
        """Whether there is a tokenizer."""
        return self._tokenizer is not None

    def new(self, ids: Iterable[int]) -> tuple[TokenText, ...]:
        """Texts of the ids that were not asked for before; nothing without a tokenizer.

        Args:
            ids: token ids, repeats and negative fillers allowed.

        Returns:
            The texts; an empty one, without a spelling, for an id that the tokenizer cannot spell.
        """
        if not self.spells:
            return ()
        fresh = sorted([int(token) for token in {*ids} - self._known if token >= 0])
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
        """The text of a sequence, special tokens left out; empty without a tokenizer.

        Ids that the tokenizer cannot spell are left out where it refuses a sequence that holds one.
        """
        if self._tokenizer is None:
            return ""
        whole = self._decoded(ids, special=False)
        if whole is None:
            whole = self._decoded([token for token in ids if self._piece(token) is not None], special=False)
        return whole or ""

    def _text(self, token: int) -> TokenText:
        piece = self._piece(token)
        if piece is None:
            return TokenText(id=token, text="", piece="", special=token in self._special)
        text = self._decoded([token], special=True) or ""
        # SentencePiece decoders drop the space that a first token stands for.
        if piece.startswith("\u2581") and not text.startswith(" "):
            text = " " + text
        return TokenText(id=token, text=text, piece=piece, special=token in self._special)

    def _piece(self, token: int) -> str | None:
        """The tokenizer's own spelling of an id; None where it has none."""
        piece = self._try(lambda tokenizer: tokenizer.convert_ids_to_tokens(int(token)))
        if piece is None:
            return None
        # Tokenizers of words spell every id behind their vocabulary as the unknown token.
        unknown = getattr(self._tokenizer, "unk_token", None)
        if piece == unknown and token != getattr(self._tokenizer, "unk_token_id", token):
            return None
        return str(piece)

    def _decoded(self, ids: Sequence[int], *, special: bool) -> str | None:
        """The text of ids, None where the tokenizer refuses them.

        Args:
            ids: the ids.
            special: take them as they are, with special tokens and without tidying up spaces.
        """
        options = {"clean_up_tokenization_spaces": False} if special else {}
        found = self._try(lambda tokenizer: tokenizer.decode(ids, skip_special_tokens=not special, **options))
        return None if found is None else str(found)

    def _try(self, look_up: Callable[[Any], Any]) -> Any | None:
        """What the tokenizer answers, None if it refuses."""
        for _ in range(_BUSY_RETRIES):
            try:
                return look_up(self._tokenizer)
            except Exception as error:  # noqa: PERF203 - the usual case is one pass
                if not is_ours(error):
                    raise
                if not isinstance(error, RuntimeError) or "borrowed" not in str(error).lower():
                    return None
                time.sleep(0.001)
        return None
