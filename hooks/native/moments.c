#include "moments.h"

#include <math.h>

#include "lanes.h"
#include "team.h"

#define LONG (1 << 18) /* values that take long enough to let other threads run */
#define PART (1 << 16) /* most values of a part: to share out more gains more than it costs to begin */
#define PARTS 256      /* most parts of an output; those of a very long one are longer */

/* An output in parts. */
typedef struct {
    const char *memory;
    Py_ssize_t count, each; /* values of all, and of each part but the last one, which may be shorter */
    Values values;
    Moments moments[PARTS];
} Parted;

static void take_part(void *work, size_t part)
{
    Parted *all = work;
    Py_ssize_t begin = (Py_ssize_t)part * all->each, left = all->count - begin;
    size_t size = all->values == FLOAT32_VALUES ? 4 : 2;
    all->moments[part] =
        take_moments(all->memory + (size_t)begin * size, left < all->each ? left : all->each, all->values);
}

static Py_ssize_t divide_up(Py_ssize_t count, Py_ssize_t by)
{
    return (count + by - 1) / by;
}

/* How an output is parted depends on its length alone, and the parts are joined in order, so that any number of
 * threads comes to the same bits. */
static Moments take_all(const void *memory, Py_ssize_t count, Values values)
{
    if (count <= PART)
        return take_moments(memory, count, values);
    Py_ssize_t parts = divide_up(count, PART) < PARTS ? divide_up(count, PART) : PARTS;
    Parted all = {memory, count, LANES * divide_up(divide_up(count, parts), LANES), values};
    parts = divide_up(count, all.each);
    share_out(take_part, &all, (size_t)parts);
    Moments moments = all.moments[0];
    for (Py_ssize_t part = 1; part < parts; part++)
        moments = join_moments(moments, all.moments[part]);
    return moments;
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
        all = take_all(memory, count, values);
        Py_END_ALLOW_THREADS
    }
    else
        all = take_all(memory, count, values);
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
