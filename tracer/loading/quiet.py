"""Keep the library's advice to developers off the user's screen."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_library() -> Iterator[None]:
    """Silence warnings and progress bars of transformers in a block; errors are still shown."""
    from transformers.utils import logging as library

    level, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    root_level = logging.getLogger("accelerate").level
    library.set_verbosity_error()
    library.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        library.set_verbosity(level)
        logging.getLogger("accelerate").setLevel(root_level)
        if bars:
            library.enable_progress_bar()
