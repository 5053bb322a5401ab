#include "moments.h"

#include <math.h>

#include "lanes.h"

#define LONG (1 << 18) /* values that take long enough to let other threads run */

int take_statistics(PyObject *tensor, float *into)
{
    DLTensor described;
    return describe_tensor(tensor, &described) && statistics_of(&described, into);
}

int statistics_of(const DLTensor *tensor, float *into)
{
    Values values = values_of(tensor);
    Py_ssize_t count = 1;
    if (values == OTHER_VALUES || !is_contiguous(tensor))
        return 0;
    for (int32_t at = 0; at < tensor->dimensions; at++)
        count *= (Py_ssize_t)tensor->shape[at];
    /* A single value may be the imaginary part of a conjugate, which torch negates only when it is read; of
     * several such values none lie one after the other. */
    if (count < 2)
        return 0;
    Moments all;
    const void *memory = memory_of(tensor);
    if (count >= LONG) {
        Py_BEGIN_ALLOW_THREADS
        all = take_moments(memory, count, values);
        Py_END_ALLOW_THREADS
    }
    else
        all = take_moments(memory, count, values);
    if (!isfinite(all.squares))
        return 0;
    double mean = all.sum / (double)count;
    double variance = all.squares / (double)count - mean * mean;
    into[0] = (float)mean;
    into[1] = (float)sqrt(variance > 0 ? variance : 0);
    into[2] = all.low;
    into[3] = all.high;
    return 1;
}
