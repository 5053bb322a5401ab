/* Note what the modules of a model do, while they do it: the compiled form of hooks/modules/tape.py. */

#ifndef HOOKS_NATIVE_TAPE_H
#define HOOKS_NATIVE_TAPE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyTypeObject tape_type;

/* The context variable that holds the tapes of the runs in progress. */
extern PyObject *tapes;
int tapes_new(void);

/* Note a call on all tapes of a context, a tuple; 0, or -1 with an exception.
 *
 * `number` is the module's index as an object, `argument` its first positional argument, or all keyword arguments. */
int note_all(PyObject *all, Py_ssize_t owner, Py_ssize_t index, PyObject *number, PyObject *argument,
             PyObject *output);

#endif
