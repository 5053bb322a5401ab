/* Small integer tensors. */

#ifndef HOOKS_NATIVE_INTEGERS_H
#define HOOKS_NATIVE_INTEGERS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* See int_runs in hooks/native/compiled.py */
PyObject *int_runs(PyObject *module, PyObject *args);

#endif
