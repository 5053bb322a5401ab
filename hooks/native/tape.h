/* Note what the modules of a model do, while they do it: the compiled form of hooks/modules/tape.py. */

#ifndef HOOKS_NATIVE_TAPE_H
#define HOOKS_NATIVE_TAPE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyTypeObject tape_type, watched_type;

/* The context variable that holds the tapes of the runs in progress. */
extern PyObject *tapes;
int tapes_new(void);

#endif
