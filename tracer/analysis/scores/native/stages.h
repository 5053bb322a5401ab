/* The stages of the score pipeline: the softmax of each, and how it differs from the one before.
 *
 * A row is read twice, part by part; the parts of it are independent of one another. Sums are taken of each part, and
 * those are added in order, so that the bits do not depend on who reads which part.
 */

#ifndef ANALYSIS_NATIVE_STAGES_H
#define ANALYSIS_NATIVE_STAGES_H

#include <stddef.h>
#include <stdint.h>

#include "blocks.h"

#define REMOVED_CAP 32 /* both as in tracer/schema/columns.py */
#define NO_TOKEN (-1)
#define PART (64 * BLOCK) /* scores of a part; the last of a row may have fewer */

/* What is counted and summed of the tokens that a stage kept, those with a score above minus infinity, and of what it
 * did to the stage before. */
typedef struct {
    float top; /* the highest score; minus infinity where none is kept */
    int32_t kept, changed, removed;
    int32_t candidates; /* tokens whose weight, exp(score - top), is not 0; only of the last stage */
    int32_t listed[REMOVED_CAP]; /* the removed tokens if at most that many, else NO_TOKEN */
    double total, moment;        /* sums of weight and of weight * (score - top) */
    double gone;                 /* weight, at the stage before, of the removed tokens */
} Counts;

/* A stage of a row. */
typedef struct {
    const float *scores;
    Look *looks;   /* one for each block */
    Counts *parts; /* of each part */
    Counts all;
} Stage;

static inline size_t parts_of(size_t count)
{
    return (count + PART - 1) / PART;
}

/* Look for the first time at a part of a row, all stages of which know their scores and have room for their looks and
 * parts.
 *
 * The first stage changed nothing; NaN that stays NaN is no change.
 */
void look_at_part(Stage *stages, size_t number, size_t count, size_t part);

/* All parts of a row have been looked at. */
void join_looks(Stage *stages, size_t number, size_t count);

/* Compute the softmax of a part, once its row's looks are joined. */
void weigh_part(Stage *stages, size_t number, size_t count, size_t part);

/* All parts of a row have been weighed. */
void join_weights(Stage *stages, size_t number, size_t count);

/* Tokens with a higher score than one of them. */
int32_t count_above(const Stage *stage, size_t count, int32_t token);

/* In bits; 0 where nothing is kept or the highest score is infinite. */
double entropy_of(const Stage *stage);

double probability_of(const Stage *stage, int32_t token);

/* The probability, at the stage before, of the tokens that a stage removed. */
double mass_removed(const Stage *before, const Stage *stage);

#endif
