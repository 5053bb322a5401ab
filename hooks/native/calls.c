#include "calls.h"

#include <stdint.h>

enum { MODULE, SIGNATURE, WORDS = 6 }; /* of a note, as hooks/modules/call_notes.py lays it out */

/* Put the numbers of a list into an array; 0, or -1 with an exception. */
static int read_numbers(PyObject *list, int32_t *into)
{
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(list); at++) {
        into[at] = (int32_t)PyLong_AsLong(PyList_GET_ITEM(list, at));
        if (into[at] == -1 && PyErr_Occurred())
            return -1;
    }
    return 0;
}

/* Write the columns of notes one after the other; 0, or -1 where a note has another signature than those. */
static int write_columns(const int32_t *notes, Py_ssize_t calls, const int32_t *numbers, Py_ssize_t signatures,
                         int32_t *into)
{
    for (Py_ssize_t call = 0; call < calls; call++, notes += WORDS) {
        if (notes[SIGNATURE] < 0 || notes[SIGNATURE] >= signatures)
            return -1;
        for (Py_ssize_t word = 0; word < WORDS; word++)
            into[word * calls + call] = word == SIGNATURE ? numbers[notes[SIGNATURE]] : notes[word];
    }
    return 0;
}

PyObject *call_columns(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer notes;
    PyObject *list, *columns = NULL;
    if (!PyArg_ParseTuple(args, "y*O!", &notes, &PyList_Type, &list))
        return NULL;
    Py_ssize_t signatures = PyList_GET_SIZE(list), calls = notes.len / (WORDS * (Py_ssize_t)sizeof(int32_t));
    int32_t *numbers = PyMem_Malloc(signatures ? (size_t)signatures * sizeof *numbers : 1);
    if (numbers == NULL)
        PyErr_NoMemory();
    else if (read_numbers(list, numbers) == 0)
        columns = PyByteArray_FromStringAndSize(NULL, calls * WORDS * (Py_ssize_t)sizeof(int32_t));
    if (columns != NULL && write_columns(notes.buf, calls, numbers, signatures,
                                         (int32_t *)PyByteArray_AS_STRING(columns)) < 0) {
        PyErr_SetString(PyExc_IndexError, "a call has a signature that is not among the step's");
        Py_CLEAR(columns);
    }
    PyMem_Free(numbers);
    PyBuffer_Release(&notes);
    return columns;
}
