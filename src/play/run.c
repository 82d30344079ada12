/* Opening a run, its stages and its checkpoints. Problems are in problems.c. */
#include "play/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "model/fingerprint.h"
#include "play/judged.h"
#include "play/problems.h"

const char *const sp_set_names[SP_SETS] = {"train", "gate", "report"};

spar_status sp_run_path(const sp_run *run, const char *relative, char **out, spar_error *err) {
    return sp_path_join(out, run->dir, relative, err);
}

bool sp_run_stopped(const sp_run *run) {
    return run->options->stop && run->options->stop(run->options->stop_context);
}

void sp_run_log(const sp_run *run, const char *fmt, ...) {
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    spar_sink_log(&run->sink, SPAR_LOG_INFO, "%s", line);
    if (run->log) {
        fprintf(run->log, "%s\n", line);
        fflush(run->log);
    }
}

/* ---- opening ---- */

static spar_status put_meta_int(sp_rundb *db, const char *key, int64_t value, spar_error *err) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    return sp_rundb_put_meta(db, key, text, err);
}

static spar_status get_meta_int(sp_rundb *db, const char *key, int64_t *value, spar_error *err) {
    char *text = NULL;
    spar_status status = sp_rundb_get_meta(db, key, &text, err);
    if (status == SPAR_OK) {
        *value = strtoll(text, NULL, 10);
    }
    free(text);
    return status;
}

/* Copy the recipe into a new run; on resuming the run's own copy is the recipe. */
static spar_status place_recipe(sp_run *run, char **path, spar_error *err) {
    spar_status status = SPAR_OK;
    char *text = NULL;
    size_t n;
    SPAR_TRY(sp_run_path(run, "recipe.yaml", path, err));
    if (!run->resumed) {
        SPAR_TRY(sp_file_read(run->options->recipe, 1 << 20, &text, &n, err));
        SPAR_TRY(sp_file_write(*path, text, n, err));
    }
done:
    free(text);
    return status;
}

/* Whether the folder holds a run whose beginning was committed. */
static spar_status has_run(const spar_play_options *o, bool *found, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    char *model = NULL;
    sp_rundb *db = NULL;
    *found = false;
    SPAR_TRY(sp_path_join(&path, o->run, "run.db", err));
    if (!sp_file_exists(path)) {
        goto done;
    }
    spar_error why;
    if (sp_rundb_open(&db, path, SP_RUNDB_RESUME, &why) != SPAR_OK) {
        /* a database that was being created has neither tables nor marks yet; another program's, or
         * a newer spar's, is not ours to begin over */
        *found = why.code != SPAR_FORMAT;
        if (*found || !o->recipe) {
            SPAR_TRY(spar_fail(err, why.code, "%s", why.message));
        }
        goto done;
    }
    *found = sp_rundb_get_meta(db, "model", &model, &why) == SPAR_OK;
done:
    sp_rundb_close(db);
    free(path);
    free(model);
    return status;
}

/* What a run killed at its very start leaves behind: it may be begun again over these. */
static bool is_leftover(const char *name) {
    return strcmp(name, "lock") == 0 || strncmp(name, "recipe.yaml", 11) == 0 ||
           strncmp(name, "run.db", 6) == 0;
}

static spar_status check_folder(sp_run *run, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_play_options *o = run->options;
    char **names = NULL;
    size_t n = 0;
    bool found;
    SPAR_TRY(has_run(o, &found, err));
    if (found && !o->resume) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "%s: holds a run already: go on with --resume, or name a new folder",
                           o->run));
    }
    if (!found && !o->recipe) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND,
                           "%s: expected a run to resume, found none; a new one needs a recipe",
                           o->run));
    }
    if (!found && sp_file_exists(o->run)) {
        SPAR_TRY(sp_dir_list(o->run, &names, &n, err));
        for (size_t i = 0; i < n; i++) {
            if (!is_leftover(names[i])) {
                SPAR_TRY(spar_fail(err, SPAR_INVALID,
                                   "%s: expected a new or empty folder, found %s in it", o->run,
                                   names[i]));
            }
        }
    }
    run->resumed = found;
done:
    sp_names_free(names, n);
    return status;
}

/* Remove what an interrupted beginning left of the database. */
static spar_status clear_leftovers(const sp_run *run, spar_error *err) {
    static const char *const files[] = {"run.db", "run.db-wal", "run.db-shm", "run.db-journal"};
    spar_status status = SPAR_OK;
    char *path = NULL;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        free(path);
        path = NULL;
        SPAR_TRY(sp_run_path(run, files[i], &path, err));
        SPAR_TRY(sp_dir_remove(path, err));
    }
done:
    free(path);
    return status;
}

/* Purpose of a random stream of a run: the adapter's first values. The order of examples has the
 * same one with a stage, never 0, behind it: the streams differ. */
enum { STREAM_LORA = 4 };

/* The start model with the weights of a checkpoint, "" for its own. With an adapter a checkpoint is
 * the adapter alone. */
static spar_status load_model(sp_run *run, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    const bool lora = run->recipe.lora.rank > 0;
    spar_model_options options = {.dtype = run->dtype,
                                  .weights = (spar_weights)run->recipe.weights,
                                  .threads = run->options->threads,
                                  .template_path = run->recipe.template_path,
                                  .template_text = run->recipe.template_text,
                                  .now = run->date,
                                  .sink = &run->sink};
    options.adapter = lora && path[0] ? path : NULL;
    spar_model_free(run->model);
    run->model = NULL;
    SPAR_TRY(
        spar_model_load(&run->model, lora || !path[0] ? run->model_path : path, &options, err));
    if (lora && !path[0]) {
        SPAR_TRY(sp_lora_attach(run->model, &run->recipe.lora,
                                sp_rng_stream(run->seed, STREAM_LORA, 0, 0), err));
    }
done:
    return status;
}

/* A run keeps the date it began on: resumed on another day, its prompts are the same. */
static spar_status today(char **out, spar_error *err) {
    char text[16] = "";
    time_t seconds = time(NULL);
    struct tm date;
    if (gmtime_r(&seconds, &date)) {
        strftime(text, sizeof text, "%Y-%m-%d", &date);
    }
    return sp_mem_strdup(out, text, strlen(text), err);
}

/* For the comparison over runs: each arm that is held against another, as {"arm": "against"}. */
static spar_status put_comparisons(const sp_run *run, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *list = json_object();
    char *text = NULL;
    for (int i = 0; i < run->recipe.n_arms; i++) {
        const sp_arm *arm = &run->recipe.arms[i];
        if (arm->against) {
            json_object_set_new(list, arm->name, json_string(arm->against));
        }
    }
    text = json_dumps(list, JSON_COMPACT);
    if (!text) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for the arms' names"));
    }
    SPAR_TRY(sp_rundb_put_meta(run->db, "against", text, err));
done:
    free(text);
    json_decref(list);
    return status;
}

static spar_status begin_run(sp_run *run, const char *db_path, spar_error *err) {
    spar_status status = SPAR_OK;
    char fingerprint[32];
    const spar_play_options *o = run->options;
    const char *model = o->model ? o->model : run->recipe.model;
    if (!model) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "%s: names no model: give one with -m, or with the key model",
                           o->recipe));
    }
    SPAR_TRY(sp_mem_strdup(&run->model_path, model, strlen(model), err));
    SPAR_TRY(today(&run->date, err));
    run->dtype = o->dtype;
    run->seed = (uint64_t)(o->seed >= 0 ? o->seed : run->recipe.seed);
    SPAR_TRY(load_model(run, "", err));
    run->controls = o->controls;
    SPAR_TRY(sp_rundb_open(&run->db, db_path, SP_RUNDB_CREATE, err));
    SPAR_TRY(sp_rundb_begin(run->db, err));
    snprintf(fingerprint, sizeof fingerprint, "%016llx",
             (unsigned long long)sp_model_fingerprint(run->model));
    SPAR_TRY(sp_rundb_put_meta(run->db, "model", model, err));
    SPAR_TRY(sp_rundb_put_meta(run->db, "date", run->date, err));
    SPAR_TRY(sp_rundb_put_meta(run->db, "model_fingerprint", fingerprint, err));
    SPAR_TRY(sp_rundb_put_meta(run->db, "backend", spar_model_backend(run->model), err));
    SPAR_TRY(sp_rundb_put_meta(run->db, "recipe", run->recipe.name, err));
    SPAR_TRY(put_meta_int(run->db, "dtype", run->dtype, err));
    SPAR_TRY(put_meta_int(run->db, "seed", (int64_t)run->seed, err));
    SPAR_TRY(put_meta_int(run->db, "controls", run->controls, err));
    SPAR_TRY(put_comparisons(run, err));
    SPAR_TRY(sp_judged_check(run, err));
    SPAR_TRY(sp_problems_make(run, true, err));
    SPAR_TRY(sp_rundb_commit(run->db, err));
done:
    return status;
}

/* Other kernels round otherwise: the run goes on, but is not the one that it would have been. */
static spar_status check_backend(const sp_run *run, spar_error *err) {
    char *was = NULL;
    spar_status status = sp_rundb_get_meta(run->db, "backend", &was, err);
    if (status == SPAR_OK && strcmp(was, spar_model_backend(run->model)) != 0) {
        sp_run_log(run, "the run began with %s and goes on with %s: its numbers may differ", was,
                   spar_model_backend(run->model));
    }
    free(was);
    return status;
}

static spar_status resume_run(sp_run *run, const char *db_path, spar_error *err) {
    spar_status status = SPAR_OK;
    char *was = NULL;
    char now[32];
    int64_t value;
    SPAR_TRY(sp_rundb_open(&run->db, db_path, SP_RUNDB_RESUME, err));
    SPAR_TRY(sp_rundb_check(run->db, err));
    SPAR_TRY(sp_rundb_get_meta(run->db, "date", &run->date, err));
    SPAR_TRY(sp_rundb_get_meta(run->db, "model", &run->model_path, err));
    if (run->options->model) {
        free(run->model_path);
        run->model_path = NULL;
        SPAR_TRY(
            sp_mem_strdup(&run->model_path, run->options->model, strlen(run->options->model), err));
    }
    SPAR_TRY(get_meta_int(run->db, "dtype", &value, err));
    run->dtype = run->options->dtype != SPAR_DTYPE_AUTO ? run->options->dtype : (spar_dtype)value;
    SPAR_TRY(get_meta_int(run->db, "seed", &value, err));
    run->seed = (uint64_t)value;
    SPAR_TRY(load_model(run, "", err));
    SPAR_TRY(sp_rundb_get_meta(run->db, "model_fingerprint", &was, err));
    snprintf(now, sizeof now, "%016llx", (unsigned long long)sp_model_fingerprint(run->model));
    if (strcmp(was, now) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "%s: the run started from a model with fingerprint %s, this one has %s",
                           run->model_path, was, now));
    }
    SPAR_TRY(get_meta_int(run->db, "controls", &value, err));
    run->controls = value != 0;
    SPAR_TRY(sp_judged_check(run, err));
    SPAR_TRY(sp_problems_make(run, false, err));
done:
    free(was);
    return status;
}

spar_status sp_run_open(sp_run *run, const spar_play_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    char *recipe = NULL;
    char *db = NULL;
    char *log = NULL;
    memset(run, 0, sizeof *run);
    run->options = options;
    run->lock.fd = -1;
    if (options->sink) {
        run->sink = *options->sink;
    }
    SPAR_TRY(check_folder(run, err));
    if (!run->resumed) {
        sp_recipe trial; /* a bad recipe leaves no folder behind */
        SPAR_TRY(sp_recipe_load(&trial, options->recipe, err));
        sp_recipe_release(&trial);
    }
    SPAR_TRY(sp_mem_strdup(&run->dir, options->run, strlen(options->run), err));
    SPAR_TRY(sp_dir_make(run->dir, err));
    SPAR_TRY(sp_lock_take(&run->lock, run->dir, err));
    if (!run->resumed) {
        SPAR_TRY(clear_leftovers(run, err));
    }
    SPAR_TRY(place_recipe(run, &recipe, err));
    SPAR_TRY(sp_recipe_load(&run->recipe, recipe, err));
    SPAR_TRY(sp_run_path(run, "run.db", &db, err));
    SPAR_TRY(run->resumed ? resume_run(run, db, err) : begin_run(run, db, err));
    SPAR_TRY(sp_run_path(run, "log.txt", &log, err));
    run->log = fopen(log, "a");
    if (!run->log) {
        SPAR_TRY(spar_fail(err, SPAR_IO, "%s: cannot be written", log));
    }
    if (run->resumed) {
        SPAR_TRY(check_backend(run, err));
    }
done:
    free(recipe);
    free(db);
    free(log);
    return status;
}

void sp_run_close(sp_run *run) {
    for (int i = 0; i < SP_SETS; i++) {
        sp_problems_release(&run->sets[i]);
    }
    spar_model_free(run->model);
    sp_rundb_close(run->db);
    sp_recipe_release(&run->recipe);
    if (run->log) {
        fclose(run->log);
    }
    free(run->model_path);
    free(run->date);
    if (run->lock.fd >= 0) {
        sp_lock_drop(&run->lock);
    }
    free(run->dir);
    memset(run, 0, sizeof *run);
    run->lock.fd = -1;
}

/* ---- stages ---- */

typedef struct stage_search {
    int64_t ordinal, id;
    bool done;
} stage_search;

static spar_status match_stage(void *context, const sp_rundb_stage *row, spar_error *err) {
    stage_search *s = context;
    (void)err;
    if (row->ordinal == s->ordinal) {
        s->id = row->id;
        s->done = strcmp(row->status, "done") == 0;
    }
    return SPAR_OK;
}

spar_status sp_run_stage(sp_run *run, const char *arm, const char *kind, int64_t iteration,
                         int64_t *stage, bool *done, spar_error *err) {
    spar_status status = SPAR_OK;
    stage_search search = {.ordinal = run->next_ordinal++};
    SPAR_TRY(sp_rundb_each_stage(run->db, match_stage, &search, err));
    if (search.id == 0) {
        sp_rundb_stage row = {.id = search.ordinal + 1, /* it keys random numbers */
                              .ordinal = search.ordinal,
                              .arm = arm,
                              .kind = kind,
                              .iteration = iteration,
                              .status = "pending",
                              .settings = "{}"};
        SPAR_TRY(sp_rundb_put_stage(run->db, &row, &search.id, err));
    }
    if (!search.done) {
        SPAR_TRY(
            sp_rundb_set_stage_status(run->db, search.id, "running", (int64_t)time(NULL), err));
    }
    *stage = search.id;
    *done = search.done;
done:
    return status;
}

typedef struct name_search {
    const char *arm, *kind;
    int64_t iteration, id;
} name_search;

static spar_status match_name(void *context, const sp_rundb_stage *row, spar_error *err) {
    name_search *s = context;
    (void)err;
    if (row->iteration == s->iteration && strcmp(row->arm, s->arm) == 0 &&
        strcmp(row->kind, s->kind) == 0) {
        s->id = row->id;
    }
    return SPAR_OK;
}

spar_status sp_run_find_stage(sp_run *run, const char *arm, const char *kind, int64_t iteration,
                              int64_t *stage, spar_error *err) {
    spar_status status = SPAR_OK;
    name_search search = {.arm = arm, .kind = kind, .iteration = iteration};
    SPAR_TRY(sp_rundb_each_stage(run->db, match_name, &search, err));
    if (search.id == 0) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "run.db: expected %s %lld of arm %s, found none",
                           kind, (long long)iteration, arm));
    }
    *stage = search.id;
done:
    return status;
}

spar_status sp_run_finish_stage(sp_run *run, int64_t stage, spar_error *err) {
    return sp_rundb_set_stage_status(run->db, stage, "done", (int64_t)time(NULL), err);
}

spar_status sp_run_phase_done(sp_run *run, int64_t stage, const char *phase, bool *done,
                              spar_error *err) {
    int64_t n, total;
    spar_status status = sp_rundb_get_phase(run->db, stage, phase, &n, &total, err);
    *done = status == SPAR_OK && n == total;
    return status;
}

spar_status sp_run_put_value(sp_run *run, int64_t stage, const char *name, double value,
                             spar_error *err) {
    sp_rundb_metric row = {.stage = stage, .step = 0, .name = name, .value = value};
    return sp_rundb_put_metric(run->db, &row, err);
}

static spar_status take_value(void *context, const sp_rundb_metric *row, spar_error *err) {
    (void)err;
    if (row->step == 0) {
        *(double *)context = row->value;
    }
    return SPAR_OK;
}

spar_status sp_run_get_value(sp_run *run, int64_t stage, const char *name, double fallback,
                             double *value, spar_error *err) {
    *value = fallback;
    return sp_rundb_each_metric(run->db, stage, name, take_value, value, err);
}

/* ---- checkpoints ---- */

spar_status sp_run_load_best(sp_run *run, sp_best *best, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    if (best->loaded) {
        goto done;
    }
    if (best->path[0]) {
        SPAR_TRY(sp_run_path(run, best->path, &path, err));
    }
    SPAR_TRY(load_model(run, path ? path : "", err));
    best->loaded = true;
done:
    free(path);
    return status;
}

typedef struct checkpoint_search {
    const char *path;
    int64_t id;
} checkpoint_search;

static spar_status match_checkpoint(void *context, const sp_rundb_checkpoint *row,
                                    spar_error *err) {
    checkpoint_search *s = context;
    (void)err;
    if (strcmp(row->path, s->path) == 0) {
        s->id = row->id;
    }
    return SPAR_OK;
}

/* Note a checkpoint in the database, once: a stage that is done again writes the same one. */
static spar_status record_checkpoint(sp_run *run, int64_t stage, const char *path,
                                     spar_error *err) {
    spar_status status = SPAR_OK;
    checkpoint_search search = {path, 0};
    char fingerprint[32];
    SPAR_TRY(sp_rundb_each_checkpoint(run->db, 0, match_checkpoint, &search, err));
    if (search.id == 0) {
        snprintf(fingerprint, sizeof fingerprint, "%016llx",
                 (unsigned long long)sp_model_fingerprint(run->model));
        sp_rundb_checkpoint row = {
            .stage = stage, .path = path, .fingerprint = fingerprint, .kept = true};
        SPAR_TRY(sp_rundb_put_checkpoint(run->db, &row, NULL, err));
    }
done:
    return status;
}

static spar_status forget_checkpoint(sp_run *run, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    checkpoint_search search = {path, 0};
    SPAR_TRY(sp_rundb_each_checkpoint(run->db, 0, match_checkpoint, &search, err));
    if (search.id != 0) {
        SPAR_TRY(sp_rundb_set_checkpoint_kept(run->db, search.id, false, err));
    }
done:
    return status;
}

spar_status sp_run_save_checkpoint(sp_run *run, int64_t stage, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    char *full = NULL;
    char *parent = NULL;
    SPAR_TRY(sp_run_path(run, "checkpoints", &parent, err));
    SPAR_TRY(sp_run_path(run, path, &full, err));
    SPAR_TRY(sp_dir_make(parent, err));
    SPAR_TRY(sp_dir_remove(full, err));
    SPAR_TRY(run->recipe.lora.rank > 0 ? spar_model_save_adapter(run->model, full, err)
                                       : spar_model_save(run->model, full, err));
    SPAR_TRY(record_checkpoint(run, stage, path, err));
done:
    free(parent);
    free(full);
    return status;
}

spar_status sp_run_drop_checkpoint(sp_run *run, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    char *full = NULL;
    if (path[0] && !run->recipe.keep_checkpoints) {
        SPAR_TRY(sp_run_path(run, path, &full, err));
        SPAR_TRY(forget_checkpoint(run, path, err));
        SPAR_TRY(sp_dir_remove(full, err));
    }
done:
    free(full);
    return status;
}
