"""The library of torch in this process, for compiled code to call functions of it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import torch


def find_library() -> ctypes.CDLL:
    """The library that runs operations on a CPU; names are looked up in those that it is linked with, too.

    Raises:
        OSError: it has another name, or is a part of another library.
        AttributeError: this system has no such libraries.
    """
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    # Only if it is loaded: another copy would have threads and a state of its own.
    return ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD)


def address_of(function: Callable[..., object]) -> int:
    """The address of a function of a library."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
