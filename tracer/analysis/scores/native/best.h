/* The highest of many scores. */

#ifndef ANALYSIS_NATIVE_BEST_H
#define ANALYSIS_NATIVE_BEST_H

#include <stddef.h>
#include <stdint.h>

#include "blocks.h"

/* Write the indices of the highest scores, unordered; of equal scores those that come first.
 *
 * NaN scores and removed ones (minus infinity) are skipped. most is at least 1.
 *
 * Returns the number of indices written, at most most.
 */
size_t find_best(const float *scores, const Look *looks, size_t count, size_t most, int32_t *into);

#endif
