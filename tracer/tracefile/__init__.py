"""Write, read and check the file of a recording; :mod:`tracer.tracefile.format` describes it."""

from tracer.tracefile.encoding.saved import SavedTensor
from tracer.tracefile.reading.check import FileReport, RunReport, check_file
from tracer.tracefile.reading.kv_cache import CacheReading
from tracer.tracefile.reading.reader import FileInfo, Recording, open_trace
from tracer.tracefile.reading.run_reading import RunReading
from tracer.tracefile.reading.steps import StepSequence
from tracer.tracefile.stamps import stamp
from tracer.tracefile.writing.jobs import EndWrite, Job, Listener, StepWrite
from tracer.tracefile.writing.recorder import Recorder
from tracer.tracefile.writing.writer import TraceWriter

__all__ = [
    "CacheReading",
    "EndWrite",
    "FileInfo",
    "FileReport",
    "Job",
    "Listener",
    "Recorder",
    "Recording",
    "RunReading",
    "RunReport",
    "SavedTensor",
    "StepSequence",
    "StepWrite",
    "TraceWriter",
    "check_file",
    "open_trace",
    "stamp",
]
