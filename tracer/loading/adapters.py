"""PEFT adapters as models: the base model that one names, with the adapter on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracer.errors import ModelLoadError
from tracer.loading.model_folder import ADAPTER_CONFIG, CONFIG, ModelFolder, adapter_source
from tracer.loading.model_spec import ModelSpec
from tracer.messages import shown
from tracer.schema.run import CheckpointFaults


def adapter_on_hub(source: ModelFolder, spec: ModelSpec, error: OSError) -> ModelFolder | None:
    """What a hub id means that is no model's: the adapter of this name, None if there is none.

    Args:
        source: what the name means so far.
        spec: which model it is.
        error: why it is no model's.

    Raises:
        ModelLoadError: see :func:`tracer.loading.model_folder.adapter_source`.
    """
    if source.adapter is not None or Path(source.checkpoint).is_dir() or CONFIG not in str(error):
        return None
    from transformers.utils import cached_file

    settings = cached_file(
        source.checkpoint,
        ADAPTER_CONFIG,
        revision=spec.revision or "main",
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if settings is None:
        return None
    return adapter_source(source.checkpoint, Path(settings), spec.name or source.checkpoint)


def put_adapter(model: Any, adapter: str, spec: ModelSpec) -> tuple[Any, CheckpointFaults]:
    """Put an adapter on the model that it was made for.

    Args:
        model: the model.
        adapter: folder or hub id of the adapter.
        spec: which model the two are together.

    Returns:
        The adapted model, and what is wrong with the adapter's weights.

    Raises:
        ModelLoadError: the adapter cannot be put on this model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    options = {} if spec.revision is None else {"revision": spec.revision}
    try:
        adapted = PeftModel.from_pretrained(model, adapter, **options).eval()
        given = load_peft_weights(adapter, device="cpu", **options)
        found = set_peft_model_state_dict(adapted, given)
    except KeyError as error:
        raise ModelLoadError(f"The adapter {shown(adapter)} lacks the weight {error}.") from error
    needed = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return adapted, CheckpointFaults(
        missing=tuple(sorted(set(needed) - set(given))),
        # Those of a prompt are put in place apart from the others.
        unexpected=tuple(sorted(set(found.unexpected_keys) - set(needed))),
    )
