#include "integers.h"
#include "pack.h"

static PyMethodDef functions[] = {
    {"pack", pack, METH_VARARGS, "The arrays of a record as a columnar blob."},
    {"are_within", (PyCFunction)(void (*)(void))are_within, METH_FASTCALL, "Whether integers are within limits."},
    {"distinct", distinct, METH_O, "The different values of integers."},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "tracer.tracefile.encoding.native._native",
    .m_doc = "What the writer does with the arrays of every step.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModule_Create(&definition);
}
