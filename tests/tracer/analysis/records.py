"""One recorded step out of a case: what transformers made of it, and what torch drew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from tests.support.synthetic import synthetic_header, synthetic_steps
from tests.tracer.analysis.library import Case, transformers_stages
from tests.tracer.analysis.runs import MemoryRun
from tracer.analysis.draw import state_digest
from tracer.analysis.processors.parsing import describe
from tracer.analysis.scores.summary import summarise
from tracer.schema.run import CaptureSettings, PromptRow
from tracer.schema.step import Draw, ForwardResult
from tracer.schema.tensors import TensorInfo


def recorded(case: Case, *, do_sample: bool = True, save: bool = True, cap: int = 64) -> MemoryRun:
    """A run of one step and one row in which the real processors and the real draw were at work."""
    stages = [case.logits, *transformers_stages(case)]
    final = torch.from_numpy(stages[-1])[None]
    generator = torch.Generator().manual_seed(case.seed)
    state = generator.get_state().numpy().tobytes()
    if do_sample:
        chosen = int(torch.multinomial(torch.softmax(final, -1), 1, generator=generator))
    else:
        chosen = int(torch.argmax(final))
    header = synthetic_header(layers=1, do_sample=do_sample).model_copy(
        update={
            "processors": tuple(describe(placed) for placed in case.placed),
            "prompt": (PromptRow(token_ids=tuple(case.history.tolist()), padding=0),),
            "capture": CaptureSettings(candidates=cap),
        }
    )
    step = next(synthetic_steps(synthetic_header(layers=1), 1))
    columns = summarise(
        [stage[None] for stage in stages],
        np.array([chosen], dtype=np.int32),
        np.zeros(1, dtype=np.bool_),
        header.capture.candidates,
    )
    logits = TensorInfo(shape=(1, case.logits.size), dtype="float32", device="cpu")
    head = step.head.model_copy(
        update={
            "vocab_size": case.logits.size,
            "stages": len(stages),
            "forward": ForwardResult(hidden_states=None, logits=logits, next_logits=logits),
            "draw": Draw(device="cpu", digest=state_digest(state), follows=False, state=state.hex())
            if do_sample
            else None,
        }
    )
    saved = {1: {"logits": case.logits[None]}} if save else {}
    return MemoryRun(header, [replace(step, head=head, scores=columns)], saved=saved)
