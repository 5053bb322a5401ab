/* Note what the modules of a model do, while they do it: the compiled form of hooks/modules/tape.py. */

#ifndef HOOKS_NATIVE_TAPE_H
#define HOOKS_NATIVE_TAPE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyTypeObject tape_type, watched_type;

#endif
