/* Norms and checksums of the slots of a KV cache. */

#ifndef HOOKS_NATIVE_SLOTS_H
#define HOOKS_NATIVE_SLOTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyMethodDef slot_functions[];

#endif
