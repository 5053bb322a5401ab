#include "slots.h"

#include <math.h>
#include <string.h>

#include "team.h"
#include "tensors.h"

#define PART (1 << 16) /* about so many values are in the slots of a part */
#define LANES 8        /* independent sums, so that none waits for the one before */
#define LINE 64        /* bytes of a cache line */

#if defined(__GNUC__)
#define FETCH(address) __builtin_prefetch(address)
#else
#define FETCH(address) ((void)(address))
#endif

/* What key and value tensors in the host's memory have in common: [batch, KV heads, slots, head dim]. */
typedef struct {
    int64_t batch, heads, slots, width;
    size_t item; /* bytes of a value */
} Cache;

/* Take one tensor for what all are like; 0 where it has other dimensions than four. */
static int cache_like(PyObject *tensor, Cache *into)
{
    DLTensor first;
    if (!describe_tensor(tensor, &first) || first.dimensions != 4)
        return 0;
    into->batch = first.shape[0];
    into->heads = first.shape[1];
    into->slots = first.shape[2];
    into->width = first.shape[3];
    into->item = (size_t)first.dtype.bits * first.dtype.lanes / 8;
    return 1;
}

/* Describe one of them; 0 where it is unlike the others, or its slots are not whole in memory. */
static int cache_tensor(const Cache *cache, PyObject *tensor, DLTensor *into)
{
    if (!describe_tensor(tensor, into))
        return 0;
    return into->device.type == ON_HOST && into->data != NULL && into->dimensions == 4 &&
           into->shape[0] == cache->batch && into->shape[1] == cache->heads &&
           into->shape[2] == cache->slots && into->shape[3] == cache->width && into->strides[3] == 1 &&
           (size_t)into->dtype.bits * into->dtype.lanes == 8 * cache->item;
}

static const char *slot_memory(const DLTensor *tensor, size_t item, int64_t row, int64_t head, int64_t slot)
{
    int64_t at = row * tensor->strides[0] + head * tensor->strides[1] + slot * tensor->strides[2];
    return (const char *)memory_of(tensor) + at * (int64_t)item;
}

/* Ask for the memory of one slot of each row and head. */
static void fetch_slots(const DLTensor *tensor, size_t item, int64_t slot)
{
    size_t bytes = (size_t)tensor->shape[3] * item;
    for (int64_t row = 0; row < tensor->shape[0]; row++)
        for (int64_t head = 0; head < tensor->shape[1]; head++) {
            const char *memory = slot_memory(tensor, item, row, head, slot);
            for (size_t at = 0; at < bytes; at += LINE)
                FETCH(memory + at);
        }
}

/* To find a tensor takes as long as to fetch a slot of it, so one is fetched while the next is found. */
static void fetch_if_there(const DLTensor *tensor, int64_t slot)
{
    if (values_of(tensor) != OTHER_VALUES && tensor->dimensions == 4 && slot >= 0 && slot < tensor->shape[2])
        fetch_slots(tensor, tensor->dtype.bits / 8, slot);
}

PyObject *gather(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *keys, *values;
    Py_ssize_t slot;
    if (!PyArg_ParseTuple(args, "OOn", &keys, &values, &slot))
        return NULL;
    if (!PyList_CheckExact(keys) || !PyList_CheckExact(values)) /* what another class adds up need not be a list */
        Py_RETURN_NONE;
    if (!PyList_GET_SIZE(keys) || PyList_GET_SIZE(keys) != PyList_GET_SIZE(values))
        Py_RETURN_FALSE;
    PyObject *all = PySequence_Concat(keys, values), *unlike = NULL;
    DLTensor first, other;
    for (Py_ssize_t at = 0; all != NULL && unlike == NULL && at < PyList_GET_SIZE(all); at++) {
        DLTensor *tensor = at ? &other : &first;
        if (!describe_tensor(PyList_GET_ITEM(all, at), tensor))
            unlike = Py_None;
        else if (at && !same_spec(&first, &other))
            unlike = Py_False;
        else
            fetch_if_there(tensor, slot);
    }
    if (unlike != NULL)
        Py_SETREF(all, Py_NewRef(unlike));
    return all;
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

/* Some slots of one tensor, and where their norms go: [batch, KV heads, slots]. */
typedef struct {
    const Cache *cache;
    const DLTensor *tensor;
    int64_t start, stop;
    int64_t each; /* slots of a part */
    float *into;
} Norms;

/* Keys and values of a prefill often are turned projections, in which the heads of a slot lie together: they
 * are read one after the other. */
static void norms_of_part(void *work, size_t part)
{
    const Norms *norms = work;
    const Cache *cache = norms->cache;
    Values values = values_of(norms->tensor);
    int64_t count = norms->stop - norms->start, begin = (int64_t)part * norms->each;
    int64_t end = begin + norms->each < count ? begin + norms->each : count;
    for (int64_t row = 0; row < cache->batch; row++)
        for (int64_t slot = begin; slot < end; slot++)
            for (int64_t head = 0; head < cache->heads; head++) {
                const char *memory = slot_memory(norms->tensor, cache->item, row, head, norms->start + slot);
                norms->into[(row * cache->heads + head) * count + slot] = norm(memory, cache->width, values);
            }
}

/* Norms of some slots of one tensor; returns where the next go. */
static float *norms_of(const Cache *cache, const DLTensor *tensor, int64_t start, int64_t stop, float *into)
{
    int64_t slots = cache->batch * cache->heads; /* at one place */
    int64_t each = 1 + PART / (1 + slots * cache->width);
    Norms norms = {cache, tensor, start, stop, each, into};
    share_out(norms_of_part, &norms, (size_t)((stop - start + each - 1) / each));
    return into + slots * (stop - start);
}

PyObject *slot_norms(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *tensors;
    Py_ssize_t start, stop;
    Cache cache;
    if (!PyArg_ParseTuple(args, "O!nn", &PyList_Type, &tensors, &start, &stop))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(tensors);
    if (!count || !cache_like(PyList_GET_ITEM(tensors, 0), &cache) || start < 0 || start >= stop || stop > cache.slots)
        Py_RETURN_NONE;
    void *values;
    PyObject *norms = new_tensor(FLOAT32, 4, (int64_t[]){count, cache.batch, cache.heads, stop - start}, &values);
    float *into = values;
    for (Py_ssize_t at = 0; norms != NULL && at < count; at++) {
        DLTensor tensor;
        if (!cache_tensor(&cache, PyList_GET_ITEM(tensors, at), &tensor) || values_of(&tensor) == OTHER_VALUES) {
            Py_DECREF(norms);
            Py_RETURN_NONE;
        }
        into = norms_of(&cache, &tensor, start, stop, into);
    }
    return norms;
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

/* Checksums of the slots of one tensor there were before, and of all there are, for each row and head. */
static void sums_of(const Cache *cache, const DLTensor *tensor, int64_t before, int64_t length, uint64_t *old,
                    uint64_t *all)
{
    size_t bytes = (size_t)cache->width * cache->item;
    for (int64_t row = 0; row < cache->batch; row++)
        for (int64_t head = 0; head < cache->heads; head++) {
            uint64_t sum = 0;
            *old = 0;
            for (int64_t slot = 0; slot < length; slot++) {
                if (slot == before)
                    *old = sum;
                /* Odd numbers from the golden ratio, as hooks/kv_cache/proof.py has them. */
                uint64_t weight = (uint64_t)slot * UINT64_C(11400714819323198485) | 1;
                sum += weight * slot_sum(slot_memory(tensor, cache->item, row, head, slot), bytes);
            }
            if (before == length)
                *old = sum;
            old++;
            *all++ = sum;
        }
}

/* The keys (part 0) or values (1) of a layer, of the keys of all layers and then the values; NULL without. */
static PyObject *tensor_of(PyObject *tensors, PyObject *layer, Py_ssize_t part)
{
    Py_ssize_t layers = PyList_GET_SIZE(tensors) / 2, at = PyNumber_AsSsize_t(layer, NULL);
    return at < 0 || at >= layers ? NULL : PyList_GET_ITEM(tensors, part * layers + at);
}

PyObject *slot_sums(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *tensors, *layers;
    Py_ssize_t before, length;
    Cache cache;
    if (!PyArg_ParseTuple(args, "O!O!nn", &PyList_Type, &tensors, &PyTuple_Type, &layers, &before, &length))
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(layers);
    PyObject *first = count ? tensor_of(tensors, PyTuple_GET_ITEM(layers, 0), 0) : NULL;
    if (first == NULL || !cache_like(first, &cache) || cache.width * cache.item % sizeof(uint64_t) ||
        before < 0 || before > length || length > cache.slots)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    void *values;
    PyObject *sums = new_tensor(INT64, 5, (int64_t[]){2, count, 2, cache.batch, cache.heads}, &values);
    int64_t each = cache.batch * cache.heads, half = 2 * count * each;
    uint64_t *into = values;
    for (Py_ssize_t at = 0; sums != NULL && at < 2 * count; at++, into += each) {
        PyObject *tensor = tensor_of(tensors, PyTuple_GET_ITEM(layers, at / 2), at % 2);
        DLTensor described;
        if (tensor == NULL || !cache_tensor(&cache, tensor, &described)) {
            Py_DECREF(sums);
            return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
        }
        sums_of(&cache, &described, before, length, into, into + half);
    }
    return sums;
}
