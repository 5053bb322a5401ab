"""The processor settings that were in force in a step, where the user had changed some."""

from __future__ import annotations

from tracer.analysis.processors.settings import KNOBS
from tracer.schema.run import ProcessorInfo, RunHeader
from tracer.schema.step import Step

ATTRIBUTES = {
    **{name: KNOBS[name].field for name in ("repetition_penalty", "typical_p")},
    "no_repeat_ngram_size": "ngram_size",
}
"""The processor's attribute by the name in the generation config, where the two differ.

Both cutoffs (epsilon, eta) are missing: their processors share one attribute name.
"""


def header_in_force(header: RunHeader, step: Step) -> RunHeader:
    """The run's header with the settings that were in force in a step.

    Args:
        header: the run's header, with the settings from its start.
        step: the step, which records every ``set`` in force.
    """
    processors = list(header.processors)
    for change in step.head.interventions:
        if change.setting is not None:
            name = ATTRIBUTES.get(change.setting, change.setting)
            _change_setting(processors, name, str(change.value))
    return header.model_copy(update={"processors": tuple(processors)})


def _change_setting(processors: list[ProcessorInfo], name: str, value: str) -> None:
    """Change a setting of the first processor that has it."""
    for place, info in enumerate(processors):
        if name in info.settings:
            processors[place] = info.model_copy(update={"settings": {**info.settings, name: value}})
            return
