/* From whole score rows to the few numbers that explain a choice: the compiled form of numpy_summary.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "best.h"
#include "blocks.h"
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

/* A recorded token with its sort keys. */
typedef struct {
    float final, raw;
    int32_t token;
} Recorded;

typedef struct {
    const float *scores; /* [stages, rows, vocabulary] */
    const int32_t *chosen;
    StageSummary *stage_summaries; /* [stages, rows] */
    RowSummary *row_summaries;     /* [rows] */
    int32_t *tokens;         /* [rows, width] */
    float *token_scores;     /* [stages, rows, width] */
    float *probabilities;    /* [rows, width] */
    size_t stages, rows, vocabulary, cap, width;
    Stage *each_stage;  /* stages */
    Look *looks;        /* [stages, blocks of the vocabulary] */
    int32_t *best;      /* cap */
    Recorded *recorded; /* 2 * cap + 1 */
} Summary;

static const float *scores_at(const Summary *summary, size_t stage, size_t row)
{
    return summary->scores + (stage * summary->rows + row) * summary->vocabulary;
}

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
static size_t record_tokens(const Summary *summary, const Stage *raw, const Stage *final, int32_t chosen)
{
    size_t count = 0, distinct = 0;
    const Stage *ranked[] = {raw, final};
    for (size_t at = 0; at < 2; at++) {
        size_t found = find_best(ranked[at]->scores, ranked[at]->looks, summary->vocabulary, summary->cap,
                                 summary->best);
        for (size_t each = 0; each < found; each++)
            summary->recorded[count++].token = summary->best[each];
    }
    if (chosen != NO_TOKEN)
        summary->recorded[count++].token = chosen;
    for (size_t at = 0; at < count; at++) {
        Recorded *recorded = summary->recorded + at;
        recorded->final = final->scores[recorded->token];
        recorded->raw = raw->scores[recorded->token];
    }
    qsort(summary->recorded, count, sizeof *summary->recorded, by_scores);
    /* Duplicates of a token are adjacent now. */
    for (size_t at = 0; at < count; at++)
        if (!at || summary->recorded[at].token != summary->recorded[at - 1].token)
            summary->recorded[distinct++] = summary->recorded[at];
    return distinct;
}

static void write_stage(const Summary *summary, StageSummary *into, size_t number, int32_t chosen)
{
    const Stage *stage = summary->each_stage + number;
    into->kept = stage->kept;
    into->changed = stage->changed;
    into->removed = stage->removed;
    into->mass_removed = number ? (float)mass_removed(stage - 1, stage) : 0;
    into->entropy = (float)entropy_of(stage);
    into->chosen_rank = chosen == NO_TOKEN ? 0 : 1 + count_above(stage, summary->vocabulary, chosen);
    into->chosen_scores = chosen == NO_TOKEN ? NAN : stage->scores[chosen];
    memcpy(into->removed_tokens, stage->listed, sizeof stage->listed);
}

/* The number of its recorded tokens. */
static size_t summarise_row(const Summary *summary, size_t row)
{
    int32_t chosen = summary->chosen[row];
    Stage *stages = summary->each_stage, *last = stages + summary->stages - 1;
    for (size_t at = 0; at < summary->stages; at++) {
        stages[at].scores = scores_at(summary, at, row);
        stages[at].looks = summary->looks + at * blocks_of(summary->vocabulary);
    }
    compute_stages(stages, summary->stages, summary->vocabulary);
    for (size_t at = 0; at < summary->stages; at++)
        write_stage(summary, summary->stage_summaries + at * summary->rows + row, at, chosen);
    size_t count = record_tokens(summary, stages, last, chosen);
    for (size_t at = 0; at < count; at++) {
        int32_t token = summary->recorded[at].token;
        summary->tokens[row * summary->width + at] = token;
        summary->probabilities[row * summary->width + at] = (float)probability_of(last, token);
        for (size_t each = 0; each < summary->stages; each++)
            summary->token_scores[(each * summary->rows + row) * summary->width + at] =
                scores_at(summary, each, row)[token];
    }
    for (size_t at = count; at < summary->width; at++) {
        summary->tokens[row * summary->width + at] = NO_TOKEN;
        summary->probabilities[row * summary->width + at] = 0;
        for (size_t each = 0; each < summary->stages; each++)
            summary->token_scores[(each * summary->rows + row) * summary->width + at] = -INFINITY;
    }
    RowSummary *into = summary->row_summaries + row;
    into->tokens = (int32_t)count;
    into->candidates = last->candidates;
    into->chosen_probability = chosen == NO_TOKEN ? NAN : (float)probability_of(last, chosen);
    return count;
}

static int allocate(Summary *summary)
{
    summary->each_stage = malloc(summary->stages * sizeof *summary->each_stage);
    summary->looks = malloc(summary->stages * blocks_of(summary->vocabulary) * sizeof *summary->looks);
    summary->best = malloc(summary->cap * sizeof *summary->best);
    summary->recorded = malloc((2 * summary->cap + 1) * sizeof *summary->recorded);
    return summary->each_stage && summary->looks && summary->best && summary->recorded;
}

/* The largest number of tokens that a row records. */
static PyObject *run(Summary *summary)
{
    int enough = allocate(summary);
    size_t longest = 0;
    if (enough) {
        Py_BEGIN_ALLOW_THREADS
        for (size_t row = 0; row < summary->rows; row++) {
            size_t count = summarise_row(summary, row);
            longest = count > longest ? count : longest;
        }
        Py_END_ALLOW_THREADS
    }
    free(summary->each_stage);
    free(summary->looks);
    free(summary->best);
    free(summary->recorded);
    return enough ? PyLong_FromSize_t(longest) : PyErr_NoMemory();
}

/* Whether the sizes of the arguments agree, and the chosen tokens are in the vocabulary. */
static int check(const Summary *summary, const Py_buffer *buffers)
{
    size_t cells = summary->rows * summary->width, all = summary->stages * summary->rows;
    const size_t expected[] = {
        all * summary->vocabulary * sizeof(float), summary->rows * sizeof(int32_t),
        all * sizeof(StageSummary),                  summary->rows * sizeof(RowSummary),
        cells * sizeof(int32_t),                   all * summary->width * sizeof(float),
        cells * sizeof(float),
    };
    for (size_t at = 0; at < sizeof expected / sizeof *expected; at++)
        if ((size_t)buffers[at].len != expected[at])
            return 0;
    for (size_t row = 0; row < summary->rows; row++)
        if (summary->chosen[row] < NO_TOKEN || summary->chosen[row] >= (int64_t)summary->vocabulary)
            return 0;
    return summary->stages > 0 && summary->vocabulary > 0 && summary->vocabulary <= INT32_MAX &&
           summary->cap > 0 && summary->cap <= summary->vocabulary && summary->width > 2 * summary->cap;
}

/* summarise(stages, rows, vocabulary, cap, width, *buffers) -> longest: see compiled_summary.py */
static PyObject *summarise(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer b[7];
    Py_ssize_t stages, rows, vocabulary, cap, width;
    if (!PyArg_ParseTuple(args, "nnnnny*y*w*w*w*w*w*", &stages, &rows, &vocabulary, &cap, &width, &b[0], &b[1],
                          &b[2], &b[3], &b[4], &b[5], &b[6]))
        return NULL;
    Summary summary = {
        .scores = b[0].buf,
        .chosen = b[1].buf,
        .stage_summaries = b[2].buf,
        .row_summaries = b[3].buf,
        .tokens = b[4].buf,
        .token_scores = b[5].buf,
        .probabilities = b[6].buf,
        .stages = (size_t)stages,
        .rows = (size_t)rows,
        .vocabulary = (size_t)vocabulary,
        .cap = (size_t)cap,
        .width = (size_t)width,
    };
    PyObject *result = NULL;
    if (check(&summary, b))
        result = run(&summary);
    else
        PyErr_SetString(PyExc_ValueError, "the sizes of the scores and of their summary do not agree");
    for (size_t at = 0; at < 7; at++)
        PyBuffer_Release(&b[at]);
    return result;
}

static PyMethodDef functions[] = {
    {"summarise", summarise, METH_VARARGS,
     "Summarise the score pipeline of one step; returns the largest number of tokens that a row records."},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "tracer.analysis.scores.native._native",
    .m_doc = "Summaries of scores over a whole vocabulary.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModule_Create(&definition);
}
