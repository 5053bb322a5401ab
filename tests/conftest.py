"""What all tests share."""

from __future__ import annotations

import gc
import importlib.util
import os
import random
import signal
import sys
from collections.abc import Generator, Iterator
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tracer.library.release import REFERENCE

if TYPE_CHECKING:
    from playwright.sync_api import Playwright

# The same examples every time, so that a change is judged by itself;
# HYPOTHESIS_PROFILE=random looks for more.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("random", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# Two torch processes with two threads each slow one another tenfold on a two-core machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if os.environ.get("TRACE_GENERATE_TEST_DEVICE", "cpu") == "cpu":
    # Kernels for a GPU are run by Triton's interpreter; it has to be told before Triton is imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")
# The width of whatever terminal the tests are started from, or of none in a worker, is no matter.
os.environ["COLUMNS"] = "100"

# A job in the background of a shell ignores Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Let each test draw what it draws alone, whatever tests before it have drawn."""
    random.seed(0)
    for name, seed in (("numpy", "random.seed"), ("torch", "manual_seed")):
        if name in sys.modules:
            attrgetter(seed)(sys.modules[name])(0)


@pytest.fixture(scope="session")
def driver() -> Iterator[Playwright]:
    """What drives Chromium: one in a process, where a second one would be refused."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright


def pytest_configure(config: pytest.Config) -> None:
    """Keep bytecode in pytest's cache where it may not be written beside the sources.

    Each of the many processes that tests start would compile torch and transformers again, which takes longer
    than to import them.
    """
    cache = getattr(config, "cache", None)  # not there with -p no:cacheprovider
    if not sys.dont_write_bytecode or sys.pycache_prefix or cache is None:
        return
    torch = importlib.util.find_spec("torch")
    if torch and torch.origin and not Path(importlib.util.cache_from_source(torch.origin)).exists():
        sys.dont_write_bytecode = False
        sys.pycache_prefix = str(cache.mkdir("bytecode"))
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Search for garbage where some may be: not while everything is imported, nor in what was imported.

    That is half a million objects, which a search goes through in a fifth of a second. Searches are rarer
    too: a test that holds something about garbage starts one.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--slow``."""
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the slow tests unless asked for, and what says nothing about the installed transformers."""
    if metadata.version("transformers") != REFERENCE:
        left = [
            item
            for item in items
            if item.get_closest_marker("reference_only") or item.get_closest_marker("no_transformers")
        ]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))
