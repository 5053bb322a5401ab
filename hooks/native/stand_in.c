#include "stand_in.h"

#include <stddef.h>
#include <structmember.h>

PyObject *inner_of(StandIn *self)
{
    if (self->inner == NULL)
        PyErr_SetString(PyExc_ReferenceError, "the module is gone");
    return Py_XNewRef(self->inner);
}

/* In all but its own attributes it is the method below: name, documentation, __self__, __func__. */
static PyObject *stand_in_getattro(PyObject *self, PyObject *name)
{
    static const char *const own[] = {"inner",        "index",        "__wrapped__",
                                      "__deepcopy__", "__reduce__", "__reduce_ex__", "__call__",
                                      "_torchdynamo_orig_callable", "_torchdynamo_wrapper_id"};
    PyObject *inner = ((StandIn *)self)->inner;
    for (size_t at = 0; at < sizeof own / sizeof *own; at++)
        if (PyUnicode_CompareWithASCIIString(name, own[at]) == 0)
            return PyObject_GenericGetAttr(self, name);
    return inner == NULL ? PyObject_GenericGetAttr(self, name) : PyObject_GetAttr(inner, name);
}

/* A copy of a module gets the method of its own that is below this one. */
static PyObject *stand_in_deepcopy(StandIn *self, PyObject *memo)
{
    PyObject *module = PyImport_ImportModule("copy");
    PyObject *copy = module == NULL ? NULL
                                    : PyObject_CallMethod(module, "deepcopy", "OO", self->inner, memo);
    Py_XDECREF(module);
    return copy;
}

static PyObject *stand_in_reduce(StandIn *self, PyObject *protocol)
{
    return PyObject_CallMethod(self->inner, "__reduce_ex__", "O", protocol);
}

static PyMethodDef stand_in_methods[] = {
    {"__deepcopy__", (PyCFunction)stand_in_deepcopy, METH_O, "The copy of the method below."},
    {"__reduce_ex__", (PyCFunction)stand_in_reduce, METH_O, "The pickled form of the method below."},
    {NULL},
};

static PyMemberDef stand_in_members[] = {
    {"inner", T_OBJECT_EX, offsetof(StandIn, inner), 0, "The method below."},
    {"__wrapped__", T_OBJECT_EX, offsetof(StandIn, inner), READONLY, "The method below."},
    /* What torch.compile of the method compiles, found as through wrappers of its own. */
    {"_torchdynamo_orig_callable", T_OBJECT_EX, offsetof(StandIn, inner), READONLY, "The method below."},
    {NULL},
};

static PyObject *stand_in_wrapper_id(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromVoidPtr(self);
}

static PyGetSetDef stand_in_computed[] = {
    {"_torchdynamo_wrapper_id", stand_in_wrapper_id, NULL, "The id of this object.", NULL},
    {NULL},
};

int stand_in_traverse(StandIn *self, visitproc visit, void *arg)
{
    Py_VISIT(self->inner);
    return 0;
}

int stand_in_clear(StandIn *self)
{
    Py_CLEAR(self->inner);
    return 0;
}

PyTypeObject stand_in_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "hooks.native._native.StandIn",
    .tp_doc = "Stands in for a method of a module.",
    .tp_basicsize = sizeof(StandIn),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_traverse = (traverseproc)stand_in_traverse,
    .tp_clear = (inquiry)stand_in_clear,
    .tp_getattro = stand_in_getattro,
    .tp_methods = stand_in_methods,
    .tp_members = stand_in_members,
    .tp_getset = stand_in_computed,
};
