"""The one release of transformers that can be traced."""

from __future__ import annotations

from importlib import metadata

from tracer.errors import UnsupportedError

TRANSFORMERS = "4.44.2"


def require_supported_transformers() -> None:
    """Refuse any other release before anything is imported from it.

    Raises:
        UnsupportedError: naming the version found and the one needed.
    """
    try:
        found = metadata.version("transformers")
    except metadata.PackageNotFoundError:
        found = "none"
    if found != TRANSFORMERS:
        raise UnsupportedError(
            f"transformers {TRANSFORMERS} is needed, found {found}; "
            f"install it with: pip install transformers=={TRANSFORMERS}"
        )
