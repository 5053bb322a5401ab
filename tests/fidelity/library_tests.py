"""Run transformers' own generation tests with every ``generate()`` traced.

``python -m tests.fidelity.library_tests CHECKOUT [pytest arguments]``, where CHECKOUT is the folder of
transformers that holds ``tests/generation/test_utils.py``. Each outermost ``generate()`` of a decoder-only
model is traced with all captures that the model allows. Its trace has to be whole and without a violation
or a capture error, the model as it was, and the result that of the same call untraced, bit for bit, where
the call can be repeated. A mode that the tracer refuses by name is counted, and runs untraced.

Exit codes: 0 if that held; 1 for a difference or an alarm; 2 if CHECKOUT is not what is needed, or nothing
was traced, or not all could be collected.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import version
from pathlib import Path

_HERE = Path(__file__).parent
_NEEDED = Path("tests/generation/test_utils.py")
_GENERATES = re.compile(r"\bGenerationTesterMixin\b|\.generate\(")
_OPTIONS = (
    *("-p", "library_check.plugin"),
    *("-p", "no:cacheprovider"),
    *("-q", "--tb=no", "--disable-warnings", "--continue-on-collection-errors"),
)
_UNUSABLE = 2


def main(arguments: list[str]) -> int:
    """Run the tests.

    Args:
        arguments: of the command line.

    Returns:
        The exit code if the tests cannot be run; otherwise the process becomes that of pytest.
    """
    problem = _problem(arguments)
    if problem:
        print(problem, file=sys.stderr)  # noqa: T201 - the script's own word
        return _UNUSABLE
    checkout, chosen = Path(arguments[0]).resolve(), arguments[1:]
    if not any(_is_path(checkout, argument) for argument in chosen):
        chosen = [*chosen, *_files(checkout)]
    command = [sys.executable, "-m", "pytest", *_OPTIONS, "--rootdir", str(checkout), *chosen]
    os.chdir(checkout)
    # In place of this process, so that Ctrl-C and the exit code are pytest's.
    return os.execve(sys.executable, command, _environment(checkout))


def _problem(arguments: list[str]) -> str | None:
    """Why the tests cannot be run, in one line."""
    if not arguments or arguments[0].startswith("-"):
        return f"Give the folder of transformers that holds {_NEEDED}."
    checkout = Path(arguments[0]).resolve()
    if not (checkout / _NEEDED).is_file():
        return f"{checkout} has no {_NEEDED}; give the folder of transformers that holds it."
    release, installed = _release(checkout), version("transformers")
    if release not in (None, installed):
        return f"{checkout} is transformers {release}; the tests of {installed} are needed."
    return None


def _release(checkout: Path) -> str | None:
    """The release that a whole checkout is of; None where only its tests are there."""
    package = checkout / "src/transformers/__init__.py"
    found = re.search(r'^__version__ = "([^"]+)"', package.read_text(), re.M) if package.is_file() else None
    return None if found is None else found[1]


def _is_path(checkout: Path, argument: str) -> bool:
    return not argument.startswith("-") and (checkout / argument.partition("::")[0]).exists()


def _files(checkout: Path) -> list[str]:
    """Test files of PyTorch models that generate."""
    patterns = ("tests/generation/test_*.py", "tests/models/*/test_modeling_*.py")
    return [
        str(path.relative_to(checkout))
        for path in sorted(path for pattern in patterns for path in checkout.glob(pattern))
        if not re.match(r"test_(modeling_)?(tf|flax)_", path.name) and _GENERATES.search(path.read_text())
    ]


def _environment(checkout: Path) -> dict[str, str]:
    """In which ``tests`` is the package of the checkout, and nothing is fetched."""
    paths = [str(checkout), str(_HERE), str(_HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "TOKENIZERS_PARALLELISM": "false",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
