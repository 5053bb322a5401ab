#include "team.h"

#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L && !defined(__STDC_NO_ATOMICS__)
#define HAS_TEAM
#include <stdatomic.h>
#endif

#ifdef HAS_TEAM
typedef struct {
    Part *part;
    void *work;
    size_t parts;
    atomic_size_t next;
} Shared;

/* Of libgomp, and of every other runtime of OpenMP that takes programs compiled for it. */
typedef void Parallel(void (*region)(void *), void *shared, unsigned threads, unsigned flags);

static Parallel *parallel;
static int (*get_num_threads)(void); /* of the calling thread */

/* What each thread of the team does, however many there are. */
static void take_parts(void *work)
{
    Shared *shared = work;
    size_t part;
    while ((part = atomic_fetch_add_explicit(&shared->next, 1, memory_order_relaxed)) < shared->parts)
        shared->part(shared->work, part);
}
#endif

void share_out(Part *part, void *work, size_t parts)
{
#ifdef HAS_TEAM
    if (parallel != NULL && parts > 1 && get_num_threads() > 1) {
        Shared shared = {part, work, parts, 0};
        /* As many threads as torch has: a team of fewer would end the others, and torch start them again. */
        parallel(take_parts, &shared, 0, 0);
        return;
    }
#endif
    for (size_t at = 0; at < parts; at++)
        part(work, at);
}

PyObject *use_team(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long addresses[2];
    if (!PyArg_ParseTuple(args, "KK", &addresses[0], &addresses[1]))
        return NULL;
#ifdef HAS_TEAM
    int whole = addresses[0] && addresses[1];
    parallel = whole ? (Parallel *)(uintptr_t)addresses[0] : NULL;
    get_num_threads = whole ? (int (*)(void))(uintptr_t)addresses[1] : NULL;
#endif
    Py_RETURN_NONE;
}
