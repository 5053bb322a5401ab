"""The settings that processors had in a step, where the user had changed some."""

from __future__ import annotations

from tracer.schema.run import ProcessorInfo, RunHeader
from tracer.schema.step import Step

ATTRIBUTES = {"repetition_penalty": "penalty", "typical_p": "mass", "no_repeat_ngram_size": "ngram_size"}
"""Names in the generation config whose processor calls them otherwise."""


def header_in_force(header: RunHeader, step: Step) -> RunHeader:
    """The header with the settings that were in force in a step.

    Args:
        header: the run's header, with the settings from its start.
        step: the step, which notes each ``set`` that it was made under.
    """
    processors = list(header.processors)
    for change in step.head.interventions:
        if change.kind == "set":
            name, _, value = change.detail.rpartition(" ")
            _change(processors, ATTRIBUTES.get(name, name), value)
    return header.model_copy(update={"processors": tuple(processors)})


def _change(processors: list[ProcessorInfo], name: str, value: str) -> None:
    """Change a setting of the first processor that has it."""
    for place, info in enumerate(processors):
        if name in info.settings:
            processors[place] = info.model_copy(update={"settings": {**info.settings, name: value}})
            return
