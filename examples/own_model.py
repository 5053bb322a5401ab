"""Trace a model of your own, then ask the recording.

Run it with ``uv run python examples/own_model.py``. The model is a small random one here; put yours in its
place: any decoder-only ``*ForCausalLM`` of transformers 4.44.2, on any device.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tracer import open_trace, trace


def make_model() -> Qwen2ForCausalLM:
    """A model with two layers, four query heads and two KV heads."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    return Qwen2ForCausalLM(config).eval()


def main(path: Path) -> None:
    """Trace two runs into one file and read them.

    Args:
        path: the trace file to make.
    """
    model = make_model()
    prompt = torch.tensor([[1, 17, 42, 99]])
    with trace(model, path=path, capture="tensors", save=["logits", "kv"]) as session:
        model.generate(prompt, max_new_tokens=8, do_sample=False)
        model.generate(prompt, max_new_tokens=8, do_sample=True, top_k=5)
    print(f"{session.steps} steps in {path.name}")

    with open_trace(path) as recording:
        for run in recording.runs:
            kind = "sampling" if run.header.do_sample else "greedy"
            for step in run.steps:
                choice = step.choice()
                if choice is not None:
                    print(f"{kind} step {step.number}: token {choice.token}, p = {choice.probability:.3f}")
        logits = recording.runs[0].tensor(3, "logits")
        print("logits of step 3:", logits.shape, logits.dtype)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / "own.trace")
