"""The command line, interrupted at a chosen place.

Arguments: ``MODULE:FUNCTION`` at whose start Ctrl-C arrives, ``raised`` or ``swallowed``, then those of the
command line.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from typing import Any

from tracer.cli.main import main

place, how, *arguments = sys.argv[1:]
module_name, _, name = place.partition(":")
module = importlib.import_module(module_name)
original = getattr(module, name)


def interrupted(*args: Any, **kwargs: Any) -> Any:
    # A library that imports another one in a bare try … except swallows whatever arrives.
    with contextlib.suppress(*([BaseException] if how == "swallowed" else [])):
        os.kill(os.getpid(), signal.SIGINT)
        # The handler runs between two byte-code instructions of the main thread, that is: by now.
        _ = [None for _ in range(1000)]
    return original(*args, **kwargs)


setattr(module, name, interrupted)
main(arguments)
