/* One run: its directory, database, model, problem sets and the best checkpoint so far.
 *
 * The run is a sequence of stages; a stage a sequence of phases, each committed in one transaction
 * with the rows that it made. Everything is a function of the recipe, the model and the seed, so a
 * run that was killed finds the phases it had finished and does the rest again, to the same bytes.
 */
#ifndef SP_PLAY_RUN_H
#define SP_PLAY_RUN_H

#include "base/file.h"
#include "io/rundb.h"
#include "model/engine.h"
#include "play/recipe.h"
#include "spar/play.h"
#include "spar/tasks.h"
#include "train/trainer.h"

typedef enum sp_set { SP_SET_TRAIN, SP_SET_GATE, SP_SET_REPORT, SP_SETS } sp_set;
extern const char *const sp_set_names[SP_SETS];

/* A prompt with its real response, rendered and tokenised once. */
typedef struct sp_problem {
    int64_t id;            /* prompts row */
    json_t *conversation;  /* owned */
    const spar_task *task; /* borrowed from the task set; NULL for data of the user's own */
    const char *family;    /* borrowed */
    char *reference;       /* owned: the real response's text */
    int32_t *prompt_ids;   /* owned, with the generation prompt */
    size_t n_prompt;
    int32_t *reference_ids; /* owned, the end-of-turn token included */
    size_t n_reference;
} sp_problem;

typedef struct sp_problems {
    sp_problem *items; /* owned */
    size_t n;
    spar_task_set *tasks; /* owned; NULL for data of the user's own */
} sp_problems;

/* A checkpoint that later stages start from, with what it scored. */
typedef struct sp_best {
    int64_t stage;  /* stage that made it; 0: the model the run started from */
    char path[512]; /* relative to the run directory; "" for the start model */
    double gate;    /* mean score on the gate set */
    bool loaded;    /* its weights are in the model now */
} sp_best;

/* A phase at work in this process (play/work.h). */
typedef struct sp_work {
    const char *phase; /* borrowed; NULL: none */
    int64_t stage, segment;
    double cpu, begun, stored; /* clocks when it began, and when it was last stored */
} sp_work;

typedef struct sp_run {
    const spar_play_options *options;
    sp_recipe recipe;
    char *dir;
    sp_lock lock;
    sp_rundb *db;
    spar_model *model;
    char *model_path; /* of the start model */
    char *date;       /* of the run's beginning, for templates that print one */
    sp_problems sets[SP_SETS];
    spar_dtype dtype; /* asked for when the run began, or when it goes on */
    uint64_t seed;
    int64_t next_ordinal;
    int64_t base_stage; /* that measured the start model */
    bool controls, resumed;
    FILE *log; /* owned: log.txt */
    sp_work work;
    spar_sink sink;
} sp_run;

/* Open or create the run directory, load recipe, model and problems. */
spar_status sp_run_open(sp_run *run, const spar_play_options *options, spar_error *err);
void sp_run_close(sp_run *run);

spar_status sp_run_path(const sp_run *run, const char *relative, char **out, spar_error *err);
bool sp_run_stopped(const sp_run *run);
void sp_run_log(const sp_run *run, const char *fmt, ...) SPAR_PRINTF(2, 3);

/* The stage at the next ordinal: found when the run had begun it, else made. *done says whether it
 * was finished. */
spar_status sp_run_stage(sp_run *run, const char *arm, const char *kind, int64_t iteration,
                         int64_t *stage, bool *done, spar_error *err);
/* A stage that was begun; NOT_FOUND where there is none. */
spar_status sp_run_find_stage(sp_run *run, const char *arm, const char *kind, int64_t iteration,
                              int64_t *stage, spar_error *err);
spar_status sp_run_finish_stage(sp_run *run, int64_t stage, spar_error *err);
spar_status sp_run_phase_done(sp_run *run, int64_t stage, const char *phase, bool *done,
                              spar_error *err);

/* Metrics by name, one value a stage (step 0). A metric never put gives `fallback`. */
spar_status sp_run_put_value(sp_run *run, int64_t stage, const char *name, double value,
                             spar_error *err);
spar_status sp_run_get_value(sp_run *run, int64_t stage, const char *name, double fallback,
                             double *value, spar_error *err);

/* Put the weights of a checkpoint into the model (the start model when path is ""). */
spar_status sp_run_load_best(sp_run *run, sp_best *best, spar_error *err);
/* Write the model as checkpoint `path` (relative), replacing what an interrupted try left. */
spar_status sp_run_save_checkpoint(sp_run *run, int64_t stage, const char *path, spar_error *err);
spar_status sp_run_drop_checkpoint(sp_run *run, const char *path, spar_error *err);

/* The new problems (arm->fresh of them) of an iteration of an arm, disjoint from the held-out sets.
 * An arm and its control get the same ones. */
spar_status sp_run_fresh_problems(sp_run *run, int64_t stage, const sp_arm *arm, int64_t iteration,
                                  sp_problems *out, spar_error *err);
void sp_problems_release(sp_problems *problems);

/* Evaluate the model as it is on a set: a phase of the stage. *mean is the mean score. */
spar_status sp_run_evaluate(sp_run *run, int64_t stage, sp_set set, double *mean, spar_error *err);

#endif
