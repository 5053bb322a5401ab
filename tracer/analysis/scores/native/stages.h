/* The softmax of a stage of the score pipeline, and how the stage differs from the one before. */

#ifndef ANALYSIS_NATIVE_STAGES_H
#define ANALYSIS_NATIVE_STAGES_H

#include <stddef.h>
#include <stdint.h>

#define REMOVED_CAP 32 /* both as in tracer/schema/step.py */
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

/* How a stage differs from the one before. */
typedef struct {
    int32_t changed, removed;
    int32_t listed[REMOVED_CAP]; /* the removed tokens if at most that many, else NO_TOKEN */
    double mass;                 /* their probability before */
} Change;

/* Summarise the first stage, which changed nothing. */
Change begin_stages(Softmax *stage, const float *scores, size_t count, float *weights);

/* Proceed to the next stage; NaN that stays NaN is no change. */
Change next_stage(Softmax *stage, const float *scores);

/* In bits; 0 where nothing is kept or the highest score is infinite. */
double entropy_of(const Softmax *stage);

double probability_of(const Softmax *stage, int32_t token);

/* Number of tokens with a higher score than this one. */
int32_t count_above(const Softmax *stage, int32_t token);

#endif
