#include "calls.h"
#include "direct_call.h"
#include "integers.h"
#include "samples.h"
#include "slots.h"
#include "stand_in.h"
#include "tape.h"
#include "team.h"
#include "tensors.h"
#include "watched.h"

static PyMethodDef functions[] = {
    {"call_columns", call_columns, METH_VARARGS, "The notes of a step's module calls in columns."},
    {"int_runs", int_runs, METH_VARARGS, "The values of an integer tensor as arithmetic runs."},
    {"gather", gather, METH_VARARGS, "The tensors of a cache, if they are of one size, dtype and device."},
    {"samples", samples, METH_VARARGS, "Samples of the values of tensors."},
    {"slot_norms", slot_norms, METH_VARARGS, "Norms of some slots of all layers."},
    {"slot_sums", slot_sums, METH_VARARGS, "Checksums of the slots of some layers."},
    {"use_direct_calls", use_direct_calls, METH_VARARGS, "Say what a DirectCall has to know of torch."},
    {"use_team", use_team, METH_VARARGS, "Share out work to the threads of torch."},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hooks.native._native",
    .m_doc = "What has to be quick between two calls of a model's modules; see the package hooks.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__native(void)
{
    if (find_exchange() < 0 || tapes_new() < 0 || stand_in_new_type() < 0 || watched_new_type() < 0 ||
        direct_call_names() < 0 || stand_in_kind(&direct_call_type, "_call_impl") < 0 || PyType_Ready(&tape_type) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && (PyModule_AddObjectRef(module, "Tape", (PyObject *)&tape_type) < 0 ||
                           PyModule_AddObjectRef(module, "Watched", (PyObject *)&watched_type) < 0 ||
                           PyModule_AddObjectRef(module, "DirectCall", (PyObject *)&direct_call_type) < 0 ||
                           PyModule_AddObjectRef(module, "tapes", tapes) < 0))
        Py_CLEAR(module);
    return module;
}
