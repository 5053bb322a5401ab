"""Keep the library's advice to developers off the user's screen."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_library() -> Iterator[None]:
    """Silence warnings and progress bars of the libraries in a block; errors are still shown."""
    from transformers.utils import logging as library

    level, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    # The hub's client repeats each request that fails, and says so each time.
    others = {name: logging.getLogger(name).level for name in ("accelerate", "huggingface_hub")}
    library.set_verbosity_error()
    library.disable_progress_bar()
    for name in others:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        library.set_verbosity(level)
        for name, before in others.items():
            logging.getLogger(name).setLevel(before)
        if bars:
            library.enable_progress_bar()
