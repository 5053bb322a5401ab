"""The script of a debugging session, with the tracer in place of breakpoints set by hand.

Run it with ``uv run python examples/main.py`` and attach VS Code ("Attach to trace-generate (9501)"). The
debugger halts in the library's own lines: at the model call, in ``forward`` where the logits are there,
before the warper, before the choice and before the update, in the first two steps. Without a model's folder
or hub id it runs the demo model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from tracer import trace
from tracer.debugger import attach
from tracer.loading.demo_model import ensure_demo_model

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Give me a short introduction to large language model."},
]


def main(path: Path, model_path: str | None, port: int, max_new_tokens: int) -> None:
    """Halt in one answer, then print it.

    Args:
        path: the trace file to make.
        model_path: folder or hub id of a model.
        port: where the debugger attaches.
        max_new_tokens: most tokens to generate.
    """
    debugger = attach(port)

    checkpoint = model_path or ensure_demo_model()
    model = AutoModelForCausalLM.from_pretrained(checkpoint, torch_dtype="auto", device_map="auto")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    text = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    model_inputs = tokenizer([text], return_tensors="pt").to(model.device)

    with trace(model, tokenizer, path, halt=debugger, force=True):
        generated_ids = model.generate(**model_inputs, max_new_tokens=max_new_tokens)

    answers = generated_ids[:, model_inputs.input_ids.shape[1] :]
    print(tokenizer.batch_decode(answers, skip_special_tokens=True)[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?")
    parser.add_argument("--port", type=int, default=9501)
    parser.add_argument("--max-new-tokens", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path("main.trace"))
    given = parser.parse_args()
    main(given.out, given.model, given.port, given.max_new_tokens)
