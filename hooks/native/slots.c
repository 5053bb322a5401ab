#include "slots.h"

#include <math.h>
#include <string.h>

#include "tensors.h"

#define LANES 8 /* independent sums, so that none waits for the one before */
#define LINE 64 /* bytes of a cache line */

#if defined(__GNUC__)
#define FETCH(address) __builtin_prefetch(address)
#else
#define FETCH(address) ((void)(address))
#endif

/* Key and value tensors of one size and dtype in the host's memory: [batch, KV heads, slots, head dim]. */
typedef struct {
    PyObject *tensors; /* a list or tuple */
    Py_ssize_t count;
    int64_t batch, heads, slots, width;
    size_t item; /* bytes of a value */
} Cache;

/* Describe one of them; 0 where it is unlike the others, or its slots are not whole in memory. */
static int cache_tensor(const Cache *cache, Py_ssize_t at, DLTensor *into)
{
    if (!describe_tensor(PySequence_Fast_GET_ITEM(cache->tensors, at), into))
        return 0;
    return into->device.type == ON_HOST && into->data != NULL && into->dimensions == 4 &&
           into->shape[0] == cache->batch && into->shape[1] == cache->heads &&
           into->shape[2] == cache->slots && into->shape[3] == cache->width && into->strides[3] == 1 &&
           (size_t)into->dtype.bits * into->dtype.lanes == 8 * cache->item;
}

/* Take the first tensor for what all are like; 0 where there is none of four dimensions. */
static int cache_read(Cache *into, PyObject *tensors)
{
    DLTensor first;
    into->tensors = tensors;
    into->count = PySequence_Fast_GET_SIZE(tensors);
    if (!into->count || !describe_tensor(PySequence_Fast_GET_ITEM(tensors, 0), &first) || first.dimensions != 4)
        return 0;
    into->batch = first.shape[0];
    into->heads = first.shape[1];
    into->slots = first.shape[2];
    into->width = first.shape[3];
    into->item = (size_t)first.dtype.bits * first.dtype.lanes / 8;
    return 1;
}

/* None where some cannot be described. */
PyObject *alike(PyObject *Py_UNUSED(module), PyObject *tensors)
{
    DLTensor first, other;
    if (!PyList_Check(tensors)) {
        PyErr_SetString(PyExc_TypeError, "a list of tensors is needed");
        return NULL;
    }
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(tensors); at++) {
        if (!describe_tensor(PyList_GET_ITEM(tensors, at), at ? &other : &first))
            Py_RETURN_NONE;
        if (at && !same_spec(&first, &other))
            Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

static const char *slot_memory(const DLTensor *tensor, size_t item, int64_t row, int64_t head, int64_t slot)
{
    int64_t at = row * tensor->strides[0] + head * tensor->strides[1] + slot * tensor->strides[2];
    return (const char *)memory_of(tensor) + at * (int64_t)item;
}

static inline double value_at(const char *slot, int64_t at, Values values)
{
    return values == FLOAT32_VALUES ? ((const float *)slot)[at] : of_bfloat16(((const uint16_t *)slot)[at]);
}

static inline float norm_of(const char *slot, int64_t width, Values values)
{
    double squares[LANES] = {0};
    int64_t at = 0;
    for (; at + LANES <= width; at += LANES)
        for (int lane = 0; lane < LANES; lane++)
            squares[lane] += value_at(slot, at + lane, values) * value_at(slot, at + lane, values);
    for (; at < width; at++)
        squares[0] += value_at(slot, at, values) * value_at(slot, at, values);
    for (int lane = 1; lane < LANES; lane++)
        squares[0] += squares[lane];
    return (float)sqrt(squares[0]);
}

static float norm(const char *slot, int64_t width, Values values)
{
    return values == FLOAT32_VALUES ? norm_of(slot, width, FLOAT32_VALUES)
                                    : norm_of(slot, width, BFLOAT16_VALUES);
}

/* Norms of some slots of one tensor; returns where the next go. */
static float *norms_of(const Cache *cache, const DLTensor *tensor, int64_t start, int64_t stop, float *into)
{
    Values values = values_of(tensor);
    for (int64_t row = 0; row < cache->batch; row++)
        for (int64_t head = 0; head < cache->heads; head++)
            for (int64_t slot = start; slot < stop; slot++)
                *into++ = norm(slot_memory(tensor, cache->item, row, head, slot), cache->width, values);
    return into;
}

/* Ask for the memory of one slot of each row and head. */
static void fetch_slots(const Cache *cache, const DLTensor *tensor, int64_t slot)
{
    for (int64_t row = 0; row < cache->batch; row++)
        for (int64_t head = 0; head < cache->heads; head++) {
            const char *memory = slot_memory(tensor, cache->item, row, head, slot);
            for (size_t at = 0; at < (size_t)cache->width * cache->item; at += LINE)
                FETCH(memory + at);
        }
}

/* Describe all tensors, and ask for the memory of a slot of each; 0 where one has no norms. */
static int describe_all(const Cache *cache, DLTensor *into, int64_t slot)
{
    for (Py_ssize_t at = 0; at < cache->count; at++) {
        if (!cache_tensor(cache, at, &into[at]) || values_of(&into[at]) == OTHER_VALUES)
            return 0;
        fetch_slots(cache, &into[at], slot);
    }
    return 1;
}

PyObject *slot_norms(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *tensors;
    Py_ssize_t start, stop;
    Cache cache;
    if (!PyArg_ParseTuple(args, "O!nn", &PyList_Type, &tensors, &start, &stop))
        return NULL;
    if (!cache_read(&cache, tensors) || start < 0 || start >= stop || stop > cache.slots)
        Py_RETURN_NONE;
    int64_t count = cache.count * cache.batch * cache.heads * (stop - start);
    PyObject *result = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(count * (int64_t)sizeof(float)));
    DLTensor *described = PyMem_Malloc((size_t)cache.count * sizeof *described);
    if (result == NULL || described == NULL) {
        Py_XDECREF(result);
        PyMem_Free(described);
        return PyErr_NoMemory();
    }
    if (describe_all(&cache, described, start)) {
        float *into = (float *)PyByteArray_AS_STRING(result);
        for (Py_ssize_t at = 0; at < cache.count; at++)
            into = norms_of(&cache, &described[at], start, stop, into);
    }
    else
        Py_SETREF(result, Py_NewRef(Py_None));
    PyMem_Free(described);
    return result;
}

/* The sum of the 64-bit words of a slot, modulo 2^64. */
static uint64_t slot_sum(const char *slot, size_t bytes)
{
    uint64_t sum = 0, word;
    for (size_t at = 0; at < bytes; at += sizeof word) {
        memcpy(&word, slot + at, sizeof word);
        sum += word;
    }
    return sum;
}

PyObject *slot_sums(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *tensors;
    Py_ssize_t before, length;
    Cache cache;
    if (!PyArg_ParseTuple(args, "O!nn", &PyList_Type, &tensors, &before, &length))
        return NULL;
    size_t bytes = cache_read(&cache, tensors) ? (size_t)cache.width * cache.item : 1;
    if (bytes % sizeof(uint64_t) || before < 0 || before > length || length > cache.slots)
        Py_RETURN_NONE;
    int64_t count = cache.count * cache.batch * cache.heads;
    PyObject *result = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(2 * count * (int64_t)sizeof(uint64_t)));
    if (result == NULL)
        return NULL;
    uint64_t *old = (uint64_t *)PyByteArray_AS_STRING(result), *all = old + count;
    for (Py_ssize_t at = 0; at < cache.count; at++) {
        DLTensor tensor;
        if (!cache_tensor(&cache, at, &tensor)) {
            Py_DECREF(result);
            Py_RETURN_NONE;
        }
        for (int64_t row = 0; row < cache.batch; row++)
            for (int64_t head = 0; head < cache.heads; head++) {
                uint64_t sum = 0;
                *old = 0;
                for (int64_t slot = 0; slot < length; slot++) {
                    if (slot == before)
                        *old = sum;
                    /* Odd numbers from the golden ratio, as hooks/kv_cache/proof.py has them. */
                    uint64_t weight = (uint64_t)slot * UINT64_C(11400714819323198485) | 1;
                    sum += weight * slot_sum(slot_memory(&tensor, cache.item, row, head, slot), bytes);
                }
                if (before == length)
                    *old = sum;
                old++;
                *all++ = sum;
            }
    }
    return result;
}
