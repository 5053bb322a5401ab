#include "integers.h"

#include "tensors.h"

enum { SIGNED_CODE = 0, UNSIGNED_CODE = 1, BOOL_CODE = 6 }; /* DLDataTypeCode */

/* Integers in the host's memory, one after the other. */
typedef struct {
    const void *values;
    int64_t count;
    int bytes; /* of a value; negative without a sign */
} Integers;

/* 0 where a tensor holds other values. */
static int read_integers(PyObject *tensor, Integers *into)
{
    DLTensor found;
    if (!describe_tensor(tensor, &found) || found.device.type != ON_HOST || found.dtype.lanes != 1 ||
        !is_contiguous(&found))
        return 0;
    int bytes = found.dtype.bits / 8;
    int is_signed = found.dtype.code == SIGNED_CODE && (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8);
    int is_byte = (found.dtype.code == UNSIGNED_CODE || found.dtype.code == BOOL_CODE) && bytes == 1;
    into->count = 1;
    for (int32_t at = 0; at < found.dimensions; at++)
        into->count *= found.shape[at];
    into->bytes = is_signed ? bytes : -bytes;
    into->values = memory_of(&found);
    return (is_signed || is_byte) && (found.data != NULL || into->count == 0);
}

static inline int64_t value_at(const Integers *given, int64_t at)
{
    switch (given->bytes) {
    case 8:
        return ((const int64_t *)given->values)[at];
    case 4:
        return ((const int32_t *)given->values)[at];
    case 2:
        return ((const int16_t *)given->values)[at];
    case 1:
        return ((const int8_t *)given->values)[at];
    default:
        return ((const uint8_t *)given->values)[at];
    }
}

/* The difference of two neighbours; like NumPy's, it may wrap around. */
static inline int64_t step_at(const Integers *given, int64_t at)
{
    return (int64_t)((uint64_t)value_at(given, at + 1) - (uint64_t)value_at(given, at));
}

/* One past the run that begins at `start`. */
static int64_t end_of_run(const Integers *given, int64_t start)
{
    int64_t stop = start + 1;
    if (stop == given->count)
        return stop;
    for (int64_t step = step_at(given, start); stop < given->count && step_at(given, stop - 1) == step; stop++)
        ;
    /* Two unrelated values are two single runs. */
    return stop - start == 2 && stop < given->count ? start + 1 : stop;
}

PyObject *int_runs(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *tensor;
    Py_ssize_t most;
    Integers given;
    if (!PyArg_ParseTuple(args, "On", &tensor, &most))
        return NULL;
    if (!read_integers(tensor, &given))
        Py_RETURN_NONE;
    PyObject *runs = PyList_New(0);
    int64_t start = 0;
    while (runs != NULL && start < given.count && PyList_GET_SIZE(runs) < most) {
        int64_t stop = end_of_run(&given, start);
        int64_t step = stop - start > 1 ? step_at(&given, start) : 0;
        PyObject *run = Py_BuildValue("LLL", (long long)value_at(&given, start), (long long)step,
                                      (long long)(stop - start));
        if (run == NULL || PyList_Append(runs, run) < 0)
            Py_CLEAR(runs);
        Py_XDECREF(run);
        start = stop;
    }
    PyObject *found = runs == NULL ? NULL : PyList_AsTuple(runs);
    Py_XDECREF(runs);
    return found == NULL ? NULL : Py_BuildValue("NL", found, (long long)(given.count - start));
}
