"""What a step takes on disk, as README.md and --help say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import call_main
from tests.support.network import demo_checkpoint


@pytest.mark.demo
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "kilobytes"),
    [
        (("--capture", "shapes"), 8),
        (("--capture", "stats"), 24),
        (("--capture", "tensors", "--save", "logits"), 230),
        (("--capture", "tensors", "--save", "hidden"), 150),
        (("--capture", "tensors", "--save", "kv"), 90),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_step_of_the_demo_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], kilobytes: int
) -> None:
    demo_checkpoint()
    sizes = []
    for tokens in (8, 24):
        out = tmp_path / f"{tokens}.trace"
        arguments = ("--prompt", "Hello", "--seed", "1", "--gen", "eos_token_id=null", "--quiet", "--out")
        done = call_main(capsys, *options, "--max-new-tokens", str(tokens), *arguments, out)
        assert done.returncode == 0, done.stderr
        sizes.append(out.stat().st_size)
    assert (sizes[1] - sizes[0]) / 16 <= kilobytes * 1000
