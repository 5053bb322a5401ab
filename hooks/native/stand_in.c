#include "stand_in.h"

static PyTypeObject *inherited; /* hooks.inherited.Inherited */

/* Look up the method in the class as it is now; 0, or -1 with an exception. */
static int look_up(StandIn *self)
{
    PyTypeObject *type = Py_TYPE(self->target);
    PyObject *found = _PyType_Lookup(type, self->name);
    if (found == NULL) {
        PyErr_SetObject(PyExc_AttributeError, self->name);
        return -1;
    }
    unsigned int version = type->tp_version_tag;
    descrgetfunc get = Py_TYPE(found)->tp_descr_get;
    Py_INCREF(found);
    PyObject *method = get == NULL ? Py_NewRef(found) : get(found, self->target, (PyObject *)type);
    Py_DECREF(found);
    if (method == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear(); /* the general way knows what is next */
        method = PyObject_GetAttrString(self->inner, "method");
    }
    if (method == NULL)
        return -1;
    Py_XSETREF(self->method, method);
    /* Another descriptor may give another method each time. */
    self->version = PyMethod_Check(method) ? version : 0;
    return 0;
}

PyObject *inner_of(StandIn *self)
{
    if (self->inner == NULL) {
        PyErr_SetString(PyExc_ReferenceError, "the module is gone");
        return NULL;
    }
    if (self->target == NULL)
        return Py_NewRef(self->inner);
    if ((self->version == 0 || self->version != Py_TYPE(self->target)->tp_version_tag) && look_up(self) < 0)
        return NULL;
    return Py_NewRef(self->method);
}

/* Set what is below; 0, or -1 with an exception. */
int stand_in_over(StandIn *self, PyObject *inner)
{
    PyObject *target = NULL, *name = NULL;
    if (Py_TYPE(inner) == inherited) {
        target = PyObject_GetAttrString(inner, "target");
        name = target == NULL ? NULL : PyObject_GetAttrString(inner, "name");
        if (name == NULL) {
            Py_XDECREF(target);
            return -1;
        }
    }
    self->version = 0;
    Py_XSETREF(self->name, name);
    Py_XSETREF(self->target, target);
    Py_XSETREF(self->inner, Py_NewRef(inner));
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
    if (((StandIn *)self)->inner == NULL)
        return PyObject_GenericGetAttr(self, name);
    PyObject *inner = inner_of((StandIn *)self);
    PyObject *found = inner == NULL ? NULL : PyObject_GetAttr(inner, name);
    Py_XDECREF(inner);
    return found;
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

static PyObject *stand_in_inner(StandIn *self, void *Py_UNUSED(closure))
{
    if (self->inner == NULL)
        PyErr_SetString(PyExc_AttributeError, "inner");
    return Py_XNewRef(self->inner);
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
    return inner_of(self);
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
    Py_VISIT(self->inner);
    Py_VISIT(self->target);
    Py_VISIT(self->method);
    return 0;
}

int stand_in_clear(StandIn *self)
{
    Py_CLEAR(self->inner);
    Py_CLEAR(self->target);
    Py_CLEAR(self->name);
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

int stand_in_new_type(void)
{
    PyObject *module = PyImport_ImportModule("hooks.inherited");
    inherited = module == NULL ? NULL : (PyTypeObject *)PyObject_GetAttrString(module, "Inherited");
    Py_XDECREF(module);
    return inherited == NULL ? -1 : PyType_Ready(&stand_in_type);
}
