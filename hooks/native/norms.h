/* Euclidean norms of values in memory. */

#ifndef HOOKS_NATIVE_NORMS_H
#define HOOKS_NATIVE_NORMS_H

#include "tensors.h"

/* The norm of values that lie one after the other; squares are summed in double precision, to the same bits on every
 * processor. */
float norm(const void *memory, int64_t count, Values values);

#endif
