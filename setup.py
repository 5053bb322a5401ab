"""Build the compiled part; everything else about the package stands in ``pyproject.toml``."""

from pathlib import Path

from setuptools import Extension, setup

_SOURCES = Path("hooks/native")

setup(
    ext_modules=[
        Extension(
            "hooks._native",
            sources=sorted(str(path) for path in _SOURCES.glob("*.c")),
            depends=sorted(str(path) for path in _SOURCES.glob("*.h")),
            extra_compile_args=["-O3"],
            # Without a compiler the package works all the same, only slower.
            optional=True,
        )
    ]
)
