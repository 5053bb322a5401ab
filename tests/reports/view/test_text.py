from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.view.text import plain, plain_lines, visible
from reports.view.tokens import token_view
from tracer.schema.run import TokenText

HOSTILE = st.text(alphabet=st.characters(), max_size=40)
ACTING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" Large", "␣Large"),
        ("\n\n", "⏎⏎"),
        ("\t\r", "⇥␍"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("\u00a0", "\\xa0"),
        ("\u0301", "◌\u0301"),
        ("\u3164", "\\u3164"),
        ("\U000e0041", "\\U000e0041"),
        ("日", "日"),
        ("[bold]", "[bold]"),
        ("", ""),
    ],
)
def test_token_text_is_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(HOSTILE)
def test_nothing_in_visible_text_acts_on_a_terminal(text: str) -> None:
    for shown in (visible(text), plain(text)):
        assert not {unicodedata.category(char) for char in shown} & ACTING
    assert not {unicodedata.category(char) for char in plain_lines(text) if char != "\n"} & ACTING


def test_long_text_is_cut_and_the_cut_is_said() -> None:
    assert visible("x" * 10_000) == "x" * 256 + "… (+9,744 characters)"


def test_lines_stay_lines_and_tabs_become_spaces() -> None:
    assert plain_lines("a\r\n\tb\x07") == "a\n    b\\x07"


@pytest.mark.parametrize(
    ("token", "label"),
    [
        (TokenText(id=1, text="\ufffd", piece="æ"), "⟨E6⟩"),
        (TokenText(id=1, text="\ufffd", piece="▁日"), "\ufffd (▁日)"),
        (TokenText(id=1, text="", piece="<0x00>"), "(<0x00>)"),
        (TokenText(id=1, text=" a", piece="Ġa"), "␣a"),
    ],
)
def test_a_label_says_something_even_where_the_text_does_not(token: TokenText, label: str) -> None:
    assert token_view(1, {1: token}).label == label


def test_an_unknown_token_has_no_text() -> None:
    assert token_view(5, {}).label == ""
