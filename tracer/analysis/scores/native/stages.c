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

/* Append the removed tokens of a block to those of its part so far. */
static void list_removed(Counts *part, const float *before, const float *after, size_t start)
{
    int32_t listed = part->removed;
    for (int at = 0; at < BLOCK && listed < REMOVED_CAP; at++)
        if (before[at] > -INFINITY && after[at] == -INFINITY)
            part->listed[listed++] = (int32_t)(start + (size_t)at);
}

static void list_nothing(Counts *counts)
{
    for (int at = 0; at < REMOVED_CAP; at++)
        counts->listed[at] = NO_TOKEN;
}

static void count_nothing(Counts *counts)
{
    *counts = (Counts){.top = -INFINITY};
    list_nothing(counts);
}

PART_OF_IT void add_look(Counts *part, const Look *look)
{
    part->kept += look->kept;
    part->changed += look->changed;
    part->removed += look->removed;
    part->top = higher(look->peak, part->top);
}

/* Look at a block of all stages, while each is still in the processor's first cache for the next. */
PART_OF_IT void look_at_block(Stage *stages, size_t number, size_t start, size_t count)
{
    float spare[2][BLOCK];
    const float *before = block_of(stages->scores, start, count, spare[0]);
    Look look = look_at(before);
    for (size_t at = 0;;) {
        stages[at].looks[start / BLOCK] = look;
        add_look(stages[at].parts + start / PART, &look);
        if (++at == number)
            return;
        const float *after = block_of(stages[at].scores, start, count, spare[at % 2]);
        if (memcmp(before, after, BLOCK * sizeof *after) != 0)
            look = compare(before, after);
        else
            look.changed = look.removed = 0;
        if (look.removed)
            list_removed(stages[at].parts + start / PART, before, after, start);
        before = after;
    }
}

static size_t end_of(size_t part, size_t count)
{
    return count - part * PART < PART ? count : (part + 1) * PART;
}

WIDER_TOO void look_at_part(Stage *stages, size_t number, size_t count, size_t part)
{
    for (size_t at = 0; at < number; at++)
        count_nothing(stages[at].parts + part);
    for (size_t start = part * PART; start < end_of(part, count); start += BLOCK)
        look_at_block(stages, number, start, count);
}

/* Add what was looked at of a part to its stage. */
static void join_look(Counts *all, const Counts *part)
{
    if (all->removed + part->removed <= REMOVED_CAP)
        memcpy(all->listed + all->removed, part->listed, (size_t)part->removed * sizeof *part->listed);
    else
        list_nothing(all);
    all->kept += part->kept;
    all->changed += part->changed;
    all->removed += part->removed;
    all->top = higher(part->top, all->top);
}

void join_looks(Stage *stages, size_t number, size_t count)
{
    for (size_t at = 0; at < number; at++) {
        count_nothing(&stages[at].all);
        for (size_t part = 0; part < parts_of(count); part++)
            join_look(&stages[at].all, stages[at].parts + part);
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
PART_OF_IT void weigh_block_of_stages(Stage *stages, size_t number, size_t start, size_t count)
{
    BlockSoftmax block;
    block.total = block.moment = 0;
    float spare[BLOCK];
    for (size_t at = 0; at < number; at++) {
        const Stage *stage = stages + at;
        const Look *look = stage->looks + start / BLOCK;
        Counts *part = stage->parts + start / PART;
        if (at)
            part->gone += gone_of(stage - 1, stage, &block, start, count);
        if (!(look->peak > -INFINITY) || !isfinite(stage->all.top))
            block.total = block.moment = 0;
        else if (!at || look->changed || stage->all.top != stage[-1].all.top)
            weigh_block(&block, block_of(stage->scores, start, count, spare), stage->all.top);
        part->total += block.total;
        part->moment += block.moment;
    }
    if (block.total > 0)
        stages[number - 1].parts[start / PART].candidates += count_candidates(&block);
}

WIDER_TOO void weigh_part(Stage *stages, size_t number, size_t count, size_t part)
{
    for (size_t start = part * PART; start < end_of(part, count); start += BLOCK)
        weigh_block_of_stages(stages, number, start, count);
}

void join_weights(Stage *stages, size_t number, size_t count)
{
    for (size_t at = 0; at < number; at++) {
        Counts *all = &stages[at].all;
        /* An infinite score takes all the probability: infinity minus infinity is NaN, as in torch. */
        all->total = all->moment = all->top == INFINITY ? NAN : 0;
        for (size_t part = 0; part < parts_of(count); part++) {
            all->candidates += stages[at].parts[part].candidates;
            all->total += stages[at].parts[part].total;
            all->moment += stages[at].parts[part].moment;
            all->gone += stages[at].parts[part].gone;
        }
    }
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
    if (!(stage->all.total > 0))
        return 0;
    double entropy = log2(stage->all.total) - stage->all.moment / stage->all.total / log(2);
    return entropy > 0 ? entropy : 0;
}

double probability_of(const Stage *stage, int32_t token)
{
    if (stage->all.total == 0)
        return 0;
    return exp((double)stage->scores[token] - (double)stage->all.top) / stage->all.total;
}

double mass_removed(const Stage *before, const Stage *stage)
{
    return stage->all.removed && before->all.total != 0 ? stage->all.gone / before->all.total : 0;
}
