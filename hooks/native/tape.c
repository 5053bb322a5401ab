/* A decode step calls some four hundred modules in a few dozen milliseconds, and between two of those calls
 * the weights sweep everything else out of the processor's caches. A line of Python costs many times there
 * what it costs in a loop; these functions are short enough to stay cheap. What does not happen every step is
 * left to Python: a call whose signature differs from that of its module's last one, and a long output whose values lie
 * elsewhere than in the host's memory.
 */

#include "tape.h"

#include <math.h>
#include <string.h>

#include "moments.h"
#include "tensors.h"

#define TENSORS 64 /* most of a call that is recognised here, in and out each */
#define CHANGES 8  /* kinds of calls that change with the sequence: two or three in practice */
#define SHARED 32  /* kinds of calls that many modules have: a dozen in the prefill, another in decode steps */

/* The lists of a DeferredCalls (hooks/modules/call_notes.py). */
enum { PLACES, ARGUMENTS, OUTPUTS, VERSIONS, LISTS };
static const char *const deferred_names[LISTS] = {"places", "arguments", "outputs", "versions"};

/* What a call's tensors are: how many go in and come out, and shape, dtype and device of each, as a hash of 64 bits.
 * Two calls of a run that differ share one once in 10^13 runs of a thousand kinds of calls; to compare the specs
 * themselves takes several lines of memory, which are never in the caches. */
typedef uint64_t Form;

#define NO_FORM 0 /* something that is not recognised here; no call has it */

/* The signature of calls; shared by all modules whose calls have the same. */
typedef struct {
    Py_ssize_t users;
    PyObject *object;     /* Python's form of it: a CallSignature, or a GrownSignature */
    PyObject *base;       /* the CallSignature, from which it may differ in the sizes of what goes in */
    int64_t step;         /* the last step that had such a call */
    int32_t place;        /* its place in the list of that step */
    int wants_statistics; /* statistics are taken of the first tensor that comes out */
    Form form;
    Form kind; /* the form but for those sizes */
} Signature;

/* The signature of a module's last call; NULL: none is known. Its form is repeated, to be met without it. */
typedef struct {
    Form form;
    Signature *signature;
} Last;

/* The note of a call, as hooks/modules/call_notes.py lays it out. No object of Python's: hundreds of them, each
 * somewhere else in memory, would have to be fetched for their reference counts. */
typedef struct {
    int32_t module, signature;
    float statistics[STATISTICS];
} CallNote;

typedef struct {
    PyObject_HEAD
    /* What every call needs lies together. */
    PyObject *signatures;   /* every CallSignature of this step; NULL while nothing is noted */
    Py_ssize_t modules;
    Py_ssize_t owner;       /* number of the model whose modules these are; a module may be part of two */
    Last *last;             /* by module */
    char *inspected;        /* by module: whether Python inspects every call */
    int64_t step;
    CallNote *notes;
    Py_ssize_t calls, room; /* how many there are in `notes`, and may be */
    char *early;            /* by module: whether its outputs are reduced at once, never deferred */
    char *shares;           /* by module: whether the signature of a call does not depend on the module */
    PyObject *deferred[LISTS]; /* lists of a DeferredCalls; NULL: no output is deferred */
    PyObject *find, *inspect;
    struct {
        Signature *before, *after;
    } changed[CHANGES];        /* how calls of this step differ from the step before */
    int changes;
    Signature *shared[SHARED]; /* signatures that do not depend on the module */
    int put;                   /* how many were put there; the oldest makes room */
} Tape;

static Signature *signature_share(Signature *signature)
{
    if (signature != NULL)
        signature->users++;
    return signature;
}

static void signature_release(Signature *signature)
{
    if (signature == NULL || --signature->users)
        return;
    Py_DECREF(signature->object);
    Py_DECREF(signature->base);
    PyMem_Free(signature);
}

/* Put a signature, with the caller's share in it, in place of another. */
static void signature_set(Signature **into, Signature *signature)
{
    Signature *old = *into;
    *into = signature;
    signature_release(old);
}

/* Put a signature, with the caller's share in it, in place of a module's last one. */
static void last_set(Last *into, Signature *signature)
{
    into->form = signature == NULL ? NO_FORM : signature->form;
    signature_set(&into->signature, signature);
}

/* Of two words that differ one makes two forms that do. */
static inline Form with_word(Form form, uint64_t word)
{
    form = (form ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return form ^ form >> 29;
}

static Form with_dtype(Form form, const DLTensor *tensor)
{
    form = with_word(form, (uint64_t)tensor->dimensions << 32 | (uint64_t)tensor->dtype.code << 24 |
                               (uint64_t)tensor->dtype.bits << 16 | tensor->dtype.lanes);
    return with_word(form, (uint64_t)(uint32_t)tensor->device.type << 32 | (uint32_t)tensor->device.id);
}

static Form with_tensor(Form form, const DLTensor *tensor)
{
    form = with_dtype(form, tensor);
    for (int32_t at = 0; at < tensor->dimensions; at++)
        form = with_word(form, (uint64_t)tensor->shape[at]);
    return form;
}

/* A call that has returned. */
typedef struct {
    PyObject *argument, *output;
    PyObject *values[2];            /* lists of what mappings defer; NULL: no mapping */
    PyObject *tensors[2 * TENSORS]; /* those that went in, then those that came out */
    int inputs, count;              /* -1: something that is not recognised here */
    Form form;
    DLTensor first; /* the first tensor that came out, where there is a form and one came out */
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

static Form form_of(Call *call)
{
    if (call->count < 0)
        return NO_FORM;
    Form form = with_word(1, (uint64_t)call->inputs << 32 | (uint64_t)call->count);
    for (int at = call->count - 1; at >= 0; at--) {
        DLTensor other, *described = at == call->inputs ? &call->first : &other;
        if (!describe_tensor(call->tensors[at], described))
            return NO_FORM;
        form = with_tensor(form, described);
    }
    return form == NO_FORM ? 1 : form;
}

/* The form of a call whose tensors are all described, but for the sizes of what goes in. */
static Form kind_of(const Call *call)
{
    Form kind = with_word(2, (uint64_t)call->inputs << 32 | (uint64_t)call->count);
    for (int at = 0; at < call->count; at++) {
        DLTensor tensor;
        if (!describe_tensor(call->tensors[at], &tensor))
            return NO_FORM;
        kind = at < call->inputs ? with_dtype(kind, &tensor) : with_tensor(kind, &tensor);
    }
    return kind;
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

/* The signature of a call; NULL with an exception. */
static Signature *signature_new(PyObject *object, PyObject *base, int wants_statistics, const Call *call, Form kind)
{
    Signature *signature = PyMem_Calloc(1, sizeof *signature);
    if (signature == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    signature->users = 1;
    signature->object = Py_NewRef(object);
    signature->base = Py_NewRef(base);
    signature->wants_statistics = wants_statistics;
    signature->form = call->form;
    signature->kind = kind;
    return signature;
}

/* The signature of a call for which Python found `object`; NULL with an exception. */
static Signature *signature_found(PyObject *object, const Call *call)
{
    PyObject *wants_statistics = PyObject_GetAttrString(object, "wants_statistics");
    if (wants_statistics == NULL)
        return NULL;
    int wanted = wants_statistics == Py_True;
    Py_DECREF(wants_statistics);
    return signature_new(object, object, wanted, call, call->form == NO_FORM ? NO_FORM : kind_of(call));
}

/* Whether a call is one of a signature. */
static int is_of(const Signature *signature, Form form)
{
    return form != NO_FORM && signature->form == form;
}

/* What changes with the sequence changes in all layers alike, so one of them tells for the others. */
static int changed_alike(Tape *tape, Last *last, Form form)
{
    for (int at = 0; at < tape->changes; at++)
        if (tape->changed[at].before == last->signature && is_of(tape->changed[at].after, form)) {
            last_set(last, signature_share(tape->changed[at].after));
            return 1;
        }
    return 0;
}

/* Many modules have the same kinds of calls, and where nothing else matters one of them tells for the others. */
static int seen_elsewhere(Tape *tape, Py_ssize_t index, Form form)
{
    for (int at = 0; tape->shares[index] && at < SHARED && tape->shared[at] != NULL; at++)
        if (is_of(tape->shared[at], form)) {
            last_set(&tape->last[index], signature_share(tape->shared[at]));
            return 1;
        }
    return 0;
}

/* The signature, shared, for which Python gave `object` before; NULL: none. */
static Signature *signature_given(Tape *tape, PyObject *object)
{
    for (Py_ssize_t module = 0; module < tape->modules; module++)
        if (tape->last[module].signature != NULL && tape->last[module].signature->object == object)
            return signature_share(tape->last[module].signature);
    return NULL;
}

/* Put the signature of a call, with the caller's share in it, in place of its module's last one. */
static void change(Tape *tape, Py_ssize_t index, Signature *found)
{
    Last *last = &tape->last[index];
    if (last->signature != NULL && last->signature != found && tape->changes < CHANGES) {
        tape->changed[tape->changes].before = signature_share(last->signature);
        tape->changed[tape->changes++].after = signature_share(found);
    }
    if (tape->shares[index])
        signature_set(&tape->shared[tape->put++ % SHARED], signature_share(found));
    last_set(last, found);
}

/* The sizes of the tensors that went into a call, a tuple for each; NULL with an exception. */
static PyObject *sizes_of(const Call *call)
{
    PyObject *sizes = PyTuple_New(call->inputs);
    for (int at = 0; sizes != NULL && at < call->inputs; at++) {
        DLTensor tensor;
        PyObject *size = describe_tensor(call->tensors[at], &tensor) ? PyTuple_New(tensor.dimensions) : NULL;
        for (int32_t dimension = 0; size != NULL && dimension < tensor.dimensions; dimension++) {
            PyObject *number = PyLong_FromLongLong(tensor.shape[dimension]);
            if (number == NULL)
                Py_CLEAR(size);
            else
                PyTuple_SET_ITEM(size, dimension, number);
        }
        if (size == NULL)
            Py_CLEAR(sizes);
        else
            PyTuple_SET_ITEM(sizes, at, size);
    }
    return sizes;
}

/* Where calls get their signature from the specs alone, and this one differs from the last in the sizes of what went
 * in: make its signature of the last one's; 1, 0 where it is not so, -1 with an exception. */
static int grow(Tape *tape, Py_ssize_t index, const Call *call)
{
    Signature *last = tape->last[index].signature;
    if (!tape->shares[index] || last == NULL || call->form == NO_FORM || last->kind == NO_FORM ||
        last->kind != kind_of(call))
        return 0;
    PyObject *sizes = sizes_of(call);
    if (sizes == NULL)
        return -1;
    last = signature_share(last); /* Python code runs */
    PyObject *object = PyObject_CallMethod(last->base, "with_sizes", "(O)", sizes);
    Signature *grown =
        object == NULL ? NULL : signature_new(object, last->base, last->wants_statistics, call, last->kind);
    signature_release(last);
    Py_DECREF(sizes);
    Py_XDECREF(object);
    if (grown == NULL)
        return -1;
    change(tape, index, grown);
    return 1;
}

/* Ask Python for the signature of a call; 1, 0 where it gives none, -1 with an exception. */
static int find(Tape *tape, Py_ssize_t index, PyObject *number, const Call *call)
{
    PyObject *object =
        PyObject_CallFunctionObjArgs(tape->find, number, call->argument, call->output, NULL);
    if (object == NULL || object == Py_None) {
        Py_XDECREF(object);
        return object == NULL ? -1 : 0;
    }
    Signature *found = signature_given(tape, object);
    if (found == NULL)
        found = signature_found(object, call);
    Py_DECREF(object);
    if (found == NULL)
        return -1;
    change(tape, index, found);
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

/* Put a signature on the list of this step, unless it is on it; 0, or -1 with an exception. */
static int list_signature(Tape *tape, Signature *signature)
{
    if (signature->step == tape->step)
        return 0;
    signature->place = (int32_t)PyList_GET_SIZE(tape->signatures);
    signature->step = tape->step;
    return PyList_Append(tape->signatures, signature->object);
}

/* Defer the output of a call to the end of the step; 1, 0 where that cannot be done, -1 with an exception. */
static int defer(Tape *tape, Py_ssize_t index, Py_ssize_t place, const Call *call)
{
    if (tape->deferred[PLACES] == NULL || tape->early[index])
        return 0;
    PyObject *output = call->tensors[call->inputs];
    PyObject *version = PyObject_GetAttrString(output, "_version");
    if (version == NULL) { /* a tensor from inference mode does not say whether it has been written to */
        PyErr_Clear();
        return 0;
    }
    PyObject *number = PyLong_FromSsize_t(place);
    int done = number == NULL || PyList_Append(tape->deferred[PLACES], number) < 0 ||
                       PyList_Append(tape->deferred[ARGUMENTS], call->argument) < 0 ||
                       PyList_Append(tape->deferred[OUTPUTS], output) < 0 ||
                       PyList_Append(tape->deferred[VERSIONS], version) < 0
                   ? -1
                   : 1;
    Py_XDECREF(number);
    Py_DECREF(version);
    return done;
}

/* Note a call of that signature; 0, or -1 with an exception. */
static int put(Tape *tape, Py_ssize_t index, Signature *signature, const Call *call)
{
    CallNote note = {(int32_t)index, 0, {NAN, NAN, NAN, NAN}};
    int some = signature->wants_statistics && call->count > call->inputs;
    int taken = some && (call->form == NO_FORM ? take_statistics(call->tensors[call->inputs], note.statistics)
                                               : statistics_of(&call->first, note.statistics));
    if (tape->signatures == NULL) /* a long output lets other threads run */
        return 0;
    if (make_room(tape) < 0 || list_signature(tape, signature) < 0)
        return -1;
    note.signature = signature->place;
    Py_ssize_t place = tape->calls++;
    tape->notes[place] = note;
    int deferred = some && !taken ? defer(tape, index, place, call) : 0;
    if (deferred < 0)
        return -1;
    int wanted = signature->wants_statistics && !taken && !deferred;
    if (!wanted && !tape->inspected[index])
        return 0;
    PyObject *done = PyObject_CallFunction(tape->inspect, "nnOOO", place, index,
                                           wanted ? Py_True : Py_False, call->argument, call->output);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Note a call that has been read; 0, or -1 with an exception. */
static int note(Tape *tape, Py_ssize_t index, PyObject *number, Call *call)
{
    Last *last = &tape->last[index];
    if ((last->form != call->form || call->form == NO_FORM) && !changed_alike(tape, last, call->form) &&
        !seen_elsewhere(tape, index, call->form)) {
        int found = grow(tape, index, call);
        if (!found)
            found = find(tape, index, number, call);
        if (found <= 0)
            return found;
        /* Python code has run: it may have ended the step, reset the signatures, or resized a tensor. */
        if (tape->signatures == NULL || last->signature == NULL)
            return 0;
        call->form = form_of(call);
    }
    Signature *signature = signature_share(last->signature);
    int done = put(tape, index, signature, call);
    signature_release(signature);
    return done;
}

/* ------------------------------------------------------------------------------------------------------
 * What Python sees
 * ---------------------------------------------------------------------------------------------------- */

/* The tapes of the runs in progress in this context: a tuple, or None. */
PyObject *tapes;

int tapes_new(void)
{
    return (tapes = PyContextVar_New("trace_generate_tapes", Py_None)) == NULL ? -1 : 0;
}

/* A tape of this context if it notes calls of a module, else NULL. */
static Tape *tape_at(PyObject *all, Py_ssize_t at, Py_ssize_t owner, Py_ssize_t index)
{
    Tape *tape = (Tape *)PyTuple_GET_ITEM(all, at);
    int notes = Py_IS_TYPE((PyObject *)tape, &tape_type) && tape->signatures != NULL && tape->owner == owner &&
                index < tape->modules;
    return notes ? tape : NULL;
}

int note_all(PyObject *all, Py_ssize_t owner, Py_ssize_t index, PyObject *number, PyObject *argument, PyObject *output)
{
    Call call;
    call_read(&call, argument, output);
    int done = 0;
    for (Py_ssize_t at = 0; !done && at < PyTuple_GET_SIZE(all); at++) {
        Tape *tape = tape_at(all, at, owner, index);
        if (tape != NULL) {
            /* Anew for each tape: Python code may have run for the one before, and resized a tensor. */
            call.form = form_of(&call);
            done = note(tape, index, number, &call);
        }
    }
    call_release(&call);
    return done;
}

/* A copy of flags, one a module; NULL with an exception. */
static char *flags_of(PyObject *flags, Py_ssize_t modules)
{
    if (!PyBytes_Check(flags) || PyBytes_GET_SIZE(flags) != modules) {
        PyErr_SetString(PyExc_ValueError, "flags are bytes, one a module");
        return NULL;
    }
    char *copy = PyMem_Malloc((size_t)modules + 1);
    if (copy == NULL)
        PyErr_NoMemory();
    else
        memcpy(copy, PyBytes_AS_STRING(flags), (size_t)modules);
    return copy;
}

static PyObject *tape_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"find", "inspect", "inspected", "shares", "owner", NULL};
    PyObject *find, *inspect, *inspected, *shares;
    Py_ssize_t owner = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOSS|n", names, &find, &inspect, &inspected, &shares,
                                     &owner))
        return NULL;
    Tape *self = (Tape *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->find = Py_NewRef(find);
    self->inspect = Py_NewRef(inspect);
    self->modules = PyBytes_GET_SIZE(inspected);
    self->owner = owner;
    self->inspected = flags_of(inspected, self->modules);
    self->shares = self->inspected == NULL ? NULL : flags_of(shares, self->modules);
    if (self->shares == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->last = PyMem_Calloc((size_t)self->modules + 1, sizeof *self->last);
    self->early = PyMem_Calloc((size_t)self->modules + 1, 1);
    if (self->last == NULL || self->early == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static int tape_traverse(Tape *self, visitproc visit, void *arg)
{
    Py_VISIT(self->find);
    Py_VISIT(self->inspect);
    Py_VISIT(self->signatures);
    for (int list = 0; list < LISTS; list++)
        Py_VISIT(self->deferred[list]);
    return 0; /* a CallSignature refers to nothing that could lead back here */
}

static void forget_changes(Tape *self)
{
    while (self->changes) {
        self->changes--;
        signature_set(&self->changed[self->changes].before, NULL);
        signature_set(&self->changed[self->changes].after, NULL);
    }
}

static void defer_none(Tape *self)
{
    for (int list = 0; list < LISTS; list++)
        Py_CLEAR(self->deferred[list]);
}

static void forget_shared(Tape *self)
{
    for (int at = 0; at < SHARED; at++)
        signature_set(&self->shared[at], NULL);
    self->put = 0;
}

static int tape_clear(Tape *self)
{
    defer_none(self);
    forget_shared(self);
    Py_CLEAR(self->find);
    Py_CLEAR(self->inspect);
    Py_CLEAR(self->signatures);
    for (Py_ssize_t module = 0; self->last != NULL && module < self->modules; module++)
        last_set(&self->last[module], NULL);
    forget_changes(self);
    return 0;
}

static void tape_dealloc(Tape *self)
{
    PyObject_GC_UnTrack(self);
    tape_clear(self);
    PyMem_Free(self->last);
    PyMem_Free(self->inspected);
    PyMem_Free(self->shares);
    PyMem_Free(self->early);
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

static PyObject *tape_note(PyObject *Py_UNUSED(type), PyObject *args)
{
    PyObject *number, *argument, *output, *all;
    Py_ssize_t owner;
    if (!PyArg_ParseTuple(args, "OOOn", &number, &argument, &output, &owner))
        return NULL;
    Py_ssize_t index = PyLong_AsSsize_t(number);
    if ((index == -1 && PyErr_Occurred()) || PyContextVar_Get(tapes, Py_None, &all) < 0)
        return NULL;
    int done = index >= 0 && PyTuple_CheckExact(all) ? note_all(all, owner, index, number, argument, output) : 0;
    Py_DECREF(all);
    if (done < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *tape_reduce_early(Tape *self, PyObject *number)
{
    Py_ssize_t index = PyLong_AsSsize_t(number);
    if ((index == -1 && PyErr_Occurred()) || check_index(self, index) < 0)
        return NULL;
    self->early[index] = 1;
    Py_RETURN_NONE;
}

static PyObject *tape_inspect_all(Tape *self, PyObject *number)
{
    Py_ssize_t index = PyLong_AsSsize_t(number);
    if ((index == -1 && PyErr_Occurred()) || check_index(self, index) < 0)
        return NULL;
    self->inspected[index] = 1;
    Py_RETURN_NONE;
}

/* Take the lists of a DeferredCalls; 0, or -1 with an exception. */
static int defer_into(Tape *self, PyObject *deferred)
{
    for (int list = 0; list < LISTS; list++) {
        PyObject *found = PyObject_GetAttrString(deferred, deferred_names[list]);
        if (found != NULL && !PyList_Check(found)) {
            Py_CLEAR(found);
            PyErr_SetString(PyExc_TypeError, "deferred calls are collected in lists");
        }
        if (found == NULL) {
            defer_none(self);
            return -1;
        }
        Py_XSETREF(self->deferred[list], found);
    }
    return 0;
}

static PyObject *tape_begin(Tape *self, PyObject *args)
{
    PyObject *deferred = Py_None;
    if (!PyArg_ParseTuple(args, "|O", &deferred))
        return NULL;
    defer_none(self);
    if (deferred != Py_None && defer_into(self, deferred) < 0)
        return NULL;
    PyObject *signatures = PyList_New(0);
    if (signatures == NULL)
        return NULL;
    forget_changes(self);
    self->step++;
    self->calls = 0;
    Py_XSETREF(self->signatures, signatures);
    Py_RETURN_NONE;
}

/* The list of signatures, which is given away, and the notes. */
static PyObject *noted(Tape *self, PyObject *signatures)
{
    Py_ssize_t bytes = self->calls * (Py_ssize_t)sizeof *self->notes;
    return Py_BuildValue("NN", signatures, PyBytes_FromStringAndSize((const char *)self->notes, bytes));
}

static PyObject *tape_peek(Tape *self, PyObject *Py_UNUSED(ignored))
{
    if (self->signatures == NULL)
        Py_RETURN_NONE;
    return noted(self, PyList_GetSlice(self->signatures, 0, PyList_GET_SIZE(self->signatures)));
}

static PyObject *tape_take(Tape *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *signatures = self->signatures;
    if (signatures == NULL)
        Py_RETURN_NONE;
    self->signatures = NULL;
    defer_none(self);
    return noted(self, signatures);
}

static PyObject *tape_last_signatures(Tape *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *signatures = PySet_New(NULL);
    for (Py_ssize_t module = 0; signatures != NULL && module < self->modules; module++)
        if (self->last[module].signature != NULL && PySet_Add(signatures, self->last[module].signature->object) < 0)
            Py_CLEAR(signatures);
    return signatures;
}

static PyMethodDef tape_methods[] = {
    {"note", tape_note, METH_VARARGS | METH_STATIC, "Note a call on all tapes of this context."},
    {"reduce_early", (PyCFunction)tape_reduce_early, METH_O, "Defer no output of a module from now on."},
    {"inspect_all", (PyCFunction)tape_inspect_all, METH_O, "Inspect every call of a module from now on."},
    {"begin", (PyCFunction)tape_begin, METH_VARARGS, "A step begins."},
    {"peek", (PyCFunction)tape_peek, METH_NOARGS, "The notes of the step so far; it goes on."},
    {"take", (PyCFunction)tape_take, METH_NOARGS, "The notes of the step, which is over."},
    {"last_signatures", (PyCFunction)tape_last_signatures, METH_NOARGS, "Signatures of the modules' last calls."},
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
