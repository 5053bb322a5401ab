"""Whether the weights of a checkpoint are those that the model has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tracer.errors import ModelLoadError
from tracer.messages import one_line, shown
from tracer.schema.run import CheckpointFaults

_NAMED = 3
"""Weights of each kind that a message names."""

Shape = tuple[int, ...]


def faults_of_loading(info: Mapping[str, Any], model: Any, folder: str) -> CheckpointFaults:
    """What the library found while it loaded the weights.

    Args:
        info: what ``from_pretrained(output_loading_info=True)`` returns beside the model.
        model: the model.
        folder: the checkpoint.
    """
    # Some releases return lists in the order of the model, others sets.
    return CheckpointFaults(
        missing=tuple(sorted(info["missing_keys"])),
        unexpected=tuple(sorted(info["unexpected_keys"])),
        mismatched=tuple(sorted(_mismatches(info["mismatched_keys"], model, Path(folder)))),
    )


def faults_of_folder(folder: str, options: Mapping[str, Any]) -> CheckpointFaults:
    """How names and shapes of the weights in a folder differ from those of its model; no weight is read.

    For where the library gives up in the middle, with an error that names none of them.

    Args:
        folder: the checkpoint; nothing can be said about a hub id, or about files without a list of weights.
        options: for the library, such as whether the model's own code may run.
    """
    there = _weights_in(Path(folder))
    if not there:
        return CheckpointFaults()
    needed, tied = _weights_of_model(folder, options)
    return CheckpointFaults(
        missing=tuple(sorted(needed.keys() - there.keys() - tied)),
        unexpected=tuple(sorted(there.keys() - needed.keys())),
        mismatched=tuple(
            _mismatch(name, shape, needed[name])
            for name, shape in sorted(there.items())
            if name in needed and needed[name] != shape
        ),
    )


def joined(a: CheckpointFaults, b: CheckpointFaults) -> CheckpointFaults:
    """The faults of two checkpoints, such as a model's and an adapter's."""
    return CheckpointFaults(
        missing=(*a.missing, *b.missing),
        unexpected=(*a.unexpected, *b.unexpected),
        mismatched=(*a.mismatched, *b.mismatched),
    )


def check_faults(faults: CheckpointFaults, name: str, *, advice: str) -> None:
    """Refuse a checkpoint that the model was not made from.

    Args:
        faults: what is wrong with it.
        name: what the user calls it.
        advice: what to do about it.

    Raises:
        ModelLoadError: naming the weights.
    """
    found = [
        *_listed(faults.missing, "missing, and would be random"),
        *_listed(faults.mismatched, "of another shape"),
        *_listed(faults.unexpected, "unknown to the model"),
    ]
    if found:
        raise ModelLoadError(
            f"The checkpoint {shown(name)} does not fit its model: {'; '.join(found)}. {advice}."
        )


def _weights_in(folder: Path) -> dict[str, Shape]:
    """Names and shapes of the weights in a folder, by the heads of its files."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, Shape] = {}
    try:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as opened:
                found.update((name, tuple(opened.get_slice(name).get_shape())) for name in opened.keys())  # noqa: SIM118
    except (SafetensorError, OSError):
        return {}
    return found


def _weights_of_model(folder: str, options: Mapping[str, Any]) -> tuple[dict[str, Shape], set[str]]:
    """Names and shapes of the weights of a model, and the names that share the weights of others."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, **options)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=options["trust_remote_code"])
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    # Since 5.0 the names stand for patterns, and the model has them written out.
    tied = getattr(model, "all_tied_weights_keys", getattr(model, "_tied_weights_keys", None))
    if not config.tie_word_embeddings:
        tied = None
    return shapes, {*(tied or ())}


def _mismatches(found: Iterable[Any], model: Any, folder: Path) -> Iterator[str]:
    for each in found:
        # 4.57 names the weights alone; their shapes are in the files.
        shape = _weights_in(folder).get(each) if isinstance(each, str) else None
        if shape is not None:
            yield _mismatch(each, shape, model.get_parameter_or_buffer(each).shape)
        else:
            yield each if isinstance(each, str) else _mismatch(*each)


def _mismatch(name: str, there: Iterable[int], needed: Iterable[int]) -> str:
    return f"{name} is {[*there]}, {[*needed]} in the model"


def _listed(keys: Iterable[str], what: str) -> list[str]:
    names = [one_line(key) for key in keys]
    if not names:
        return []
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    how_many = "1 weight is" if len(names) == 1 else f"{len(names)} weights are"
    return [f"{how_many} {what} ({', '.join(names[:_NAMED])}{more})"]
