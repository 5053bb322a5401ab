#include "norms.h"

#include <math.h>

#include "wide.h"

#define LANES 8 /* independent sums, so that none waits for the one before */

static inline double value_at(const void *memory, int64_t at, Values values)
{
    return values == FLOAT32_VALUES ? ((const float *)memory)[at] : of_bfloat16(((const uint16_t *)memory)[at]);
}

/* The values behind the last whole group go to the first lane. */
static inline float finish(double *squares, const void *memory, int64_t at, int64_t count, Values values)
{
    for (; at < count; at++)
        squares[0] += value_at(memory, at, values) * value_at(memory, at, values);
    for (int lane = 1; lane < LANES; lane++)
        squares[0] += squares[lane];
    return (float)sqrt(squares[0]);
}

static inline float plain_norm(const void *memory, int64_t count, Values values)
{
    double squares[LANES] = {0};
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES)
        for (int lane = 0; lane < LANES; lane++)
            squares[lane] += value_at(memory, at + lane, values) * value_at(memory, at + lane, values);
    return finish(squares, memory, at, count, values);
}

#ifdef HAS_WIDE
/* Four values in double precision. */
WIDE_INLINE __m256d load_wide(const void *memory, int64_t at, Values values)
{
    if (values == FLOAT32_VALUES)
        return _mm256_cvtps_pd(_mm_loadu_ps((const float *)memory + at));
    __m128i bits = _mm_loadl_epi64((const __m128i *)((const uint16_t *)memory + at));
    return _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(bits), 16)));
}

/* The same lane by lane: squares are exact in double precision, so one operation comes to the same bits as two. */
WIDE_INLINE float wide_norm(const void *memory, int64_t count, Values values)
{
    __m256d lower = _mm256_setzero_pd(), upper = lower;
    double squares[LANES];
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES) {
        __m256d first = load_wide(memory, at, values), second = load_wide(memory, at + LANES / 2, values);
        lower = _mm256_fmadd_pd(first, first, lower);
        upper = _mm256_fmadd_pd(second, second, upper);
    }
    _mm256_storeu_pd(squares, lower);
    _mm256_storeu_pd(squares + LANES / 2, upper);
    return finish(squares, memory, at, count, values);
}

WIDE static float norm_wide(const void *memory, int64_t count, Values values)
{
    return values == FLOAT32_VALUES ? wide_norm(memory, count, FLOAT32_VALUES)
                                    : wide_norm(memory, count, BFLOAT16_VALUES);
}
#endif

float norm(const void *memory, int64_t count, Values values)
{
#ifdef HAS_WIDE
    if (can_be_wide())
        return norm_wide(memory, count, values);
#endif
    return values == FLOAT32_VALUES ? plain_norm(memory, count, FLOAT32_VALUES)
                                    : plain_norm(memory, count, BFLOAT16_VALUES);
}
