/* Checks of arrays of integers. */

#ifndef ENCODING_NATIVE_INTEGERS_H
#define ENCODING_NATIVE_INTEGERS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* See tracer/tracefile/encoding/native/compiled.py */
PyObject *are_within(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *distinct(PyObject *module, PyObject *array);

#endif
