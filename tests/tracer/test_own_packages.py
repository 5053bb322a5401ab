"""Other modules of the names ``hooks`` and ``reports``, in the folder that Python starts from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.breadth import slow
from tests.support.command import environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["hooks.py", "reports", "both", "none"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    # A folder without __init__.py is no package that could come first.
    (tmp_path / "hooks").mkdir()
    if request.param in ("hooks.py", "both"):
        (tmp_path / "hooks.py").write_text("")
    if request.param in ("reports", "both"):
        (tmp_path / "reports").mkdir()
        (tmp_path / "reports" / "__init__.py").write_text("")
    return tmp_path


def in_the_way(folder: Path) -> Path | None:
    files = (folder / "hooks.py", folder / "reports" / "__init__.py")
    return next((file for file in files if file.exists()), None)


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )


def check(done: subprocess.CompletedProcess[str], file: Path) -> None:
    name = "hooks" if file.name == "hooks.py" else "reports"
    message = (
        f"trace-generate needs its own package {name}, but {file} comes first on the module search path; "
        "rename it or start from another folder"
    )
    assert done.stderr.splitlines()[-1].partition(": ")[::2] == (
        "tracer.own_packages.OwnPackageError" if "Traceback" in done.stderr else "trace-generate",
        message,
    )


@pytest.mark.parametrize(
    "code",
    [
        "from tracer import trace",
        *slow("from tracer.session import trace", "from tracer.debugger import attach"),
        "import tracer\ntry: tracer.trace\nexcept ImportError: pass\nfrom tracer import trace",
    ],
)
def test_an_import_names_the_file_in_the_way(code: str, folder: Path) -> None:
    done, file = python(folder, "-c", code), in_the_way(folder)
    assert done.returncode == (0 if file is None else 1), done.stderr
    if file is not None:
        check(done, file)


@pytest.mark.parametrize("arguments", [["--help"], ["info", "run.trace"], ["--prompt", "w10"]], ids=" ".join)
def test_the_command_line_ends_with_one_line(arguments: list[str], folder: Path) -> None:
    file = in_the_way(folder)
    if file is None:
        pytest.skip("nothing is in the way")
    done = python(folder, "-m", "tracer", *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    check(done, file)


def test_the_command_line_starts_where_nothing_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "hooks").mkdir()
    assert python(tmp_path, "-m", "tracer", "--help").returncode == 0


def test_reading_goes_on_without_them(folder: Path) -> None:
    code = (
        "import tracer\n"
        "from tracer.errors import TraceFileError\n"
        "try: tracer.open_trace('none.trace')\n"
        "except TraceFileError: pass"
    )
    done = python(folder, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["hooks", "reports"])
def test_a_module_that_is_already_imported(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.py"
    file.write_text("")
    code = f"import sys, {name}\nsys.path.pop(0)\nfrom tracer import trace"
    done = python(tmp_path, "-c", code)
    assert done.returncode == 1
    assert f"its own package {name}, but {file} comes first" in done.stderr.splitlines()[-1]
    made = f"import sys, types\nsys.modules[{name!r}] = types.ModuleType({name!r})\nfrom tracer import trace"
    assert f"but another module {name} comes first" in python(tmp_path, "-c", made).stderr.splitlines()[-1]


def test_what_a_recording_needs_of_them_is_refused_when_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "reports.py").write_text("")
    code = (
        "from tests.tracer.tracefile.samples import write_trace\n"
        "from pathlib import Path\n"
        "import tracer\n"
        "write_trace(Path('run.trace'))\n"
        "recording = tracer.open_trace('run.trace')\n"
        "print(recording.why(step=1, use_torch=False).token)\n"
        "recording.to_html()"
    )
    done = python(tmp_path, "-c", code)
    assert done.stdout.strip().isdigit(), done.stderr
    assert done.returncode == 1
    assert (
        f"its own package reports, but {tmp_path / 'reports.py'} comes first" in done.stderr.splitlines()[-1]
    )
