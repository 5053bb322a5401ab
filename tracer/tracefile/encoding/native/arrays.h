/* Arrays as Python's buffer protocol describes them. */

#ifndef ENCODING_NATIVE_ARRAYS_H
#define ENCODING_NATIVE_ARRAYS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* Describe an array of 'i' (int32), 'f' (float32) or '?' (booleans) in the machine's own byte order, to be released.
 * Returns 0, without an exception, for anything else. */
int describe_array(PyObject *array, char kind, Py_buffer *view);

/* Describe an array of int32, and find its values in row-major order: its own, or a copy. Both to be released. */
int read_integers(PyObject *array, Py_buffer *view, const int32_t **values);
void release_integers(Py_buffer *view, const int32_t *values);

#endif
