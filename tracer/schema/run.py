"""The header of a run, known before its first step, and its end record."""

from __future__ import annotations

from enum import Enum
from typing import Literal, get_args

from pydantic import field_validator

from tracer.schema.base import Record, short_repr
from tracer.schema.beams import BeamEnd
from tracer.schema.checks import Check, Violation
from tracer.schema.fork import ForkOrigin

LoopName = Literal[
    "_sample",
    "_dola_decoding",
    "_beam_search",
    "_group_beam_search",
    "_constrained_beam_search",
    "_assisted_decoding",
    "_contrastive_search",
]
"""The methods of ``GenerationMixin`` that are traced: the decoding loops."""

LOOPS: tuple[LoopName, ...] = get_args(LoopName)
"""All of them."""

StopName = Literal[
    "run-header",
    "prefill",
    "candidates",
    "model-call",
    "layers",
    "forward-result",
    "next-logits",
    "contrast",
    "log-softmax",
    "processors",
    "warpers",
    "beam-scores",
    "softmax",
    "top-k",
    "repeat",
    "choice",
    "beams",
    "select",
    "append",
    "crop",
    "strategy",
    "update",
    "reorder",
    "stopping",
]

ALL_STOPS: tuple[StopName, ...] = get_args(StopName)
"""The stops of all loops, in an order that agrees with that of each loop of transformers 4.44 but one:
contrastive search runs its processors before its forward pass."""

_OF_OTHER_LOOPS: frozenset[StopName] = frozenset(
    {
        "prefill",
        "candidates",
        "contrast",
        "log-softmax",
        "beam-scores",
        "top-k",
        "repeat",
        "beams",
        "select",
        "crop",
        "strategy",
        "reorder",
    }
)

_NOT_EVERYWHERE: frozenset[StopName] = frozenset({"warpers", "softmax"})
"""Stops of ``_sample`` that a loop lacks which has one list for all processors, or never draws."""

STOPS: tuple[StopName, ...] = tuple(stop for stop in ALL_STOPS if stop not in _OF_OTHER_LOOPS)
"""The stops of ``_sample`` in transformers 4.44; a run's header has those of its loop, in their order."""

Phase = Literal["prefill", "decode"]
"""Phase of a run: its first step, which reads the prompt, or a later one."""


class Anchor(Record):
    """The library's own source line at which a stop happens.

    Attributes:
        stop: which stop.
        function: the function that holds the line; empty in traces from before format 3.
        phase: the phase of a run in which the stop is there; None where it always is.
        file: path from the package root, e.g. ``transformers/generation/utils.py``.
        path: absolute path on the machine that made the trace.
        line: line number, from 1.
        text: the statement, stripped.
        excerpt_start: number of the first excerpt line.
        excerpt: source lines around the anchor.
    """

    stop: StopName
    file: str
    path: str
    line: int
    text: str
    excerpt_start: int
    excerpt: tuple[str, ...]
    function: str = ""
    phase: Phase | None = None


class ModuleInfo(Record):
    """One registered module.

    Attributes:
        name: dotted path as in ``named_modules()``; empty for the model itself.
        class_name: its class.
    """

    name: str
    class_name: str


NotSeenReason = Literal["compiled", "scripted", "distributed", "spread"]
"""Why something of a module is not recorded: it runs inside a compiled graph, or inside TorchScript, and its
calls are not seen; or its output belongs to several processes, and no part of it can be read in this one; or
what is recorded of its output is this process's part."""


class NotSeen(Record):
    """A module whose calls, or whose outputs' values, are not recorded.

    Attributes:
        module: its index.
        reason: why.
    """

    module: int
    reason: NotSeenReason


class CheckpointFaults(Record):
    """What was wrong with the checkpoint that a model was loaded from, and was allowed.

    Attributes:
        missing: names of weights that it lacks; they are random.
        unexpected: names of weights that the model does not have; they are not used.
        mismatched: weights of another shape, each with both shapes; they are random.
        generation_config: why its generation settings could not be read; None if they could.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    generation_config: str | None = None


class AdapterInfo(Record):
    """A PEFT adapter on a model.

    Attributes:
        name: its name on the model, such as ``default``.
        kind: its kind, such as ``LORA``.
        rank: rank of its matrices; None for a kind that has none.
        base: the model that it was made for, as it says itself.
    """

    name: str
    kind: str
    rank: int | None = None
    base: str | None = None


class ModelInfo(Record):
    """Metadata of the model; None where its architecture has no such thing.

    Attributes:
        name: hub id, folder or label.
        class_name: e.g. ``Qwen2ForCausalLM``.
        layers: decoder layers.
        hidden_size: width of the residual stream.
        intermediate_size: width of the MLP.
        query_heads: attention heads for queries.
        kv_heads: heads for keys and values.
        head_dim: size of one head.
        max_positions: longest sequence.
        vocab_size: tokens in the vocabulary.
        parameters: number of parameters.
        dtype: dtype of the parameters.
        attention: attention implementation in use (``sdpa``, ``eager``, …).
        devices: device per module prefix (``{"": "cpu"}`` when all are on one).
        tree: the module tree as ``print(model)`` gives it.
        config: the whole configuration as JSON text.
        quantization: method and width of quantised weights, e.g. ``gptq, 4 bits``; None where the
            configuration names none.
        adapters: the PEFT adapters that are active on it.
        checkpoint_faults: what was wrong with its checkpoint; None if nothing is known to have been.
    """

    name: str
    class_name: str
    layers: int | None
    hidden_size: int | None
    intermediate_size: int | None
    query_heads: int | None
    kv_heads: int | None
    head_dim: int | None
    max_positions: int | None
    vocab_size: int | None
    parameters: int
    dtype: str
    attention: str | None
    devices: dict[str, str]
    tree: str
    config: str
    quantization: str | None = None
    adapters: tuple[AdapterInfo, ...] = ()
    checkpoint_faults: CheckpointFaults | None = None

    def __repr__(self) -> str:
        return (
            f"<model {short_repr(self.class_name)}: {self.parameters:,} parameters, {short_repr(self.dtype)}>"
        )

    @property
    def queries_per_kv_head(self) -> int | None:
        """How many query heads share one KV head (GQA); 1 is ordinary multi-head attention."""
        if not self.query_heads or not self.kv_heads:
            return None
        return self.query_heads // self.kv_heads


ListName = Literal["logits_processor", "logits_warper"]
"""The two lists of processors that ``_sample`` takes."""


class _ElementInfo(Record):
    """A processor, warper or stopping criterion.

    Attributes:
        class_name: its class.
        settings: its public scalar attributes and the names of its functions as text
            (:mod:`tracer.schema.setting_text`), e.g. ``{"temperature": "0.7"}``.
        module: the module of its class, e.g. ``xgrammar.contrib.hf``; empty in traces of format 1.
    """

    class_name: str
    settings: dict[str, str]
    module: str = ""

    @property
    def of_transformers(self) -> bool:
        """Whether the class is transformers' own, so that its name says what it does."""
        return not self.module or self.module.startswith("transformers.")

    @property
    def qualified_name(self) -> str:
        """The class, with its module where that is not transformers."""
        return self.class_name if self.of_transformers else f"{self.module}.{self.class_name}"


class ProcessorInfo(_ElementInfo):
    """One element of ``logits_processor`` or ``logits_warper``.

    Attributes:
        list_name: which list it is in.
    """

    list_name: ListName


class CriterionInfo(_ElementInfo):
    """One stopping criterion."""


class PromptRow(Record):
    """One row of the batch before generation.

    Attributes:
        token_ids: the ids that ``generate()`` was given, padding included.
        padding: number of ids at the left that the attention mask hides.
        images: positions of the ids that stand for an image.
        text: the text that was tokenized (chat template applied), None when unknown.
    """

    token_ids: tuple[int, ...]
    padding: int
    images: tuple[int, ...] = ()
    text: str | None = None


class CaptureSettings(Record):
    """What the user asked to record.

    Attributes:
        level: ``shapes``, ``stats`` or ``tensors``.
        save: what ``tensors`` stores: ``logits``, ``hidden``, ``kv``, ``attention``, ``modules=REGEX``;
            ``lens`` at any level.
        candidates: largest length of the candidate lists.
        strict: whether a violated check ends the generation.
    """

    level: Literal["shapes", "stats", "tensors"] = "stats"
    save: tuple[str, ...] = ()
    candidates: int = 64
    strict: bool = False


class WeightsFingerprint(Record):
    """A digest of a model's parameters, from sampled elements of each.

    Attributes:
        digest: BLAKE2b-128 in hex, of names, dtypes, shapes and sampled values; None where it was not taken.
        parameters: number of parameter tensors.
        elements: number of elements that were read.
        not_taken: why it was not taken.
    """

    digest: str | None = None
    parameters: int = 0
    elements: int = 0
    not_taken: str | None = None


class RunHeader(Record):
    """Everything known when a traced ``generate()`` enters its decoding loop.

    Attributes:
        model: metadata of the model.
        generation_config: the settings in force that differ from a bare ``GenerationConfig``, as text
            (:mod:`tracer.schema.setting_text`).
        do_sample: sampling (True) or greedy.
        max_length: longest sequence that the stopping criteria allow, prompt included.
        seed: the seed that was set for this run, None when the caller set none.
        prompt: one entry per row.
        embedded: positions of each row that were given as embeddings, in place of token ids.
        cached: positions that were in the KV cache before the run.
        processors: logits processors then warpers, in order; stage ``i`` of a step follows the ``i``-th.
        criteria: stopping criteria in order.
        modules: all registered modules in ``named_modules()`` order; other records refer to their index.
        anchors: source anchors of the stops.
        loop: the decoding loop that the run is in.
        stops: the stops of that loop in order, the run header first; a stop's place is its number.
        passes: how many forward passes, one after the other, a step has of its own: with ``low_memory`` one
            for each part of the rows of a beam search, or one for each candidate and one of the one taken.
        capture: what is recorded.
        versions: package name to version, Python's included.
        started_at: UTC, ISO 8601.
        rank: number of the process among several that worked together, None for one alone.
        world_size: how many these were.
        not_seen: modules of which something is not recorded; those that turn up later are in their step.
        weights: fingerprint of the model's parameters as the run began; None in traces from before there was
            one.
        fork: the run that this one repeats up to a step; None for a run of its own.
    """

    model: ModelInfo
    generation_config: dict[str, str]
    do_sample: bool
    max_length: int | None
    seed: int | None
    prompt: tuple[PromptRow, ...]
    processors: tuple[ProcessorInfo, ...]
    criteria: tuple[CriterionInfo, ...]
    modules: tuple[ModuleInfo, ...]
    anchors: tuple[Anchor, ...]
    capture: CaptureSettings
    versions: dict[str, str]
    started_at: str
    embedded: int = 0
    cached: int = 0
    rank: int | None = None
    world_size: int | None = None
    not_seen: tuple[NotSeen, ...] = ()
    weights: WeightsFingerprint | None = None
    fork: ForkOrigin | None = None
    loop: LoopName = "_sample"
    stops: tuple[StopName, ...] = STOPS
    passes: int = 1

    @field_validator("stops")
    @classmethod
    def _is_an_order(cls, stops: tuple[StopName, ...]) -> tuple[StopName, ...]:
        """Each stop once, and all that every loop has."""
        if len({*stops}) < len(stops) or stops[:1] != STOPS[:1] or {*STOPS} - {*stops} - _NOT_EVERYWHERE:
            raise ValueError("not the stops of a loop")
        return stops

    @property
    def rows_move(self) -> bool:
        """Whether a row of a step may continue another row of the step before, as beams do."""
        return self.loop in ("_beam_search", "_group_beam_search", "_constrained_beam_search")

    @property
    def without_scorer(self) -> bool:
        """Whether it is a beam search that has no scorer, so that stopping criteria end continuations."""
        return self.rows_move and self.number("stopping") < self.number("beams")

    @property
    def proposes(self) -> bool:
        """Whether a step may append several tokens, those of proposals that are accepted."""
        return self.loop == "_assisted_decoding"

    @property
    def ranks(self) -> bool:
        """Whether a step ranks candidates that its forward pass has read, as contrastive search does."""
        return self.loop == "_contrastive_search"

    @property
    def one_list(self) -> bool:
        """Whether the loop takes its warpers in the list of the processors."""
        return "warpers" not in self.stops

    def __repr__(self) -> str:
        rows, how = len(self.prompt), "sampling" if self.do_sample else "greedy"
        tokens = ", ".join(str(len(row.token_ids)) for row in self.prompt[:1]) or "no"
        batch = f"{rows} rows of " if rows > 1 else ""
        processors = f"{len(self.processors)} processors"
        model = short_repr(self.model.class_name)
        return f"<header of a run of {model}: {batch}{tokens} prompt tokens, {how}, {processors}>"

    def anchor(self, stop: StopName, phase: Phase = "decode") -> Anchor | None:
        """The anchor of a stop, None where the traced model has no such line.

        Args:
            stop: the stop.
            phase: the phase of the run that is meant.
        """
        return next(
            (each for each in self.anchors if each.stop == stop and each.phase in (None, phase)), None
        )

    def number(self, stop: StopName) -> int:
        """The number of a stop; of one that the loop does not have, that of the one in its place.

        Args:
            stop: the stop.
        """
        return self.stops.index(self.own_stop(stop))

    def own_stop(self, stop: StopName) -> StopName:
        """The stop of this loop at which something of a stop belongs.

        Args:
            stop: the stop; a loop with one list of processors has no warpers of their own.
        """
        return stop if stop in self.stops else "processors"


class RunStatus(str, Enum):
    """How a run ended."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class RunEnd(Record):
    """The end record, written last; a run without it is incomplete.

    Attributes:
        status: how it ended.
        error: the model's error, when it failed; why it was interrupted, where that is known.
        steps: steps that were recorded.
        seconds: wall time inside ``_sample``, halts left out.
        halted_seconds: seconds for which the user had halted the run.
        sequences: all token ids per row, prompt included, as far as they were generated; of a beam search,
            the sequences that it returns.
        texts: generated text per row, special tokens left out; empty without a tokenizer.
        queue_peak_bytes: largest number of bytes that waited for the writer at once.
        queue_waits: number of times the generation waited for the writer.
        queue_wait_seconds: seconds that it waited in total.
        tensors_stopped_at: step from which tensors were skipped for ``--max-trace-size``.
        ended_by: the user's condition that ended the run, and why it held.
        beams: the hypotheses of a beam search; None for any other run, and where it did not come to its end.
        checks: what became of the checks of what the loop returned; none where it returned nothing, and for
            loops whose sequences are those of their steps.
        violations: what did not hold in them; a row is that of a returned sequence.
    """

    status: RunStatus
    error: str | None = None
    steps: int
    seconds: float
    sequences: tuple[tuple[int, ...], ...] = ()
    texts: tuple[str, ...] = ()
    queue_peak_bytes: int = 0
    queue_waits: int = 0
    queue_wait_seconds: float = 0.0
    tensors_stopped_at: int | None = None
    halted_seconds: float = 0.0
    ended_by: str | None = None
    beams: BeamEnd | None = None
    checks: tuple[Check, ...] = ()
    violations: tuple[Violation, ...] = ()

    def __repr__(self) -> str:
        return f"<end of a run: {self.status.value}, {self.steps} steps, {self.seconds:.2f} s>"


class TokenText(Record):
    """A token id with its text.

    Attributes:
        id: the id.
        text: what it decodes to alone; an incomplete UTF-8 sequence shows as U+FFFD.
        piece: the tokenizer's own spelling, e.g. ``ĠLarge``; empty where it cannot spell the id.
        special: whether it is a special token.
    """

    id: int
    text: str
    piece: str
    special: bool = False

    @property
    def spelled(self) -> bool:
        """Whether the tokenizer knows the id: a model may have more ids than its tokenizer."""
        return bool(self.text or self.piece)
