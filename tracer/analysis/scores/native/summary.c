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
    float *weights; /* whole blocks for a vocabulary */
    BlockSummary *blocks;
    int32_t *best;  /* cap */
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
static size_t record_tokens(const Summary *summary, const float *raw, const float *final, int32_t chosen)
{
    size_t count = 0, distinct = 0;
    const float *ranked[] = {raw, final};
    for (size_t at = 0; at < 2; at++) {
        size_t found = find_best(ranked[at], summary->vocabulary, summary->cap, summary->best);
        for (size_t each = 0; each < found; each++)
            summary->recorded[count++].token = summary->best[each];
    }
    if (chosen != NO_TOKEN)
        summary->recorded[count++].token = chosen;
    for (size_t at = 0; at < count; at++) {
        Recorded *recorded = summary->recorded + at;
        recorded->final = final[recorded->token];
        recorded->raw = raw[recorded->token];
    }
    qsort(summary->recorded, count, sizeof *summary->recorded, by_scores);
    /* Duplicates of a token are adjacent now. */
    for (size_t at = 0; at < count; at++)
        if (!at || summary->recorded[at].token != summary->recorded[at - 1].token)
            summary->recorded[distinct++] = summary->recorded[at];
    return distinct;
}

static void write_stage(StageSummary *into, const Softmax *stage, const Change *change, int32_t chosen)
{
    into->kept = stage->kept;
    into->changed = change->changed;
    into->removed = change->removed;
    into->mass_removed = (float)change->mass;
    into->entropy = (float)entropy_of(stage);
    into->chosen_rank = chosen == NO_TOKEN ? 0 : 1 + stage->above;
    into->chosen_scores = chosen == NO_TOKEN ? NAN : stage->scores[chosen];
    memcpy(into->removed_tokens, change->listed, sizeof change->listed);
}

static void summarise_row(const Summary *summary, size_t row)
{
    int32_t chosen = summary->chosen[row];
    Softmax stage = {
        .scores = scores_at(summary, 0, row),
        .count = summary->vocabulary,
        .weights = summary->weights,
        .blocks = summary->blocks,
        .chosen = chosen,
    };
    Change change;
    for (size_t at = 0; at < summary->stages; at++) {
        change = at ? next_stage(&stage, scores_at(summary, at, row)) : begin_stages(&stage);
        write_stage(summary->stage_summaries + at * summary->rows + row, &stage, &change, chosen);
    }
    size_t count = record_tokens(summary, scores_at(summary, 0, row), stage.scores, chosen);
    for (size_t at = 0; at < count; at++) {
        int32_t token = summary->recorded[at].token;
        summary->tokens[row * summary->width + at] = token;
        summary->probabilities[row * summary->width + at] = (float)probability_of(&stage, token);
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
    into->candidates = stage.candidates;
    into->chosen_probability = chosen == NO_TOKEN ? NAN : (float)probability_of(&stage, chosen);
}

static int allocate(Summary *summary)
{
    size_t blocks = blocks_of(summary->vocabulary);
    summary->weights = malloc(blocks * BLOCK * sizeof *summary->weights);
    summary->blocks = malloc(blocks * sizeof *summary->blocks);
    summary->best = malloc(summary->cap * sizeof *summary->best);
    summary->recorded = malloc((2 * summary->cap + 1) * sizeof *summary->recorded);
    return summary->weights && summary->blocks && summary->best && summary->recorded;
}

static PyObject *run(Summary *summary)
{
    int enough = allocate(summary);
    if (enough) {
        Py_BEGIN_ALLOW_THREADS
        for (size_t row = 0; row < summary->rows; row++)
            summarise_row(summary, row);
        Py_END_ALLOW_THREADS
    }
    free(summary->weights);
    free(summary->blocks);
    free(summary->best);
    free(summary->recorded);
    return enough ? Py_NewRef(Py_None) : PyErr_NoMemory();
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

/* summarise(stages, rows, vocabulary, cap, width, *buffers): see compiled_summary.py */
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
    {"summarise", summarise, METH_VARARGS, "Summarise the score pipeline of one step."},
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
