#include "best.h"

#include <math.h>

/* The best scores so far, as a heap whose root is the worst of them. */
typedef struct {
    const float *scores;
    int32_t *indices;
    size_t count;
} Heap;

/* Of equal scores the earlier one is better. */
static int is_worse(const Heap *heap, size_t one, size_t other)
{
    int32_t first = heap->indices[one], second = heap->indices[other];
    float score = heap->scores[first], than = heap->scores[second];
    return score < than || (score == than && first > second);
}

static void swap(Heap *heap, size_t one, size_t other)
{
    int32_t index = heap->indices[one];
    heap->indices[one] = heap->indices[other];
    heap->indices[other] = index;
}

static void push(Heap *heap, int32_t index)
{
    size_t at = heap->count++;
    heap->indices[at] = index;
    for (; at && is_worse(heap, at, (at - 1) / 2); at = (at - 1) / 2)
        swap(heap, at, (at - 1) / 2);
}

static void replace_worst(Heap *heap, int32_t index)
{
    heap->indices[0] = index;
    for (size_t at = 0, child; (child = 2 * at + 1) < heap->count; at = child) {
        if (child + 1 < heap->count && is_worse(heap, child + 1, child))
            child++;
        if (is_worse(heap, at, child))
            break;
        swap(heap, at, child);
    }
}

size_t find_best(const float *scores, const Look *looks, size_t count, size_t most, int32_t *into)
{
    Heap heap = {scores, into, 0};
    float spare[BLOCK], floor = -INFINITY;
    for (size_t start = 0; start < count; start += BLOCK) {
        if (!(looks[start / BLOCK].peak > floor))
            continue;
        const float *block = block_of(scores, start, count, spare);
        for (size_t at = 0; at < BLOCK; at++) {
            if (!(block[at] > floor))
                continue;
            if (heap.count < most)
                push(&heap, (int32_t)(start + at));
            else
                replace_worst(&heap, (int32_t)(start + at));
            if (heap.count == most)
                floor = scores[heap.indices[0]];
        }
    }
    return heap.count;
}
