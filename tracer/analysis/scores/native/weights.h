/* The softmax of a block of scores. */

#ifndef ANALYSIS_NATIVE_WEIGHTS_H
#define ANALYSIS_NATIVE_WEIGHTS_H

#include "blocks.h"

/* All but what the blocks of a stage have in common. */
typedef struct {
    double total, moment; /* sums of weight and of weight * (score - top) */
    float weights[BLOCK]; /* exp(score - top); undefined where the total is 0 */
} BlockSoftmax;

/* Compute the softmax of a block with the highest score of the whole stage, which is finite.
 *
 * Every processor comes to the same bits.
 */
void weigh_block(BlockSoftmax *into, const float *block, float top);

/* The weight of the tokens that were removed since a block was weighed. */
double weight_removed(const BlockSoftmax *block, const float *before, const float *after);

/* Tokens whose weight is not 0. */
int32_t count_candidates(const BlockSoftmax *block);

#endif
