/* What Python sees: see compiled_summary.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "summary.h"
#include "team.h"

/* The scores of all stages. */
typedef struct {
    Py_buffer *buffers;
    const float **scores;
    Py_ssize_t count;
} Scores;

static void release_scores(Scores *scores)
{
    while (scores->count)
        PyBuffer_Release(&scores->buffers[--scores->count]);
    PyMem_Free(scores->buffers);
    PyMem_Free(scores->scores);
}

/* Whether a buffer holds float32 scores of a pipeline, whose sizes the first one tells. */
static int fits(const Py_buffer *buffer, Pipeline *pipeline)
{
    if (buffer->ndim != 2 || buffer->itemsize != sizeof(float) || strcmp(buffer->format, "f") != 0)
        return 0;
    size_t rows = (size_t)buffer->shape[0], vocabulary = (size_t)buffer->shape[1];
    if (!pipeline->stages++) {
        pipeline->rows = rows;
        pipeline->vocabulary = vocabulary;
    }
    return pipeline->rows == rows && pipeline->vocabulary == vocabulary;
}

/* Take the scores of a list of arrays; 0, or -1 with an exception. */
static int take_scores(Scores *scores, PyObject *list, Pipeline *pipeline)
{
    Py_ssize_t stages = PyList_GET_SIZE(list);
    scores->buffers = PyMem_Calloc((size_t)stages + 1, sizeof *scores->buffers);
    scores->scores = PyMem_Calloc((size_t)stages + 1, sizeof *scores->scores);
    if (scores->buffers == NULL || scores->scores == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    while (scores->count < stages) {
        Py_buffer *buffer = scores->buffers + scores->count;
        if (PyObject_GetBuffer(PyList_GET_ITEM(list, scores->count), buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
            return -1;
        scores->scores[scores->count++] = buffer->buf;
        if (!fits(buffer, pipeline)) {
            PyErr_SetString(PyExc_ValueError, "the stages are float32 and of one size, [rows, vocabulary]");
            return -1;
        }
    }
    pipeline->scores = scores->scores;
    return 0;
}

/* Whether the sizes can be summarised, and the chosen tokens are in the vocabulary; else an exception. */
static int is_sound(const Pipeline *pipeline, Py_ssize_t chosen_bytes)
{
    int sound = pipeline->stages > 0 && pipeline->vocabulary > 0 && pipeline->vocabulary <= INT32_MAX &&
                pipeline->cap > 0 && pipeline->cap <= pipeline->vocabulary &&
                (size_t)chosen_bytes == pipeline->rows * sizeof *pipeline->chosen;
    for (size_t row = 0; sound && row < pipeline->rows; row++)
        sound = pipeline->chosen[row] >= NO_TOKEN && pipeline->chosen[row] < (int64_t)pipeline->vocabulary;
    if (!sound)
        PyErr_SetString(PyExc_ValueError, "the sizes of the scores and of their summary do not agree");
    return sound;
}

static PyObject *summary_of(const Pipeline *pipeline, int shares)
{
    PyObject *summary = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)summary_bytes(pipeline));
    if (summary == NULL)
        return NULL;
    int done;
    void *into = PyByteArray_AS_STRING(summary);
    Py_BEGIN_ALLOW_THREADS
    done = summarise(pipeline, into, shares);
    Py_END_ALLOW_THREADS
    if (done < 0) {
        Py_CLEAR(summary);
        PyErr_NoMemory();
    }
    return summary;
}

static PyObject *summarise_stages(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *list, *summary = NULL;
    Py_buffer chosen;
    Py_ssize_t cap;
    int shares;
    if (!PyArg_ParseTuple(args, "O!y*np", &PyList_Type, &list, &chosen, &cap, &shares))
        return NULL;
    Scores scores = {NULL};
    Pipeline pipeline = {.chosen = chosen.buf, .cap = (size_t)cap, .width = 2 * (size_t)cap + 1};
    if (take_scores(&scores, list, &pipeline) == 0 && is_sound(&pipeline, chosen.len))
        summary = summary_of(&pipeline, shares);
    release_scores(&scores);
    PyBuffer_Release(&chosen);
    return summary;
}

static PyMethodDef functions[] = {
    {"summarise", summarise_stages, METH_VARARGS, "Summarise the score pipeline of one step."},
    {"use_team", use_team, METH_VARARGS, "Share out work to the threads of torch."},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "tracer.analysis.scores.native._native",
    .m_doc = "Summaries of scores over a whole vocabulary.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModule_Create(&definition);
}
