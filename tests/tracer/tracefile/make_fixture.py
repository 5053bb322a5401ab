"""Make the file that keeps a released version of the format readable for ever.

Run once when a version of the format is released: ``python -m tests.tracer.tracefile.make_fixture``. An
existing file is left alone: a later program that cannot read it any more has to be mended, not the file.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.synthetic import synthetic_end
from tests.tracer.tracefile.samples import header, slots, some_tokens, steps, tensors, with_faults
from tracer.schema.stamp import Stamp
from tracer.tracefile import TraceWriter, stamp
from tracer.tracefile.encoding.slots import SLOTS
from tracer.tracefile.format import SCHEMA_VERSION

FIXTURES = Path(__file__).parent / "fixtures"


def main() -> None:
    """Write the fixture of the current version."""
    path = FIXTURES / f"version-{SCHEMA_VERSION}.trace"
    with TraceWriter(path) as writer:
        for count in (3, 1):
            number = writer.begin_run(header(2), some_tokens(3))
            for step in steps(count, rows=2, run=number):
                saved = {**tensors(step.number), SLOTS: slots(step.number)}
                writer.write_step(with_faults(step), some_tokens(), saved)
            if number == 1:
                writer.end_run(number, synthetic_end(header(2), count))
    stamp(
        path, Stamp(kind="file", ok=True, made_at="2026-01-02T03:04:05Z", summary="all digests hold", run=1)
    )


if __name__ == "__main__":
    main()
