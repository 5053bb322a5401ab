/* A decode step calls some four hundred modules in a few dozen milliseconds, and between two of those calls
 * the weights sweep everything else out of the processor's caches. A line of Python costs many times there
 * what it costs in a loop; these functions are short enough to stay cheap. What does not happen every step is
 * left to Python: a call that looks unlike the last one of its module, and a long output whose values lie
 * elsewhere than in the host's memory.
 */

#include "tape.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "moments.h"
#include "tensors.h"

#define TENSORS 64 /* most of a call that is recognised here, in and out each */
#define CHANGES 8  /* kinds of calls that change with the sequence: two or three in practice */
#define SHARED 32  /* kinds of calls that many modules have: a dozen in the prefill, another in decode steps */

/* The lists of a HeldCalls (hooks/modules/call_notes.py). */
enum { PLACES, ARGUMENTS, OUTPUTS, VERSIONS, HELD };
static const char *const held_names[HELD] = {"places", "arguments", "outputs", "versions"};

/* What one tensor looks like. */
typedef struct {
    int32_t device_type, device_id;
    int32_t dimensions;
    uint8_t code, bits;
    int64_t shape[DIMENSIONS];
} TensorLooks;

/* What a call looks like; shared by all modules whose calls look alike. */
typedef struct {
    Py_ssize_t users;
    PyObject *known;    /* the KnownCall, which is what Python makes of it */
    int64_t step;       /* the last step that had such a call */
    int32_t place;      /* where `known` stands in the list of that step */
    int kept;           /* statistics are taken of the first tensor that comes out */
    int inputs, tensors; /* how many go in; how many go in and come out; -1: too many to be recognised here */
    TensorLooks looks[];
} CallLooks;

/* What is noted of a call, as hooks/modules/call_notes.py lays it out. No object of Python's: hundreds of them, each
 * somewhere else in memory, would have to be fetched for their reference counts. */
typedef struct {
    int32_t module, known;
    float statistics[STATISTICS];
} CallNote;

typedef struct {
    PyObject_HEAD
    PyObject *find, *look;
    Py_ssize_t modules;
    CallLooks **usual;       /* by module: what its last call looked like; NULL: nothing is known */
    char *asked;             /* by module: whether Python looks at every call */
    char *in_time;           /* by module: whether its outputs are not to be held */
    struct {
        CallLooks *before, *after;
    } changed[CHANGES];      /* how calls of this step differ from the step before */
    int changes;
    CallLooks *shared[SHARED]; /* what calls of modules look like that are all the same to `find` */
    int shares;                /* how many have been put there, the oldest making room */
    PyObject *known;         /* every KnownCall of this step; NULL while nothing is noted */
    PyObject *held[HELD];    /* lists of a HeldCalls for outputs that are looked at later; NULL: none is held */
    int64_t step;
    CallNote *notes;
    Py_ssize_t calls, room;  /* how many there are in `notes`, and may be */
} Tape;

typedef struct {
    PyObject_HEAD
    PyObject *attributes; /* what functools.update_wrapper writes */
    PyObject *forward;
    Tape *tape;
    PyObject *number;
    Py_ssize_t index;
    int shares; /* whether its calls are the same to `find` as those of other such modules that look alike */
} Watched;

static CallLooks *looks_share(CallLooks *looks)
{
    if (looks != NULL)
        looks->users++;
    return looks;
}

static void looks_release(CallLooks *looks)
{
    if (looks == NULL || --looks->users)
        return;
    Py_DECREF(looks->known);
    PyMem_Free(looks);
}

/* Put looks, with the caller's share in them, in place of others. */
static void looks_set(CallLooks **into, CallLooks *looks)
{
    CallLooks *old = *into;
    *into = looks;
    looks_release(old);
}

static int tensor_matches(const TensorLooks *looks, PyObject *value)
{
    DLTensor tensor;
    return describe_tensor(value, &tensor) && tensor.dimensions == looks->dimensions &&
           tensor.dtype.code == looks->code && tensor.dtype.bits == looks->bits &&
           tensor.device.type == looks->device_type && tensor.device.id == looks->device_id &&
           memcmp(tensor.shape, looks->shape, (size_t)tensor.dimensions * sizeof *looks->shape) == 0;
}

static int tensor_read(TensorLooks *into, PyObject *value)
{
    DLTensor tensor;
    if (!describe_tensor(value, &tensor))
        return 0;
    into->dimensions = tensor.dimensions;
    into->code = tensor.dtype.code;
    into->bits = tensor.dtype.bits;
    into->device_type = tensor.device.type;
    into->device_id = tensor.device.id;
    memcpy(into->shape, tensor.shape, (size_t)tensor.dimensions * sizeof *into->shape);
    return 1;
}

/* A call that has returned. */
typedef struct {
    PyObject *argument, *output;
    PyObject *values[2];            /* lists of what mappings hold; NULL: no mapping */
    PyObject *tensors[2 * TENSORS]; /* those that went in, then those that came out */
    int inputs, count;              /* -1: something that is not recognised here */
} Call;

static int add_tensor(PyObject *value, PyObject **into, int count)
{
    if (count < 0 || !is_tensor(value))
        return count;
    if (count == TENSORS)
        return -1;
    into[count] = value;
    return count + 1;
}

/* The tensors directly inside a value: itself, or those of a tuple, list or mapping.
 *
 * Returns how many there are, or -1 where there are too many or the container is of another kind.
 */
static int tensors_in(PyObject *value, PyObject **into, PyObject **values)
{
    int count = add_tensor(value, into, 0);
    if (count)
        return count;
    if (PyDict_CheckExact(value)) {
        PyObject *key, *inner;
        Py_ssize_t position = 0;
        while (PyDict_Next(value, &position, &key, &inner))
            count = add_tensor(inner, into, count);
        return count;
    }
    if (PyDict_Check(value)) { /* the outputs of the library's models */
        if ((value = *values = PyMapping_Values(value)) == NULL) {
            PyErr_Clear();
            return -1;
        }
    }
    if (PyTuple_Check(value) || PyList_Check(value)) {
        for (Py_ssize_t item = 0; item < PySequence_Fast_GET_SIZE(value); item++)
            count = add_tensor(PySequence_Fast_GET_ITEM(value, item), into, count);
        return count;
    }
    return value == Py_None ? 0 : -1;
}

static void call_read(Call *call, PyObject *argument, PyObject *output)
{
    call->argument = argument;
    call->output = output;
    call->values[0] = call->values[1] = NULL;
    call->inputs = tensors_in(argument, call->tensors, &call->values[0]);
    int outputs =
        call->inputs < 0 ? -1 : tensors_in(output, call->tensors + call->inputs, &call->values[1]);
    call->count = outputs < 0 ? -1 : call->inputs + outputs;
    /* Whoever has the container may empty it while Python is asked. */
    for (int at = 0; at < call->count; at++)
        Py_INCREF(call->tensors[at]);
}

static void call_release(Call *call)
{
    for (int at = 0; at < call->count; at++)
        Py_DECREF(call->tensors[at]);
    Py_XDECREF(call->values[0]);
    Py_XDECREF(call->values[1]);
}

static int call_matches(const CallLooks *looks, const Call *call)
{
    if (looks == NULL || call->count < 0 || looks->tensors != call->count || looks->inputs != call->inputs)
        return 0;
    for (int at = 0; at < call->count; at++)
        if (!tensor_matches(&looks->looks[at], call->tensors[at]))
            return 0;
    return 1;
}

/* What a call looks like of which Python made `known`; NULL with an exception. */
static CallLooks *looks_new(PyObject *known, const Call *call)
{
    PyObject *kept = PyObject_GetAttrString(known, "kept");
    if (kept == NULL)
        return NULL;
    size_t count = call->count < 0 ? 0 : (size_t)call->count;
    CallLooks *looks = PyMem_Calloc(1, sizeof *looks + count * sizeof *looks->looks);
    if (looks == NULL) {
        Py_DECREF(kept);
        PyErr_NoMemory();
        return NULL;
    }
    looks->users = 1;
    looks->known = Py_NewRef(known);
    looks->kept = kept == Py_True;
    Py_DECREF(kept);
    looks->inputs = call->inputs;
    looks->tensors = call->count;
    for (size_t at = 0; at < count; at++)
        if (!tensor_read(&looks->looks[at], call->tensors[at]))
            looks->tensors = -1;
    return looks;
}

/* What changes with the sequence changes in all layers alike, so one of them tells for the others. */
static int changed_alike(Tape *tape, CallLooks **usual, const Call *call)
{
    for (int at = 0; at < tape->changes; at++)
        if (tape->changed[at].before == *usual && call_matches(tape->changed[at].after, call)) {
            looks_set(usual, looks_share(tape->changed[at].after));
            return 1;
        }
    return 0;
}

/* Many modules have the same kinds of calls, and where nothing else matters one of them tells for the others. */
static int seen_elsewhere(Tape *tape, const Watched *watched, const Call *call)
{
    for (int at = 0; watched->shares && at < SHARED && tape->shared[at] != NULL; at++)
        if (call_matches(tape->shared[at], call)) {
            looks_set(&tape->usual[watched->index], looks_share(tape->shared[at]));
            return 1;
        }
    return 0;
}

/* Looks of which Python has said `known` before, shared; NULL: none. */
static CallLooks *looks_known(Tape *tape, PyObject *known)
{
    for (Py_ssize_t module = 0; module < tape->modules; module++)
        if (tape->usual[module] != NULL && tape->usual[module]->known == known)
            return looks_share(tape->usual[module]);
    return NULL;
}

/* Ask Python what a call looks like; 1, 0 where it does not say, -1 with an exception. */
static int find(Tape *tape, Watched *watched, const Call *call)
{
    CallLooks **usual = &tape->usual[watched->index];
    PyObject *known =
        PyObject_CallFunctionObjArgs(tape->find, watched->number, call->argument, call->output, NULL);
    if (known == NULL || known == Py_None) {
        Py_XDECREF(known);
        return known == NULL ? -1 : 0;
    }
    CallLooks *found = looks_known(tape, known);
    if (found == NULL)
        found = looks_new(known, call);
    Py_DECREF(known);
    if (found == NULL)
        return -1;
    if (*usual != NULL && *usual != found && tape->changes < CHANGES) {
        tape->changed[tape->changes].before = looks_share(*usual);
        tape->changed[tape->changes++].after = looks_share(found);
    }
    if (watched->shares)
        looks_set(&tape->shared[tape->shares++ % SHARED], looks_share(found));
    looks_set(usual, found);
    return 1;
}

/* Room for one more call; 0, or -1 with an exception. */
static int make_room(Tape *tape)
{
    if (tape->calls < tape->room)
        return 0;
    Py_ssize_t room = tape->room ? 2 * tape->room : 512;
    CallNote *notes = PyMem_Realloc(tape->notes, (size_t)room * sizeof *notes);
    if (notes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    tape->notes = notes;
    tape->room = room;
    return 0;
}

/* Put looks on the list of this step, unless they are on it; 0, or -1 with an exception. */
static int list_looks(Tape *tape, CallLooks *looks)
{
    if (looks->step == tape->step)
        return 0;
    looks->place = (int32_t)PyList_GET_SIZE(tape->known);
    looks->step = tape->step;
    return PyList_Append(tape->known, looks->known);
}

/* Hold the output of a call to the end of the step; 1, 0 where that cannot be done, -1 with an exception. */
static int hold(Tape *tape, Py_ssize_t index, Py_ssize_t place, const Call *call)
{
    if (tape->held[PLACES] == NULL || tape->in_time[index])
        return 0;
    PyObject *output = call->tensors[call->inputs];
    PyObject *version = PyObject_GetAttrString(output, "_version");
    if (version == NULL) { /* a tensor from inference mode does not say whether it has been written to */
        PyErr_Clear();
        return 0;
    }
    PyObject *number = PyLong_FromSsize_t(place);
    int done = number == NULL || PyList_Append(tape->held[PLACES], number) < 0 ||
                       PyList_Append(tape->held[ARGUMENTS], call->argument) < 0 ||
                       PyList_Append(tape->held[OUTPUTS], output) < 0 ||
                       PyList_Append(tape->held[VERSIONS], version) < 0
                   ? -1
                   : 1;
    Py_XDECREF(number);
    Py_DECREF(version);
    return done;
}

/* Note a call that looks like that; 0, or -1 with an exception. */
static int put(Tape *tape, Watched *watched, CallLooks *looks, const Call *call)
{
    CallNote note = {(int32_t)watched->index, 0, {NAN, NAN, NAN, NAN}};
    int some = looks->kept && call->count > call->inputs;
    int taken = some && take_statistics(call->tensors[call->inputs], note.statistics);
    if (tape->known == NULL) /* a long output lets other threads run */
        return 0;
    if (make_room(tape) < 0 || list_looks(tape, looks) < 0)
        return -1;
    note.known = looks->place;
    Py_ssize_t place = tape->calls++;
    tape->notes[place] = note;
    int held = some && !taken ? hold(tape, watched->index, place, call) : 0;
    if (held < 0)
        return -1;
    int wanted = looks->kept && !taken && !held;
    if (!wanted && !tape->asked[watched->index])
        return 0;
    PyObject *done = PyObject_CallFunction(tape->look, "nnOOO", place, watched->index,
                                           wanted ? Py_True : Py_False, call->argument, call->output);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Note a call that has been read; 0, or -1 with an exception. */
static int note(Tape *tape, Watched *watched, const Call *call)
{
    CallLooks **usual = &tape->usual[watched->index];
    if (!call_matches(*usual, call) && !changed_alike(tape, usual, call) &&
        !seen_elsewhere(tape, watched, call)) {
        int found = find(tape, watched, call);
        if (found <= 0)
            return found;
        /* Python code has run: it may have ended the step, or forgotten what calls look like. */
        if (tape->known == NULL || *usual == NULL)
            return 0;
    }
    CallLooks *looks = looks_share(*usual);
    int done = put(tape, watched, looks, call);
    looks_release(looks);
    return done;
}

/* ------------------------------------------------------------------------------------------------------
 * What Python sees
 * ---------------------------------------------------------------------------------------------------- */

static PyObject *watched_call(Watched *self, PyObject *args, PyObject *kwargs)
{
    if (self->forward == NULL) { /* it is being thrown away */
        PyErr_SetString(PyExc_ReferenceError, "the module is gone");
        return NULL;
    }
    PyObject *output = PyObject_Call(self->forward, args, kwargs);
    if (output == NULL || self->tape == NULL || self->tape->known == NULL)
        return output;
    PyObject *none = NULL, *argument;
    if (PyTuple_GET_SIZE(args))
        argument = PyTuple_GET_ITEM(args, 0);
    else if ((argument = kwargs) == NULL && (argument = none = PyDict_New()) == NULL) {
        Py_DECREF(output);
        return NULL;
    }
    Call call;
    call_read(&call, argument, output);
    if (note(self->tape, self, &call) < 0)
        Py_CLEAR(output);
    call_release(&call);
    Py_XDECREF(none);
    return output;
}

static int watched_traverse(Watched *self, visitproc visit, void *arg)
{
    Py_VISIT(self->attributes);
    Py_VISIT(self->forward);
    Py_VISIT(self->tape);
    return 0;
}

static int watched_clear(Watched *self)
{
    Py_CLEAR(self->attributes);
    Py_CLEAR(self->forward);
    Py_CLEAR(self->tape);
    return 0;
}

static void watched_dealloc(Watched *self)
{
    PyObject_GC_UnTrack(self);
    watched_clear(self);
    Py_XDECREF(self->number);
    PyObject_GC_Del(self);
}

static PyObject *watched_copy(PyObject *self, PyObject *Py_UNUSED(memo))
{
    return Py_NewRef(self);
}

static PyMethodDef watched_methods[] = {
    {"__copy__", watched_copy, METH_NOARGS, "As a function, it is its own copy."},
    {"__deepcopy__", watched_copy, METH_O, "As a function, it is its own copy."},
    {NULL},
};

static PyGetSetDef watched_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict},
    {NULL},
};

PyTypeObject watched_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "hooks.native._native.Watched",
    .tp_doc = "Stands before a module's forward method and notes its calls.",
    .tp_basicsize = sizeof(Watched),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_call = (ternaryfunc)watched_call,
    .tp_traverse = (traverseproc)watched_traverse,
    .tp_clear = (inquiry)watched_clear,
    .tp_dealloc = (destructor)watched_dealloc,
    .tp_methods = watched_methods,
    .tp_getset = watched_getset,
    .tp_dictoffset = offsetof(Watched, attributes),
};

static PyObject *tape_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"modules", "find", "look", NULL};
    Py_ssize_t modules;
    PyObject *find, *look;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nOO", names, &modules, &find, &look))
        return NULL;
    if (modules < 0) {
        PyErr_SetString(PyExc_ValueError, "modules must not be negative");
        return NULL;
    }
    Tape *self = (Tape *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->find = Py_NewRef(find);
    self->look = Py_NewRef(look);
    self->modules = modules;
    self->usual = PyMem_Calloc((size_t)modules, sizeof *self->usual);
    self->asked = PyMem_Calloc((size_t)modules, 1);
    self->in_time = PyMem_Calloc((size_t)modules, 1);
    if (self->usual == NULL || self->asked == NULL || self->in_time == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static int tape_traverse(Tape *self, visitproc visit, void *arg)
{
    Py_VISIT(self->find);
    Py_VISIT(self->look);
    Py_VISIT(self->known);
    for (int list = 0; list < HELD; list++)
        Py_VISIT(self->held[list]);
    return 0; /* a KnownCall refers to nothing that could lead back here */
}

static void forget_changes(Tape *self)
{
    while (self->changes) {
        self->changes--;
        looks_set(&self->changed[self->changes].before, NULL);
        looks_set(&self->changed[self->changes].after, NULL);
    }
}

static void hold_none(Tape *self)
{
    for (int list = 0; list < HELD; list++)
        Py_CLEAR(self->held[list]);
}

static void forget_shared(Tape *self)
{
    for (int at = 0; at < SHARED; at++)
        looks_set(&self->shared[at], NULL);
    self->shares = 0;
}

static int tape_clear(Tape *self)
{
    hold_none(self);
    forget_shared(self);
    Py_CLEAR(self->find);
    Py_CLEAR(self->look);
    Py_CLEAR(self->known);
    for (Py_ssize_t module = 0; self->usual != NULL && module < self->modules; module++)
        looks_set(&self->usual[module], NULL);
    forget_changes(self);
    return 0;
}

static void tape_dealloc(Tape *self)
{
    PyObject_GC_UnTrack(self);
    tape_clear(self);
    PyMem_Free(self->usual);
    PyMem_Free(self->asked);
    PyMem_Free(self->in_time);
    PyMem_Free(self->notes);
    Py_TYPE(self)->tp_free(self);
}

/* 0, or -1 with an exception. */
static int check_index(Tape *self, Py_ssize_t index)
{
    if (index >= 0 && index < self->modules)
        return 0;
    PyErr_SetString(PyExc_IndexError, "no such module");
    return -1;
}

static PyObject *tape_watch(Tape *self, PyObject *args)
{
    Py_ssize_t index;
    PyObject *forward;
    int asked, shares;
    if (!PyArg_ParseTuple(args, "nOpp", &index, &forward, &asked, &shares) || check_index(self, index) < 0)
        return NULL;
    PyObject *number = PyLong_FromSsize_t(index);
    Watched *watched = number == NULL ? NULL : PyObject_GC_New(Watched, &watched_type);
    if (watched == NULL) {
        Py_XDECREF(number);
        return NULL;
    }
    watched->attributes = NULL;
    watched->forward = Py_NewRef(forward);
    watched->tape = (Tape *)Py_NewRef(self);
    watched->number = number;
    watched->index = index;
    watched->shares = shares;
    self->asked[index] = (char)asked;
    PyObject_GC_Track(watched);
    return (PyObject *)watched;
}

static PyObject *tape_forget(Tape *self, PyObject *Py_UNUSED(ignored))
{
    for (Py_ssize_t module = 0; module < self->modules; module++)
        looks_set(&self->usual[module], NULL);
    forget_shared(self);
    Py_RETURN_NONE;
}

static PyObject *tape_look_in_time(Tape *self, PyObject *number)
{
    Py_ssize_t index = PyLong_AsSsize_t(number);
    if ((index == -1 && PyErr_Occurred()) || check_index(self, index) < 0)
        return NULL;
    self->in_time[index] = 1;
    Py_RETURN_NONE;
}

/* Take the lists of a HeldCalls; 0, or -1 with an exception. */
static int hold_in(Tape *self, PyObject *held)
{
    for (int list = 0; list < HELD; list++) {
        PyObject *found = PyObject_GetAttrString(held, held_names[list]);
        if (found != NULL && !PyList_Check(found)) {
            Py_CLEAR(found);
            PyErr_SetString(PyExc_TypeError, "held calls are kept in lists");
        }
        if (found == NULL) {
            hold_none(self);
            return -1;
        }
        Py_XSETREF(self->held[list], found);
    }
    return 0;
}

static PyObject *tape_begin(Tape *self, PyObject *args)
{
    PyObject *held = Py_None;
    if (!PyArg_ParseTuple(args, "|O", &held))
        return NULL;
    hold_none(self);
    if (held != Py_None && hold_in(self, held) < 0)
        return NULL;
    PyObject *known = PyList_New(0);
    if (known == NULL)
        return NULL;
    forget_changes(self);
    self->step++;
    self->calls = 0;
    Py_XSETREF(self->known, known);
    Py_RETURN_NONE;
}

/* The list of what calls look like, which is given away, and the notes. */
static PyObject *noted(Tape *self, PyObject *known)
{
    Py_ssize_t bytes = self->calls * (Py_ssize_t)sizeof *self->notes;
    return Py_BuildValue("NN", known, PyBytes_FromStringAndSize((const char *)self->notes, bytes));
}

static PyObject *tape_so_far(Tape *self, PyObject *Py_UNUSED(ignored))
{
    if (self->known == NULL)
        Py_RETURN_NONE;
    return noted(self, PyList_GetSlice(self->known, 0, PyList_GET_SIZE(self->known)));
}

static PyObject *tape_take(Tape *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *known = self->known;
    if (known == NULL)
        Py_RETURN_NONE;
    self->known = NULL;
    hold_none(self);
    return noted(self, known);
}

static PyObject *tape_known(Tape *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *known = PySet_New(NULL);
    for (Py_ssize_t module = 0; known != NULL && module < self->modules; module++)
        if (self->usual[module] != NULL && PySet_Add(known, self->usual[module]->known) < 0)
            Py_CLEAR(known);
    return known;
}

static PyMethodDef tape_methods[] = {
    {"watch", (PyCFunction)tape_watch, METH_VARARGS, "What stands before the forward method of a module."},
    {"forget", (PyCFunction)tape_forget, METH_NOARGS, "Find out anew what every call looks like."},
    {"look_in_time", (PyCFunction)tape_look_in_time, METH_O, "Hold no output of a module from now on."},
    {"begin", (PyCFunction)tape_begin, METH_VARARGS, "A step begins."},
    {"so_far", (PyCFunction)tape_so_far, METH_NOARGS, "What has been noted of the step; it goes on."},
    {"take", (PyCFunction)tape_take, METH_NOARGS, "What has been noted of the step, which is over."},
    {"known", (PyCFunction)tape_known, METH_NOARGS, "What the last calls of the modules looked like."},
    {NULL},
};

PyTypeObject tape_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "hooks.native._native.Tape",
    .tp_doc = "Notes the module calls of one step after the other; see hooks/modules/tape.py.",
    .tp_basicsize = sizeof(Tape),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = tape_new,
    .tp_traverse = (traverseproc)tape_traverse,
    .tp_clear = (inquiry)tape_clear,
    .tp_dealloc = (destructor)tape_dealloc,
    .tp_methods = tape_methods,
};
