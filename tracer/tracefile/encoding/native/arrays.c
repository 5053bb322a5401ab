#include "arrays.h"

static int is_of_kind(const Py_buffer *view, char kind)
{
    const char *format = view->format;
    if (format == NULL || format[0] == '\0' || format[1] != '\0')
        return 0;
    if (kind == '?')
        return format[0] == '?' && view->itemsize == 1;
    /* C's long is an int32 on some machines. */
    return view->itemsize == 4 && (format[0] == kind || (kind == 'i' && format[0] == 'l'));
}

int describe_array(PyObject *array, char kind, Py_buffer *view)
{
    if (PyObject_GetBuffer(array, view, PyBUF_RECORDS_RO) < 0) {
        PyErr_Clear();
        return 0;
    }
    if (is_of_kind(view, kind))
        return 1;
    PyBuffer_Release(view);
    return 0;
}

static const int32_t *copy_of(const Py_buffer *view)
{
    int32_t *values = PyMem_Malloc((size_t)view->len);
    if (values != NULL && PyBuffer_ToContiguous(values, view, view->len, 'C') < 0) {
        PyErr_Clear();
        PyMem_Free(values);
        values = NULL;
    }
    return values;
}

int read_integers(PyObject *array, Py_buffer *view, const int32_t **values)
{
    if (!describe_array(array, 'i', view))
        return 0;
    int as_it_is = PyBuffer_IsContiguous(view, 'C') && (uintptr_t)view->buf % sizeof(int32_t) == 0;
    *values = as_it_is ? view->buf : copy_of(view);
    if (*values == NULL)
        PyBuffer_Release(view);
    return *values != NULL;
}

void release_integers(Py_buffer *view, const int32_t *values)
{
    if (values != view->buf)
        PyMem_Free((void *)values);
    PyBuffer_Release(view);
}
