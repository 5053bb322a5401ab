#include "slots.h"

#include <string.h>

#include "norms.h"
#include "team.h"
#include "tensors.h"

#define PART (1 << 16) /* about so many values are in the slots of a part; fewer are read by one thread */
#define LINE 64        /* bytes of a cache line */
#define LINES 32       /* most that are asked for at once: about as many as processors can wait for */

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

/* Ask for the memory of one slot of each head of a row. */
static void fetch_row(const DLTensor *tensor, size_t item, int64_t row, int64_t slot)
{
    size_t bytes = (size_t)tensor->shape[3] * item;
    for (int64_t head = 0; head < tensor->shape[1]; head++) {
        const char *memory = slot_memory(tensor, item, row, head, slot);
        for (size_t at = 0; at < bytes; at += LINE)
            FETCH(memory + at);
    }
}

/* To find a tensor takes as long as to fetch a slot of a few heads, so one is fetched while the next is found. */
static void fetch_if_there(const DLTensor *tensor, int64_t slot)
{
    if (values_of(tensor) == OTHER_VALUES || tensor->dimensions != 4 || slot < 0 || slot >= tensor->shape[2])
        return;
    size_t item = tensor->dtype.bits / 8;
    if (tensor->shape[0] * tensor->shape[1] * tensor->shape[3] * (int64_t)item <= LINES * LINE)
        for (int64_t row = 0; row < tensor->shape[0]; row++)
            fetch_row(tensor, item, row, slot);
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

/* Describe tensors of a cache whose values can be read here; NULL where one is unlike the others, or with an
 * exception. */
static DLTensor *described(const Cache *cache, PyObject *tensors)
{
    Py_ssize_t count = PyList_GET_SIZE(tensors);
    DLTensor *into = PyMem_Malloc((size_t)count * sizeof *into);
    if (into == NULL)
        PyErr_NoMemory();
    for (Py_ssize_t at = 0; into != NULL && at < count; at++)
        if (!cache_tensor(cache, PyList_GET_ITEM(tensors, at), into + at) || values_of(into + at) == OTHER_VALUES) {
            PyMem_Free(into);
            return NULL;
        }
    return into;
}

/* Some slots of tensors, and where their norms go: [tensors, batch, KV heads, slots]. */
typedef struct {
    const Cache *cache;
    const DLTensor *tensors;
    int64_t start, stop;
    int64_t each;  /* slots of a part */
    int64_t parts; /* of a tensor */
    float *into;
} Norms;

/* Keys and values of a prefill often are turned projections, in which the heads of a slot lie together: they
 * are read one after the other. */
static void norms_of_part(void *work, size_t part)
{
    const Norms *norms = work;
    const Cache *cache = norms->cache;
    const DLTensor *tensor = norms->tensors + (int64_t)part / norms->parts;
    Values values = values_of(tensor);
    int64_t count = norms->stop - norms->start, begin = (int64_t)part % norms->parts * norms->each;
    int64_t end = begin + norms->each < count ? begin + norms->each : count;
    float *into = norms->into + (int64_t)part / norms->parts * cache->batch * cache->heads * count;
    for (int64_t row = 0; row < cache->batch; row++) {
        if (row + 1 < cache->batch)
            fetch_row(tensor, cache->item, row + 1, norms->start + begin);
        for (int64_t slot = begin; slot < end; slot++)
            for (int64_t head = 0; head < cache->heads; head++) {
                const char *memory = slot_memory(tensor, cache->item, row, head, norms->start + slot);
                into[(row * cache->heads + head) * count + slot] = norm(memory, cache->width, values);
            }
    }
}

/* Norms of some slots of all tensors. */
static void take_norms(const Cache *cache, const DLTensor *tensors, Py_ssize_t count, int64_t start, int64_t stop,
                       float *into)
{
    int64_t values = cache->batch * cache->heads * cache->width; /* at one place */
    int64_t each = 1 + PART / (1 + values), parts = (stop - start + each - 1) / each;
    Norms norms = {cache, tensors, start, stop, each, parts, into};
    if (count * values * (stop - start) > PART)
        share_out(norms_of_part, &norms, (size_t)(count * parts));
    else /* it would take longer to begin than to read them */
        for (int64_t part = 0; part < count * parts; part++)
            norms_of_part(&norms, (size_t)part);
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
    DLTensor *found = described(&cache, tensors);
    if (found == NULL)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    void *values;
    PyObject *norms = new_tensor(FLOAT32, 4, (int64_t[]){count, cache.batch, cache.heads, stop - start}, &values);
    if (norms != NULL)
        take_norms(&cache, found, count, start, stop, values);
    PyMem_Free(found);
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
