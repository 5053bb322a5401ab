/* The softmax of a stage of the score pipeline, and how the stage differs from the one before. */

#ifndef ANALYSIS_NATIVE_STAGES_H
#define ANALYSIS_NATIVE_STAGES_H

#include <stddef.h>
#include <stdint.h>

#define REMOVED_CAP 32 /* both as in tracer/schema/step.py */
#define NO_TOKEN (-1)

/* What is known of a block of scores. */
typedef struct {
    float peak; /* the highest; minus infinity where none is kept */
    int32_t kept, above, candidates;
    double total, moment; /* as those of the stage */
    int stale;            /* the weights are those of other scores */
} BlockSummary;

/* Softmax over the tokens that a stage kept, those with a score above minus infinity. */
typedef struct {
    const float *scores;
    size_t count;
    float *weights; /* exp(score - top), 0 for the others; of blocks with tokens that are kept */
    BlockSummary *blocks;
    int32_t chosen; /* NO_TOKEN while none is */
    float top;
    double total, moment; /* sums of weight and of weight * (score - top) */
    int32_t kept, candidates; /* candidates: those whose weight is not 0 */
    int32_t above;            /* tokens with a higher score than the chosen one */
} Softmax;

/* Blocks of a vocabulary; the last may be shorter. */
size_t blocks_of(size_t count);

/* How a stage differs from the one before. */
typedef struct {
    int32_t changed, removed;
    int32_t listed[REMOVED_CAP]; /* the removed tokens if at most that many, else NO_TOKEN */
    double mass;                 /* their probability before */
} Change;

/* Summarise the first stage, which changed nothing. `stage` has the scores, their number, the chosen token, and
 * room for the weights of whole blocks and for the blocks. */
Change begin_stages(Softmax *stage);

/* Proceed to the next stage; NaN that stays NaN is no change. */
Change next_stage(Softmax *stage, const float *scores);

/* In bits; 0 where nothing is kept or the highest score is infinite. */
double entropy_of(const Softmax *stage);

double probability_of(const Softmax *stage, int32_t token);

#endif
