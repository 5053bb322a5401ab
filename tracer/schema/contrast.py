"""What DoLa decoding does in a step: the last layer's prediction contrasted with that of an earlier one."""

from __future__ import annotations

from tracer.schema.base import Record


class EarlyLayer(Record):
    """A layer that the last one may be contrasted with.

    Attributes:
        layer: its number; 0 is the embeddings, n the output of the n-th decoder layer.
        divergence: Jensen-Shannon divergence of its prediction from that of the last layer, as the library
            computes it: the mean over all rows and the whole vocabulary, in nats. None where there is one
            such layer, which is taken without asking.
    """

    layer: int
    divergence: float | None


class ContrastedToken(Record):
    """A token with the two predictions that its score is the difference of.

    Attributes:
        token: its id.
        last: log-probability by the last layer, in nats.
        early: log-probability by the layer taken.
    """

    token: int
    last: float
    early: float


class LayerContrast(Record):
    """The contrast of a step.

    Attributes:
        layers: the layers that could be taken, in the order of the setting.
        taken: the one whose prediction diverged most from the last layer's.
        kept: for each row, how many tokens are left: those that the last layer gives at least a tenth of the
            probability of its best one.
        tokens: for each row, those of the tokens left with the highest scores, best first.
    """

    layers: tuple[EarlyLayer, ...]
    taken: int
    kept: tuple[int, ...]
    tokens: tuple[tuple[ContrastedToken, ...], ...]
