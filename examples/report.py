"""Make examples/report.html: the walkthrough's prompt on the demo model, with its lens and its attention.

Run it with ``uv run python examples/report.py``; it replaces the page.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tracer import open_trace

PROMPT = "Give me a short introduction to large language model."
PAGE = Path(__file__).with_name("report.html")


def main(page: Path = PAGE, max_new_tokens: int = 24) -> None:
    """Trace one answer and make its page.

    Args:
        page: where to; an existing page is replaced.
        max_new_tokens: most tokens to generate.
    """
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "walkthrough.trace"
        arguments = ["--prompt", PROMPT, "--seed", "0", "--max-new-tokens", str(max_new_tokens)]
        arguments += ["--lens", "--capture", "tensors", "--save", "attention"]
        command = [sys.executable, "-m", "tracer", *arguments, "--quiet", "--no-html", "--out", str(trace)]
        subprocess.run(command, check=True)
        with open_trace(trace) as recording:
            page.write_text(recording.to_html(), encoding="utf-8")
    print(f"{page} ({page.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
