/* Sums and extremes of many values, in lanes that a processor keeps in its vectors. */

#ifndef HOOKS_NATIVE_LANES_H
#define HOOKS_NATIVE_LANES_H

#include "tensors.h"

#define LANES 16

/* Of all values in the end. */
typedef struct {
    double sum, squares;
    float low, high;
} Moments;

/* Take the moments of values, at least one, of a kind that has a name.
 *
 * Every processor comes to the same bits: value number n of whole groups of LANES belongs to lane n modulo
 * LANES, each lane is summed in order, and the lanes are joined in order.
 */
Moments take_moments(const void *memory, Py_ssize_t count, Values values);

/* The moments of two parts of the same values. */
static inline Moments join_moments(Moments one, Moments other)
{
    return (Moments){
        one.sum + other.sum,
        one.squares + other.squares,
        other.low < one.low ? other.low : one.low,
        other.high > one.high ? other.high : one.high,
    };
}

#endif
