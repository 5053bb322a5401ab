/* Columnar blobs. */

#ifndef ENCODING_NATIVE_PACK_H
#define ENCODING_NATIVE_PACK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* See packed in tracer/tracefile/encoding/native/compiled.py */
PyObject *pack(PyObject *module, PyObject *args);

#endif
