/* The self-play loop: a recipe, a model and a run directory.
 *
 * A run directory holds run.db (prompts, samples with token ids and log-probs, scores, pairs with
 * reasons, metrics, evaluations), checkpoints/ (Hugging Face folders, or adapters alone),
 * state.safetensors (the trainer while a stage is under way), recipe.yaml, log.txt, report.md,
 * report.json and, at the end, final/ (the kept model) and adapter/ (its adapter, where one
 * trains). Killed at any instant, a run resumes and ends in the same bytes.
 */
#ifndef SPAR_PLAY_H
#define SPAR_PLAY_H

#include <stdbool.h>
#include <stdio.h>

#include "spar/log.h"
#include "spar/model.h"
#include "spar/status.h"

typedef struct spar_play_options {
    const char *recipe; /* path of the YAML recipe; NULL when resuming: the run's own */
    const char *model;  /* path; NULL: the recipe's, or the run's own */
    const char *run;    /* run directory */
    bool resume;   /* go on with an existing run; without, the directory must be new or empty */
    bool controls; /* run each arm's control too */
    int64_t seed;  /* -1: the recipe's */
    spar_dtype dtype;
    int threads;
    const spar_sink *sink;       /* borrowed; may be NULL */
    bool (*stop)(void *context); /* asked between steps: true ends the run cleanly; may be NULL */
    void *stop_context;
} spar_play_options;

/* INTERRUPTED when stop said so: what was done is in the run directory. */
SPAR_API spar_status spar_play(const spar_play_options *options, spar_error *err);

/* The figures of a run (finished or under way) as JSON (new reference). */
struct json_t;
SPAR_API spar_status spar_report_read(const char *run, struct json_t **out, spar_error *err);
typedef enum spar_report_format { SPAR_REPORT_TERMINAL, SPAR_REPORT_MARKDOWN } spar_report_format;
/* Write the table of a report made by spar_report_read. */
SPAR_API void spar_report_write(const struct json_t *report, spar_report_format format, FILE *out);

/* Runs of one recipe that differ in their seed, finished or under way, as one comparison: every arm
 * that names another by `against` is held against it over the same problems, run by run. JSON (new
 * reference). Two runs of one seed are INVALID, runs from other base models a MISMATCH. */
SPAR_API spar_status spar_compare_read(const char *const *runs, size_t n, struct json_t **out,
                                       spar_error *err);
SPAR_API void spar_compare_write(const struct json_t *report, spar_report_format format, FILE *out);
/* The comparison as report.json and report.md in a folder. */
SPAR_API spar_status spar_compare_save(const char *const *runs, size_t n, const char *dir,
                                       spar_error *err);

/* What a recipe may say: the option tables by section, for documentation. */
struct spar_option;
SPAR_API const struct spar_option *spar_recipe_section(int i, const char **name);

#endif
