/* Stand-ins for the forward methods of modules, which note their calls. */

#ifndef HOOKS_NATIVE_WATCHED_H
#define HOOKS_NATIVE_WATCHED_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyTypeObject watched_type;
int watched_new_type(void); /* 0, or -1 with an exception */

#endif
