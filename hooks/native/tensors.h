/* Tensors, as torch describes them through the C exchange interface of DLPack 1.x
 * (https://dmlc.github.io/dlpack/latest/c_api.html).
 *
 * No headers of torch are needed, and no attribute of a tensor is asked for through Python, which takes
 * microseconds when the caches are cold. Nothing here writes to a tensor of others or holds one; results are
 * new tensors.
 */

#ifndef HOOKS_NATIVE_TENSORS_H
#define HOOKS_NATIVE_TENSORS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define DIMENSIONS 6 /* most of a tensor that is described here */

enum { ON_HOST = 1 }; /* DLDeviceType */

typedef struct {
    uint8_t code, bits;
    uint16_t lanes;
} DataType;

#define FLOAT32 ((DataType){2, 32, 1})
#define INT64 ((DataType){0, 64, 1})

typedef struct {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t dimensions;
    DataType dtype;
    int64_t *shape, *strides; /* strides in elements */
    uint64_t byte_offset;
} DLTensor;

typedef enum { OTHER_VALUES, FLOAT32_VALUES, BFLOAT16_VALUES } Values;

/* Find torch's table of functions; 0, or -1 with an exception. */
int find_exchange(void);

/* Whether an object is a tensor, of whatever class. */
int is_tensor(PyObject *value);

/* Describe a tensor; 0 where that cannot be done. What is described lives as long as the tensor. */
int describe_tensor(PyObject *tensor, DLTensor *into);

/* The same of a parameter, which keeps its values as a plain tensor does. */
int describe_parameter(PyObject *tensor, DLTensor *into);

/* Whether two tensors are of one size, dtype and device. */
static inline int same_spec(const DLTensor *one, const DLTensor *other)
{
    return one->dimensions == other->dimensions && one->dtype.code == other->dtype.code &&
           one->dtype.bits == other->dtype.bits && one->device.type == other->device.type &&
           one->device.id == other->device.id &&
           memcmp(one->shape, other->shape, (size_t)one->dimensions * sizeof *one->shape) == 0;
}

/* A new tensor in the host's memory, with room at `values` for what the caller puts there; NULL with an
 * exception. */
PyObject *new_tensor(DataType dtype, int32_t dimensions, const int64_t *shape, void **values);

/* What kind of values a tensor holds in the host's memory. */
Values values_of(const DLTensor *tensor);

/* Whether the values of a tensor lie one after the other. */
int is_contiguous(const DLTensor *tensor);

/* Where the values of a tensor begin. */
static inline const void *memory_of(const DLTensor *tensor)
{
    return (const char *)tensor->data + tensor->byte_offset;
}

static inline float of_bfloat16(uint16_t bits)
{
    union {
        uint32_t bits;
        float value;
    } wide = {(uint32_t)bits << 16};
    return wide.value;
}

#endif
