#include "blocks.h"

const float *pad_block(const float *scores, size_t count, float *spare)
{
    for (size_t at = 0; at < BLOCK; at++)
        spare[at] = at < count ? scores[at] : -INFINITY;
    return spare;
}
