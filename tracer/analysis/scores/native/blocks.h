/* Scores of a vocabulary in blocks of fixed size, so that compilers vectorise the loops. */

#ifndef ANALYSIS_NATIVE_BLOCKS_H
#define ANALYSIS_NATIVE_BLOCKS_H

#include <math.h>
#include <stddef.h>
#include <string.h>

#define BLOCK 64
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

/* The highest score of a block; minus infinity where all are removed or NaN. */
static inline float highest(const float *block)
{
    float peaks[LANES];
    for (int lane = 0; lane < LANES; lane++)
        peaks[lane] = -INFINITY;
    for (int at = 0; at < BLOCK; at += LANES)
        for (int lane = 0; lane < LANES; lane++)
            peaks[lane] = block[at + lane] > peaks[lane] ? block[at + lane] : peaks[lane];
    for (int lane = 1; lane < LANES; lane++)
        peaks[0] = peaks[lane] > peaks[0] ? peaks[lane] : peaks[0];
    return peaks[0];
}

#endif
