"""Characters whose bytes are split over several tokens."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from reports.terminal import TerminalReport
from reports.view.spelled_bytes import _LETTERS
from reports.view.text import visible
from reports.view.tokens import sequence_views, token_view, unfinished
from tests.reports.html.samples import with_scores
from tests.support.synthetic import synthetic_header, synthetic_steps
from tracer.schema.run import TokenText

SPELLING = {byte: letter for letter, byte in _LETTERS.items()}


def token_of(number: int, data: bytes) -> TokenText:
    """A token of a byte-level vocabulary, as its tokenizer spells and decodes it."""
    return TokenText(
        id=number, text=data.decode(errors="replace"), piece="".join(SPELLING[byte] for byte in data)
    )


def texts_of(*parts: bytes) -> dict[int, TokenText]:
    return {number: token_of(number, part) for number, part in enumerate(parts)}


def labels(texts: dict[int, TokenText]) -> list[str]:
    return [view.label for view in sequence_views(texts, texts)]


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ((b"\xe8\xaf", b"\xad"), ["⟨E8 AF⟩", "⟨AD⟩→语"]),
        ((b" \xe8", b"\xaf", b"\xad!"), ["␣⟨E8⟩", "⟨AF⟩", "⟨AD⟩!→语!"]),
        ((b"\xf0\x9f", b"\x98\x80\xf0", b"\x9f\x98\x81"), ["⟨F0 9F⟩", "⟨98 80 F0⟩→😀", "⟨9F 98 81⟩→😁"]),
        ((b"\xe8\xaf", b"a", b"\xad"), ["⟨E8 AF⟩", "a", "⟨AD⟩"]),
        ((b"\xad", b"\xe8"), ["⟨AD⟩", "⟨E8⟩"]),
        (("\ufffd".encode(), b"\x80"), ["\ufffd (ï¿½)", "⟨80⟩"]),
        (("\u202e".encode()[:2], "\u202e".encode()[2:]), ["⟨E2 80⟩", "⟨AE⟩→\\u202e"]),
    ],
)
def test_bytes_are_shown_as_bytes_and_joined_to_the_character(
    parts: tuple[bytes, ...], shown: list[str]
) -> None:
    assert labels(texts_of(*parts)) == shown


def test_bytes_that_sentencepiece_spells_one_by_one() -> None:
    texts = {byte: TokenText(id=byte, text="\ufffd", piece=f"<0x{byte:02X}>") for byte in "语".encode()}
    views = sequence_views("语".encode(), texts)
    assert [view.label for view in views] == ["⟨E8⟩", "⟨AF⟩", "⟨AD⟩→语"]


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cf"]), max_size=20), st.data()
)
def test_no_character_is_lost_wherever_it_is_split(text: str, data: st.DataObject) -> None:
    whole = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(whole) - 1)), max_size=12)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True) if a < b]
    texts = texts_of(*parts)
    views = sequence_views(texts, texts)
    for number, view in enumerate(views):
        before = unfinished(list(range(number)), texts)
        joined = (before + parts[number]).decode(errors="ignore")
        if not before:
            assert view.joined == ""
        elif view.joined:
            assert view.joined == visible(joined)
    assert unfinished(list(texts), texts) == b""


def test_lines_of_steps_join_what_the_model_splits() -> None:
    header = synthetic_header(layers=1)
    texts = {7: token_of(7, b"\xe8\xaf"), 8: token_of(8, b"\xad")}
    target = io.StringIO()
    report = TerminalReport(Console(file=target, width=100), full_steps=lambda step: step == 2)
    report.on_run(1, header, texts)
    for step, token in zip(synthetic_steps(header, 4), (7, 8, 7, 8), strict=True):
        assert step.scores is not None
        report.on_step(with_scores(step, chosen=step.scores.chosen * 0 + token), texts)
    lines = target.getvalue().splitlines()
    assert any("8 ⟨AD⟩→语" in line for line in lines if line.lstrip().startswith("4 "))
    assert sum("8 ⟨AD⟩→语" in line for line in lines) == 2


def test_an_unknown_id_shows_as_an_id() -> None:
    view = token_view(5, {5: TokenText(id=5, text="", piece="")})
    assert (view.id, view.label) == (5, "")
