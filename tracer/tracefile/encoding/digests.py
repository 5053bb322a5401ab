"""Digests that tell whether a row is what was written."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping
from hashlib import blake2b
from typing import TypeAlias

from tracer.schema.run import TokenText

DIGEST_SIZE = 8
_HEAD = struct.Struct("<cq").pack
_LONG = 1 << 14

Buffer: TypeAlias = "bytes | memoryview"


def digest(*parts: Buffer | str | int | None) -> bytes:
    """BLAKE2b-64 over a sequence of values.

    Each value is preceded by its kind and length, so that moving a byte from one to the next is detected.
    It detects damage; it is not a signature and proves nothing about who wrote a file.

    Args:
        parts: the values in order; integers of at most 64 bits.
    """
    state = blake2b(digest_size=DIGEST_SIZE)
    # Short values are joined first: an update each would cost more than hashing them does.
    short: list[Buffer] = []
    for part in parts:
        if part is None:
            short.append(b"-")
        elif isinstance(part, int):
            short.append(_HEAD(b"n", part))
        else:
            data = part.encode() if isinstance(part, str) else part
            short.append(_HEAD(b"d", len(data)))
            if len(data) < _LONG:
                short.append(data)
            else:
                state.update(b"".join(short))
                state.update(data)
                short.clear()
    state.update(b"".join(short))
    return state.digest()


def token_digest(token: TokenText) -> bytes:
    """Digest of a row of the table ``token``."""
    return digest(token.id, token.text, token.piece, int(token.special))


def meta_digest(version: int, rows: Mapping[str, str]) -> str:
    """Digest of the table ``meta`` as it is stored there, in hex.

    Args:
        version: of the format.
        rows: values by key, without the digest itself.
    """
    return digest(version, *itertools.chain.from_iterable(sorted(rows.items()))).hex()


class DigestChain:
    """A digest over the digests of a run's steps in order; a missing or replaced step changes it.

    Args:
        start: digest of the run's header.
    """

    def __init__(self, start: bytes) -> None:
        self._state = blake2b(start, digest_size=DIGEST_SIZE)

    def add(self, step_digest: bytes) -> None:
        """Append the digest of the next step."""
        self._state.update(step_digest)

    def value(self) -> bytes:
        """The digest so far."""
        return self._state.digest()
