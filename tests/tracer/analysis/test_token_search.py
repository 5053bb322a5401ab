"""Find the token that a person means."""

from __future__ import annotations

import pytest

from tests.support.synthetic import synthetic_tokens
from tracer.analysis.token_search import find_tokens
from tracer.schema.run import TokenText

pytestmark = pytest.mark.no_transformers

TOKENS = {
    token.id: token
    for token in (
        TokenText(id=1, text="Large", piece="Large"),
        TokenText(id=2, text=" Large", piece="ĠLarge"),
        TokenText(id=3, text=" large", piece="Ġlarge"),
        TokenText(id=4, text="\n", piece="Ċ"),
        TokenText(id=5, text="7", piece="7"),
        TokenText(id=6, text="\n\n", piece="ĊĊ"),
        TokenText(id=7, text=" ", piece="Ġ"),
        TokenText(id=8, text="Large ", piece="LargeĠ"),
    )
}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("Large", [(1, "text"), (2, "text with a space before"), (8, "text with a space around")]),
        (" Large", [(2, "text"), (1, "text with a space around"), (8, "text with a space around")]),
        ('" Large"', [(2, "text")]),
        ('"\\n"', [(4, "text")]),
        ("ĠLarge", [(2, "piece")]),
        ("LARGE", [(1, "other case"), (2, "other case"), (3, "other case"), (8, "other case")]),
        ("7", [(7, "id"), (5, "text")]),
        ("id:7", [(7, "id")]),
        ("4000", [(4000, "id")]),
        (" ", [(7, "text")]),
        ("nothing", []),
        ("", []),
        ('"', []),
        ('"\\q"', []),
    ],
)
def test_queries(query: str, found: list[tuple[int, str]]) -> None:
    assert [(choice.id, choice.match) for choice in find_tokens(query, TOKENS)] == found


def test_an_id_without_a_text_is_a_choice() -> None:
    (choice,) = find_tokens("123456", TOKENS)
    assert (choice.id, choice.text, choice.piece) == (123456, None, None)


def test_hostile_texts_are_plain_texts() -> None:
    assert [choice.id for choice in find_tokens("</script>", synthetic_tokens())] == [6]
