"""Write, read and check trace files; :mod:`tracer.tracefile.format` describes them."""

from tracer.tracefile.encoding.saved_tensor import SavedTensor
from tracer.tracefile.reading.check import FileReport, RunReport, check_file
from tracer.tracefile.reading.kv_cache import TraceCache
from tracer.tracefile.reading.steps import StepSequence
from tracer.tracefile.reading.trace_file import FileInfo, TraceFile
from tracer.tracefile.reading.trace_run import TraceRun
from tracer.tracefile.stamps import stamp
from tracer.tracefile.writing.jobs import EndWrite, Job, Listener, StepWrite
from tracer.tracefile.writing.recorder import Recorder
from tracer.tracefile.writing.writer import TraceWriter

__all__ = [
    "EndWrite",
    "FileInfo",
    "FileReport",
    "Job",
    "Listener",
    "Recorder",
    "RunReport",
    "SavedTensor",
    "StepSequence",
    "StepWrite",
    "TraceCache",
    "TraceFile",
    "TraceRun",
    "TraceWriter",
    "check_file",
    "stamp",
]
