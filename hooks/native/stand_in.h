/* What stands in for a method of a module: it calls the method below, and is like it in all else. */

#ifndef HOOKS_NATIVE_STAND_IN_H
#define HOOKS_NATIVE_STAND_IN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* What a stand-in begins with. */
typedef struct {
    PyObject_HEAD
    PyObject *inner;      /* the method below, or an Inherited; NULL while it is being thrown away */
    PyObject *target;     /* of the Inherited, with the rest; NULL without one */
    PyObject *name;       /* of the method in the class */
    PyObject *found;      /* what the class had */
    PyObject *method;     /* that, bound to the target */
    unsigned int version; /* of the class when it had that last; 0: none */
} StandIn;

/* The base of both kinds; it cannot be called. */
extern PyTypeObject stand_in_type;

/* Set what is below a new stand-in; 0, or -1 with an exception. */
int stand_in_over(StandIn *self, PyObject *inner);

int stand_in_traverse(StandIn *self, visitproc visit, void *arg);
int stand_in_clear(StandIn *self);

/* Whether the class has another method now than when the stand-in was put over it. */
int has_changed(StandIn *self);

/* The method that is to be called now; NULL with an exception. */
PyObject *inner_of(StandIn *self);

int stand_in_new_type(void);

#endif
