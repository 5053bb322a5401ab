"""The editor's server, with an extension and a workspace of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import playwright

HERE = Path(__file__).parent
LAUNCH = HERE.parents[2] / ".vscode" / "launch.json"

_SETTINGS = {
    # Nothing that asks, recommends or greets.
    "security.workspace.trust.enabled": False,
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
    "telemetry.telemetryLevel": "off",
    "extensions.ignoreRecommendations": True,
    "extensions.autoCheckUpdates": False,
    "git.enabled": False,
    "workbench.colorTheme": "Default Dark Modern",
    # Files are looked at here; a key that goes astray must not change the library.
    "files.readonlyInclude": {"**": True},
    "files.autoSave": "off",
    # More room for what the debugger shows; a path of this machine belongs into no picture.
    "breadcrumbs.enabled": False,
    "editor.minimap.enabled": False,
    "workbench.layoutControl.enabled": False,
    "remote.autoForwardPorts": False,
    # Requests come from what is done and not from where the mouse happens to be.
    "workbench.hover.delay": 5000,
    # Which configuration F5 starts can be seen before it is pressed.
    "debug.showInStatusBar": "always",
}


class EditorServer:
    """The server of an editor while it runs.

    Args:
        files: folder of the editor's files.
        room: an empty folder for its settings and workspaces.
    """

    def __init__(self, files: Path, room: Path) -> None:
        self._room = room
        extensions, user = room / "extensions", room / "data" / "User"
        shutil.copytree(HERE / "extension", extensions / "trace-generate.debugpy-over-a-socket-1.0.0")
        user.mkdir(parents=True)
        (user / "settings.json").write_text(json.dumps(_SETTINGS), encoding="utf-8")
        self._process = subprocess.Popen(
            [
                # Its version fits whatever Node.js the machine has.
                Path(playwright.__file__).parent / "driver" / "node",
                files / "out" / "server-main.js",
                *("--host", "127.0.0.1", "--port", "0", "--without-connection-token"),
                *("--accept-server-license-terms", "--telemetry-level", "off"),
                *("--user-data-dir", room / "data", "--server-data-dir", room / "server"),
                *("--extensions-dir", extensions),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self._said: list[str] = []
        self._listening = threading.Event()
        self._port = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def address(self, workspace: str, port: int) -> str:
        """The page of a new workspace, which has the project's own ``launch.json``.

        Args:
            workspace: its name.
            port: port of the debuggee, in place of the usual one.
        """
        assert self._listening.wait(60), "".join(self._said)
        assert self._port, "".join(self._said)
        folder = self._room / workspace
        (folder / ".vscode").mkdir(parents=True)
        launch = json.loads(LAUNCH.read_text(encoding="utf-8"))
        for configuration in launch["configurations"]:
            if "connect" in configuration:
                configuration["connect"]["port"] = port
        (folder / ".vscode" / "launch.json").write_text(json.dumps(launch), encoding="utf-8")
        return f"http://127.0.0.1:{self._port}/?folder={quote(str(folder))}"

    def end(self) -> None:
        """End it and its children."""
        self._process.terminate()
        self._process.wait(30)
        self._reader.join(30)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._said.append(line)
                found = re.match(r"Extension host agent listening on (\d+)", line)
                if found:
                    self._port = int(found[1])
                    self._listening.set()
        self._listening.set()


@contextmanager
def serving_editor(files: Path, room: Path) -> Iterator[EditorServer]:
    """Run the editor's server as long as the block lasts.

    Args:
        files: folder of the editor's files.
        room: an empty folder for its settings and workspaces.
    """
    server = EditorServer(files, room)
    try:
        yield server
    finally:
        server.end()
