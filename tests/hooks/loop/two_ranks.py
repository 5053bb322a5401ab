"""One of two processes that generate together; run by ``torch.distributed.run`` in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from transformers import PreTrainedModel

from tests.support.models import batch, tiny_model
from tracer import trace

NEW: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def tensor_parallel(mesh: Any) -> PreTrainedModel:
    """A model whose feed-forward parts pass distributed tensors between their modules."""
    model = tiny_model("llama")
    plan = {
        "gate_proj": ColwiseParallel(use_local_output=False),
        "up_proj": ColwiseParallel(use_local_output=False),
        "down_proj": RowwiseParallel(output_layouts=Replicate()),
    }
    for layer in model.model.layers:
        parallelize_module(layer.mlp, mesh, plan)
    return model


def main() -> None:
    """Generate untraced and traced, and compare."""
    dist.init_process_group("gloo")
    rank, mesh = dist.get_rank(), init_device_mesh("cpu", (dist.get_world_size(),))
    model = tensor_parallel(mesh)
    expected = model.generate(**batch(), **NEW)
    with trace(model):
        assert torch.equal(model.generate(**batch(), **NEW), expected)
    save = ["logits", "kv", "hidden", "lens", "modules=mlp"]
    with trace(model, path=f"saved{rank}.trace", capture="tensors", save=save):
        assert torch.equal(model.generate(**batch(), **NEW), expected)
    # The rank that is done first goes on with passes of no consequence until the other one is.
    model = tiny_model("llama")
    settings = {**NEW, "max_new_tokens": 3 if rank == 0 else 6, "synced_gpus": True}
    expected = model.generate(**batch(), **settings)
    with trace(model, path=f"synced{rank}.trace"):
        assert torch.equal(model.generate(**batch(), **settings), expected)
    assert sorted(path.name for path in Path.cwd().glob(f"*{rank}.trace")) == [
        f"run.rank{rank}.trace",
        f"saved{rank}.trace",
        f"synced{rank}.trace",
    ]
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
