"""The parts of a card: each a typed value that a renderer lays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reports.view.tokens import TokenView
from tracer.schema.tensors import TensorInfo

Level = Literal["explain", "fact", "ok", "warning", "error"]


@dataclass(frozen=True)
class Note:
    """One line of text.

    Attributes:
        text: the line.
        level: ``explain`` teaches, ``fact`` states, ``ok`` is a check that passed, ``warning`` and
            ``error`` need attention.
    """

    text: str
    level: Level = "explain"


@dataclass(frozen=True)
class Variable:
    """One variable as a debugger shows it.

    Attributes:
        name: its name.
        info: shape, dtype and device; None for anything but a tensor.
        value: its value in one line, None when it was not recorded.
        meaning: what it is, in plain words.
        changed: it differs from what it was at the same stop of the previous step.
    """

    name: str
    info: TensorInfo | None = None
    value: str | None = None
    meaning: str | None = None
    changed: bool = False


@dataclass(frozen=True)
class VariableTable:
    """Variables, one below the other.

    Attributes:
        variables: the variables.
        title: what they have in common, None when the card's title says it.
    """

    variables: tuple[Variable, ...]
    title: str | None = None


@dataclass(frozen=True)
class TokenStrip:
    """Tokens in the order of the sequence.

    Attributes:
        title: what they are.
        tokens: the tokens.
        start: position of the first one in its row.
    """

    title: str
    tokens: tuple[TokenView, ...]
    start: int = 0


@dataclass(frozen=True)
class Range:
    """Smallest and largest of several values; equal for one."""

    low: float
    high: float


@dataclass(frozen=True)
class Statistics:
    """Statistics of the outputs of one or several module calls.

    Attributes:
        mean: range of the means.
        std: range of the standard deviations.
        low: smallest value.
        high: largest value.
        nonfinite: NaN and infinite values.
    """

    mean: Range
    std: Range
    low: float
    high: float
    nonfinite: int


@dataclass(frozen=True)
class LayerRow:
    """One module call, or several with equal signatures.

    Attributes:
        name: the module; ``model.layers.0-27`` for equal layers, ``*`` for any number inside a path.
        class_name: its class.
        calls: how many calls the row represents.
        inputs: shape of the first input; a dimension that differs between calls is a range; None without.
        outputs: shape of the first output.
        dtype: of the first output.
        device: of the first output.
        statistics: None when none were taken.
        children: the modules inside, folded over the row's layers.
    """

    name: str
    class_name: str
    calls: int
    inputs: str | None
    outputs: str | None
    dtype: str | None
    device: str | None
    statistics: Statistics | None
    children: tuple[LayerRow, ...] = ()


@dataclass(frozen=True)
class LayerTable:
    """Module calls of a step, in the order in which they returned.

    Attributes:
        rows: one line a module or a group of equal decoder layers.
        calls: module calls in all.
        not_called: registered modules that were not called, numbers folded to ``*``.
    """

    rows: tuple[LayerRow, ...]
    calls: int
    not_called: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """What one processor did to one row's scores.

    Attributes:
        number: its place in its list, from 1.
        class_name: its class.
        settings: its settings as text, ``top_k=20``.
        meaning: what such a processor does; None for an unknown class.
        vocabulary: number of scores.
        changed: scores that it changed, removals included.
        removed: scores that it set to -inf.
        mass_removed: probability, before it, of what it removed.
        kept_before: tokens above -inf before it.
        kept_after: and after it.
        entropy_before: entropy of the softmax before it, in bits.
        entropy_after: and after it.
        removed_tokens: those of the removed tokens that are recorded, highest score first.
    """

    number: int
    class_name: str
    settings: tuple[str, ...]
    meaning: str | None
    vocabulary: int
    changed: int
    removed: int
    mass_removed: float
    kept_before: int
    kept_after: int
    entropy_before: float
    entropy_after: float
    removed_tokens: tuple[TokenView, ...]


@dataclass(frozen=True)
class TokenPath:
    """One token's score before the first processor of a list and after each.

    Attributes:
        token: the token.
        scores: the scores, ``-inf`` once removed.
        chosen: it is the token that this step chose.
    """

    token: TokenView
    scores: tuple[float, ...]
    chosen: bool = False


@dataclass(frozen=True)
class StageTable:
    """The processors of one list and the scores of the top tokens after each.

    Attributes:
        row: row of the batch.
        stages: one a processor.
        paths: the tokens with the highest scores before, and the chosen one.
    """

    row: int
    stages: tuple[Stage, ...]
    paths: tuple[TokenPath, ...]


@dataclass(frozen=True)
class CandidateRow:
    """One token in a candidate list.

    Attributes:
        rank: its place in the list, from 1.
        token: the token.
        raw: raw logit.
        score: score after all processors; None in a list of raw logits.
        probability: softmax of the scores, also the length of its bar; None in a list of raw logits.
        chosen: it is the token that this step chose.
    """

    rank: int
    token: TokenView
    raw: float
    score: float | None = None
    probability: float | None = None
    chosen: bool = False


@dataclass(frozen=True)
class CandidateList:
    """Tokens in the order of their probability or raw logit.

    Attributes:
        row: row of the batch.
        title: what they are.
        first: what the scores before the first processor are called: ``raw logit``.
        rows: the recorded ones.
        total: how many there are in all.
        vocabulary: number of tokens.
        entropy: of the distribution, in bits.
    """

    row: int
    title: str
    first: str
    rows: tuple[CandidateRow, ...]
    total: int
    vocabulary: int
    entropy: float


@dataclass(frozen=True)
class ChoiceRow:
    """The token appended to one row of the batch.

    Attributes:
        row: row of the batch.
        token: the token.
        probability: in the distribution that was chosen from.
        rank: in that distribution, from 1.
        raw_rank: among the raw logits, from 1.
        candidates: how many could have been chosen.
        runner_up: the most probable other candidate, None if there was none.
        padding: the row had ended before; the token only fills the batch.
    """

    row: int
    token: TokenView
    probability: float
    rank: int
    raw_rank: int
    candidates: int
    runner_up: CandidateRow | None
    padding: bool


@dataclass(frozen=True)
class ChoiceTable:
    """What was chosen, row by row."""

    rows: tuple[ChoiceRow, ...]


@dataclass(frozen=True)
class CacheRow:
    """Consecutive layers of the KV cache with equal specs.

    Attributes:
        layers: first to last index as text.
        count: how many layers.
        key: the key tensor of each.
        value: the value tensor of each.
        layer_bytes: bytes of keys and values of one layer.
    """

    layers: str
    count: int
    key: TensorInfo
    value: TensorInfo
    layer_bytes: int


@dataclass(frozen=True)
class CacheTable:
    """The KV cache at one moment.

    Attributes:
        title: which moment.
        kind: class of the cache.
        length: slots in use.
        layers: layers that hold keys and values.
        total_bytes: bytes in all.
        rows: the layers, folded.
        key_norms: Euclidean norms of the keys that this step wrote; None when not recorded.
        value_norms: and of the values.
    """

    title: str
    kind: str
    length: int
    layers: int
    total_bytes: int
    rows: tuple[CacheRow, ...]
    key_norms: Range | None = None
    value_norms: Range | None = None


@dataclass(frozen=True)
class CriterionRow:
    """One stopping criterion and its answer.

    Attributes:
        class_name: its class.
        settings: its settings as text.
        meaning: when it stops a row; None for an unknown class.
        fired: rows for which it said stop.
    """

    class_name: str
    settings: tuple[str, ...]
    meaning: str | None
    fired: tuple[int, ...]


@dataclass(frozen=True)
class CriterionTable:
    """The stopping criteria, in order.

    Attributes:
        rows: the criteria.
        batch: rows of the batch.
    """

    rows: tuple[CriterionRow, ...]
    batch: int


@dataclass(frozen=True)
class FigureColumn:
    """A column of a table of figures.

    Attributes:
        heading: what is in it.
        text: it holds words rather than figures, and is aligned to the left.
        rank: where space is short the column with the highest rank is left out first; 0 always stays.
    """

    heading: str
    text: bool = False
    rank: int = 0


@dataclass(frozen=True)
class FigureRow:
    """A row of a table of figures.

    Attributes:
        cells: one a column.
        taken: it is what the library took.
    """

    cells: tuple[str | TokenView, ...]
    taken: bool = False


@dataclass(frozen=True)
class FigureTable:
    """Figures of one decoding loop, which no other block knows.

    Attributes:
        title: what they are.
        columns: the columns.
        rows: the rows.
    """

    title: str
    columns: tuple[FigureColumn, ...]
    rows: tuple[FigureRow, ...]


@dataclass(frozen=True)
class OtherRows:
    """The same figures, in one line each, for the rows of the batch that are not shown in full.

    Attributes:
        columns: names of the figures.
        rows: number of the row and its figures as text.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
