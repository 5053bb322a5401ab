"""The plugin itself: puts the check in place, chooses the tests, and reports at the end."""

from __future__ import annotations

import functools
import inspect
import random
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from _pytest.runner import runtestprotocol

from .checked_calls import CheckedCalls
from .findings import Findings


class LibraryCheck:
    """Runs each test with every ``generate()`` traced, and one that fails so a second time, untraced."""

    def __init__(self) -> None:
        self._findings = Findings()
        self._context = ExitStack()
        folder = self._context.enter_context(tempfile.TemporaryDirectory(prefix="library-tests-"))
        self._calls = CheckedCalls(Path(folder), self._findings)
        self._context.enter_context(self._calls.installed())

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out the tests that have nothing to do with generation."""
        chosen = [item for item in items if _generates(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected."""
        if report.failed:
            self._findings.not_collected[report.nodeid] = _last_line(str(report.longrepr))

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a test."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = self._run(item, nextitem, tracing=True)
        failed = [report for report in reports if report.failed]
        if failed:
            item._initrequest()  # type: ignore[attr-defined] # as a plugin that repeats tests has to
            if any(report.failed for report in self._run(item, nextitem, tracing=False)):
                self._findings.failed_too.append(item.nodeid)
            else:
                message = f"the test fails only traced: {_last_line(failed[0].longreprtext)}"
                self._findings.add("difference", _class_name(item), item.nodeid, message)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run(
        self, item: pytest.Item, nextitem: pytest.Item | None, *, tracing: bool
    ) -> Sequence[pytest.TestReport]:
        _seed(item.nodeid)
        self._calls.test, self._calls.tracing = item.nodeid, tracing
        return runtestprotocol(item, log=False, nextitem=nextitem)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the table."""
        terminalreporter.section("generate() traced")
        for line in self._findings.lines():
            terminalreporter.line(line)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
        """End with the check's own exit code, unless the tests could not be run at all.

        Last, since other plugins put in theirs.
        """
        self._context.close()
        if exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
            session.exitstatus = self._findings.exit_code


def pytest_configure(config: pytest.Config) -> None:
    """Put the check in place."""
    config.pluginmanager.register(LibraryCheck(), "library-check")


def _generates(item: pytest.Item) -> bool:
    function = getattr(item, "function", None)
    return function is None or _speaks_of_generation(inspect.unwrap(function))


@functools.cache
def _speaks_of_generation(function: Callable[..., object]) -> bool:
    """Whether the source of a test says so; many classes share one test."""
    try:
        return "generat" in inspect.getsource(function)
    except (OSError, TypeError):
        return True


def _class_name(item: pytest.Item) -> str:
    cls = getattr(item, "cls", None)
    return item.name if cls is None else str(cls.__name__)


def _seed(name: str) -> None:
    """The same random numbers whenever a test of that name runs."""
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    # Where transformers' tests draw their input ids from.
    common = sys.modules.get("tests.test_modeling_common")
    if common is not None:
        common.global_rng.seed(seed)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E ")]
    return (errors or lines or [""])[-1].removeprefix("E").strip()
