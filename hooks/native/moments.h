/* Statistics of values in memory. */

#ifndef HOOKS_NATIVE_MOMENTS_H
#define HOOKS_NATIVE_MOMENTS_H

#include "tensors.h"

#define STATISTICS 4 /* mean, population standard deviation, minimum, maximum */

/* Take the statistics of a tensor of several values that lie one after the other in the host's memory.
 *
 * Sums are taken in double precision, where squares of float32 values neither overflow nor cancel for any
 * deviation above a millionth of the mean. Of a long tensor the threads of torch take parts, and other threads
 * of Python run meanwhile.
 *
 * Returns whether there are such values and all are finite; only then is anything written.
 */
int take_statistics(PyObject *tensor, float *into);

/* The same of a tensor that has been described. */
int statistics_of(const DLTensor *tensor, float *into);

#endif
