/* From whole score rows to the few numbers that explain a choice: the compiled form of numpy_summary.py. */

#ifndef ANALYSIS_NATIVE_SUMMARY_H
#define ANALYSIS_NATIVE_SUMMARY_H

#include <stddef.h>
#include <stdint.h>

#include "stages.h"

/* The summary of a stage of a row, and of a row, as compiled_summary.py lays them out. */
typedef struct {
    int32_t kept, changed, removed, chosen_rank;
    float mass_removed, entropy, chosen_scores;
    int32_t removed_tokens[REMOVED_CAP];
} StageSummary;

typedef struct {
    int32_t tokens, candidates;
    float chosen_probability;
} RowSummary;

/* What is summarised. */
typedef struct {
    const float **scores;  /* [stages], of each [rows, vocabulary] */
    const int64_t *chosen; /* [rows], NO_TOKEN where none is */
    size_t stages, rows, vocabulary;
    size_t cap, width; /* the highest scores that are recorded, and room for them twice and the choice */
} Pipeline;

/* The summary; all of it four-byte numbers. */
typedef struct {
    StageSummary *by_stage; /* [stages, rows] */
    RowSummary *by_row;     /* [rows] */
    int32_t *tokens;        /* [rows, width] */
    float *scores;          /* [stages, rows, width] */
    float *probabilities;   /* [rows, width] */
} Summary;

/* Bytes of a summary. */
size_t summary_bytes(const Pipeline *pipeline);

/* Summarise into memory of that size; 0, or -1 where there is not enough memory.
 *
 * shares: whether the calling thread runs operations of torch, so that its team may take parts of the work
 * (team.h). The bits do not depend on it.
 */
int summarise(const Pipeline *pipeline, void *into, int shares);

#endif
