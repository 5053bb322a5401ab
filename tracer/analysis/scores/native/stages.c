#include "stages.h"

#include <math.h>

#include "blocks.h"

#define LOWEST (-105.0f) /* exp of less rounds to 0 */

typedef union {
    int32_t bits;
    float value;
} Float;

static inline float power_of_two(int32_t exponent)
{
    Float power = {.bits = (exponent + 127) << 23};
    return power.value;
}

/* The value if wanted, else 0; without a branch, like everything that loops do to each score. */
static inline float where(int32_t wanted, float value)
{
    Float all = {.value = value};
    all.bits &= -wanted;
    return all.value;
}

/* exp of a value from LOWEST to 0, within two units in the last place: the polynomial of Cephes' expf. */
static inline float exp_below(float value)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: what is added to it loses its fraction */
    float whole = (value * 1.44269504f + round) - round;
    float rest = value - whole * 0.693359375f + whole * 2.12194440e-4f;
    float curve = 1.9875691500e-4f;
    curve = curve * rest + 1.3981999507e-3f;
    curve = curve * rest + 8.3334519073e-3f;
    curve = curve * rest + 4.1665795894e-2f;
    curve = curve * rest + 1.6666665459e-1f;
    curve = curve * rest + 5.0000001201e-1f;
    curve = curve * rest * rest + rest + 1.0f;
    /* In two factors: the power alone may be too small for a normal number. */
    int32_t exponent = (int32_t)whole, half = exponent / 2;
    return curve * power_of_two(half) * power_of_two(exponent - half);
}

/* Sums in double precision: a vector of four floats holds two of them. */
#define SUMS (LANES / 2)

typedef struct {
    double total[SUMS], moment[SUMS];
    int32_t candidates;
} Sums;

static inline void weigh_block(Sums *sums, const float *block, float top, float *weights)
{
    float below[BLOCK];
    for (int at = 0; at < BLOCK; at++) {
        int32_t counts = block[at] - top >= LOWEST; /* removed tokens do not, nor does NaN */
        below[at] = where(counts, block[at] - top);
        weights[at] = where(counts, exp_below(below[at]));
    }
    for (int at = 0; at < BLOCK; at++)
        sums->candidates += weights[at] > 0;
    for (int at = 0; at < BLOCK; at += SUMS)
        for (int lane = 0; lane < SUMS; lane++)
            sums->total[lane] += (double)weights[at + lane];
    for (int at = 0; at < BLOCK; at += SUMS)
        for (int lane = 0; lane < SUMS; lane++)
            sums->moment[lane] += (double)weights[at + lane] * (double)below[at + lane];
}

/* Compute the softmax from the scores, their number and the highest of them. */
WIDER_TOO static void weigh(Softmax *stage)
{
    Sums sums = {{0}, {0}, 0};
    float spare[BLOCK];
    for (size_t start = 0; start < stage->count; start += BLOCK) {
        const float *block = block_of(stage->scores, start, stage->count, spare);
        float *weights = stage->weights + start;
        if (highest(block) > -INFINITY && isfinite(stage->top))
            weigh_block(&sums, block, stage->top, weights);
        else
            memset(weights, 0, BLOCK * sizeof *weights);
    }
    stage->total = stage->moment = 0;
    stage->candidates = sums.candidates;
    for (int lane = 0; lane < SUMS; lane++) {
        stage->total += sums.total[lane];
        stage->moment += sums.moment[lane];
    }
    /* An infinite score takes all the probability: infinity minus infinity is NaN, as in torch. */
    if (stage->top == INFINITY)
        stage->total = stage->moment = NAN;
}

typedef struct {
    int32_t changed, removed, kept;
} Counts;

static inline Counts compare_block(const float *before, const float *after)
{
    Counts counts = {0, 0, 0};
    for (int at = 0; at < BLOCK; at++) {
        float old = before[at], new = after[at];
        counts.changed += (old != new) & ((old == old) | (new == new));
        counts.removed += (old > -INFINITY) & (new == -INFINITY);
        counts.kept += new > -INFINITY;
    }
    return counts;
}

static inline double weight_removed(const float *before, const float *after, const float *weights)
{
    double sums[LANES] = {0};
    for (int at = 0; at < BLOCK; at += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            int32_t gone = (before[at + lane] > -INFINITY) & (after[at + lane] == -INFINITY);
            sums[lane] += (double)where(gone, weights[at + lane]);
        }
    for (int lane = 1; lane < LANES; lane++)
        sums[0] += sums[lane];
    return sums[0];
}

/* Append the removed tokens of a block to those found so far. */
static void list_removed(Change *change, const float *before, const float *after, size_t start)
{
    int32_t listed = change->removed;
    for (int at = 0; at < BLOCK && listed < REMOVED_CAP; at++)
        if (before[at] > -INFINITY && after[at] == -INFINITY)
            change->listed[listed++] = (int32_t)(start + (size_t)at);
}

static void list_nothing(Change *change)
{
    for (int at = 0; at < REMOVED_CAP; at++)
        change->listed[at] = NO_TOKEN;
}

WIDER_TOO Change begin_stages(Softmax *stage, const float *scores, size_t count, float *weights)
{
    float spare[BLOCK];
    *stage = (Softmax){.scores = scores, .count = count, .weights = weights, .top = -INFINITY};
    for (size_t start = 0; start < count; start += BLOCK) {
        const float *block = block_of(scores, start, count, spare);
        float peak = highest(block);
        stage->top = peak > stage->top ? peak : stage->top;
        for (int at = 0; at < BLOCK; at++)
            stage->kept += block[at] > -INFINITY;
    }
    weigh(stage);
    Change change = {.changed = 0};
    list_nothing(&change);
    return change;
}

WIDER_TOO Change next_stage(Softmax *stage, const float *scores)
{
    Change change = {.changed = 0};
    float old[BLOCK], new[BLOCK], top = -INFINITY;
    int32_t kept = 0;
    double gone = 0;
    list_nothing(&change);
    for (size_t start = 0; start < stage->count; start += BLOCK) {
        const float *before = block_of(stage->scores, start, stage->count, old);
        const float *after = block_of(scores, start, stage->count, new);
        Counts counts = compare_block(before, after);
        float peak = highest(after);
        top = peak > top ? peak : top;
        kept += counts.kept;
        change.changed += counts.changed;
        if (counts.removed) {
            gone += weight_removed(before, after, stage->weights + start);
            list_removed(&change, before, after, start);
            change.removed += counts.removed;
        }
    }
    change.mass = change.removed && stage->total != 0 ? gone / stage->total : 0;
    if (change.removed > REMOVED_CAP)
        list_nothing(&change);
    stage->scores = scores;
    if (change.changed) {
        stage->kept = kept;
        stage->top = top;
        weigh(stage);
    }
    return change;
}

double entropy_of(const Softmax *stage)
{
    if (!(stage->total > 0))
        return 0;
    double entropy = log2(stage->total) - stage->moment / stage->total / log(2);
    return entropy > 0 ? entropy : 0;
}

double probability_of(const Softmax *stage, int32_t token)
{
    if (stage->total == 0)
        return 0;
    return exp((double)stage->scores[token] - (double)stage->top) / stage->total;
}

WIDER_TOO int32_t count_above(const Softmax *stage, int32_t token)
{
    float spare[BLOCK], than = stage->scores[token];
    int32_t above = 0;
    for (size_t start = 0; start < stage->count; start += BLOCK) {
        const float *block = block_of(stage->scores, start, stage->count, spare);
        for (int at = 0; at < BLOCK; at++)
            above += block[at] > than;
    }
    return above;
}
