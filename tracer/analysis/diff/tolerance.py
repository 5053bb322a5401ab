"""The tolerance model: how large a distance of two numbers rounding alone explains."""

from __future__ import annotations

import math
from dataclasses import dataclass

_UNITS = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float8_e4m3fn": 2.0**-4,
    "float8_e5m2": 2.0**-3,
}
_FACTOR, _FACTOR_HALF = 16.0, 8.0


@dataclass(frozen=True)
class Tolerance:
    """The tolerance model.

    One rounding moves a number by at most the unit roundoff ``u`` of its dtype (2⁻²⁴ for float32, 2⁻⁸ for
    bfloat16), in relation to its size. A sum of many terms in another order moves by a small multiple of
    ``u`` in relation to the size of the terms, because the errors of its additions are nearly independent
    and cancel (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019: ``sqrt(n) u`` in place of ``n u``; blocked
    sums, which every library uses, are better still). Module calls add such errors one after another, again
    nearly independent, so after ``k`` calls the distance is about ``u · sqrt(k)``; a residual stream neither
    damps nor amplifies that much. The largest relative distance of two runs that is explained is therefore::

        factor · u · sqrt(1 + k)

    with the larger ``u`` of the two runs and ``k`` the calls that returned before in the step. The factor
    covers both runs' errors, the inner sums of a call, and maxima over many elements, which are several
    standard deviations out. Measured with a 30-layer model of 135 million parameters and small models of four
    architectures, eager against sdpa, one thread against two, and against other dtypes, the largest ratio
    ``distance / (u · sqrt(1 + k))`` was 6 in float32 and 4 in bfloat16, whose inner sums run in float32, at
    any depth. The factor is 16 for float32 and 8 for narrower dtypes: two to three times that. Distances are
    taken in relation to the size of the values and not of the number itself: a mean near zero is the sum of
    large terms. For mean and deviation that is the root mean square, for extremes and single elements the
    largest absolute value.

    The model explains size, not cause: a changed weight can be too small to stand out from rounding, and an
    ill-conditioned model can amplify rounding beyond it.

    Attributes:
        unit: larger unit roundoff of both runs.
        fixed: the user's own relative tolerance, in place of the model.
    """

    unit: float
    fixed: float | None = None

    @classmethod
    def of(cls, dtype_a: str, dtype_b: str, fixed: float | None = None) -> Tolerance:
        """The tolerance for two dtypes; an unknown dtype counts as float32."""
        return cls(max(_UNITS.get(dtype, _UNITS["float32"]) for dtype in (dtype_a, dtype_b)), fixed)

    def allowed(self, calls: int) -> float:
        """Largest relative distance after a number of module calls."""
        if self.fixed is not None:
            return self.fixed
        factor = _FACTOR_HALF if self.unit > _UNITS["float32"] else _FACTOR
        return factor * self.unit * math.sqrt(1 + calls)
