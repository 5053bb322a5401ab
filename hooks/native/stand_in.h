/* What stands in for a method of a module: it calls the method below, and is like it in all else. */

#ifndef HOOKS_NATIVE_STAND_IN_H
#define HOOKS_NATIVE_STAND_IN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* What a stand-in begins with. */
typedef struct {
    PyObject_HEAD
    PyObject *method;      /* below, as it was when this was put over it; NULL while it is being thrown away */
    unsigned int version;  /* of the class when it was last found to be as it was; 0: never */
    unsigned int inherits; /* whether the method is of the module's class, which may get another one */
} StandIn;

/* The base of both kinds; it cannot be called. */
extern PyTypeObject stand_in_type;

/* Set what is below, a method or an Inherited; 0, or -1 with an exception. */
int stand_in_over(StandIn *self, PyObject *inner);

int stand_in_traverse(StandIn *self, visitproc visit, void *arg);
int stand_in_clear(StandIn *self);

/* The method of the time when the stand-in was put over it; NULL with an exception. */
PyObject *as_made(StandIn *self);

/* The method that is to be called where the class may have another one; NULL with an exception. */
PyObject *as_called(StandIn *self);

/* Make a kind of stand-ins ready, for methods of a name; 0, or -1 with an exception. */
int stand_in_kind(PyTypeObject *kind, const char *name);

int stand_in_new_type(void);

#endif
