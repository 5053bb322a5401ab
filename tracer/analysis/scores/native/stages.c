#include "stages.h"

#include <math.h>
#include <string.h>

#include "weights.h"

PART_OF_IT Look look_at(const float *block)
{
    float peak = -INFINITY;
    int32_t kept = 0;
#pragma omp simd reduction(max : peak) reduction(+ : kept)
    for (int at = 0; at < BLOCK; at++) {
        kept += block[at] > -INFINITY;
        peak = higher(block[at], peak); /* NaN is never the higher one */
    }
    return (Look){.peak = peak, .kept = (uint8_t)kept};
}

PART_OF_IT Look compare(const float *before, const float *after)
{
    Look look = look_at(after);
    int32_t changed = 0, removed = 0;
    for (int at = 0; at < BLOCK; at++) {
        float old = before[at], new = after[at];
        changed += (old != new) & ((old == old) | (new == new));
        removed += (old > -INFINITY) & (new == -INFINITY);
    }
    look.changed = (uint8_t)changed;
    look.removed = (uint8_t)removed;
    return look;
}

/* Append the removed tokens of a block to those found so far. */
static void list_removed(Stage *stage, const float *before, const float *after, size_t start)
{
    int32_t listed = stage->removed;
    for (int at = 0; at < BLOCK && listed < REMOVED_CAP; at++)
        if (before[at] > -INFINITY && after[at] == -INFINITY)
            stage->listed[listed++] = (int32_t)(start + (size_t)at);
}

static void list_nothing(Stage *stage)
{
    for (int at = 0; at < REMOVED_CAP; at++)
        stage->listed[at] = NO_TOKEN;
}

PART_OF_IT void add_look(Stage *stage, const Look *look)
{
    stage->kept += look->kept;
    stage->changed += look->changed;
    stage->removed += look->removed;
    stage->top = higher(look->peak, stage->top);
}

/* Look at a block of all stages, while each is still in the processor's first cache for the next. */
PART_OF_IT void look_at_block(Stage *stages, size_t number, size_t start, size_t count)
{
    float spare[2][BLOCK];
    const float *before = block_of(stages->scores, start, count, spare[0]);
    Look look = look_at(before);
    for (size_t at = 0;;) {
        stages[at].looks[start / BLOCK] = look;
        add_look(stages + at, &look);
        if (++at == number)
            return;
        const float *after = block_of(stages[at].scores, start, count, spare[at % 2]);
        if (memcmp(before, after, BLOCK * sizeof *after) != 0)
            look = compare(before, after);
        else
            look.changed = look.removed = 0;
        if (look.removed)
            list_removed(stages + at, before, after, start);
        before = after;
    }
}

/* The weight, at the stage before, of what a stage removed from a block. */
static double gone_of(const Stage *before, const Stage *stage, const BlockSoftmax *block, size_t start,
                      size_t count)
{
    float spare[2][BLOCK];
    int32_t removed = stage->looks[start / BLOCK].removed;
    if (!removed || removed == before->looks[start / BLOCK].kept || block->total == 0)
        return removed ? block->total : 0;
    return weight_removed(block, block_of(before->scores, start, count, spare[0]),
                          block_of(stage->scores, start, count, spare[1]));
}

/* Compute the softmax of a block at all stages; one that stays what it was is not computed again. */
static void weigh_stages(Stage *stages, size_t number, size_t start, size_t count)
{
    BlockSoftmax block;
    block.total = block.moment = 0;
    float spare[BLOCK];
    for (size_t at = 0; at < number; at++) {
        Stage *stage = stages + at;
        const Look *look = stage->looks + start / BLOCK;
        if (at)
            stage->gone += gone_of(stage - 1, stage, &block, start, count);
        if (!(look->peak > -INFINITY) || !isfinite(stage->top))
            block.total = block.moment = 0;
        else if (!at || look->changed || stage->top != stage[-1].top)
            weigh_block(&block, block_of(stage->scores, start, count, spare), stage->top);
        stage->total += block.total;
        stage->moment += block.moment;
    }
    if (block.total > 0)
        stages[number - 1].candidates += count_candidates(&block);
}

WIDER_TOO void compute_stages(Stage *stages, size_t number, size_t count)
{
    for (size_t at = 0; at < number; at++) {
        stages[at].kept = stages[at].changed = stages[at].removed = stages[at].candidates = 0;
        stages[at].top = -INFINITY;
        stages[at].gone = 0;
        list_nothing(stages + at);
    }
    for (size_t start = 0; start < count; start += BLOCK)
        look_at_block(stages, number, start, count);
    for (size_t at = 0; at < number; at++) {
        /* An infinite score takes all the probability: infinity minus infinity is NaN, as in torch. */
        stages[at].total = stages[at].moment = stages[at].top == INFINITY ? NAN : 0;
        if (stages[at].removed > REMOVED_CAP)
            list_nothing(stages + at);
    }
    for (size_t start = 0; start < count; start += BLOCK)
        weigh_stages(stages, number, start, count);
}

WIDER_TOO int32_t count_above(const Stage *stage, size_t count, int32_t token)
{
    float spare[BLOCK], than = stage->scores[token];
    int32_t above = 0;
    for (size_t start = 0; start < count; start += BLOCK) {
        if (!(stage->looks[start / BLOCK].peak > than))
            continue;
        const float *block = block_of(stage->scores, start, count, spare);
        for (int at = 0; at < BLOCK; at++)
            above += block[at] > than;
    }
    return above;
}

double entropy_of(const Stage *stage)
{
    if (!(stage->total > 0))
        return 0;
    double entropy = log2(stage->total) - stage->moment / stage->total / log(2);
    return entropy > 0 ? entropy : 0;
}

double probability_of(const Stage *stage, int32_t token)
{
    if (stage->total == 0)
        return 0;
    return exp((double)stage->scores[token] - (double)stage->top) / stage->total;
}

double mass_removed(const Stage *before, const Stage *stage)
{
    return stage->removed && before->total != 0 ? stage->gone / before->total : 0;
}
