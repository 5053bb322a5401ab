"""Build the compiled parts; everything else about the package stands in ``pyproject.toml``."""

from pathlib import Path

from setuptools import Extension, setup


def _compiled(package: str, *shared: str) -> Extension:
    """The module ``_native`` of a package, from the C sources in its folder and in folders that it shares."""
    folders = [Path(*package.split(".")), *map(Path, shared)]
    return Extension(
        f"{package}._native",
        sources=sorted(str(path) for folder in folders for path in folder.glob("*.c")),
        depends=sorted(str(path) for folder in folders for path in folder.glob("*.h")),
        include_dirs=[*shared],
        # Operations are not contracted, so that every processor computes the same bits; the pragmas of OpenMP
        # only say which loops may be reduced in vectors.
        extra_compile_args=["-O3", "-ffp-contract=off", "-fopenmp-simd"],
        # Without a compiler the package works all the same, only slower.
        optional=True,
    )


setup(
    ext_modules=[
        _compiled("hooks.native", "tracer/native"),
        _compiled("tracer.analysis.scores.native", "tracer/native"),
        _compiled("tracer.tracefile.encoding.native"),
    ]
)
