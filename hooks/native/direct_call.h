/* Stand-ins for the method by which torch calls forward; hooks/modules/direct_call.py says what they leave out. */

#ifndef HOOKS_NATIVE_DIRECT_CALL_H
#define HOOKS_NATIVE_DIRECT_CALL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyTypeObject direct_call_type;

/* See hooks/native/compiled.py */
PyObject *use_direct_calls(PyObject *module, PyObject *args);

#endif
