#include "moments.h"

#include <math.h>

#define LONG (1 << 18) /* values that take long enough to let other threads run */
#define LANES 16       /* independent sums, so that the compiler can use vector instructions */

typedef struct {
    double sum[LANES], squares[LANES];
    float low[LANES], high[LANES];
} Moments;

typedef float Load(const void *memory, Py_ssize_t at);

static inline float load_float32(const void *memory, Py_ssize_t at)
{
    return ((const float *)memory)[at];
}

static inline float load_bfloat16(const void *memory, Py_ssize_t at)
{
    return of_bfloat16(((const uint16_t *)memory)[at]);
}

static inline void add_value(Moments *into, int lane, float value)
{
    into->sum[lane] += (double)value;
    into->squares[lane] += (double)value * (double)value;
    into->low[lane] = value < into->low[lane] ? value : into->low[lane];
    into->high[lane] = value > into->high[lane] ? value : into->high[lane];
}

/* The first lane has it all in the end. */
static inline Moments moments_of(const void *memory, Py_ssize_t count, Load *load)
{
    Moments all;
    Py_ssize_t at = 0;
    for (int lane = 0; lane < LANES; lane++) {
        all.sum[lane] = all.squares[lane] = 0;
        all.low[lane] = all.high[lane] = load(memory, 0);
    }
    for (; at + LANES <= count; at += LANES)
        for (int lane = 0; lane < LANES; lane++)
            add_value(&all, lane, load(memory, at + lane));
    for (; at < count; at++)
        add_value(&all, 0, load(memory, at));
    for (int lane = 1; lane < LANES; lane++) {
        all.sum[0] += all.sum[lane];
        all.squares[0] += all.squares[lane];
        all.low[0] = all.low[lane] < all.low[0] ? all.low[lane] : all.low[0];
        all.high[0] = all.high[lane] > all.high[0] ? all.high[lane] : all.high[0];
    }
    return all;
}

static Moments moments(const void *memory, Py_ssize_t count, Values values)
{
    return values == FLOAT32_VALUES ? moments_of(memory, count, load_float32)
                                    : moments_of(memory, count, load_bfloat16);
}

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
        all = moments(memory, count, values);
        Py_END_ALLOW_THREADS
    }
    else
        all = moments(memory, count, values);
    if (!isfinite(all.squares[0]))
        return 0;
    double mean = all.sum[0] / (double)count;
    double variance = all.squares[0] / (double)count - mean * mean;
    into[0] = (float)mean;
    into[1] = (float)sqrt(variance > 0 ? variance : 0);
    into[2] = all.low[0];
    into[3] = all.high[0];
    return 1;
}
