"""Stop 0: everything known before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reports.view.blocks import Note
from reports.view.figures import count, plural
from reports.view.glossary import SETTINGS, criterion_meaning, processor_meaning, settings_text
from reports.view.not_seen import not_seen_views
from reports.view.run.checkpoint import checkpoint_values
from reports.view.run.fork import fork_text
from reports.view.run.named_value import NamedValue
from reports.view.run.release import release_notes
from reports.view.text import plain, plain_lines
from reports.view.tokens import TokenView, sequence_views
from tracer.schema.run import (
    LoopName,
    ModelInfo,
    PromptRow,
    RunHeader,
    TokenText,
    WeightsFingerprint,
)


@dataclass(frozen=True)
class PromptView:
    """One row of the batch before generation.

    Attributes:
        row: its number.
        text: the text with the chat template applied, None when it is not known.
        tokens: its tokens, padding included.
        padding: how many of them, at the left, are padding.
    """

    row: int
    text: str | None
    tokens: tuple[TokenView, ...]
    padding: int


@dataclass(frozen=True)
class HeaderView:
    """The run header.

    Attributes:
        model: name of the model.
        class_name: its class.
        tree: the module tree as ``print(model)`` gives it.
        sizes: how large the model is.
        conditions: how it computes and what this run does with it.
        particulars: what is not so in every run: a damaged checkpoint, adapters, positions without ids,
            several processes, what is not seen.
        settings: generation settings in force.
        pipeline: processors, then warpers, in order.
        criteria: stopping criteria in order.
        prompts: one entry a row.
        versions: packages and their versions.
        notes: what a reader must know before the first step.
        started_at: UTC, ISO 8601.
    """

    model: str
    class_name: str
    tree: str
    sizes: tuple[NamedValue, ...]
    conditions: tuple[NamedValue, ...]
    particulars: tuple[NamedValue, ...]
    settings: tuple[NamedValue, ...]
    pipeline: tuple[NamedValue, ...]
    criteria: tuple[NamedValue, ...]
    prompts: tuple[PromptView, ...]
    versions: tuple[NamedValue, ...]
    started_at: str
    notes: tuple[Note, ...] = ()

    @property
    def metadata(self) -> tuple[NamedValue, ...]:
        """Everything that the configuration says."""
        return (*self.sizes, *self.conditions, *self.particulars)


def header_view(header: RunHeader, tokens: Mapping[int, TokenText]) -> HeaderView:
    """Build the view of a run header.

    Args:
        header: the header.
        tokens: the token texts that are known.
    """
    return HeaderView(
        model=plain(header.model.name),
        class_name=plain(header.model.class_name),
        tree=plain_lines(header.model.tree),
        sizes=tuple(_sizes(header.model, header.weights)),
        conditions=(*_computation(header.model), *_run_metadata(header)),
        particulars=tuple(_particulars(header, tokens)),
        settings=tuple(
            NamedValue(plain(name), plain(value), SETTINGS.get(name))
            for name, value in header.generation_config.items()
        ),
        pipeline=tuple(
            NamedValue(plain(item.qualified_name), _settings(item.settings), processor_meaning(item))
            for item in header.processors
        ),
        criteria=tuple(
            NamedValue(plain(item.qualified_name), _settings(item.settings), criterion_meaning(item))
            for item in header.criteria
        ),
        prompts=tuple(_prompt(row, prompt, tokens) for row, prompt in enumerate(header.prompt)),
        versions=tuple(NamedValue(plain(name), plain(value)) for name, value in header.versions.items()),
        started_at=plain(header.started_at),
        notes=release_notes(header),
    )


def _settings(settings: dict[str, str]) -> str:
    return ", ".join(settings_text(settings))


def _prompt(row: int, prompt: PromptRow, tokens: Mapping[int, TokenText]) -> PromptView:
    return PromptView(
        row=row,
        text=plain_lines(prompt.text) if prompt.text is not None else None,
        tokens=sequence_views(prompt.token_ids, tokens),
        padding=prompt.padding,
    )


def _computation(model: ModelInfo) -> Iterator[NamedValue]:
    yield NamedValue("dtype", plain(model.dtype), "of the parameters")
    if model.quantization is not None:
        yield NamedValue("quantisation", plain(model.quantization), "of the weights")
    if model.attention is not None:
        yield NamedValue("attention", plain(model.attention), "implementation in use")
    yield NamedValue("devices", _devices(model.devices), "where the modules are")


def _fingerprint(weights: WeightsFingerprint | None) -> str:
    if weights is None:
        return "numbers that were learned"
    if weights.digest is None:
        return f"no fingerprint of the weights: {plain(weights.not_taken or 'no reason given')}"
    return f"fingerprint of the weights: {plain(weights.digest)}"


def _sizes(model: ModelInfo, weights: WeightsFingerprint | None) -> Iterator[NamedValue]:
    yield NamedValue("parameters", count(model.parameters), _fingerprint(weights))
    sizes = (
        ("layers", model.layers, "decoder layers, each with its own part of the KV cache"),
        ("hidden size", model.hidden_size, "width of a token's vector between the layers"),
        ("intermediate size", model.intermediate_size, "width inside the MLP of a layer"),
        ("query heads", model.query_heads, "attention heads that ask"),
        ("KV heads", model.kv_heads, _sharing(model)),
        ("head dim", model.head_dim, "size of one head's query, key or value"),
        ("max positions", model.max_positions, "longest sequence the model is made for"),
        ("vocabulary", model.vocab_size, "scores for each position"),
    )
    for name, size, meaning in sizes:
        if size is not None:
            yield NamedValue(name, str(size), meaning)


def _sharing(model: ModelInfo) -> str:
    shared = model.queries_per_kv_head
    if shared is None or shared == 1:
        return "each query head has its own keys and values"
    return f"{plural(shared, 'query head')} share one KV head; only KV heads are cached"


_DRAWN = "sampling", "each token is drawn at random, as its probability says"
_GREEDY = "greedy", "the token with the highest score is taken"

_LOOPS: Mapping[LoopName, tuple[str, str]] = {
    "_assisted_decoding": (
        "assisted",
        "something cheaper proposes tokens, which the model may accept",
    ),
    "_beam_search": ("beam search", "several sequences of each row are followed at once"),
    "_group_beam_search": (
        "group beam search",
        "beams of each row are in groups, of which a later one pays for the tokens of the earlier ones",
    ),
    "_constrained_beam_search": (
        "constrained beam search",
        "several sequences of each row are followed at once, and have to meet constraints",
    ),
    "_contrastive_search": (
        "contrastive search",
        "of the most probable tokens one is taken that repeats little of what is there",
    ),
    "_dola_decoding": ("DoLa", "the last layer's prediction is contrasted with that of an earlier one"),
}
"""Loops beside that of greedy decoding and sampling, and what they do."""


def decoding(header: RunHeader) -> NamedValue:
    """How a run chose its tokens.

    Args:
        header: its header.
    """
    way, meaning = _DRAWN if header.do_sample else _GREEDY
    if header.loop in _LOOPS:
        name, what = _LOOPS[header.loop]
        if header.ranks:
            return NamedValue("decoding", name, what)
        way, meaning = f"{name}, {way}", f"{what}; {meaning}"
    return NamedValue("decoding", way, meaning)


def _run_metadata(header: RunHeader) -> Iterator[NamedValue]:
    cache = header.generation_config.get("use_cache", "True")
    yield NamedValue("KV cache", "off" if cache == "False" else "on", SETTINGS["use_cache"])
    yield decoding(header)
    if header.seed is not None:
        yield NamedValue("seed", str(header.seed), "of the random number generators")
    elif header.do_sample:
        yield NamedValue("seed", "none set", "another run may choose other tokens")
    if header.max_length is not None:
        yield NamedValue("max length", str(header.max_length), "longest row, prompt included")


def _particulars(header: RunHeader, tokens: Mapping[int, TokenText]) -> Iterator[NamedValue]:
    if header.fork is not None:
        yield NamedValue("fork", fork_text(header.fork, tokens), "the steps before were given its tokens")
    yield from checkpoint_values(header.model)
    yield from _prompt_metadata(header)
    if header.rank is not None:
        value = f"{header.rank} of {header.world_size}"
        yield NamedValue("process", value, "rank among the processes that ran together, from 0")
    for each in not_seen_views(header.not_seen, header.modules):
        yield NamedValue(each.title, each.names, each.meaning)


def _prompt_metadata(header: RunHeader) -> Iterator[NamedValue]:
    """What of the prompt is no text."""
    images = [f"row {row}: {_places(each.images)}" for row, each in enumerate(header.prompt) if each.images]
    if images:
        yield NamedValue("images", ", ".join(images), "positions of the ids that stand for them")
    if header.embedded:
        yield NamedValue("embeddings", plural(header.embedded, "position"), "given in place of token ids")
    if header.cached:
        yield NamedValue("filled cache", plural(header.cached, "position"), "in it before this run")


def _places(positions: Sequence[int]) -> str:
    """Positions, neighbours joined: ``5 to 580, 601``."""
    runs: list[list[int]] = []
    for position in positions:
        if runs and runs[-1][-1] == position - 1:
            runs[-1][1:] = [position]
        else:
            runs.append([position])
    return ", ".join(" to ".join(map(count, run)) for run in runs)


def _devices(devices: dict[str, str]) -> str:
    """Devices with the modules on them: ``cuda:0``, or ``cuda:0 (model.embed_tokens … model.layers.13)``."""
    groups: list[tuple[str, list[str]]] = []
    for prefix, device in devices.items():
        if not groups or groups[-1][0] != device:
            groups.append((device, []))
        groups[-1][1].append(prefix)
    if len(groups) == 1:
        return plain(groups[0][0])
    return ", ".join(
        plain(f"{device} ({names[0]} … {names[-1]})" if len(names) > 1 else f"{device} ({names[0]})")
        for device, names in groups
    )
