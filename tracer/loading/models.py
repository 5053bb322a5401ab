"""Load a model and its tokenizer; whatever is wrong with them is reported in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tracer.checkpoint_faults import remember_faults
from tracer.errors import DeviceError, ModelLoadError, TraceGenerateError, UnsupportedError, UsageError
from tracer.library.release import installed_release
from tracer.loading import demo_model
from tracer.loading.adapters import adapter_on_hub, put_adapter
from tracer.loading.model_folder import (
    CONFIG,
    GENERATION_CONFIG,
    ModelFolder,
    find_source,
    folder_settings,
    folders_near,
    own_settings,
)
from tracer.loading.model_spec import ALLOW_DAMAGED, ModelSpec, check_spec
from tracer.loading.progress import Progress, SilentProgress
from tracer.loading.quiet import quiet_library
from tracer.loading.weights import check_faults, faults_of_folder, faults_of_loading, joined
from tracer.messages import named, one_line, shown
from tracer.schema.run import CheckpointFaults

_OFFLINE = ("connect", "offline", "couldn't reach", "resolve", "Max retries", "local cache", "snapshot")
"""Words of the library's errors where the hub knows no such model or cannot be reached."""

BeforeWeights = Callable[[Mapping[str, Any]], None]
"""Receives the generation settings that a model brings before its weights are read; may refuse them."""


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


def load_model(
    spec: ModelSpec, progress: Progress | None = None, before_weights: BeforeWeights | None = None
) -> LoadedModel:
    """Load a model and its tokenizer.

    Args:
        spec: which model, and how to load it.
        progress: receives the phases.
        before_weights: receives the model's own generation settings; what it raises ends the loading.

    Raises:
        UsageError: for an unknown dtype, device map or attention implementation.
        ModelLoadError: if model or tokenizer cannot be found or read, or the weights do not fit the model.
        UnsupportedError: for another transformers release, or a model that is not decoder-only.
        DeviceError: if the device is absent or its memory does not suffice.
    """
    installed_release()
    check_spec(spec)
    progress = progress or SilentProgress()
    device_map = _device_map(spec.device_map)
    source = (
        ModelFolder(str(demo_model.ensure_demo_model(progress)))
        if spec.name is None
        else find_source(spec.name)
    )
    progress.phase("loading the model")
    with quiet_library():
        try:
            return _load(source, spec, device_map, before_weights)
        except TraceGenerateError:
            raise
        except Exception as error:
            raise _explained(error, spec) from error


def _load(
    source: ModelFolder,
    spec: ModelSpec,
    device_map: str | dict[str, str],
    before_weights: BeforeWeights | None,
) -> LoadedModel:
    name = spec.name or demo_model.NAME
    source = _decoder_only(source, spec)
    # A revision is the adapter's where there is one.
    options = _common(spec if source.adapter is None else replace(spec, revision=None))
    settings, unread = _settings(source.checkpoint, spec, options)
    if before_weights is not None:
        before_weights(settings)
    tokenizer = _tokenizer(source.tokenizer, spec, options)
    base, faults = _model(source.checkpoint, spec, device_map, options)
    model = base
    if source.adapter is not None:
        model, of_adapter = put_adapter(base, source.adapter, spec)
        faults = joined(faults, of_adapter)
    if not spec.allow_damaged:
        check_faults(faults, name, advice=f"Check it, or pass {ALLOW_DAMAGED} to run it all the same")
    remember_faults(base, faults.model_copy(update={"generation_config": unread}))
    return LoadedModel(model, tokenizer, name)


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


def _common(spec: ModelSpec) -> dict[str, Any]:
    return {"trust_remote_code": spec.trust_remote_code, "revision": spec.revision or "main"}


def _decoder_only(source: ModelFolder, spec: ModelSpec) -> ModelFolder:
    """Refuse other models; a name on the hub may be an adapter's, whose own model is meant then."""
    try:
        revision = spec.revision if source.adapter is None else None
        _require_decoder_only(source.checkpoint, _common(replace(spec, revision=revision)))
    except OSError as error:
        adapter = adapter_on_hub(source, spec, error)
        if adapter is None:
            raise
        _require_decoder_only(adapter.checkpoint, _common(replace(spec, revision=None)))
        return adapter
    return source


def _require_decoder_only(source: str, options: Mapping[str, Any]) -> None:
    """Refuse other models by their configuration, before any weights are read."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = AutoConfig.from_pretrained(source, **options)
    architecture = (getattr(config, "architectures", None) or [type(config).__name__])[0]
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedError(
            f"{one_line(architecture)} is an encoder-decoder model; trace-generate follows decoder-only "
            "models (*ForCausalLM)."
        )
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if architecture not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() and not remote:
        raise UnsupportedError(f"{one_line(architecture)} is no causal language model (*ForCausalLM).")


def _settings(source: str, spec: ModelSpec, options: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The generation settings that the model brings, and why they cannot be read.

    The library itself passes over a file that is damaged, without a word.
    """
    name = spec.name or demo_model.NAME
    try:
        if Path(source).is_dir():
            return folder_settings(Path(source), name), None
        return own_settings(_cached(source, options), name), None
    except ModelLoadError as error:
        if not spec.allow_damaged:
            raise
        return {}, str(error.__cause__ or error)


def _cached(source: str, options: Mapping[str, Any]) -> Path | None:
    """The file of a hub model that holds its generation settings."""
    from transformers.utils import cached_file

    for name in (GENERATION_CONFIG, CONFIG):
        file = cached_file(
            source,
            name,
            revision=options["revision"],
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if file is not None:
            return Path(file)
    return None


def _tokenizer(source: str, spec: ModelSpec, options: Mapping[str, Any]) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # Since 5.0 the automatic class splits the text of every Qwen2 as Qwen's models do;
    # the demo model does not.
    kind = PreTrainedTokenizerFast if spec.name is None else AutoTokenizer
    try:
        return kind.from_pretrained(source, **options)
    except Exception as error:
        if _asks_for_trust(error):
            raise
        name = shown(spec.name or source)
        raise ModelLoadError(f"The tokenizer of {name} cannot be loaded: {named(error)}") from error


def _model(
    source: str, spec: ModelSpec, device_map: str | dict[str, str], options: Mapping[str, Any]
) -> tuple[Any, CheckpointFaults]:
    """The model, and how its weights differ from those of the checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM

    extra: dict[str, Any] = {"attn_implementation": spec.attention} if spec.attention else {}
    # Without a map the weights are put in place directly; accelerate is for spreading them.
    if device_map != "cpu":
        extra["device_map"] = device_map
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            source,
            torch_dtype=spec.dtype if spec.dtype == "auto" else getattr(torch, spec.dtype),
            # Else a wrong shape would end the loading, and one error would hide the others.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **extra,
            **options,
        )
    except Exception as error:
        # It gives up where no name fits, and where a shape does not and the weights are spread over devices.
        if not is_out_of_memory(error) and not _asks_for_trust(error):
            check_faults(faults_of_folder(source, options), spec.name or source, advice=_advice(device_map))
        raise
    return model.eval(), faults_of_loading(info, model, source)


def _advice(device_map: str | dict[str, str]) -> str:
    """What to do about weights with which the library cannot go on."""
    if device_map == "cpu":
        return "Check it; it cannot be loaded"
    return f"Check it; with --device-map cpu {ALLOW_DAMAGED} it may run all the same"


def _explained(error: Exception, spec: ModelSpec) -> TraceGenerateError:
    """The one-line error for a failure of the library."""
    name, text = spec.name or demo_model.NAME, str(error)
    called = shown(name)
    if _asks_for_trust(error):
        return ModelLoadError(f"{called} brings its own code; pass --trust-remote-code if you trust it.")
    if is_out_of_memory(error):
        return DeviceError(
            f"{called} does not fit into memory; try --dtype bfloat16, --device-map auto or a smaller model."
        )
    if spec.attention and ("attn_implementation" in text or "ttention" in text):
        return UsageError(f"--attn {spec.attention}: {named(error)}")
    if _is_not_found(name, error):
        return ModelLoadError(
            f"--model {called}: not found, neither as a folder nor on the hub (or the hub cannot be "
            f"reached). Check the name, or pass a folder.{folders_near(Path(name))}"
        )
    return ModelLoadError(f"{called} cannot be loaded: {type(error).__name__}: {one_line(text)}")


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
