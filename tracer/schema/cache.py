"""The KV cache as a record: what each layer holds, equal layers folded."""

from __future__ import annotations

from tracer.schema.base import Record
from tracer.schema.tensors import TensorInfo


class CacheGroup(Record):
    """Consecutive layers whose key and value tensors have the same specs.

    Attributes:
        first: index of the first layer.
        last: index of the last layer, inclusive.
        key: the key tensor, usually ``[batch, KV heads, slots, head dim]``.
        value: the value tensor.
    """

    first: int
    last: int
    key: TensorInfo
    value: TensorInfo


class CacheState(Record):
    """The KV cache at one moment.

    Attributes:
        kind: class of the cache object, ``tuple`` for the legacy form, ``modules`` where the model's modules
            keep what they read, ``none`` when there is no cache.
        length: slots in use (tokens whose keys and values are cached); of a ``state``, the tokens it covers.
        state: it is not made of keys and values that can be read: a recurrent or quantised state.
        groups: the layers, folded; empty while nothing has been cached.
    """

    kind: str
    length: int
    state: bool = False
    groups: tuple[CacheGroup, ...] = ()

    @property
    def layers(self) -> int:
        """Number of layers that hold keys and values."""
        return sum(group.last - group.first + 1 for group in self.groups)

    @property
    def nbytes(self) -> int:
        """Bytes held by keys and values of all layers."""
        return sum(
            (group.last - group.first + 1) * (group.key.nbytes + group.value.nbytes) for group in self.groups
        )
