/* What a stage of the scores says, and what it did to the stage before it. */

#ifndef ANALYSIS_NATIVE_STAGES_H
#define ANALYSIS_NATIVE_STAGES_H

#include <stddef.h>
#include <stdint.h>

#define REMOVED_CAP 32 /* as in pipeline.py, and NO_TOKEN as in the schema */
#define NO_TOKEN (-1)

/* Softmax over the tokens that a stage kept, those with a score above minus infinity. */
typedef struct {
    const float *scores;
    size_t count;
    float *weights; /* exp(score - top), 0 for the others; up to the end of the last block */
    float top;
    double total, moment; /* sums of weight and of weight * (score - top) */
    int32_t kept, candidates; /* candidates: those whose weight is not 0 */
} Softmax;

/* What a stage did. */
typedef struct {
    int32_t changed, removed;
    int32_t listed[REMOVED_CAP]; /* the removed tokens where they are few, else NO_TOKEN */
    double mass;                 /* their probability before */
} Change;

/* Describe the first stage, which changed nothing. */
Change begin_stages(Softmax *stage, const float *scores, size_t count, float *weights);

/* Go on to the next stage; NaN that stays NaN is no change. */
Change next_stage(Softmax *stage, const float *scores);

/* In bits; 0 where nothing is kept or the highest score is infinite. */
double entropy_of(const Softmax *stage);

double probability_of(const Softmax *stage, int32_t token);

/* How many tokens have a higher score than this one. */
int32_t count_above(const Softmax *stage, int32_t token);

#endif
