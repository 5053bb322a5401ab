#include "tensors.h"

#include <stdlib.h>

enum { FLOAT_CODE = 2, BFLOAT_CODE = 4 }; /* DLDataTypeCode */

typedef struct {
    uint32_t major, minor;
} Version;

/* A tensor that is handed over with its memory. */
typedef struct Managed {
    Version version;
    void *context;
    void (*free)(struct Managed *self);
    uint64_t flags;
    DLTensor tensor;
} Managed;

typedef struct {
    Version version;
    void *older;
    void (*not_used_here[2])(void);
    int (*hand_over)(Managed *tensor, void **into); /* 0, or -1 with an exception */
    int (*describe)(void *tensor, DLTensor *into); /* 0, or -1 with an exception; copies nothing */
    void (*not_used_here_either)(void);
} DLPackExchange;

static PyTypeObject *tensor_type, *parameter_type;
static const DLPackExchange *exchange;

static PyTypeObject *type_of(const char *module, const char *name)
{
    PyObject *found = PyImport_ImportModule(module);
    PyObject *type = found == NULL ? NULL : PyObject_GetAttrString(found, name);
    Py_XDECREF(found);
    return (PyTypeObject *)type;
}

int find_exchange(void)
{
    tensor_type = type_of("torch", "Tensor");
    parameter_type = tensor_type == NULL ? NULL : type_of("torch.nn", "Parameter");
    PyObject *capsule = parameter_type == NULL
                            ? NULL
                            : PyObject_GetAttrString((PyObject *)tensor_type, "__dlpack_c_exchange_api__");
    if (capsule == NULL) {
        PyErr_SetString(PyExc_ImportError, "this torch has no C exchange interface");
        return -1;
    }
    exchange = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
    Py_DECREF(capsule); /* the table lives as long as the process */
    if (exchange == NULL || exchange->version.major != 1 || exchange->describe == NULL ||
        exchange->hand_over == NULL) {
        PyErr_SetString(PyExc_ImportError, "this torch has another C exchange interface");
        return -1;
    }
    return 0;
}

int is_tensor(PyObject *value)
{
    return PyObject_TypeCheck(value, tensor_type);
}

static int describe(PyObject *tensor, DLTensor *into)
{
    if (exchange->describe(tensor, into) < 0) {
        PyErr_Clear(); /* kinds of tensors that DLPack has no word for */
        return 0;
    }
    return into->dimensions <= DIMENSIONS;
}

int describe_tensor(PyObject *tensor, DLTensor *into)
{
    /* A subclass may keep its values elsewhere. */
    return Py_IS_TYPE(tensor, tensor_type) && describe(tensor, into);
}

int describe_parameter(PyObject *tensor, DLTensor *into)
{
    return (Py_IS_TYPE(tensor, parameter_type) || Py_IS_TYPE(tensor, tensor_type)) && describe(tensor, into);
}

Values values_of(const DLTensor *tensor)
{
    if (tensor->device.type != ON_HOST || tensor->dtype.lanes != 1 || tensor->data == NULL)
        return OTHER_VALUES;
    if (tensor->dtype.code == FLOAT_CODE && tensor->dtype.bits == 32)
        return FLOAT32_VALUES;
    return tensor->dtype.code == BFLOAT_CODE && tensor->dtype.bits == 16 ? BFLOAT16_VALUES : OTHER_VALUES;
}

int is_contiguous(const DLTensor *tensor)
{
    int64_t step = 1;
    for (int32_t at = tensor->dimensions - 1; at >= 0; at--) {
        if (tensor->shape[at] != 1 && tensor->strides[at] != step)
            return 0;
        step *= tensor->shape[at];
    }
    return 1;
}

/* A tensor of ours, all in one piece of memory. */
typedef struct {
    Managed managed;
    int64_t shape[DIMENSIONS], strides[DIMENSIONS];
    int64_t values[];
} Own;

static void free_own(Managed *managed)
{
    free(managed); /* an Own begins with it */
}

PyObject *new_tensor(DataType dtype, int32_t dimensions, const int64_t *shape, void **values)
{
    size_t count = 1;
    for (int32_t at = 0; at < dimensions; at++)
        count *= (size_t)shape[at];
    Own *own = malloc(sizeof *own + count * dtype.bits / 8);
    if (own == NULL)
        return PyErr_NoMemory();
    own->managed = (Managed){.version = {1, 0}, .free = free_own};
    own->managed.tensor = (DLTensor){own->values, {ON_HOST, 0}, dimensions, dtype, own->shape, own->strides, 0};
    int64_t stride = 1;
    for (int32_t at = dimensions - 1; at >= 0; at--) {
        own->shape[at] = shape[at];
        own->strides[at] = stride;
        stride *= shape[at];
    }
    void *tensor;
    if (exchange->hand_over(&own->managed, &tensor) < 0)
        return NULL; /* whose the memory is then is not said: it is given up */
    *values = own->values;
    return tensor;
}
