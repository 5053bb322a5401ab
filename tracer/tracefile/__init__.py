"""Write, read and check the file of a recording; :mod:`tracer.tracefile.format` describes it."""

from tracer.tracefile.cache_reading import CacheReading
from tracer.tracefile.check import FileReport, RunReport, check_file
from tracer.tracefile.jobs import EndWrite, Job, Listener, StepWrite
from tracer.tracefile.reader import FileInfo, Recording, open_trace
from tracer.tracefile.recorder import Recorder
from tracer.tracefile.run_reading import RunReading
from tracer.tracefile.saved import SavedTensor
from tracer.tracefile.stamps import Stamp, stamp
from tracer.tracefile.steps import StepSequence
from tracer.tracefile.writer import TraceWriter

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
    "Stamp",
    "StepSequence",
    "StepWrite",
    "TraceWriter",
    "check_file",
    "open_trace",
    "stamp",
]
