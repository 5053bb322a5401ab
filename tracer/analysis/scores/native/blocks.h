/* Scores of a vocabulary in blocks of fixed size, so that compilers vectorise the loops. */

#ifndef ANALYSIS_NATIVE_BLOCKS_H
#define ANALYSIS_NATIVE_BLOCKS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK 128

/* Compile a function a second time for processors with wider vectors, chosen at run time; the values are the
 * same, since operations are not contracted (setup.py). */
#if defined(__has_attribute) && defined(__x86_64__) && defined(__gnu_linux__)
#if __has_attribute(target_clones)
#define WIDER_TOO __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef WIDER_TOO
#define WIDER_TOO
#endif

/* What such a function calls has to become a part of it, or is compiled once only. */
#if defined(__GNUC__)
#define PART_OF_IT __attribute__((always_inline)) static inline
#else
#define PART_OF_IT static inline
#endif

/* What is known of a block of scores at a stage. */
typedef struct {
    float peak;                     /* the highest; minus infinity where none is kept */
    uint8_t kept, changed, removed; /* the last two since the stage before */
} Look;

/* Blocks of a vocabulary; the last may be shorter. */
static inline size_t blocks_of(size_t count)
{
    return (count + BLOCK - 1) / BLOCK;
}

/* A block of fewer scores, copied to spare and padded with minus infinity. */
const float *pad_block(const float *scores, size_t count, float *spare);

/* The block that starts at an index; a shorter last one is padded. */
static inline const float *block_of(const float *scores, size_t start, size_t count, float *spare)
{
    return count - start >= BLOCK ? scores + start : pad_block(scores + start, count - start, spare);
}

static inline float higher(float one, float other)
{
    return one > other ? one : other;
}

#endif
