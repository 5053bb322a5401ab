"""Token texts of a trace, read when they are looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tracer.schema.run import TokenText
from tracer.tracefile.encoding.digests import token_digest
from tracer.tracefile.reading.database import Database


class TokenTable(Mapping[int, TokenText]):
    """Texts by token id, for all tokens that the file mentions.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[int, TokenText] = {}

    def __getitem__(self, token: int) -> TokenText:
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = self._read(int(token))
        return found

    def __iter__(self) -> Iterator[int]:
        for (token,) in self._database.rows(self._database.queries.token_ids, (), int):
            # A listed token that cannot be looked up means that the table is damaged.
            if token not in self:
                raise self._database.damaged(f"the text of token {token} is missing")
            yield token

    def __len__(self) -> int:
        found = self._database.row(self._database.queries.token_count, (), int)
        return 0 if found is None else int(found[0])

    def __repr__(self) -> str:
        return f"<{len(self)} tokens of {self._database.path.name}>"

    def _read(self, token: int) -> TokenText:
        if not -(1 << 63) <= token < 1 << 63:
            raise KeyError(token)
        row = self._database.row(self._database.queries.token, (token,), int, str, str, int, bytes)
        if row is None:
            raise KeyError(token)
        number, text, piece, special, stored = row
        found = TokenText(id=number, text=text, piece=piece, special=bool(special))
        if token_digest(found) != stored:
            raise self._database.damaged(f"the text of token {token} is not what was written")
        return found
