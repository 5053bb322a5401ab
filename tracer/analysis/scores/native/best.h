/* The highest of many scores. */

#ifndef ANALYSIS_NATIVE_BEST_H
#define ANALYSIS_NATIVE_BEST_H

#include <stddef.h>
#include <stdint.h>

/* Find the indices of the highest scores, in no order; of equal scores those that come first.
 *
 * NaN scores and removed ones (minus infinity) are left out.
 *
 * Returns how many there are, at most most, which is at least 1; that many are written.
 */
size_t find_best(const float *scores, size_t count, size_t most, int32_t *into);

#endif
