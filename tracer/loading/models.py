"""Load a model and its tokenizer; whatever is wrong with them is reported in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tracer.errors import DeviceError, ModelLoadError, TraceGenerateError, UnsupportedError, UsageError
from tracer.loading import demo_model
from tracer.loading.progress import Progress, SilentProgress
from tracer.loading.quiet import quiet_library
from tracer.loading.versions import require_supported_transformers
from tracer.messages import named

DtypeName = Literal["auto", "float32", "float16", "bfloat16"]

_DEVICE_MAPS = ("auto", "cpu", "balanced", "balanced_low_0", "sequential")

_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json", "*.bin.index.json")

_OFFLINE = ("connect", "offline", "couldn't reach", "resolve", "Max retries", "local cache", "snapshot")
"""Words of the library's errors where the hub knows no such model or cannot be reached."""


@dataclass(frozen=True)
class ModelSpec:
    """Which model, and how to load it.

    Attributes:
        name: hub id or folder; None for the demo model.
        dtype: dtype of the weights, ``auto`` for the checkpoint's own.
        device_map: ``auto``, ``cpu``, ``cuda``, ``cuda:0`` …, or a device for each module prefix; None for a
            GPU when there is one.
        attention: attention implementation, None for the model's default.
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether code that comes with the model may run.
    """

    name: str | None = None
    dtype: str = "auto"
    device_map: str | Mapping[str, str] | None = None
    attention: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to generate.

    Attributes:
        model: a ``PreTrainedModel`` in eval mode.
        tokenizer: its tokenizer.
        name: how reports call it.
    """

    model: Any
    tokenizer: Any
    name: str


def load_model(spec: ModelSpec, progress: Progress | None = None) -> LoadedModel:
    """Load a model and its tokenizer.

    Args:
        spec: which model, and how to load it.
        progress: receives the phases.

    Raises:
        UsageError: for an unknown dtype or attention implementation.
        ModelLoadError: if model or tokenizer cannot be found or read.
        UnsupportedError: for another transformers release, or a model that is not decoder-only.
        DeviceError: if the device is absent or its memory does not suffice.
    """
    require_supported_transformers()
    progress = progress or SilentProgress()
    if spec.dtype not in get_args(DtypeName):
        raise UsageError(f"--dtype {spec.dtype}: choose from {', '.join(get_args(DtypeName))}.")
    device_map = _device_map(spec.device_map)
    source = str(demo_model.ensure_demo_model(progress)) if spec.name is None else _checked_source(spec.name)
    progress.phase("loading the model")
    with quiet_library():
        try:
            _require_decoder_only(source, spec)
            tokenizer = _tokenizer(source, spec)
            model = _model(source, spec, device_map)
        except TraceGenerateError:
            raise
        except Exception as error:
            raise _explained(error, spec) from error
    return LoadedModel(model, tokenizer, spec.name or demo_model.NAME)


def _device_map(wanted: str | Mapping[str, str] | None) -> str | dict[str, str]:
    """The device map to use; a GPU by default where there is one."""
    if isinstance(wanted, Mapping):
        for device in wanted.values():
            if device.startswith("cuda"):
                _require_cuda(device)
        return dict(wanted)
    if wanted is None:
        import torch

        return "auto" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda"):
        _require_cuda(wanted)
    elif wanted not in _DEVICE_MAPS:
        raise UsageError(f"--device-map {wanted}: choose auto, cpu, cuda, cuda:N, balanced or sequential.")
    return wanted


def _require_cuda(device: str) -> None:
    """Refuse ``cuda`` or ``cuda:N`` where there is no such device."""
    import torch

    if not torch.cuda.is_available():
        raise DeviceError(f"--device-map {device}: no CUDA device is available; use --device-map cpu.")
    _, _, number = device.partition(":")
    if number and (not number.isdigit() or int(number) >= torch.cuda.device_count()):
        raise DeviceError(
            f"--device-map {device}: there are {torch.cuda.device_count()} CUDA devices, from cuda:0."
        )


def _checked_source(name: str) -> str:
    """A folder or hub id; a folder's contents are checked before anything is loaded."""
    if not name.strip():
        raise UsageError("--model is empty; pass a folder or a hub id.")
    path = Path(name).expanduser()
    if not path.exists():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ModelLoadError(f"--model {name}: no such folder.")
        return name
    if not path.is_dir():
        raise ModelLoadError(f"--model {name}: is a file; pass the checkpoint's folder.")
    if not (path / "config.json").is_file():
        raise ModelLoadError(f"--model {name}: the folder has no config.json, so it is no checkpoint.")
    if not any(any(path.glob(pattern)) for pattern in _WEIGHTS):
        raise ModelLoadError(f"--model {name}: the folder has no weights (*.safetensors or *.bin).")
    return str(path)


def _common(spec: ModelSpec) -> dict[str, Any]:
    return {"trust_remote_code": spec.trust_remote_code, "revision": spec.revision or "main"}


def _require_decoder_only(source: str, spec: ModelSpec) -> None:
    """Refuse other models by their configuration, before any weights are read."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = AutoConfig.from_pretrained(source, **_common(spec))
    architecture = (getattr(config, "architectures", None) or [type(config).__name__])[0]
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedError(
            f"{architecture} is an encoder-decoder model; trace-generate follows decoder-only models "
            "(*ForCausalLM)."
        )
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if architecture not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() and not remote:
        raise UnsupportedError(f"{architecture} is no causal language model (*ForCausalLM).")


def _tokenizer(source: str, spec: ModelSpec) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, **_common(spec))
    except Exception as error:
        if _asks_for_trust(error):
            raise
        name = spec.name or source
        raise ModelLoadError(f"The tokenizer of {name} cannot be loaded: {named(error)}") from error


def _model(source: str, spec: ModelSpec, device_map: str | dict[str, str]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    extra: dict[str, Any] = {"attn_implementation": spec.attention} if spec.attention else {}
    # Without a map the weights are put in place directly; accelerate is for spreading them.
    if device_map != "cpu":
        extra["device_map"] = device_map
    dtype = spec.dtype if spec.dtype == "auto" else getattr(torch, spec.dtype)
    model = AutoModelForCausalLM.from_pretrained(source, torch_dtype=dtype, **extra, **_common(spec))
    return model.eval()


def _explained(error: Exception, spec: ModelSpec) -> TraceGenerateError:
    """The one-line error for a failure of the library."""
    name, text = spec.name or demo_model.NAME, str(error)
    if _asks_for_trust(error):
        return ModelLoadError(f"{name} brings its own code; pass --trust-remote-code if you trust it.")
    if is_out_of_memory(error):
        return DeviceError(
            f"{name} does not fit into memory; try --dtype bfloat16, --device-map auto or a smaller model."
        )
    if spec.attention and ("attn_implementation" in text or "ttention" in text):
        return UsageError(f"--attn {spec.attention}: {named(error)}")
    if _is_not_found(name, error):
        return ModelLoadError(
            f"--model {name}: not found, neither as a folder nor on the hub (or the hub cannot be reached). "
            "Check the name, or pass a folder."
        )
    return ModelLoadError(f"{name} cannot be loaded: {named(error)}")


def _is_not_found(name: str, error: Exception) -> bool:
    """Whether a name is no folder, and the hub knows no such model or cannot be reached."""
    text = str(error)
    return not Path(name).exists() and (isinstance(error, OSError) or any(word in text for word in _OFFLINE))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library failed for want of memory, on a device or on the host."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def _asks_for_trust(error: Exception) -> bool:
    return "trust_remote_code" in str(error)
