/* Samples of the values of tensors. */

#ifndef HOOKS_NATIVE_SAMPLES_H
#define HOOKS_NATIVE_SAMPLES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* See samples in hooks/native/compiled.py */
PyObject *samples(PyObject *module, PyObject *args);

#endif
