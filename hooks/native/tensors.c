#include "tensors.h"

enum { FLOAT_CODE = 2, BFLOAT_CODE = 4 }; /* DLDataTypeCode */

typedef struct {
    struct {
        uint32_t major, minor;
    } version;
    void *older;
    void (*not_used_here[3])(void);
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
    if (exchange == NULL || exchange->version.major != 1 || exchange->describe == NULL) {
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
