/* The notes of a step's module calls, column by column. */

#ifndef HOOKS_NATIVE_CALLS_H
#define HOOKS_NATIVE_CALLS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* See call_columns in hooks/native/compiled.py */
PyObject *call_columns(PyObject *module, PyObject *args);

#endif
