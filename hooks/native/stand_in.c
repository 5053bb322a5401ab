#include "stand_in.h"

static PyObject *inherited; /* the class hooks.inherited.Inherited */

PyObject *as_made(StandIn *self)
{
    if (self->method == NULL)
        PyErr_SetString(PyExc_ReferenceError, "the module is gone");
    return Py_XNewRef(self->method);
}

/* What is below: the method, or an Inherited; NULL with an exception. */
static PyObject *below(StandIn *self)
{
    if (self->method == NULL || !self->inherits)
        return as_made(self);
    PyObject *method = as_made(self); /* somebody may set another one meanwhile */
    PyObject *name = PyObject_GetAttrString((PyObject *)Py_TYPE(self), "_of"), *made = NULL;
    if (name != NULL)
        made = PyObject_CallFunctionObjArgs(inherited, PyMethod_GET_SELF(method), name,
                                            PyMethod_GET_FUNCTION(method), NULL);
    Py_XDECREF(name);
    Py_DECREF(method);
    return made;
}

PyObject *as_called(StandIn *self)
{
    if (self->method == NULL || !self->inherits)
        return as_made(self);
    PyObject *inner = below(self);
    PyObject *method = inner == NULL ? NULL : PyObject_CallMethod(inner, "called", NULL);
    Py_XDECREF(inner);
    return method;
}

int stand_in_over(StandIn *self, PyObject *inner)
{
    int inherits = (PyObject *)Py_TYPE(inner) == inherited;
    PyObject *method = inherits ? PyObject_GetAttrString(inner, "method") : Py_NewRef(inner);
    if (method == NULL)
        return -1;
    self->inherits = inherits && PyMethod_Check(method);
    self->version = 0;
    Py_XSETREF(self->method, method);
    return 0;
}

/* In all but its own attributes it is the method below: name, documentation, __self__, __func__. */
static PyObject *stand_in_getattro(PyObject *self, PyObject *name)
{
    static const char *const own[] = {"inner",        "index",        "__wrapped__",
                                      "__deepcopy__", "__reduce__", "__reduce_ex__", "__call__",
                                      "_torchdynamo_orig_callable", "_torchdynamo_wrapper_id"};
    for (size_t at = 0; at < sizeof own / sizeof *own; at++)
        if (PyUnicode_CompareWithASCIIString(name, own[at]) == 0)
            return PyObject_GenericGetAttr(self, name);
    if (((StandIn *)self)->method == NULL)
        return PyObject_GenericGetAttr(self, name);
    PyObject *method = as_made((StandIn *)self);
    PyObject *found = method == NULL ? NULL : PyObject_GetAttr(method, name);
    Py_XDECREF(method);
    return found;
}

/* A copy of a module gets the method of its own that is below this one. */
static PyObject *stand_in_deepcopy(StandIn *self, PyObject *memo)
{
    PyObject *inner = below(self);
    PyObject *module = inner == NULL ? NULL : PyImport_ImportModule("copy");
    PyObject *copy = module == NULL ? NULL : PyObject_CallMethod(module, "deepcopy", "OO", inner, memo);
    Py_XDECREF(module);
    Py_XDECREF(inner);
    return copy;
}

static PyObject *stand_in_reduce(StandIn *self, PyObject *protocol)
{
    PyObject *method = as_made(self);
    PyObject *reduced = method == NULL ? NULL : PyObject_CallMethod(method, "__reduce_ex__", "O", protocol);
    Py_XDECREF(method);
    return reduced;
}

static PyMethodDef stand_in_methods[] = {
    {"__deepcopy__", (PyCFunction)stand_in_deepcopy, METH_O, "The copy of the method below."},
    {"__reduce_ex__", (PyCFunction)stand_in_reduce, METH_O, "The pickled form of the method below."},
    {NULL},
};

static PyObject *stand_in_inner(StandIn *self, void *Py_UNUSED(closure))
{
    return below(self);
}

static int stand_in_set_inner(StandIn *self, PyObject *inner, void *Py_UNUSED(closure))
{
    if (inner == NULL) {
        PyErr_SetString(PyExc_TypeError, "a stand-in is over a method");
        return -1;
    }
    return stand_in_over(self, inner);
}

static PyObject *stand_in_method(StandIn *self, void *Py_UNUSED(closure))
{
    return as_made(self);
}

static PyObject *stand_in_wrapper_id(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromVoidPtr(self);
}

static PyGetSetDef stand_in_computed[] = {
    {"inner", (getter)stand_in_inner, (setter)stand_in_set_inner, "What is below: a method, or an Inherited.", NULL},
    {"__wrapped__", (getter)stand_in_method, NULL, "The method below.", NULL},
    /* What torch.compile of the method compiles, found as through wrappers of its own. */
    {"_torchdynamo_orig_callable", (getter)stand_in_method, NULL, "The method below.", NULL},
    {"_torchdynamo_wrapper_id", stand_in_wrapper_id, NULL, "The id of this object.", NULL},
    {NULL},
};

int stand_in_traverse(StandIn *self, visitproc visit, void *arg)
{
    Py_VISIT(self->method);
    return 0;
}

int stand_in_clear(StandIn *self)
{
    Py_CLEAR(self->method);
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
    .tp_getset = stand_in_computed,
};

int stand_in_kind(PyTypeObject *kind, const char *name)
{
    PyObject *text = PyUnicode_InternFromString(name);
    int done = text == NULL || PyType_Ready(kind) < 0 || PyDict_SetItemString(kind->tp_dict, "_of", text) < 0 ? -1 : 0;
    Py_XDECREF(text);
    return done;
}

int stand_in_new_type(void)
{
    PyObject *module = PyImport_ImportModule("hooks.inherited");
    inherited = module == NULL ? NULL : PyObject_GetAttrString(module, "Inherited");
    Py_XDECREF(module);
    return inherited == NULL ? -1 : PyType_Ready(&stand_in_type);
}
