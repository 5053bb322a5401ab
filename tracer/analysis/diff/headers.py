"""Compare the headers of two runs: whether they are comparable, which rows correspond, what differs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tracer.analysis.diff.report import HeaderAspect, HeaderDifference, RowPair
from tracer.analysis.processors.parsing import own_settings
from tracer.analysis.runs import RecordedRun
from tracer.errors import UsageError
from tracer.schema.run import ProcessorInfo, RunHeader

_CACHE_SETTINGS = ("use_cache", "cache_implementation", "cache_config")
_ABSENT = "-"


def check_comparable(a: RunHeader, b: RunHeader) -> None:
    """Refuse runs of different models.

    The classes of modules may differ: attention implementations have their own. A release of transformers
    may have put a model together of other modules; those that both have are compared.

    Raises:
        UsageError: naming the first difference between the models.
    """
    for name in ("class_name", "vocab_size", "layers", "hidden_size"):
        left, right = getattr(a.model, name), getattr(b.model, name)
        if left != right:
            raise UsageError(f"these are runs of different models: {name} is {left} in A and {right} in B")
    if a.versions.get("transformers") != b.versions.get("transformers"):
        return
    ours, theirs = ({module.name for module in header.modules} for header in (a, b))
    if ours != theirs:
        odd = min(ours ^ theirs)
        where = "A" if odd in ours else "B"
        raise UsageError(f"these are runs of different models: only {where} has the module {odd}")


def pair_rows(
    a: RunHeader, b: RunHeader, rows: Sequence[tuple[int, int]] | None = None
) -> tuple[RowPair, ...]:
    """Pair each row of A with the row of B that has the same prompt, ignoring padding.

    Args:
        a: header of run A.
        b: header of run B.
        rows: pairs to use instead.

    Returns:
        Pairs in order of A's rows. If no prompts agree, rows are paired by number.

    Raises:
        UsageError: a given row does not exist.
    """
    if rows is None:
        rows = _same_prompts(a, b) or [(row, row) for row in range(min(len(a.prompt), len(b.prompt)))]
    for left, right in rows:
        if not (0 <= left < len(a.prompt) and 0 <= right < len(b.prompt)):
            raise UsageError(f"there is no pair of rows {left} and {right}")
    return tuple(_pair(a, b, left, right) for left, right in rows)


def _same_prompts(a: RunHeader, b: RunHeader) -> list[tuple[int, int]]:
    """Rows with the same prompt, each used once, with the same number where possible."""
    free = list(range(len(b.prompt)))
    found = []
    for left in range(len(a.prompt)):
        same = [right for right in free if _prompt(b, right) == _prompt(a, left)]
        if same:
            right = left if left in same else same[0]
            free.remove(right)
            found.append((left, right))
    return found


def _prompt(header: RunHeader, row: int) -> tuple[int, ...]:
    prompt = header.prompt[row]
    return prompt.token_ids[prompt.padding :]


def _pair(a: RunHeader, b: RunHeader, left: int, right: int) -> RowPair:
    same = _prompt(a, left) == _prompt(b, right)
    return RowPair(left, right, a.prompt[left].padding, b.prompt[right].padding, same)


def same_batch(a: RunHeader, b: RunHeader, pairs: Sequence[RowPair]) -> bool:
    """Whether both batches hold the same rows in the same order with the same padding.

    Args:
        a: header of run A.
        b: header of run B.
        pairs: rows that are compared.
    """
    rows = len(a.prompt)
    return rows == len(b.prompt) == len(pairs) and all(
        pair.same_prompt and pair.a == pair.b and pair.padding_a == pair.padding_b for pair in pairs
    )


def header_differences(
    a: RecordedRun, b: RecordedRun, pairs: Iterable[RowPair]
) -> tuple[HeaderDifference, ...]:
    """Everything in which two runs differ before their first step."""
    return tuple(difference for difference in _compared(a, b, tuple(pairs)) if difference.a != difference.b)


def _compared(a: RecordedRun, b: RecordedRun, pairs: Sequence[RowPair]) -> Iterator[HeaderDifference]:
    ours, theirs = a.header, b.header
    yield HeaderDifference("loop", "decoding loop", ours.loop, theirs.loop)
    for pair in pairs:
        if not pair.same_prompt:
            yield HeaderDifference(
                "prompt", f"row {pair.a}", str(_prompt(ours, pair.a)), str(_prompt(theirs, pair.b))
            )
        yield HeaderDifference("padding", f"row {pair.a}", str(pair.padding_a), str(pair.padding_b))
    yield HeaderDifference("batch", "rows", str(len(ours.prompt)), str(len(theirs.prompt)))
    yield HeaderDifference("settings", "do_sample", str(ours.do_sample), str(theirs.do_sample))
    yield from _mappings("settings", _own_settings(ours), _own_settings(theirs))
    yield from _processors(ours.processors, theirs.processors)
    if not {"max_length"} & {*ours.generation_config, *theirs.generation_config}:
        yield HeaderDifference("settings", "max_length", str(ours.max_length), str(theirs.max_length))
    yield HeaderDifference("seed", "seed", str(ours.seed), str(theirs.seed))
    yield HeaderDifference("cache", "class", _cache(a), _cache(b))
    yield HeaderDifference("dtype", "dtype", ours.model.dtype, theirs.model.dtype)
    yield HeaderDifference("attention", "attention", str(ours.model.attention), str(theirs.model.attention))
    yield HeaderDifference("model", "name", ours.model.name, theirs.model.name)
    yield from _mappings("device", ours.model.devices, theirs.model.devices)
    yield from _mappings("versions", ours.versions, theirs.versions)


def _mappings(kind: HeaderAspect, a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[HeaderDifference]:
    for name in sorted({*a, *b}):
        own: HeaderAspect = "cache" if kind == "settings" and name in _CACHE_SETTINGS else kind
        yield HeaderDifference(own, name or "all", a.get(name, _ABSENT), b.get(name, _ABSENT))


def _own_settings(header: RunHeader) -> dict[str, str]:
    """Generation settings; whether tokens were drawn is a difference of its own."""
    return {name: value for name, value in header.generation_config.items() if name != "do_sample"}


def _processors(a: Sequence[ProcessorInfo], b: Sequence[ProcessorInfo]) -> Iterator[HeaderDifference]:
    """Processors class by class; where these agree, their order."""
    ours, theirs = _by_class(a), _by_class(b)
    yield from _mappings("processors", ours, theirs)
    if ours == theirs:
        orders = (", ".join(info.qualified_name for info in infos) for infos in (a, b))
        yield HeaderDifference("processors", "order", *orders)


def _by_class(infos: Sequence[ProcessorInfo]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for info in infos:
        settings = ", ".join(f"{name}={value}" for name, value in own_settings(info).items())
        found.setdefault(info.qualified_name, []).append(settings or "in use")
    return {name: "; ".join(settings) for name, settings in found.items()}


def _cache(run: RecordedRun) -> str:
    return run.steps[0].head.cache_after.kind if len(run.steps) else _ABSENT
