/* Copies of values. */

#ifndef HOOKS_NATIVE_COPIES_H
#define HOOKS_NATIVE_COPIES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* See put in hooks/native/compiled.py */
PyObject *put_in_stack(PyObject *module, PyObject *args);

#endif
