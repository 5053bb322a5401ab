#include "integers.h"

#include "arrays.h"

/* The limits as a sequence of three: array, lowest, highest. None where an array is not one of int32. */
PyObject *are_within(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "are_within takes an array, the lowest and the highest value");
        return NULL;
    }
    long long low = PyLong_AsLongLong(args[1]), high = PyLong_AsLongLong(args[2]);
    if (PyErr_Occurred())
        return NULL;
    Py_buffer view;
    const int32_t *values;
    if (!read_integers(args[0], &view, &values))
        Py_RETURN_NONE;
    int within = 1;
    for (Py_ssize_t at = 0; at < view.len / 4; at++)
        within &= values[at] >= low && values[at] <= high;
    release_integers(&view, values);
    return PyBool_FromLong(within);
}

static int add(PyObject *set, int32_t value)
{
    PyObject *number = PyLong_FromLong(value);
    int added = number == NULL ? -1 : PySet_Add(set, number);
    Py_XDECREF(number);
    return added;
}

PyObject *distinct(PyObject *Py_UNUSED(module), PyObject *array)
{
    Py_buffer view;
    const int32_t *values;
    if (!read_integers(array, &view, &values))
        Py_RETURN_NONE;
    PyObject *set = PySet_New(NULL);
    Py_ssize_t count = view.len / 4;
    /* Few numbers recur many times: a value that was the last in its slot is in the set. */
    int32_t last[64];
    for (uint32_t slot = 0; slot < 64; slot++)
        last[slot] = (int32_t)slot + 1; /* of another slot */
    for (Py_ssize_t at = 0; set != NULL && at < count; at++) {
        int32_t *slot = &last[(uint32_t)values[at] % 64];
        if (*slot == values[at])
            continue;
        *slot = values[at];
        if (add(set, values[at]) < 0)
            Py_CLEAR(set);
    }
    release_integers(&view, values);
    return set;
}
