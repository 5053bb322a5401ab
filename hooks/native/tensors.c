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

static PyTypeObject *tensor_type;
static const DLPackExchange *exchange;

int find_exchange(void)
{
    PyObject *torch = PyImport_ImportModule("torch");
    if (torch == NULL)
        return -1;
    tensor_type = (PyTypeObject *)PyObject_GetAttrString(torch, "Tensor");
    Py_DECREF(torch);
    PyObject *capsule = tensor_type == NULL
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

int describe_tensor(PyObject *tensor, DLTensor *into)
{
    if (!Py_IS_TYPE(tensor, tensor_type)) /* a subclass may keep its values elsewhere */
        return 0;
    if (exchange->describe(tensor, into) < 0) {
        PyErr_Clear(); /* kinds of tensors that DLPack has no word for */
        return 0;
    }
    return into->dimensions <= DIMENSIONS;
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
