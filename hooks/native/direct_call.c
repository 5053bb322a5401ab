#include "direct_call.h"

#include <frameobject.h>

#include "stand_in.h"
#include "watched.h"

typedef struct {
    StandIn stand_in;
    PyObject *module;
    PyObject *watched;    /* the Watched in place of its forward method */
    unsigned int version; /* of the module's class when it was last looked at; 0: none */
} DirectCall;

enum { OWN_HOOKS = 4, GLOBAL_HOOKS = 4 };
static const char *const own_names[OWN_HOOKS] = {"_forward_hooks", "_forward_pre_hooks", "_backward_hooks",
                                                 "_backward_pre_hooks"};

/* What use_direct_calls was told. */
static PyObject *global_hooks[GLOBAL_HOOKS]; /* dicts */
static PyObject *is_usual;                   /* whether modules of a class call forward in the way of nn.Module */
static void *const *(*tracing_state)(void);  /* torch::jit::tracer::getTracingState, which returns a shared_ptr */
/* The code and the globals of the method that is left out; where it calls forward, if there are no hooks. */
static PyObject *code, *globals;
static int instruction, line;

static PyObject *own_hooks[OWN_HOOKS], *call_name, *forward_name; /* names as objects */

/* Whether somebody wants to see the frames of Python: a debugger, a profiler, a compiler. */
static int is_observed(void)
{
    PyThreadState *state = PyThreadState_Get();
    return state->c_tracefunc != NULL || state->c_profilefunc != NULL ||
           _PyInterpreterState_GetEvalFrameFunc(PyThreadState_GetInterpreter(state)) != _PyEval_EvalFrameDefault;
}

/* Whether the class still calls forward in the usual way; -1 with an exception. */
static int has_usual_class(DirectCall *self)
{
    PyTypeObject *type = Py_TYPE(self->module);
    if (type->tp_version_tag && type->tp_version_tag == self->version)
        return 1;
    PyObject *usual = PyObject_CallOneArg(is_usual, (PyObject *)type);
    int answer = usual == NULL ? -1 : usual == Py_True;
    Py_XDECREF(usual);
    if (answer > 0)
        self->version = type->tp_version_tag;
    return answer;
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
    for (int at = 0; at < GLOBAL_HOOKS; at++)
        if (PyDict_GET_SIZE(global_hooks[at]))
            return 0;
    if (*tracing_state() != NULL || is_observed())
        return 0;
    int usual = has_usual_class(self);
    if (usual <= 0)
        return usual;
    PyObject *attributes = PyObject_GenericGetDict(self->module, NULL);
    if (attributes == NULL)
        return -1;
    int direct = PyDict_GetItemWithError(attributes, forward_name) == self->watched;
    for (int at = 0; direct && at < OWN_HOOKS; at++)
        direct = is_empty(attributes, own_hooks[at]);
    Py_DECREF(attributes);
    return PyErr_Occurred() ? -1 : direct;
}

/* Call the class's method, as it is now. */
static PyObject *call_class(DirectCall *self, PyObject *args, PyObject *kwargs)
{
    PyObject *function = PyObject_GetAttr((PyObject *)Py_TYPE(self->module), call_name);
    PyObject *method = function == NULL ? NULL : PyMethod_New(function, self->module);
    PyObject *output = method == NULL ? NULL : PyObject_Call(method, args, kwargs);
    Py_XDECREF(function);
    Py_XDECREF(method);
    return output;
}

/* Add the call of torch that was left out to the traceback, which then reads as without this. */
static void add_call(void)
{
    PyObject *kind, *error, *traceback;
    PyErr_Fetch(&kind, &error, &traceback);
    PyFrameObject *frame = PyFrame_New(PyThreadState_Get(), (PyCodeObject *)code, globals, NULL);
    PyObject *longer = frame == NULL || traceback == NULL
                           ? NULL
                           : PyObject_CallFunction((PyObject *)&PyTraceBack_Type, "OOii", traceback, frame,
                                                   instruction, line);
    Py_XDECREF(frame);
    if (longer != NULL)
        Py_SETREF(traceback, longer);
    PyErr_Restore(kind, error, traceback); /* in place of an error of the lines before */
}

static PyObject *direct_call_call(DirectCall *self, PyObject *args, PyObject *kwargs)
{
    if (self->module == NULL) {
        PyErr_SetString(PyExc_ReferenceError, "the module is gone");
        return NULL;
    }
    int direct = is_direct(self);
    if (direct <= 0)
        return direct < 0 ? NULL : call_class(self, args, kwargs);
    PyObject *watched = Py_NewRef(self->watched); /* this may be thrown away meanwhile */
    PyObject *output = call_without_hooks(watched, args, kwargs);
    Py_DECREF(watched);
    if (output == NULL)
        add_call();
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
    PyObject_GC_Del(self);
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
    DirectCall *self = PyObject_GC_New(DirectCall, &direct_call_type);
    if (self == NULL)
        return NULL;
    self->stand_in.inner = Py_NewRef(inner);
    self->module = Py_NewRef(module);
    self->watched = Py_NewRef(watched);
    self->version = 0;
    PyObject_GC_Track(self);
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

/* Make the names; 0, or -1 with an exception. */
static int make_names(void)
{
    for (int at = 0; at < OWN_HOOKS; at++)
        if ((own_hooks[at] = PyUnicode_InternFromString(own_names[at])) == NULL)
            return -1;
    call_name = PyUnicode_InternFromString("_call_impl");
    forward_name = PyUnicode_InternFromString("forward");
    return call_name == NULL || forward_name == NULL ? -1 : 0;
}

PyObject *use_direct_calls(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *usual, *method, *hooks[GLOBAL_HOOKS];
    unsigned long long address;
    int place, number;
    if (!PyArg_ParseTuple(args, "OKO!iiO!O!O!O!", &usual, &address, &PyFunction_Type, &method, &place, &number,
                          &PyDict_Type, &hooks[0], &PyDict_Type, &hooks[1], &PyDict_Type, &hooks[2],
                          &PyDict_Type, &hooks[3]) ||
        make_names() < 0)
        return NULL;
    for (int at = 0; at < GLOBAL_HOOKS; at++)
        Py_XSETREF(global_hooks[at], Py_NewRef(hooks[at]));
    Py_XSETREF(is_usual, Py_NewRef(usual));
    Py_XSETREF(code, Py_NewRef(PyFunction_GET_CODE(method)));
    Py_XSETREF(globals, Py_NewRef(PyFunction_GET_GLOBALS(method)));
    instruction = place;
    line = number;
    tracing_state = (void *const *(*)(void))(uintptr_t)address;
    Py_RETURN_NONE;
}
