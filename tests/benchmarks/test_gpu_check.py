"""What a GPU is measured with runs on a CPU too, and needs nothing that only the tests need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.reference_only("the benchmarks run with the required release")]

_RUN = """
import runpy, sys
sys.argv = ["gpu_check", sys.argv[1], "--device", "cpu"]
try:
    runpy.run_module("tests.benchmarks.gpu_check", run_name="__main__")
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_everything_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, "-c", _RUN, out], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert set(report["identity"]) == {"shapes", "stats", "tensors (kv, logits)", "attention", "lens"}
    assert all(report["identity"].values())
    assert report["kernel"]["extremes are the same"]
    assert report["kernel"]["not finite in the same places"]
    assert report["kernel"]["mean and deviation, largest difference"] < 1e-5
    for compared in report["costs"].values():
        assert compared[0]["what"] == "untraced"
        assert all(each["rounds"] >= 6 and each["wall"]["median"] > 0 for each in compared)
    assert set(report["memory growth, bytes a step"]) == {"host", "device"}
    imported = set(done.stdout.splitlines()[-1].split())
    assert not imported & {"greenlet", "psutil", "pytest", "hypothesis", "gguf", "rich", "click", "debugpy"}
