"""What this process holds: the threads and files that a test must not leave behind."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections import Counter
from pathlib import Path


def held() -> Counter[str]:
    """Threads and open files, counted.

    Tests before may have left some that end at any moment, so a test asks what has been added and not whether
    all are as they were: ``held() - before``.
    """
    gc.collect()
    found = Counter(f"thread {thread.name} {thread.ident}" for thread in threading.enumerate())
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[str(each.readlink())] += 1
    return Counter({name: count for name, count in found.items() if not name.startswith("/proc/")})
