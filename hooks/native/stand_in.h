/* What stands in for a method of a module: it calls the method below, and is like it in all else. */

#ifndef HOOKS_NATIVE_STAND_IN_H
#define HOOKS_NATIVE_STAND_IN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* What a stand-in begins with. */
typedef struct {
    PyObject_HEAD
    PyObject *inner; /* the method below; NULL while it is being thrown away */
} StandIn;

/* The base of both kinds; it cannot be called. */
extern PyTypeObject stand_in_type;

int stand_in_traverse(StandIn *self, visitproc visit, void *arg);
int stand_in_clear(StandIn *self);

/* The method below, which may be exchanged meanwhile; NULL with an exception. */
PyObject *inner_of(StandIn *self);

#endif
