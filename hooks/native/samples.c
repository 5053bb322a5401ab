#include "samples.h"

#include <string.h>

#include "tensors.h"

/* DLDataTypeCode. Complex values may be conjugated where they are read; torch itself takes no elements of the
 * formats of 8 bits and fewer that come behind. */
enum { COMPLEX_CODE = 5, BOOL_CODE = 6 };

/* Which elements are sampled; hooks/loop/weights.py says why these. */
typedef struct {
    int64_t whole, count, step;
} Places;

static int64_t elements_of(const DLTensor *tensor)
{
    int64_t elements = 1;
    for (int32_t at = 0; at < tensor->dimensions; at++)
        elements *= tensor->shape[at];
    return elements;
}

static int is_readable(const DLTensor *tensor)
{
    return tensor->device.type == ON_HOST && tensor->data != NULL && tensor->dtype.lanes == 1 &&
           tensor->dtype.bits % 8 == 0 && tensor->dtype.code <= BOOL_CODE &&
           tensor->dtype.code != COMPLEX_CODE && is_contiguous(tensor);
}

/* Where a storage has been freed, a view of it that does not begin it has an address all the same: the offset. */
static int begins_its_storage(PyObject *tensor)
{
    PyObject *offset = PyObject_CallMethod(tensor, "storage_offset", NULL);
    int begins = offset != NULL && PyLong_AsLongLong(offset) == 0;
    Py_XDECREF(offset);
    PyErr_Clear();
    return begins;
}

static void copy_places(char *into, const char *from, size_t size, int64_t stretch, const Places *places)
{
    for (int64_t at = 0; at < places->count; at++, into += size)
        memcpy(into, from + size * (size_t)(at * stretch + at * places->step % stretch), size);
}

/* The sample of a tensor as bytes, None where it is not taken here, NULL with an exception. */
static PyObject *sample(PyObject *value, const Places *places)
{
    DLTensor tensor;
    if (!describe_parameter(value, &tensor) || !is_readable(&tensor) || !begins_its_storage(value))
        Py_RETURN_NONE;
    size_t size = tensor.dtype.bits / 8;
    int64_t elements = elements_of(&tensor);
    if (elements <= places->whole)
        return PyBytes_FromStringAndSize(memory_of(&tensor), (Py_ssize_t)size * elements);
    PyObject *taken = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size * places->count);
    if (taken != NULL)
        copy_places(PyBytes_AS_STRING(taken), memory_of(&tensor), size, elements / places->count, places);
    return taken;
}

PyObject *samples(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *tensors;
    long long whole, count, step;
    if (!PyArg_ParseTuple(args, "O!LLL", &PyList_Type, &tensors, &whole, &count, &step))
        return NULL;
    if (count < 1 || whole < count) {
        PyErr_SetString(PyExc_ValueError, "what is sampled has more elements than a sample");
        return NULL;
    }
    Places places = {whole, count, step};
    Py_ssize_t size = PyList_GET_SIZE(tensors);
    PyObject *found = PyList_New(size);
    for (Py_ssize_t at = 0; found != NULL && at < size; at++) {
        PyObject *taken = sample(PyList_GET_ITEM(tensors, at), &places);
        if (taken == NULL)
            Py_CLEAR(found);
        else
            PyList_SET_ITEM(found, at, taken);
    }
    return found;
}
