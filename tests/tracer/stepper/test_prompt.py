"""A signal ends a prompt in order, whatever the prompt is doing when it arrives."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from prompt_toolkit import PromptSession
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from tracer.interrupts import Interrupts, Stopped
from tracer.stepper.prompt import ask


class SignalledHistory(InMemoryHistory):
    """A signal arrives while the lines of before are read, in a callback of the event loop."""

    def __init__(self, send: Callable[[], None]) -> None:
        super().__init__()
        self._send = send

    def load_history_strings(self) -> list[str]:
        self._send()
        return []


@pytest.fixture(autouse=True)
def _no_loop() -> Iterator[None]:
    """Tests with a browser leave an event loop running in this thread, within which none can be begun."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(loop)


@pytest.fixture
def session_on(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[Callable[[], None]], Any]]:
    with create_pipe_input() as keys:

        def start(send: Callable[[], None]) -> Any:
            keys.send_text("go on\r")
            return PromptSession(history=SignalledHistory(send), input=keys, output=DummyOutput())

        yield start
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_prompt_ends_and_the_handler_raises(number: signal.Signals, session_on: Any) -> None:
    with Interrupts() as interrupts:
        interrupts.raise_them()
        ours = signal.getsignal(number)
        with pytest.raises(Stopped) as stop:
            ask(session_on(lambda: signal.raise_signal(number)), "> ")
        assert signal.getsignal(number) == ours
    assert stop.value.__context__ is None


def test_one_that_arrives_before_the_prompt_is_shown(session_on: Any) -> None:
    session = session_on(lambda: None)
    session.app.pre_run_callables.append(lambda: signal.raise_signal(signal.SIGTERM))
    with Interrupts() as interrupts:
        interrupts.raise_them()
        with pytest.raises(Stopped):
            ask(session, "> ")


def test_a_handler_that_lets_the_program_go_on(session_on: Any) -> None:
    arrived: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    def send_one() -> None:
        if not arrived:
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        session = session_on(send_one)
        assert ask(session, "> ") == "go on"
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert arrived == [signal.SIGTERM]


def test_an_ignored_signal_stays_ignored(session_on: Any) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ask(session_on(lambda: signal.raise_signal(signal.SIGHUP)), "> ") == "go on"
    finally:
        signal.signal(signal.SIGHUP, before)
