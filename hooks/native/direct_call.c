#include "direct_call.h"

#include "stand_in.h"
#include "watched.h"

typedef struct {
    StandIn stand_in;
    PyObject *module;
    PyObject *watched; /* the Watched in place of its forward method */
} DirectCall;

enum { HOOKS = 4 };
static const char *const hook_names[HOOKS] = {"_forward_hooks", "_forward_pre_hooks", "_backward_hooks",
                                              "_backward_pre_hooks"};
static const char *const global_hook_names[HOOKS] = {"_global_forward_hooks", "_global_forward_pre_hooks",
                                                     "_global_backward_hooks", "_global_backward_pre_hooks"};

/* What use_direct_calls was told. */
static PyObject *usual;                     /* the method of nn.Module */
static PyObject *twin;                      /* a function that has the frame of the method, and only calls forward */
static void *const *(*tracing_state)(void); /* torch::jit::tracer::getTracingState, which returns a shared_ptr */

static PyObject *hooks[HOOKS], *global_hooks[HOOKS], *call, *forward, *getattribute; /* names as objects */

static PyObject *no_hooks[HOOKS];    /* the dicts of hooks of all modules */
static uint64_t globals_version = 0; /* of the globals of torch when they were looked up; 0: never */

/* Look up the dicts of hooks of all modules, which somebody may have exchanged; 0, or -1 where they are of another
 * kind. */
static int find_global_hooks(PyObject *globals)
{
    for (int at = 0; at < HOOKS; at++) {
        PyObject *found = PyDict_GetItemWithError(globals, global_hooks[at]);
        if (found == NULL || !(PyDict_CheckExact(found) || PyODict_CheckExact(found)))
            return -1;
        Py_XSETREF(no_hooks[at], Py_NewRef(found));
    }
    return 0;
}

/* Whether no module at all has hooks. */
static int are_no_global_hooks(void)
{
    PyObject *globals = PyFunction_GET_GLOBALS(usual);
    uint64_t version = ((PyDictObject *)globals)->ma_version_tag;
    if (version != globals_version) {
        if (find_global_hooks(globals) < 0)
            return 0;
        globals_version = version;
    }
    for (int at = 0; at < HOOKS; at++)
        if (PyDict_GET_SIZE(no_hooks[at]))
            return 0;
    return 1;
}

/* Whether somebody wants to see every line or call of Python: a debugger, a profiler, a compiler. */
static int is_observed(void)
{
    PyThreadState *state = PyThreadState_Get();
    return state->c_tracefunc != NULL || state->c_profilefunc != NULL ||
           _PyInterpreterState_GetEvalFrameFunc(PyThreadState_GetInterpreter(state)) != _PyEval_EvalFrameDefault;
}

/* Whether what a class has under a name stands before what an instance has. */
static int goes_before(PyTypeObject *type, PyObject *name)
{
    PyObject *found = _PyType_Lookup(type, name);
    return found != NULL && Py_TYPE(found)->tp_descr_set != NULL;
}

/* Whether modules of a class call forward in the way of nn.Module. */
static int is_usual_class(PyTypeObject *type)
{
    if (_PyType_Lookup(type, call) != usual ||
        _PyType_Lookup(type, getattribute) != _PyType_Lookup(&PyBaseObject_Type, getattribute) ||
        goes_before(type, forward))
        return 0;
    for (int at = 0; at < HOOKS; at++)
        if (goes_before(type, hooks[at]))
            return 0;
    return 1;
}

static int has_usual_class(DirectCall *self)
{
    PyTypeObject *type = Py_TYPE(self->module);
    if (type->tp_version_tag && type->tp_version_tag == self->stand_in.version)
        return 1;
    if (!is_usual_class(type))
        return 0;
    self->stand_in.version = type->tp_version_tag;
    return 1;
}

/* Whether an attribute of a module is a dict without entries; another kind may say itself whether it has some. */
static int is_empty(PyObject *attributes, PyObject *name)
{
    PyObject *found = PyDict_GetItemWithError(attributes, name);
    return found != NULL && (PyDict_CheckExact(found) || PyODict_CheckExact(found)) && !PyDict_GET_SIZE(found);
}

/* Whether torch would do nothing but call the Watched; -1 with an exception. */
static int is_direct(DirectCall *self)
{
    if (!are_no_global_hooks() || *tracing_state() != NULL || is_observed() || !has_usual_class(self))
        return PyErr_Occurred() ? -1 : 0;
    PyObject *attributes = PyObject_GenericGetDict(self->module, NULL);
    if (attributes == NULL)
        return -1;
    int direct = PyDict_GetItemWithError(attributes, forward) == self->watched;
    for (int at = 0; direct && at < HOOKS; at++)
        direct = is_empty(attributes, hooks[at]);
    Py_DECREF(attributes);
    return PyErr_Occurred() ? -1 : direct;
}

static PyObject *direct_call_call(DirectCall *self, PyObject *args, PyObject *kwargs)
{
    if (self->module == NULL) {
        PyErr_SetString(PyExc_ReferenceError, "the module is gone");
        return NULL;
    }
    int direct = is_direct(self);
    if (direct < 0)
        return NULL;
    PyObject *module = Py_NewRef(self->module); /* this may be thrown away meanwhile */
    PyObject *output;
    if (direct) {
        PyObject *none = kwargs == NULL ? PyDict_New() : NULL;
        PyObject *given[] = {module, self->watched, args, kwargs == NULL ? none : kwargs};
        output = given[3] == NULL ? NULL : PyObject_Vectorcall(twin, given, 4, NULL);
        Py_XDECREF(none);
    }
    else {
        /* A usual class has the method that it had. */
        int as_before = has_usual_class(self);
        PyObject *method = as_before ? as_made(&self->stand_in) : as_called(&self->stand_in);
        output = method == NULL ? NULL : PyObject_Call(method, args, kwargs);
        Py_XDECREF(method);
    }
    Py_DECREF(module);
    return output;
}

static int direct_call_traverse(DirectCall *self, visitproc visit, void *arg)
{
    Py_VISIT(self->module);
    Py_VISIT(self->watched);
    return stand_in_traverse(&self->stand_in, visit, arg);
}

static int direct_call_clear(DirectCall *self)
{
    Py_CLEAR(self->module);
    Py_CLEAR(self->watched);
    return stand_in_clear(&self->stand_in);
}

static void direct_call_dealloc(DirectCall *self)
{
    PyObject_GC_UnTrack(self);
    direct_call_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *direct_call_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *inner, *module, *watched;
    if (!PyArg_ParseTuple(args, "OOO!", &inner, &module, &watched_type, &watched))
        return NULL;
    if (tracing_state == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "direct calls were not set up");
        return NULL;
    }
    DirectCall *self = (DirectCall *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->module = Py_NewRef(module);
    self->watched = Py_NewRef(watched);
    if (stand_in_over(&self->stand_in, inner) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

PyTypeObject direct_call_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "hooks.native._native.DirectCall",
    .tp_doc = "Stands in for a module's _call_impl method; see hooks/modules/direct_call.py.",
    .tp_base = &stand_in_type,
    .tp_basicsize = sizeof(DirectCall),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = direct_call_new,
    .tp_call = (ternaryfunc)direct_call_call,
    .tp_traverse = (traverseproc)direct_call_traverse,
    .tp_clear = (inquiry)direct_call_clear,
    .tp_dealloc = (destructor)direct_call_dealloc,
};

int direct_call_names(void)
{
    for (int at = 0; at < HOOKS; at++) {
        hooks[at] = PyUnicode_InternFromString(hook_names[at]);
        global_hooks[at] = PyUnicode_InternFromString(global_hook_names[at]);
        if (hooks[at] == NULL || global_hooks[at] == NULL)
            return -1;
    }
    call = PyUnicode_InternFromString("_call_impl");
    forward = PyUnicode_InternFromString("forward");
    getattribute = PyUnicode_InternFromString("__getattribute__");
    return call == NULL || forward == NULL || getattribute == NULL ? -1 : 0;
}

PyObject *use_direct_calls(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *method, *function;
    unsigned long long address;
    if (!PyArg_ParseTuple(args, "O!O!K", &PyFunction_Type, &method, &PyFunction_Type, &function, &address))
        return NULL;
    Py_XSETREF(usual, Py_NewRef(method));
    Py_XSETREF(twin, Py_NewRef(function));
    tracing_state = (void *const *(*)(void))(uintptr_t)address;
    Py_RETURN_NONE;
}
