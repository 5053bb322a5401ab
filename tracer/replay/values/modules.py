"""The module calls of a step, as the tree of modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

from tracer.replay.moment import Moment
from tracer.replay.values.statistics import call_statistics
from tracer.replay.values.value import Fields, Make, Value, sequence, short
from tracer.schema.run import ModuleInfo
from tracer.schema.tensors import TensorInfo


def modules_value(moment: Moment, saved: Value) -> Value:
    """All modules, the model first; each is opened to those inside it.

    Args:
        moment: any moment of the step.
        saved: the tensors that were saved of the step.
    """
    layout = moment.step.layout
    if layout is None or moment.step.modules is None:
        return Fields("the module calls of this step were not recorded", "", _with_saved({}, saved))
    calls: dict[int, list[int]] = {}
    for place, module in enumerate(layout.modules):
        calls.setdefault(module, []).append(place)
    root = _Tree(moment, calls, _children(moment.header.modules))
    return Fields(f"{len(layout.modules)} module calls", "", _with_saved(root.parts(0), saved))


def _with_saved(parts: dict[str, Make], saved: Value) -> dict[str, Make]:
    return {**parts, "saved tensors": lambda: saved} if saved.named else parts


class _Tree:
    """Makes the value of a module when it is asked for."""

    def __init__(
        self, moment: Moment, calls: Mapping[int, Sequence[int]], children: Mapping[int, Sequence[int]]
    ) -> None:
        self._moment = moment
        self._calls = calls
        self._children = children

    def parts(self, module: int) -> dict[str, Make]:
        """The calls of a module and the modules inside it."""
        calls = self._calls.get(module, ())
        made: dict[str, Make] = {}
        for number, place in enumerate(calls, 1):
            suffix = f" of call {number}" if len(calls) > 1 else ""
            made[f"inputs{suffix}"] = partial(self._specs, place, "inputs")
            made[f"outputs{suffix}"] = partial(self._specs, place, "outputs")
            if statistics := call_statistics(self._moment.step, place):
                made[f"statistics{suffix}"] = partial(Value, statistics)
        for child in self._children.get(module, ()):
            name = self._moment.header.modules[child].name.rpartition(".")[2]
            made[name] = partial(self._module, child)
        return made

    def _module(self, module: int) -> Value:
        info, calls = self._moment.header.modules[module], self._calls.get(module, ())
        if not calls:
            text = f"{info.class_name}: not called"
        else:
            outputs = self._specs(calls[0], "outputs").text
            statistics = call_statistics(self._moment.step, calls[0])
            text = f"{info.class_name}: {outputs}{', ' + statistics if statistics else ''}"
        return Fields(short(text), info.class_name, self.parts(module))

    def _specs(self, place: int, side: str) -> Value:
        step = self._moment.step
        assert step.modules is not None
        shape = step.shapes[int(step.modules.shapes[place])]
        infos: tuple[TensorInfo, ...] = shape.inputs if side == "inputs" else shape.outputs
        specs = [Value(f"{list(info.shape)} {info.dtype} {info.device}", "Tensor") for info in infos]
        return specs[0] if len(specs) == 1 else sequence(specs)


@lru_cache(maxsize=4)
def _children(modules: tuple[ModuleInfo, ...]) -> Mapping[int, tuple[int, ...]]:
    """The modules inside each module; a folder without a module of its own (a ModuleList) is one too."""
    numbers = {info.name: number for number, info in enumerate(modules)}
    found: dict[int, list[int]] = {}
    for number, info in enumerate(modules):
        if not info.name:
            continue
        parent = info.name.rpartition(".")[0]
        while parent and parent not in numbers:
            parent = parent.rpartition(".")[0]
        found.setdefault(numbers.get(parent, 0), []).append(number)
    return {parent: tuple(inside) for parent, inside in found.items()}
