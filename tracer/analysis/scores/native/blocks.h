/* Scores of a vocabulary in blocks of fixed size, so that compilers vectorise the loops. */

#ifndef ANALYSIS_NATIVE_BLOCKS_H
#define ANALYSIS_NATIVE_BLOCKS_H

#include <math.h>
#include <stddef.h>
#include <string.h>

#define BLOCK 128
#define LANES 16 /* independent values of a reduction */

/* Compile a function a second time for processors with wider vectors, chosen at run time; the values are the
 * same, since neither version contracts operations. */
#if defined(__has_attribute) && defined(__x86_64__) && defined(__gnu_linux__)
#if __has_attribute(target_clones)
#define WIDER_TOO __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef WIDER_TOO
#define WIDER_TOO
#endif

/* The block that starts at an index; a shorter last one is copied to spare and padded with minus infinity. */
static inline const float *block_of(const float *scores, size_t start, size_t count, float *spare)
{
    if (count - start >= BLOCK)
        return scores + start;
    for (size_t at = 0; at < BLOCK; at++)
        spare[at] = start + at < count ? scores[start + at] : -INFINITY;
    return spare;
}

static inline float higher(float one, float other)
{
    return one > other ? one : other;
}

/* The highest score of a block; minus infinity where all are removed or NaN. */
static inline float highest(const float *block)
{
    float peaks[BLOCK / 2];
    for (int at = 0; at < BLOCK / 2; at++) /* of two, so that NaN is never the higher one */
        peaks[at] = higher(block[at], higher(block[at + BLOCK / 2], -INFINITY));
    for (int half = BLOCK / 4; half; half /= 2)
        for (int at = 0; at < half; at++)
            peaks[at] = higher(peaks[at], peaks[at + half]);
    return peaks[0];
}

#endif
