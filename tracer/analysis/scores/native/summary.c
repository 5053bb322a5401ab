#include "summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "best.h"
#include "blocks.h"
#include "team.h"

/* A recorded token with its sort keys. */
typedef struct {
    float final, raw;
    int32_t token;
} Recorded;

/* What the summary of a row works with. */
typedef struct {
    Stage *stages;
    Look *looks;        /* [stages, blocks of the vocabulary] */
    Counts *parts;      /* [stages, parts of the vocabulary] */
    int32_t *best;      /* [cap] */
    Recorded *recorded; /* [2 * cap + 1] */
} Work;

/* Descending order, NaN last. */
static int by_score(float one, float other)
{
    if (one > other)
        return -1;
    if (one < other)
        return 1;
    return (one != one) - (other != other);
}

static int by_scores(const void *one, const void *other)
{
    const Recorded *first = one, *second = other;
    int order = by_score(first->final, second->final);
    if (!order)
        order = by_score(first->raw, second->raw);
    return order ? order : (first->token > second->token) - (first->token < second->token);
}

/* Top of the raw logits, top of the final scores and the choice, by final score, then by raw logit. */
static size_t record_tokens(const Pipeline *pipeline, const Work *work, int32_t chosen)
{
    const Stage *raw = work->stages, *final = raw + pipeline->stages - 1, *ranked[] = {raw, final};
    size_t count = 0, distinct = 0;
    for (size_t at = 0; at < 2; at++) {
        size_t found =
            find_best(ranked[at]->scores, ranked[at]->looks, pipeline->vocabulary, pipeline->cap, work->best);
        for (size_t each = 0; each < found; each++)
            work->recorded[count++].token = work->best[each];
    }
    if (chosen != NO_TOKEN)
        work->recorded[count++].token = chosen;
    for (size_t at = 0; at < count; at++) {
        Recorded *recorded = work->recorded + at;
        recorded->final = final->scores[recorded->token];
        recorded->raw = raw->scores[recorded->token];
    }
    qsort(work->recorded, count, sizeof *work->recorded, by_scores);
    /* Duplicates of a token are adjacent now. */
    for (size_t at = 0; at < count; at++)
        if (!at || work->recorded[at].token != work->recorded[at - 1].token)
            work->recorded[distinct++] = work->recorded[at];
    return distinct;
}

static void write_stage(StageSummary *into, const Stage *stage, int is_first, size_t vocabulary, int32_t chosen)
{
    into->kept = stage->all.kept;
    into->changed = stage->all.changed;
    into->removed = stage->all.removed;
    into->mass_removed = is_first ? 0 : (float)mass_removed(stage - 1, stage);
    into->entropy = (float)entropy_of(stage);
    into->chosen_rank = chosen == NO_TOKEN ? 0 : 1 + count_above(stage, vocabulary, chosen);
    into->chosen_scores = chosen == NO_TOKEN ? NAN : stage->scores[chosen];
    memcpy(into->removed_tokens, stage->all.listed, sizeof stage->all.listed);
}

/* Write the tokens that a row records, and fill up the rest of its place. */
static void write_tokens(const Pipeline *pipeline, const Work *work, const Summary *into, size_t row, size_t count)
{
    const Stage *last = work->stages + pipeline->stages - 1;
    size_t width = pipeline->width, place = row * width;
    for (size_t at = 0; at < width; at++) {
        int32_t token = at < count ? work->recorded[at].token : NO_TOKEN;
        into->tokens[place + at] = token;
        into->probabilities[place + at] = token == NO_TOKEN ? 0 : (float)probability_of(last, token);
        for (size_t each = 0; each < pipeline->stages; each++)
            into->scores[each * pipeline->rows * width + place + at] =
                token == NO_TOKEN ? -INFINITY : work->stages[each].scores[token];
    }
}

/* Does all parts of some work: share_out, or in_order. */
typedef void DoAll(Part *part, void *work, size_t parts);

static void in_order(Part *part, void *work, size_t parts)
{
    for (size_t at = 0; at < parts; at++)
        part(work, at);
}

/* A row in work. */
typedef struct {
    const Pipeline *pipeline;
    Work work;
} Row;

static void look_at(void *row, size_t part)
{
    const Row *of = row;
    look_at_part(of->work.stages, of->pipeline->stages, of->pipeline->vocabulary, part);
}

static void weigh(void *row, size_t part)
{
    const Row *of = row;
    weigh_part(of->work.stages, of->pipeline->stages, of->pipeline->vocabulary, part);
}

static void compute_stages(Row *row, DoAll *do_all)
{
    Stage *stages = row->work.stages;
    size_t number = row->pipeline->stages, vocabulary = row->pipeline->vocabulary, parts = parts_of(vocabulary);
    do_all(look_at, row, parts);
    join_looks(stages, number, vocabulary);
    do_all(weigh, row, parts);
    join_weights(stages, number, vocabulary);
}

/* Rows in work. */
typedef struct {
    const Pipeline *pipeline;
    Summary into;
    DoAll *do_all; /* the parts of a row */
} Rows;

static void write_row(const Rows *rows, const Work *work, size_t at)
{
    const Pipeline *pipeline = rows->pipeline;
    const Stage *last = work->stages + pipeline->stages - 1;
    int32_t chosen = (int32_t)pipeline->chosen[at];
    for (size_t stage = 0; stage < pipeline->stages; stage++)
        write_stage(rows->into.by_stage + stage * pipeline->rows + at, work->stages + stage, !stage,
                    pipeline->vocabulary, chosen);
    size_t count = record_tokens(pipeline, work, chosen);
    write_tokens(pipeline, work, &rows->into, at, count);
    rows->into.by_row[at] = (RowSummary){
        .tokens = (int32_t)count,
        .candidates = last->all.candidates,
        .chosen_probability = chosen == NO_TOKEN ? NAN : (float)probability_of(last, chosen),
    };
}

static void release(Work *work)
{
    free(work->stages);
    free(work->looks);
    free(work->parts);
    free(work->best);
    free(work->recorded);
}

/* Room for the work of a row, whose scores are known; 0, or -1 where there is not enough memory. */
static int allocate(Work *work, const Pipeline *pipeline, size_t row)
{
    size_t stages = pipeline->stages, vocabulary = pipeline->vocabulary;
    *work = (Work){
        .stages = malloc(stages * sizeof *work->stages),
        .looks = malloc(stages * blocks_of(vocabulary) * sizeof *work->looks),
        .parts = malloc(stages * parts_of(vocabulary) * sizeof *work->parts),
        .best = malloc(pipeline->cap * sizeof *work->best),
        .recorded = malloc((2 * pipeline->cap + 1) * sizeof *work->recorded),
    };
    if (!work->stages || !work->looks || !work->parts || !work->best || !work->recorded)
        return -1;
    for (size_t at = 0; at < stages; at++) {
        work->stages[at].scores = pipeline->scores[at] + row * vocabulary;
        work->stages[at].looks = work->looks + at * blocks_of(vocabulary);
        work->stages[at].parts = work->parts + at * parts_of(vocabulary);
    }
    return 0;
}

#define NO_MEMORY (-1) /* in place of the number of tokens */

static void summarise_row(void *all, size_t at)
{
    const Rows *rows = all;
    Row row = {.pipeline = rows->pipeline};
    if (allocate(&row.work, rows->pipeline, at) == 0) {
        compute_stages(&row, rows->do_all);
        write_row(rows, &row.work, at);
    }
    else
        rows->into.by_row[at].tokens = NO_MEMORY;
    release(&row.work);
}

static void lay_out(Summary *summary, const Pipeline *pipeline, void *begin)
{
    size_t rows = pipeline->rows, cells = rows * pipeline->width;
    summary->by_stage = begin;
    summary->by_row = (RowSummary *)(summary->by_stage + pipeline->stages * rows);
    summary->tokens = (int32_t *)(summary->by_row + rows);
    summary->scores = (float *)(summary->tokens + cells);
    summary->probabilities = summary->scores + pipeline->stages * cells;
}

size_t summary_bytes(const Pipeline *pipeline)
{
    size_t rows = pipeline->rows, cells = rows * pipeline->width;
    return pipeline->stages * rows * sizeof(StageSummary) + rows * sizeof(RowSummary) +
           cells * (sizeof(int32_t) + (pipeline->stages + 1) * sizeof(float));
}

int summarise(const Pipeline *pipeline, void *into, int shares)
{
    /* Of several rows each is one thread's, since a row fits into the cache of a core. */
    int several = pipeline->rows > 1;
    Rows rows = {.pipeline = pipeline, .do_all = shares && !several ? share_out : in_order};
    lay_out(&rows.into, pipeline, into);
    (shares && several ? share_out : in_order)(summarise_row, &rows, pipeline->rows);
    for (size_t row = 0; row < pipeline->rows; row++)
        if (rows.into.by_row[row].tokens == NO_MEMORY)
            return -1;
    return 0;
}
