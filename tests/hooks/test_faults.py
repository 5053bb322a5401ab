"""Exceptions that another thread raises in this one belong to the program, wherever they come up."""

from __future__ import annotations

import ctypes
import threading
import time
from pathlib import Path

import pytest

from hooks.faults import is_ours
from tests.support.models import SAMPLING, batch, generate, tiny_model
from tracer import open_trace, trace


class Late(Exception):  # noqa: N818 - what a program calls its timeout
    """A timeout of the program's own."""


# It may come up in a callback of a weak reference, where Python itself prints and drops it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_timeout_of_another_thread_ends_the_generation(tmp_path: Path) -> None:
    model, inputs = tiny_model(num_hidden_layers=4), batch()
    save = ["logits", "kv", "hidden", "attention", "lens"]
    target = ctypes.c_ulong(threading.get_ident())

    def ring(seconds: float, gate: threading.Event) -> None:
        gate.wait()
        time.sleep(seconds)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(target, ctypes.py_object(Late))

    with trace(model, path=tmp_path / "t", capture="tensors", save=save):
        generate(model, inputs, **SAMPLING)
    swallowed: list[str] = []
    for number in range(20):
        gate = threading.Event()
        thread = threading.Thread(target=ring, args=(0.03 + number * 0.007, gate))
        thread.start()
        try:
            with trace(model, path=tmp_path / "t", force=True, capture="tensors", save=save):
                gate.set()
                generate(model, inputs, **SAMPLING, max_new_tokens=300, eos_token_id=None)
        except Late:
            pass
        else:
            # Libraries swallow what comes up in places of their own; that leaves no capture error.
            with open_trace(tmp_path / "t") as recording:
                errors = [error.message for step in recording.steps for error in step.head.errors]
            swallowed += [message for message in errors if "Late" in message]
        thread.join()
    assert swallowed == []
    assert not any("forward" in vars(module) for module in model.modules())


def raised(error: Exception, name: str) -> Exception:
    """The exception, raised by code of a module of that name."""
    code = compile("def call(error):\n    raise error", "x.py", "exec")
    space: dict[str, object] = {"__name__": name}
    exec(code, space)
    with pytest.raises(type(error)) as caught:
        space["call"](error)  # type: ignore[operator]
    # Without the frames of this test, as if it had come up there.
    found = caught.value.with_traceback(caught.tb.tb_next)
    assert isinstance(found, Exception)
    return found


@pytest.mark.parametrize(
    ("error", "where", "ours"),
    [
        (ValueError("x"), "hooks.tensors", True),
        (KeyError("x"), "torch.nn", True),
        (Late("x"), "hooks.tensors", False),
        (Late("x"), "torch.nn.functional", False),
        (TimeoutError("x"), "hooks.modules.tape", False),
        (Late("x"), "tests.something", True),  # raised by code of the program that we called
    ],
)
def test_whose_it_is(error: Exception, where: str, ours: bool) -> None:
    assert is_ours(raised(error, where)) == ours
