"""One of several processes that want the demo model at once; making it is replaced by a slow note.

Arguments: a file to which every maker appends a line.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from unittest.mock import patch

from tracer.loading import demo_model
from tracer.loading.progress import Progress


def make_slowly(folder: Path, _progress: Progress) -> None:
    with Path(sys.argv[1]).open("a") as log:
        log.write("made\n")
    time.sleep(1)
    folder.mkdir()


with patch.object(demo_model, "_make", make_slowly):
    assert demo_model.ensure_demo_model().is_dir()
