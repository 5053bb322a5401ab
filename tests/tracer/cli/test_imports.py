"""What only reads stays free of torch and transformers, and so starts at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import HEAVY, Light, environment, run_light
from tests.tracer.tracefile.samples import write_trace

COMMANDS = [
    ["--help"],
    ["--version"],
    ["run", "--help"],
    ["compare", "--help"],
    ["why", "{trace}", "--step", "1", "--no-torch"],
    ["whatif", "{trace}", "--top-k", "5", "--no-torch"],
    ["diff", "{trace}", "{trace}"],
    ["diff", "{trace}", "{trace}", "--html", "{trace}.html", "--force"],
    ["show", "{trace}"],
    ["info", "{trace}"],
    ["verify", "{trace}"],
    ["step", "{trace}"],
    ["export", "{trace}", "--format", "jsonl", "-o", "-"],
    ["export", "{trace}", "--format", "parquet"],
]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Light]:
    path = tmp_path_factory.mktemp("recorded") / "run.trace"
    write_trace(path)
    commands = [[text.format(trace=path) for text in arguments] for arguments in COMMANDS]
    return dict(zip(map(" ".join, COMMANDS), run_light(commands), strict=True))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "run.trace"
    write_trace(path)
    return path


def python(code: str, arguments: list[str], recorded: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *(text.format(trace=recorded) for text in arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", [*map(" ".join, COMMANDS)])
def test_command_imports_nothing_heavy(command: str, ended: dict[str, Light]) -> None:
    assert (ended[command].code, ended[command].imported) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        ([], []),
        (["--version"], []),
        (["info", "{trace}"], ["info"]),
        (["diff", "{trace}", "{trace}", "--json"], ["diff"]),
        (["--prompt", " "], ["run"]),
    ],
    ids=str,
)
def test_only_the_command_that_is_asked_for_is_imported(
    arguments: list[str], loaded: list[str], recorded: Path
) -> None:
    code = (
        "import sys\n"
        "from tracer.cli.main import main\n"
        "try:\n    main(sys.argv[1:]) if sys.argv[1:] else None\nexcept SystemExit:\n    pass\n"
        "print([name.rpartition('.')[2] for name in sys.modules if name.startswith('tracer.cli.commands.')])"
    )
    done = python(code, arguments, recorded)
    assert done.stdout.splitlines()[-1] == str(loaded), done.stderr


def test_the_package_itself() -> None:
    code = (
        "import sys, tracer, reports.terminal, tracer.analysis.diff, tracer.analysis.whatif\n"
        "recording = tracer.open_trace\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
