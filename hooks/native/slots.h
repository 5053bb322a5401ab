/* The tensors of a KV cache, and norms and checksums of their slots. */

#ifndef HOOKS_NATIVE_SLOTS_H
#define HOOKS_NATIVE_SLOTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Each of them: see hooks/native/compiled.py */
PyObject *gather(PyObject *module, PyObject *args);
PyObject *slot_norms(PyObject *module, PyObject *args);
PyObject *slot_sums(PyObject *module, PyObject *args);

#endif
