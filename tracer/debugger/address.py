"""Where a debugger may attach from."""

from __future__ import annotations

import ipaddress

from tracer.errors import UsageError

DEFAULT_PORT = 9501
LOOPBACK = "127.0.0.1"

_RISK = (
    "whoever reaches a debugger port runs any code as you, without a password. "
    "Leave it on this machine and use `ssh -L {port}:localhost:{port}`, or pass --allow-remote-attach"
)


def require_loopback(host: str, port: int, *, allow_remote: bool) -> None:
    """Refuse to listen where other machines can connect, unless that is allowed.

    Raises:
        UsageError: explaining the risk.
    """
    try:
        own = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = False
    if not (own or allow_remote):
        raise UsageError(f"--attach-host {host}: {_RISK.format(port=port)}.")
