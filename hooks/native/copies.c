#include "copies.h"

#include <string.h>

#include "tensors.h"

static int is_in_host_memory(const DLTensor *tensor)
{
    return tensor->device.type == ON_HOST && tensor->data != NULL && is_contiguous(tensor);
}

/* Whether a stack is made of tensors like this one. */
static int is_stack_of(const DLTensor *stack, const DLTensor *tensor)
{
    return stack->dimensions == tensor->dimensions + 1 && stack->dtype.code == tensor->dtype.code &&
           stack->dtype.bits == tensor->dtype.bits && stack->dtype.lanes == tensor->dtype.lanes &&
           memcmp(stack->shape + 1, tensor->shape, (size_t)tensor->dimensions * sizeof *tensor->shape) == 0;
}

PyObject *put_in_stack(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *stack, *tensor;
    Py_ssize_t place;
    DLTensor into, from;
    if (!PyArg_ParseTuple(args, "OnO", &stack, &place, &tensor))
        return NULL;
    if (!describe_tensor(stack, &into) || !describe_tensor(tensor, &from) || !is_stack_of(&into, &from) ||
        !is_in_host_memory(&into) || !is_in_host_memory(&from) || place < 0 || place >= into.shape[0])
        Py_RETURN_FALSE;
    size_t bytes = (size_t)from.dtype.bits * from.dtype.lanes / 8;
    for (int32_t at = 0; at < from.dimensions; at++)
        bytes *= (size_t)from.shape[at];
    /* The stack is ours: nothing else writes to it meanwhile, and a copy takes microseconds. */
    memcpy((char *)memory_of(&into) + (size_t)place * bytes, memory_of(&from), bytes);
    Py_RETURN_TRUE;
}
