from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import UsageError
from tracer.stepper.commands import (
    COMMANDS,
    parse_command,
    parse_count,
    parse_setting,
    parse_settings,
    parse_token,
)

pytestmark = pytest.mark.no_transformers


def test_every_command_is_read_with_its_argument() -> None:
    for command in COMMANDS:
        if not command.needs_argument:
            assert parse_command(f"  {command.name} ") == (command.name, "")
        if command.argument:
            assert parse_command(f"{command.name}   two words ") == (command.name, "two words")


def test_an_empty_line_is_the_next_stop() -> None:
    assert parse_command("") == parse_command("   \n") == ("n", "")


@pytest.mark.parametrize(
    "line", ["x", "next", "N", "n 3", "q!", "h me", "kv 3", "p", "u  ", "force", "set", "g", "sb 2"]
)
def test_what_is_no_command_is_refused(line: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_command(line)
    assert "\n" not in str(refused.value)


def test_a_near_miss_is_named() -> None:
    with pytest.raises(UsageError, match=r"Did you mean force\?"):
        parse_command("forse Large")


@given(st.text(max_size=60))
def test_any_text_is_a_command_or_refused(line: str) -> None:
    try:
        name, _ = parse_command(line)
    except UsageError:
        return
    assert name in {command.name for command in COMMANDS}


def test_counts() -> None:
    assert (parse_count("", 9), parse_count("3", 9)) == (9, 3)
    for text in ("0", "-1", "x", "1.5", "99999", "²"):
        with pytest.raises(UsageError):
            parse_count(text, 9)


def test_settings() -> None:
    assert parse_setting("temperature 0.9") == parse_setting("temperature=0.9") == ("temperature", 0.9)
    for text in ("temperature", "temperature x", "temperature nan", "temperature inf", "a b c", "="):
        with pytest.raises(UsageError):
            parse_setting(text)


def test_tokens_with_a_row() -> None:
    assert parse_token("Large", 1) == ("Large", None)
    assert parse_token('" Large" row 1', 2) == ('" Large"', 1)
    assert parse_token("row 1", 2) == ("row 1", None)
    with pytest.raises(UsageError, match="no row 2"):
        parse_token("Large row 2", 2)


def test_settings_for_whatif() -> None:
    found = parse_settings("temperature=0.5  top-k=5 greedy=False")
    assert found == {"temperature": 0.5, "top_k": 5.0, "greedy": False}
    for text in ("temperature", "temperature=", "=1", "temperature=hot", "greedy=1", "top_k=1 top-k=2"):
        with pytest.raises(UsageError):
            parse_settings(text)
