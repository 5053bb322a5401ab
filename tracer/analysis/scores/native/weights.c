#include "weights.h"

#include <math.h>

#include "wide.h"

#define LANES 8          /* independent sums in double precision */
#define LOWEST (-105.0f) /* exp of less rounds to 0 */

/* exp of a value from LOWEST to 0, within two units in the last place: the polynomial of Cephes' expf. */
#define PER_OCTAVE 1.44269504f
#define ROUND 12582976.0f /* 1.5 * 2^23 + 64: what is added to it loses its fraction */
#define OCTAVE 0.693359375f
#define OCTAVE_REST 2.12194440e-4f
static const float CURVE[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                              4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
#define DEGREES (sizeof CURVE / sizeof *CURVE)
/* The last bits of what was rounded, octave + 64, are added to the exponent. This factor takes the 64 back, and
 * only it rounds where the result is too small for a normal number. */
#define BACK 0x1p-64f

typedef union {
    uint32_t bits;
    float value;
} Float;

/* The value if wanted, else 0; without a branch, so that compilers vectorise. */
static inline float where(int32_t wanted, float value)
{
    Float all = {.value = value};
    all.bits &= (uint32_t)-wanted;
    return all.value;
}

static inline float exp_below(float value)
{
    Float shifted = {.value = value * PER_OCTAVE + ROUND};
    float octave = shifted.value - ROUND;
    float rest = value - octave * OCTAVE + octave * OCTAVE_REST;
    Float curve = {.value = CURVE[0]};
    for (size_t at = 1; at < DEGREES; at++)
        curve.value = curve.value * rest + CURVE[at];
    curve.value = curve.value * rest * rest + rest + 1.0f;
    curve.bits += shifted.bits << 23;
    return curve.value * BACK;
}

static inline double sum_of(const double *lanes)
{
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

static inline void weigh_plain(BlockSoftmax *into, const float *block, float top)
{
    float below[BLOCK], *weights = into->weights;
    double total[LANES] = {0}, moment[LANES] = {0};
    for (int at = 0; at < BLOCK; at++) {
        int32_t counts = block[at] - top >= LOWEST; /* removed tokens do not, nor does NaN */
        below[at] = where(counts, block[at] - top);
        weights[at] = where(counts, exp_below(below[at]));
    }
    for (int at = 0; at < BLOCK; at += LANES)
        for (int lane = 0; lane < LANES; lane++)
            total[lane] += (double)weights[at + lane];
    for (int at = 0; at < BLOCK; at += LANES)
        for (int lane = 0; lane < LANES; lane++)
            moment[lane] += (double)weights[at + lane] * (double)below[at + lane];
    into->total = sum_of(total);
    into->moment = sum_of(moment);
}

#ifdef HAS_WIDE
/* The same, statement by statement. Several vectors take each step together: one alone would mostly wait for the
 * step before. */
#define TOGETHER 4
#define EACH for (size_t at = 0; at < TOGETHER; at++)

WIDE_INLINE __m256 times_plus(__m256 value, __m256 factor, float addend)
{
    return _mm256_add_ps(_mm256_mul_ps(value, factor), _mm256_set1_ps(addend));
}

WIDE_INLINE __m256 times_power(__m256 curve, __m256 shifted)
{
    __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    curve = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(curve), exponent));
    return _mm256_mul_ps(curve, _mm256_set1_ps(BACK));
}

WIDE_INLINE void wide_exp_below(const __m256 *values, __m256 *into)
{
    __m256 shifted[TOGETHER], rest[TOGETHER], *curve = into;
    EACH shifted[at] = times_plus(values[at], _mm256_set1_ps(PER_OCTAVE), ROUND);
    EACH {
        __m256 octave = _mm256_sub_ps(shifted[at], _mm256_set1_ps(ROUND));
        rest[at] = _mm256_sub_ps(values[at], _mm256_mul_ps(octave, _mm256_set1_ps(OCTAVE)));
        rest[at] = _mm256_add_ps(rest[at], _mm256_mul_ps(octave, _mm256_set1_ps(OCTAVE_REST)));
    }
    EACH curve[at] = _mm256_set1_ps(CURVE[0]);
    for (size_t degree = 1; degree < DEGREES; degree++)
        EACH curve[at] = times_plus(curve[at], rest[at], CURVE[degree]);
    EACH curve[at] = _mm256_mul_ps(curve[at], rest[at]);
    EACH curve[at] = _mm256_add_ps(_mm256_mul_ps(curve[at], rest[at]), rest[at]);
    EACH curve[at] = _mm256_add_ps(curve[at], _mm256_set1_ps(1.0f));
    EACH into[at] = times_power(curve[at], shifted[at]);
}

typedef struct {
    __m256d lower, upper;
} WideSums;

WIDE_INLINE WideSums in_double(__m256 values)
{
    return (WideSums){_mm256_cvtps_pd(_mm256_castps256_ps128(values)),
                      _mm256_cvtps_pd(_mm256_extractf128_ps(values, 1))};
}

WIDE_INLINE double wide_sum_of(WideSums sums)
{
    double lanes[LANES];
    _mm256_storeu_pd(lanes, sums.lower);
    _mm256_storeu_pd(lanes + LANES / 2, sums.upper);
    return sum_of(lanes);
}

WIDE static void weigh_wide(BlockSoftmax *into, const float *block, float top)
{
    WideSums total = {_mm256_setzero_pd(), _mm256_setzero_pd()}, moment = total;
    for (size_t start = 0; start < BLOCK; start += TOGETHER * LANES) {
        __m256 below[TOGETHER], counts[TOGETHER], weights[TOGETHER];
        EACH {
            below[at] = _mm256_sub_ps(_mm256_loadu_ps(block + start + at * LANES), _mm256_set1_ps(top));
            counts[at] = _mm256_cmp_ps(below[at], _mm256_set1_ps(LOWEST), _CMP_GE_OQ);
            below[at] = _mm256_and_ps(below[at], counts[at]);
        }
        wide_exp_below(below, weights);
        EACH {
            weights[at] = _mm256_and_ps(weights[at], counts[at]);
            _mm256_storeu_ps(into->weights + start + at * LANES, weights[at]);
            WideSums weight = in_double(weights[at]), distance = in_double(below[at]);
            total.lower = _mm256_add_pd(total.lower, weight.lower);
            total.upper = _mm256_add_pd(total.upper, weight.upper);
            /* The product of two values of 24 bits is exact: one operation comes to the same bits as two. */
            moment.lower = _mm256_fmadd_pd(weight.lower, distance.lower, moment.lower);
            moment.upper = _mm256_fmadd_pd(weight.upper, distance.upper, moment.upper);
        }
    }
    into->total = wide_sum_of(total);
    into->moment = wide_sum_of(moment);
}
#endif

void weigh_block(BlockSoftmax *into, const float *block, float top)
{
#ifdef HAS_WIDE
    if (can_be_wide()) {
        weigh_wide(into, block, top);
        return;
    }
#endif
    weigh_plain(into, block, top);
}

double weight_removed(const BlockSoftmax *block, const float *before, const float *after)
{
    double sums[LANES] = {0};
    for (int at = 0; at < BLOCK; at += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            int32_t gone = (before[at + lane] > -INFINITY) & (after[at + lane] == -INFINITY);
            sums[lane] += (double)where(gone, block->weights[at + lane]);
        }
    return sum_of(sums);
}

int32_t count_candidates(const BlockSoftmax *block)
{
    int32_t candidates = 0;
    for (int at = 0; at < BLOCK; at++)
        candidates += block->weights[at] > 0;
    return candidates;
}
