/* The stages of the score pipeline: the softmax of each, and how it differs from the one before. */

#ifndef ANALYSIS_NATIVE_STAGES_H
#define ANALYSIS_NATIVE_STAGES_H

#include <stddef.h>
#include <stdint.h>

#include "blocks.h"

#define REMOVED_CAP 32 /* both as in tracer/schema/step.py */
#define NO_TOKEN (-1)

/* A stage: softmax over the tokens that it kept, those with a score above minus infinity. */
typedef struct {
    const float *scores;
    Look *looks; /* one for each block */
    float top;   /* the highest score; minus infinity where none is kept */
    int32_t kept, changed, removed;
    int32_t candidates; /* tokens whose weight, exp(score - top), is not 0; only of the last stage */
    int32_t listed[REMOVED_CAP]; /* the removed tokens if at most that many, else NO_TOKEN */
    double total, moment;        /* sums of weight and of weight * (score - top) */
    double gone;                 /* weight, at the stage before, of the removed tokens */
} Stage;

/* Fill in all stages of a row, which know their scores and have room for their looks.
 *
 * The first stage changed nothing; NaN that stays NaN is no change.
 */
void compute_stages(Stage *stages, size_t number, size_t count);

/* Tokens with a higher score than one of them. */
int32_t count_above(const Stage *stage, size_t count, int32_t token);

/* In bits; 0 where nothing is kept or the highest score is infinite. */
double entropy_of(const Stage *stage);

double probability_of(const Stage *stage, int32_t token);

/* The probability, at the stage before, of the tokens that a stage removed. */
double mass_removed(const Stage *before, const Stage *stage);

#endif
