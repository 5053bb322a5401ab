#include "lanes.h"

#include "wide.h"

typedef struct {
    double sum[LANES], squares[LANES];
    float low[LANES], high[LANES];
} Lanes;

typedef float Load(const void *memory, Py_ssize_t at);

static inline float load_float32(const void *memory, Py_ssize_t at)
{
    return ((const float *)memory)[at];
}

static inline float load_bfloat16(const void *memory, Py_ssize_t at)
{
    return of_bfloat16(((const uint16_t *)memory)[at]);
}

static inline void add_value(Lanes *into, int lane, float value)
{
    into->sum[lane] += (double)value;
    into->squares[lane] += (double)value * (double)value;
    into->low[lane] = value < into->low[lane] ? value : into->low[lane];
    into->high[lane] = value > into->high[lane] ? value : into->high[lane];
}

static inline void begin(Lanes *all, float first)
{
    for (int lane = 0; lane < LANES; lane++) {
        all->sum[lane] = all->squares[lane] = 0;
        all->low[lane] = all->high[lane] = first;
    }
}

/* The values behind the last whole group go to the first lane. */
static inline Moments finish(Lanes *all, const void *memory, Py_ssize_t at, Py_ssize_t count, Load *load)
{
    for (; at < count; at++)
        add_value(all, 0, load(memory, at));
    Moments moments = {all->sum[0], all->squares[0], all->low[0], all->high[0]};
    for (int lane = 1; lane < LANES; lane++)
        moments = join_moments(moments,
                               (Moments){all->sum[lane], all->squares[lane], all->low[lane], all->high[lane]});
    return moments;
}

static inline Moments plain_moments(const void *memory, Py_ssize_t count, Load *load)
{
    Lanes all;
    Py_ssize_t at = 0;
    begin(&all, load(memory, 0));
    for (; at + LANES <= count; at += LANES)
        for (int lane = 0; lane < LANES; lane++)
            add_value(&all, lane, load(memory, at + lane));
    return finish(&all, memory, at, count, load);
}

#ifdef HAS_WIDE
/* Compilers keep the lanes of the loop above in memory, which takes four times as long. */

/* Eight values, and each half of them: to load it again is quicker than to take it out of the whole. */
typedef struct {
    __m256 all;
    __m128 half[2];
} Eight;

typedef Eight LoadWide(const void *memory, Py_ssize_t at);

WIDE_INLINE Eight load_wide_float32(const void *memory, Py_ssize_t at)
{
    const float *from = (const float *)memory + at;
    return (Eight){_mm256_loadu_ps(from), {_mm_loadu_ps(from), _mm_loadu_ps(from + 4)}};
}

WIDE_INLINE Eight load_wide_bfloat16(const void *memory, Py_ssize_t at)
{
    __m128i bits = _mm_loadu_si128((const __m128i *)((const uint16_t *)memory + at));
    __m256 all = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    return (Eight){all, {_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)}};
}

/* Eight lanes; of two equal values, as of one with NaN, min and max take the one that was there. */
typedef struct {
    __m256d sum[2], squares[2];
    __m256 low, high;
} WideLanes;

/* Values of 24 bits have exact squares in double precision, so to multiply and add in one operation comes to the same
 * bits as in two. Processors that add in some places and multiply and add in others are kept busy in both. */
WIDE_INLINE WideLanes add_wide(WideLanes all, Eight values)
{
    const __m256d one = _mm256_set1_pd(1);
    __m256d first = _mm256_cvtps_pd(values.half[0]), second = _mm256_cvtps_pd(values.half[1]);
    return (WideLanes){
        {_mm256_fmadd_pd(first, one, all.sum[0]), _mm256_fmadd_pd(second, one, all.sum[1])},
        {_mm256_fmadd_pd(first, first, all.squares[0]), _mm256_fmadd_pd(second, second, all.squares[1])},
        _mm256_min_ps(values.all, all.low),
        _mm256_max_ps(values.all, all.high),
    };
}

WIDE_INLINE void store_wide(Lanes *into, int lane, WideLanes all)
{
    _mm256_storeu_pd(into->sum + lane, all.sum[0]);
    _mm256_storeu_pd(into->sum + lane + 4, all.sum[1]);
    _mm256_storeu_pd(into->squares + lane, all.squares[0]);
    _mm256_storeu_pd(into->squares + lane + 4, all.squares[1]);
    _mm256_storeu_ps(into->low + lane, all.low);
    _mm256_storeu_ps(into->high + lane, all.high);
}

WIDE_INLINE Moments wide_moments(const void *memory, Py_ssize_t count, LoadWide *wide, Load *load)
{
    __m256d none = _mm256_setzero_pd();
    __m256 first = _mm256_set1_ps(load(memory, 0));
    WideLanes lower = {{none, none}, {none, none}, first, first}, upper = lower;
    Lanes all;
    Py_ssize_t at = 0;
    for (; at + LANES <= count; at += LANES) {
        lower = add_wide(lower, wide(memory, at));
        upper = add_wide(upper, wide(memory, at + LANES / 2));
    }
    store_wide(&all, 0, lower);
    store_wide(&all, LANES / 2, upper);
    return finish(&all, memory, at, count, load);
}

WIDE static Moments moments_of_wide(const void *memory, Py_ssize_t count, Values values)
{
    return values == FLOAT32_VALUES ? wide_moments(memory, count, load_wide_float32, load_float32)
                                    : wide_moments(memory, count, load_wide_bfloat16, load_bfloat16);
}
#endif

Moments take_moments(const void *memory, Py_ssize_t count, Values values)
{
#ifdef HAS_WIDE
    if (can_be_wide())
        return moments_of_wide(memory, count, values);
#endif
    return values == FLOAT32_VALUES ? plain_moments(memory, count, load_float32)
                                    : plain_moments(memory, count, load_bfloat16);
}
