"""Where a debugger may attach from."""

from __future__ import annotations

import ipaddress

from tracer.errors import UsageError

DEFAULT_PORT = 9501
LOOPBACK = "127.0.0.1"

ATTACH_CONFIGURATION = f"Attach to trace-generate ({DEFAULT_PORT})"
"""Name of the configuration in ``.vscode/launch.json``."""

RUNS_CODE = "whoever reaches a debugger port runs any code as you, without a password"
READS_ALL = "whoever reaches a debugger port reads the whole recording, without a password"

_ADVICE = "Leave it on this machine and use `ssh -L {port}:localhost:{port}`, or pass --allow-remote-attach"


def require_loopback(host: str, port: int, *, allow_remote: bool, risk: str = RUNS_CODE) -> None:
    """Refuse to listen where other machines can connect, unless that is allowed.

    Args:
        host: address to listen on.
        port: its port.
        allow_remote: the user accepts the risk.
        risk: what it is.

    Raises:
        UsageError: explaining the risk.
    """
    try:
        own = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = False
    if not (own or allow_remote):
        raise UsageError(f"--attach-host {host}: {risk}. {_ADVICE.format(port=port)}.")


def waiting_lines(host: str, port: int) -> tuple[str, str]:
    """What is printed at the terminal while a debugger may attach.

    Args:
        host: address to attach to.
        port: its port.
    """
    other = "" if port == DEFAULT_PORT else f", with port {port} in .vscode/launch.json"
    return (
        f"Waiting for debugger attach on {place(host, port)}",
        f"In VS Code: Run and Debug, {ATTACH_CONFIGURATION!r}{other}.",
    )


def place(host: str, port: int) -> str:
    """Host and port as a person writes them."""
    return f"{'localhost' if host == LOOPBACK else host}:{port}"
