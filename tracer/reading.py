"""A recording with its reports: what ``tracer.open_trace`` gives."""

from __future__ import annotations

import os
from html import escape

from tracer.tracefile import Recording as StoredRecording

FRAME_HEIGHT = 860


class Recording(StoredRecording):
    """An open trace that can also be shown; see :class:`tracer.tracefile.Recording` for what it holds."""

    def to_html(self, *, run: int | None = None, redact: bool = False) -> str:
        """One HTML page that steps through the recording in any browser, offline.

        Args:
            run: only the run of this number; all by default.
            redact: leave out the text of prompts and tokens, token ids and absolute paths.

        Returns:
            The page. It holds token texts of the recording, which may be anything, as text only.

        Raises:
            UsageError: the file has no such run.
            TraceFileError: it holds no run at all, or is damaged.
        """
        from reports.html import render_page

        chosen = self.runs if run is None else (self.run(run),)
        return render_page(chosen or (self._first,), source=self.path.name, redact=redact)

    def _repr_html_(self) -> str:
        """The page in a frame of its own, for notebooks."""
        page, style = escape(self.to_html()), f"width: 100%; height: {FRAME_HEIGHT}px; border: 0"
        return f'<iframe sandbox="allow-scripts" title="report" style="{style}" srcdoc="{page}"></iframe>'


def open_trace(path: str | os.PathLike[str]) -> Recording:
    """Open a trace for reading.

    Args:
        path: the trace file.

    Raises:
        TraceFileError: there is no such file, it is no trace, damaged, or of a newer version.
    """
    return Recording(path)
