"""What is imported once in a process does not count into the first step of its first run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_CODE = """
import sys
from tests.support.models import batch, tiny_model
from tracer import trace

model = tiny_model()
assert "torch._dynamo" not in sys.modules
imported = []
model.register_forward_pre_hook(lambda *_: imported.append("torch._dynamo" in sys.modules))
with trace(model, path=sys.argv[1]):
    model.generate(**batch(), max_new_tokens=2)
print(imported)
"""


@pytest.mark.reference_only
def test_torch_is_complete_before_the_first_forward_pass(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(tmp_path / "run.trace")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[True, True]\n"
