#include "stages.h"

#include <math.h>
#include <string.h>

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

static inline double sum_of(const double *lanes)
{
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

static inline void weigh_block(BlockSummary *into, const float *block, float top, float *weights)
{
    float below[BLOCK];
    double total[SUMS] = {0}, moment[SUMS] = {0};
    int32_t candidates = 0;
    for (int at = 0; at < BLOCK; at++) {
        int32_t counts = block[at] - top >= LOWEST; /* removed tokens do not, nor does NaN */
        below[at] = where(counts, block[at] - top);
        weights[at] = where(counts, exp_below(below[at]));
    }
    for (int at = 0; at < BLOCK; at++)
        candidates += weights[at] > 0;
    for (int at = 0; at < BLOCK; at += SUMS)
        for (int lane = 0; lane < SUMS; lane++)
            total[lane] += (double)weights[at + lane];
    for (int at = 0; at < BLOCK; at += SUMS)
        for (int lane = 0; lane < SUMS; lane++)
            moment[lane] += (double)weights[at + lane] * (double)below[at + lane];
    into->candidates = candidates;
    into->total = sum_of(total);
    into->moment = sum_of(moment);
}

/* Add up what is known of the blocks but their weights. */
static void add_up(Softmax *stage)
{
    stage->kept = stage->above = 0;
    stage->top = -INFINITY;
    for (size_t at = 0; at < blocks_of(stage->count); at++) {
        stage->kept += stage->blocks[at].kept;
        stage->above += stage->blocks[at].above;
        stage->top = higher(stage->blocks[at].peak, stage->top);
    }
}

/* Compute the softmax of the blocks whose weights are those of other scores, or of all of them. */
WIDER_TOO static void weigh(Softmax *stage, int all)
{
    float spare[BLOCK];
    /* An infinite score takes all the probability: infinity minus infinity is NaN, as in torch. */
    stage->total = stage->moment = stage->top == INFINITY ? NAN : 0;
    stage->candidates = 0;
    if (!isfinite(stage->top))
        memset(stage->weights, 0, blocks_of(stage->count) * BLOCK * sizeof *stage->weights);
    for (size_t start = 0; start < stage->count; start += BLOCK) {
        BlockSummary *block = stage->blocks + start / BLOCK;
        if (!(block->peak > -INFINITY) || !isfinite(stage->top)) {
            block->total = block->moment = 0;
            block->candidates = 0;
        }
        else if (all || block->stale)
            weigh_block(block, block_of(stage->scores, start, stage->count, spare), stage->top,
                        stage->weights + start);
        block->stale = 0;
        stage->total += block->total;
        stage->moment += block->moment;
        stage->candidates += block->candidates;
    }
}

static inline int32_t count_above(const float *block, float than)
{
    int32_t above = 0;
    for (int at = 0; at < BLOCK; at++)
        above += block[at] > than;
    return above;
}

/* Look at a block of scores, but for its weights. */
static inline void look_at(BlockSummary *into, const float *block, float than)
{
    int32_t kept = 0;
    for (int at = 0; at < BLOCK; at++)
        kept += block[at] > -INFINITY;
    into->kept = kept;
    into->above = count_above(block, than);
    into->peak = highest(block);
}

typedef struct {
    int32_t changed, removed;
} Counts;

static inline Counts compare_block(const float *before, const float *after)
{
    Counts counts = {0, 0};
    for (int at = 0; at < BLOCK; at++) {
        float old = before[at], new = after[at];
        counts.changed += (old != new) & ((old == old) | (new == new));
        counts.removed += (old > -INFINITY) & (new == -INFINITY);
    }
    return counts;
}

static inline double weight_removed(const float *before, const float *after, const float *weights)
{
    double sums[SUMS] = {0};
    for (int at = 0; at < BLOCK; at += SUMS)
        for (int lane = 0; lane < SUMS; lane++) {
            int32_t gone = (before[at + lane] > -INFINITY) & (after[at + lane] == -INFINITY);
            sums[lane] += (double)where(gone, weights[at + lane]);
        }
    return sum_of(sums);
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

size_t blocks_of(size_t count)
{
    return (count + BLOCK - 1) / BLOCK;
}

/* The score of the chosen token, which no other is above where there is none. */
static float chosen_of(const Softmax *stage, const float *scores)
{
    return stage->chosen == NO_TOKEN ? NAN : scores[stage->chosen];
}

WIDER_TOO Change begin_stages(Softmax *stage)
{
    float spare[BLOCK], than = chosen_of(stage, stage->scores);
    for (size_t start = 0; start < stage->count; start += BLOCK)
        look_at(stage->blocks + start / BLOCK, block_of(stage->scores, start, stage->count, spare), than);
    add_up(stage);
    weigh(stage, 1);
    Change change = {.changed = 0};
    list_nothing(&change);
    return change;
}

/* Compare a block with the same one of the stage before; returns the weight of the removed tokens. */
static inline double compare(Softmax *stage, Change *change, const float *before, const float *after,
                             size_t start, float than)
{
    BlockSummary *block = stage->blocks + start / BLOCK;
    int had_some = block->peak > -INFINITY;
    double gone = 0;
    Counts counts = compare_block(before, after);
    look_at(block, after, than);
    if (counts.removed) {
        gone = had_some && !(block->peak > -INFINITY) ? block->total
                                                      : weight_removed(before, after, stage->weights + start);
        list_removed(change, before, after, start);
    }
    block->stale |= counts.changed != 0;
    change->changed += counts.changed;
    change->removed += counts.removed;
    return gone;
}

WIDER_TOO Change next_stage(Softmax *stage, const float *scores)
{
    Change change = {.changed = 0};
    float old[BLOCK], new[BLOCK], top = stage->top;
    float than = chosen_of(stage, scores), was = chosen_of(stage, stage->scores);
    double gone = 0;
    list_nothing(&change);
    for (size_t start = 0; start < stage->count; start += BLOCK) {
        const float *before = block_of(stage->scores, start, stage->count, old);
        const float *after = block_of(scores, start, stage->count, new);
        if (memcmp(before, after, BLOCK * sizeof *after) != 0)
            gone += compare(stage, &change, before, after, start, than);
        else if (than != was)
            stage->blocks[start / BLOCK].above = count_above(after, than);
    }
    change.mass = change.removed && stage->total != 0 ? gone / stage->total : 0;
    if (change.removed > REMOVED_CAP)
        list_nothing(&change);
    stage->scores = scores;
    add_up(stage);
    if (change.changed)
        weigh(stage, stage->top != top);
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
