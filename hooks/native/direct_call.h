/* Stand-ins for the method by which torch calls forward; hooks/modules/direct_call.py says what they leave out. */

#ifndef HOOKS_NATIVE_DIRECT_CALL_H
#define HOOKS_NATIVE_DIRECT_CALL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyTypeObject direct_call_type;
int direct_call_names(void); /* make the names that it looks up; 0, or -1 with an exception */

/* See hooks/native/compiled.py */
PyObject *use_direct_calls(PyObject *module, PyObject *args);

#endif
