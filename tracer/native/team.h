/* Share out long work to the team: the threads on which torch runs an operation of the calling thread, as
 * OpenMP calls the threads of a parallel region.
 *
 * Each extension module that is compiled with this is told of the team by itself.
 */

#ifndef TRACER_NATIVE_TEAM_H
#define TRACER_NATIVE_TEAM_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Does one part of some work. It calls nothing of Python, and leaves alone what other parts write to. */
typedef void Part(void *work, size_t part);

/* Do all parts of some work, each once and in any order, on the team if there is one; return when all are
 * done.
 *
 * Only for a thread that runs operations of torch, whose team is at hand: for another one a team would be
 * started that then stays beside the first. To begin takes microseconds. The GIL may be held or not.
 */
void share_out(Part *part, void *work, size_t parts);

/* use_team(parallel, get_num_threads): addresses of functions, 0 for no team; see hooks/native/team.py */
PyObject *use_team(PyObject *module, PyObject *args);

#endif
