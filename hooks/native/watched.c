#include "watched.h"

#include <stddef.h>
#include <structmember.h>

#include "stand_in.h"
#include "tape.h"

typedef struct {
    StandIn stand_in;
    PyObject *number; /* the module's index */
    int index;
    int owner;
    PyObject *hooks;   /* the module's forward hooks, a dict */
    PyObject *on_hook; /* called with the index and the output when there are hooks: unless it returns False, one
                          behind them notes the call */
} Watched;

/* Hooks of all modules, a dict. */
static PyObject *global_hooks;
static PyObject *forward; /* the name */

/* Note a call on the tapes of this context; 0, or -1 with an exception. */
static int note_call(const Watched *self, PyObject *args, PyObject *kwargs, PyObject *output)
{
    PyObject *all, *none = NULL, *argument = kwargs;
    if (PyContextVar_Get(tapes, Py_None, &all) < 0)
        return -1;
    int done = 0;
    if (PyTuple_CheckExact(all)) {
        if (PyTuple_GET_SIZE(args))
            argument = PyTuple_GET_ITEM(args, 0);
        else if (kwargs == NULL)
            argument = none = PyDict_New();
        done = argument == NULL ? -1 : note_all(all, self->owner, self->index, self->number, argument, output);
        Py_XDECREF(none);
    }
    Py_DECREF(all);
    return done;
}

/* Look whether the class still has the method. */
static int has_method(StandIn *self)
{
    PyTypeObject *type = Py_TYPE(PyMethod_GET_SELF(self->method));
    if (self->version && self->version == type->tp_version_tag)
        return 1;
    if (_PyType_Lookup(type, forward) != PyMethod_GET_FUNCTION(self->method))
        return 0;
    self->version = type->tp_version_tag;
    return 1;
}

static PyObject *watched_call(Watched *self, PyObject *args, PyObject *kwargs)
{
    StandIn *stand_in = &self->stand_in;
    int as_before = stand_in->method == NULL || !stand_in->inherits || has_method(stand_in);
    PyObject *method = as_before ? as_made(stand_in) : as_called(stand_in);
    PyObject *output = method == NULL ? NULL : PyObject_Call(method, args, kwargs);
    Py_XDECREF(method);
    if (output == NULL)
        return NULL;
    /* The caller looks at the same dicts, so they are in the cache now. */
    if (PyDict_GET_SIZE(self->hooks) || PyDict_GET_SIZE(global_hooks)) {
        PyObject *noted = PyObject_CallFunctionObjArgs(self->on_hook, self->number, output, NULL);
        int later = noted != Py_False;
        if (noted == NULL)
            Py_CLEAR(output);
        Py_XDECREF(noted);
        if (later)
            return output;
    }
    if (note_call(self, args, kwargs, output) < 0)
        Py_CLEAR(output);
    return output;
}

static int watched_traverse(Watched *self, visitproc visit, void *arg)
{
    Py_VISIT(self->hooks);
    Py_VISIT(self->on_hook);
    return stand_in_traverse(&self->stand_in, visit, arg);
}

static void watched_dealloc(Watched *self)
{
    PyObject_GC_UnTrack(self);
    stand_in_clear(&self->stand_in);
    Py_XDECREF(self->number);
    Py_XDECREF(self->hooks);
    Py_XDECREF(self->on_hook);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *watched_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t index, owner;
    PyObject *inner, *hooks, *on_hook;
    if (!PyArg_ParseTuple(args, "OnnO!O", &inner, &index, &owner, &PyDict_Type, &hooks, &on_hook))
        return NULL;
    Watched *self = (Watched *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->number = PyLong_FromSsize_t(index);
    self->index = (int)index;
    self->owner = (int)owner;
    self->hooks = Py_NewRef(hooks);
    self->on_hook = Py_NewRef(on_hook);
    if (self->number == NULL || stand_in_over(&self->stand_in, inner) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMemberDef watched_members[] = {
    {"index", T_INT, offsetof(Watched, index), READONLY, "The module's index."},
    {NULL},
};

PyTypeObject watched_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "hooks.native._native.Watched",
    .tp_doc = "Stands in for a module's forward method and notes its calls; see hooks/modules/tape.py.",
    .tp_base = &stand_in_type,
    .tp_basicsize = sizeof(Watched),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = watched_new,
    .tp_call = (ternaryfunc)watched_call,
    .tp_traverse = (traverseproc)watched_traverse,
    .tp_clear = (inquiry)stand_in_clear,
    .tp_dealloc = (destructor)watched_dealloc,
    .tp_members = watched_members,
};

int watched_new_type(void)
{
    PyObject *torch = PyImport_ImportModule("torch.nn.modules.module");
    global_hooks = torch == NULL ? NULL : PyObject_GetAttrString(torch, "_global_forward_hooks");
    Py_XDECREF(torch);
    if (global_hooks == NULL || !PyDict_Check(global_hooks))
        return -1;
    forward = PyUnicode_InternFromString("forward");
    return forward == NULL ? -1 : stand_in_kind(&watched_type, "forward");
}
