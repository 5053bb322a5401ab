/* The arrays of a record as one blob: the compiled form of tracer/tracefile/encoding/columns.py, which says how a blob
 * is laid out. */

#include "pack.h"

#include "arrays.h"

#define MOST_COLUMNS 32
#define WORTH_NARROWING 16

typedef struct {
    char kind;
    Py_buffer view;
} Column;

typedef struct {
    Column columns[MOST_COLUMNS];
    Py_ssize_t count;
    Py_ssize_t sizes['Z' - 'A' + 1]; /* of each letter; -1 where no column had it yet */
} Columns;

/* Whether the dimensions of a column are of the sizes that others have. */
static int agrees(Columns *found, const Py_buffer *view, const char *letters, Py_ssize_t dimensions)
{
    if (view->ndim != dimensions)
        return 0;
    for (Py_ssize_t at = 0; at < dimensions; at++) {
        if (letters[at] < 'A' || letters[at] > 'Z' || view->shape[at] > (Py_ssize_t)UINT32_MAX)
            return 0;
        Py_ssize_t *size = &found->sizes[letters[at] - 'A'];
        if (*size >= 0 && *size != view->shape[at])
            return 0;
        *size = view->shape[at];
    }
    return 1;
}

/* Add a field of the record; 0, without an exception, where it is not an array that fits. */
static int add_column(Columns *found, PyObject *record, PyObject *column)
{
    PyObject *name;
    const char *kind, *letters;
    Py_ssize_t dimensions;
    if (found->count == MOST_COLUMNS || !PyArg_ParseTuple(column, "Uss#", &name, &kind, &letters, &dimensions)) {
        PyErr_Clear();
        return 0;
    }
    PyObject *array = PyObject_GetAttr(record, name);
    if (array == NULL) {
        PyErr_Clear();
        return 0;
    }
    Column *into = &found->columns[found->count];
    into->kind = kind[0];
    int described = describe_array(array, kind[0], &into->view);
    Py_DECREF(array); /* the view has its own reference */
    if (!described)
        return 0;
    found->count++;
    return agrees(found, &into->view, letters, dimensions);
}

static int find_columns(Columns *found, PyObject *columns, PyObject *record)
{
    found->count = 0;
    for (size_t letter = 0; letter < sizeof found->sizes / sizeof *found->sizes; letter++)
        found->sizes[letter] = -1;
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(columns); at++)
        if (!add_column(found, record, PyTuple_GET_ITEM(columns, at)))
            return 0;
    return 1;
}

/* Values in a blob are at any address. */
static int32_t load(const char *values, Py_ssize_t at)
{
    int32_t value;
    memcpy(&value, values + 4 * at, sizeof value);
    return value;
}

static int are_equal(const char *values, Py_ssize_t count)
{
    return memcmp(values, values + 4, 4 * (size_t)(count - 1)) == 0;
}

/* The narrowest type for integers. */
static char narrowest(const char *values, Py_ssize_t count)
{
    int32_t low = load(values, 0), high = low;
    for (Py_ssize_t at = 1; at < count; at++) {
        int32_t value = load(values, at);
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    if (low >= INT8_MIN && high <= INT8_MAX)
        return 'b';
    return low >= INT16_MIN && high <= INT16_MAX ? 'h' : 'i';
}

/* Narrow integers where they are, which no value that is still to be read is in the way of; returns their bytes. */
static Py_ssize_t narrow(char *values, Py_ssize_t count, char code)
{
    if (code == 'b')
        for (Py_ssize_t at = 0; at < count; at++)
            values[at] = (char)load(values, at);
    if (code == 'h')
        for (Py_ssize_t at = 0; at < count; at++) {
            int16_t value = (int16_t)load(values, at);
            memcpy(values + 2 * at, &value, sizeof value);
        }
    return count * (code == 'b' ? 1 : code == 'h' ? 2 : 4);
}

/* Shorten the values of a column, which stand in the blob in full.
 *
 * most_repeated: most elements that are stored as one value.
 * Returns the bytes that they take now; code and repeated are what the column's head says of them.
 */
static Py_ssize_t squeeze(const Column *column, char *values, Py_ssize_t most_repeated, char *code, char *repeated)
{
    Py_ssize_t count = column->view.len / column->view.itemsize;
    *code = column->kind;
    *repeated = 0;
    if (count < WORTH_NARROWING || column->kind == '?')
        return column->view.len;
    if (count <= most_repeated && are_equal(values, count)) {
        *repeated = 1;
        return 4;
    }
    if (column->kind == 'i')
        *code = narrowest(values, count);
    return narrow(values, count, *code);
}

static char *write_head(char *head, const Py_buffer *view, char code, char repeated)
{
    *head++ = code;
    *head++ = repeated;
    *head++ = (char)view->ndim;
    for (int at = 0; at < view->ndim; at++) {
        uint32_t size = (uint32_t)view->shape[at];
        memcpy(head, &size, sizeof size);
        head += sizeof size;
    }
    return head;
}

/* Write the blob; returns its length, and -1 with an exception. repeats: bytes that repeated values stand for. */
static Py_ssize_t write_blob(Columns *found, char *blob, Py_ssize_t heads, Py_ssize_t most_repeated, Py_ssize_t *repeats)
{
    char *head = blob, *values = blob + heads;
    *repeats = 0;
    *head++ = (char)found->count;
    for (Py_ssize_t at = 0; at < found->count; at++) {
        Column *column = &found->columns[at];
        char code, repeated;
        if (PyBuffer_ToContiguous(values, &column->view, column->view.len, 'C') < 0)
            return -1;
        values += squeeze(column, values, most_repeated, &code, &repeated);
        head = write_head(head, &column->view, code, repeated);
        *repeats += repeated ? column->view.len : 0;
    }
    return values - blob;
}

static PyObject *blob_of(Columns *found, Py_ssize_t most_repeated, Py_ssize_t free, Py_ssize_t most_ratio)
{
    Py_ssize_t heads = 1, all = 0, repeats;
    for (Py_ssize_t at = 0; at < found->count; at++) {
        heads += 3 + 4 * found->columns[at].view.ndim;
        all += found->columns[at].view.len;
    }
    PyObject *blob = PyBytes_FromStringAndSize(NULL, heads + all);
    if (blob == NULL)
        return NULL;
    Py_ssize_t length = write_blob(found, PyBytes_AS_STRING(blob), heads, most_repeated, &repeats);
    if (length >= 0 && repeats > free + most_ratio * length)
        length = write_blob(found, PyBytes_AS_STRING(blob), heads, 0, &repeats);
    if (length < 0)
        Py_DECREF(blob);
    else
        _PyBytes_Resize(&blob, length);
    return length < 0 ? NULL : blob;
}

PyObject *pack(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *columns, *record;
    Py_ssize_t free, most_ratio, most_repeated;
    if (!PyArg_ParseTuple(args, "O!Onnn", &PyTuple_Type, &columns, &record, &free, &most_ratio, &most_repeated))
        return NULL;
    Columns found;
    int fits = find_columns(&found, columns, record) && !PY_BIG_ENDIAN;
    PyObject *blob = fits ? blob_of(&found, most_repeated, free, most_ratio) : Py_NewRef(Py_None);
    for (Py_ssize_t at = 0; at < found.count; at++)
        PyBuffer_Release(&found.columns[at].view);
    return blob;
}
