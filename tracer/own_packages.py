"""Check that ``hooks`` and ``reports`` are this product's own packages; importing this module does it.

Both are top-level packages. A ``hooks.py`` or a package ``reports`` in the folder that Python starts from
comes before them on the module search path, and every import from them would fail with a puzzling message.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from tracer.errors import UsageError
from tracer.messages import shown

PACKAGES = ("hooks", "reports")


class OwnPackageError(UsageError, ImportError):
    """Another module has the name of one of this product's packages."""


def require_own_packages() -> None:
    """Refuse to start where another module would be imported in place of an own package.

    Raises:
        OwnPackageError: naming the file in the way.
    """
    root = Path(__file__).parent.parent
    for name in PACKAGES:
        place = _place(name)
        if place is not None and os.path.realpath(Path(place).parent) != os.path.realpath(root / name):
            raise OwnPackageError(
                f"trace-generate needs its own package {name}, but {shown(place)} comes first on the module "
                "search path; rename it or start from another folder"
            )


def _place(name: str) -> str | None:
    """The file that a module is or would be imported from; None if there is none. Nothing is imported."""
    module = sys.modules.get(name)
    if module is not None:
        return getattr(module, "__file__", None) or f"another module {name}"
    spec = find_spec(name)
    return None if spec is None else spec.origin


require_own_packages()
