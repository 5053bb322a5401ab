"""The original walkthrough as a script: one prompt, the first two steps in full, every later one in a line.

Run it with ``uv run python examples/walkthrough.py``. It does what ``trace-generate --prompt`` does, through
the Python API, so that each part can be exchanged for your own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from reports.terminal import TerminalReport
from tracer import trace
from tracer.loading.demo_model import ensure_demo_model

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Give me a short introduction to large language model."},
]


def main(path: Path, max_new_tokens: int = 32) -> None:
    """Trace one answer.

    Args:
        path: the trace file to make.
        max_new_tokens: most tokens to generate.
    """
    checkpoint = ensure_demo_model()
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    text = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer([text], return_tensors="pt")
    # The first two steps in full, the others in a line.
    report = TerminalReport(Console(), path=str(path))
    torch.manual_seed(0)
    with trace(model, tokenizer, path, listeners=[report], seed=0, prompt_texts=[text]):
        model.generate(**inputs, max_new_tokens=max_new_tokens)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / "walkthrough.trace")
