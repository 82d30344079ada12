#include "play/problems.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "eval/dataset.h"
#include "text/conversation.h"

/* Purposes of random streams of a run: one number each. */
enum { STREAM_TASKS = 1, STREAM_SPLIT = 2, STREAM_FRESH = 3 };

void sp_problems_release(sp_problems *p) {
    for (size_t i = 0; i < p->n; i++) {
        json_decref(p->items[i].conversation);
        free(p->items[i].reference);
        free(p->items[i].prompt_ids);
        free(p->items[i].reference_ids);
    }
    free(p->items);
    spar_tasks_free(p->tasks);
    memset(p, 0, sizeof *p);
}

/* ---- storing ---- */

static spar_status store_problem(sp_run *run, sp_problem *p, const char *set, spar_error *err) {
    char *text = json_dumps(p->conversation, JSON_COMPACT);
    sp_rundb_prompt row = {.set = set,
                           .family = p->family,
                           .messages = text,
                           .reference = p->reference,
                           .key = p->task ? p->task->key : NULL};
    spar_status status = text ? sp_rundb_put_prompt(run->db, &row, &p->id, err)
                              : spar_fail(err, SPAR_NO_MEMORY, "out of memory for a prompt");
    free(text);
    return status;
}

typedef struct check_context {
    sp_problems *problems;
    size_t at;
    const char *set;
} check_context;

static spar_status check_problem(void *context, const sp_rundb_prompt *row, spar_error *err) {
    check_context *c = context;
    if (c->at >= c->problems->n) {
        return SPAR_OK; /* problems made later, for fresh iterations */
    }
    sp_problem *p = &c->problems->items[c->at++];
    char *text = json_dumps(p->conversation, JSON_COMPACT);
    bool same = text && strcmp(text, row->messages) == 0 && row->reference &&
                strcmp(row->reference, p->reference) == 0;
    free(text);
    if (!same) {
        return spar_fail(err, SPAR_MISMATCH,
                         "%s set, problem %zu: differs from the one that the run began with (was "
                         "the data file changed?)",
                         c->set, c->at);
    }
    p->id = row->id;
    return SPAR_OK;
}

static spar_status settle(sp_run *run, sp_set set, bool store, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_problems *p = &run->sets[set];
    if (!store) {
        check_context context = {p, 0, sp_set_names[set]};
        SPAR_TRY(sp_rundb_each_prompt(run->db, sp_set_names[set], check_problem, &context, err));
        if (context.at != p->n) {
            SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                               "%s set: expected %zu problems, found %zu in "
                               "run.db",
                               sp_set_names[set], p->n, context.at));
        }
        goto done;
    }
    for (size_t i = 0; i < p->n; i++) {
        SPAR_TRY(store_problem(run, &p->items[i], sp_set_names[set], err));
    }
done:
    return status;
}

/* Problems of a fresh iteration take consecutive ids; the stage keeps the first. */
static spar_status store_fresh(sp_run *run, int64_t stage, sp_problems *p, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_rundb_begin(run->db, err));
    for (size_t i = 0; i < p->n; i++) {
        SPAR_TRY(store_problem(run, &p->items[i], "train", err));
    }
    SPAR_TRY(sp_run_put_value(run, stage, "first_problem", (double)p->items[0].id, err));
    SPAR_TRY(sp_rundb_put_phase(run->db, stage, "problems", 1, 1, err));
    SPAR_TRY(sp_rundb_commit(run->db, err));
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(run->db);
    }
    return status;
}

static spar_status recall_fresh(sp_run *run, int64_t stage, sp_problems *p, spar_error *err) {
    double first;
    spar_status status = sp_run_get_value(run, stage, "first_problem", 0, &first, err);
    for (size_t i = 0; i < p->n; i++) {
        p->items[i].id = (int64_t)first + (int64_t)i;
    }
    return status;
}

/* ---- making ---- */

/* The text of a response: its content, or, where there is more to it, what the chat template writes
 * of it, as a sample's ids are read. */
static spar_status reference_text(const sp_run *run, sp_problem *p, const json_t *response,
                                  spar_error *err) {
    const char *text = sp_message_text(response);
    size_t n;
    return text ? sp_mem_strdup(&p->reference, text, strlen(text), err)
                : spar_tokenizer_decode(spar_model_tokenizer(run->model), p->reference_ids,
                                        p->n_reference, true, &p->reference, &n, err);
}

static spar_status tokenize(sp_run *run, sp_problem *p, const json_t *response, spar_error *err) {
    spar_status status = SPAR_OK;
    if (json_is_array(response)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "expected a response of one message, as the model samples it, found %zu",
                           json_array_size(response)));
    }
    SPAR_TRY(sp_model_turn(run->model, p->conversation, response, &p->prompt_ids, &p->n_prompt,
                           &p->reference_ids, &p->n_reference, err));
    SPAR_TRY(reference_text(run, p, response, err));
    if ((int64_t)(p->n_prompt + p->n_reference) > spar_model_context(run->model)) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT,
                           "a prompt of %zu tokens with its response of %zu is longer than the "
                           "model's context of %lld",
                           p->n_prompt, p->n_reference, (long long)spar_model_context(run->model)));
    }
done:
    return status;
}

static json_t *task_messages(const sp_run *run, const char *prompt) {
    json_t *messages = json_array();
    if (run->recipe.data.system) {
        json_array_append_new(messages, sp_message("system", run->recipe.data.system));
    }
    json_array_append_new(messages, sp_message("user", prompt));
    return messages;
}

static spar_status allocate(sp_problems *p, size_t n, spar_error *err) {
    void *memory;
    spar_status status = sp_mem_calloc(&memory, n, sizeof *p->items, err);
    if (status == SPAR_OK) {
        p->items = memory;
    }
    return status;
}

static spar_status from_tasks(sp_run *run, sp_problems *p, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t n = spar_tasks_count(p->tasks);
    SPAR_TRY(allocate(p, n, err));
    for (size_t i = 0; i < n; i++) {
        sp_problem *problem = &p->items[p->n++];
        problem->task = spar_tasks_at(p->tasks, i);
        problem->family = spar_family_name(problem->task->family);
        problem->conversation = task_messages(run, problem->task->prompt);
        json_t *answer = sp_message("assistant", problem->task->answer);
        status = tokenize(run, problem, answer, err);
        json_decref(answer);
        SPAR_TRY(status);
    }
done:
    return status;
}

static spar_status make_tasks(sp_run *run, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_recipe_data *data = &run->recipe.data;
    const int64_t sizes[SP_SETS] = {data->train, data->gate, data->report};
    const spar_task_set *before[SP_SETS];
    for (int i = 0; i < SP_SETS; i++) {
        uint64_t seed = sp_rng_stream(run->seed, STREAM_TASKS, (uint64_t)i, 0);
        SPAR_TRY(spar_tasks_generate(&run->sets[i].tasks, data->families.items, data->families.n,
                                     (size_t)sizes[i], seed, before, (size_t)i, err));
        before[i] = run->sets[i].tasks;
        SPAR_TRY(from_tasks(run, &run->sets[i], err));
    }
done:
    return status;
}

/* Rows of a file in a seeded order: rows with equal prompts stay in one set. */
static spar_status add_row(sp_run *run, sp_problems *p, const sp_dataset_row *row,
                           spar_error *err) {
    spar_status status = SPAR_OK;
    sp_problem *problem = &p->items[p->n++];
    problem->family = "data";
    json_t *messages = json_copy((json_t *)(uintptr_t)sp_conversation_messages(row->prompt));
    if (run->recipe.data.system) {
        json_array_insert_new(messages, 0, sp_message("system", run->recipe.data.system));
    }
    problem->conversation = sp_conversation_with(row->prompt, messages);
    SPAR_TRY(tokenize(run, problem, row->response, err));
done:
    if (status != SPAR_OK) {
        spar_error_context(err, "%s", row->where);
    }
    return status;
}

/* Keep the first row of each prompt: duplicates would leak from one set into another. */
static spar_status drop_duplicates(const sp_dataset *data, uint32_t *order, size_t *n,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *seen = json_object();
    char *text = NULL;
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        free(text);
        text = json_dumps(data->rows[order[i]].prompt, JSON_COMPACT);
        const bool known = text && json_object_get(seen, text);
        if (!text || (!known && json_object_set_new(seen, text, json_true()) != 0)) {
            SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for the data file"));
        }
        if (!known) {
            order[kept++] = order[i];
        }
    }
    *n = kept;
done:
    free(text);
    json_decref(seen);
    return status;
}

static spar_status make_from_file(sp_run *run, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_recipe_data *recipe = &run->recipe.data;
    const int64_t wanted[SP_SETS] = {recipe->train, recipe->gate, recipe->report};
    sp_dataset *data = NULL;
    uint32_t *order = NULL;
    void *memory;
    SPAR_TRY(sp_dataset_load(&data, recipe->file, err));
    sp_run_log(run, "data: %s: %zu rows, %s", recipe->file, data->n, data->layout);
    size_t n = data->n;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *order, err));
    order = memory;
    sp_rng_shuffle(run->seed, sp_rng_stream(STREAM_SPLIT, 0, 0, 0), order, (uint32_t)n);
    SPAR_TRY(drop_duplicates(data, order, &n, err));
    int64_t total = wanted[SP_SET_GATE] + wanted[SP_SET_REPORT];
    if ((int64_t)n <= total) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "%s: expected more than %lld different prompts (the gate and report "
                           "sets), found %zu",
                           recipe->file, (long long)total, n));
    }
    size_t at = 0;
    for (int i = SP_SETS - 1; i >= 0; i--) { /* held-out sets first, training takes what is left */
        size_t take = n - at < (size_t)wanted[i] ? n - at : (size_t)wanted[i];
        SPAR_TRY(allocate(&run->sets[i], take, err));
        for (size_t k = 0; k < take; k++) {
            SPAR_TRY(add_row(run, &run->sets[i], &data->rows[order[at++]], err));
        }
    }
done:
    free(order);
    sp_dataset_free(data);
    return status;
}

spar_status sp_problems_make(sp_run *run, bool store, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(run->recipe.data.file ? make_from_file(run, err) : make_tasks(run, err));
    for (int i = 0; i < SP_SETS; i++) {
        SPAR_TRY(settle(run, (sp_set)i, store, err));
    }
done:
    return status;
}

spar_status sp_run_fresh_problems(sp_run *run, int64_t stage, const sp_arm *arm, int64_t iteration,
                                  sp_problems *out, spar_error *err) {
    spar_status status = SPAR_OK;
    bool stored;
    /* held-out sets are excluded with their keys; contents of the training set may come back */
    const spar_task_set *others[] = {run->sets[SP_SET_GATE].tasks, run->sets[SP_SET_REPORT].tasks};
    const sp_recipe_data *data = &run->recipe.data;
    uint64_t name = arm->from ? 1 : 0; /* arms that start from one model get the same problems */
    for (const char *c = arm->from ? arm->from : arm->name; *c; c++) {
        name = sp_rng_stream(name, (unsigned char)*c, 0, 0);
    }
    memset(out, 0, sizeof *out);
    SPAR_TRY(spar_tasks_generate(
        &out->tasks, data->families.items, data->families.n, (size_t)arm->fresh,
        sp_rng_stream(run->seed, STREAM_FRESH, name, (uint64_t)iteration), others, 2, err));
    SPAR_TRY(from_tasks(run, out, err));
    SPAR_TRY(sp_run_phase_done(run, stage, "problems", &stored, err));
    SPAR_TRY(stored ? recall_fresh(run, stage, out, err) : store_fresh(run, stage, out, err));
done:
    if (status != SPAR_OK) {
        sp_problems_release(out);
    }
    return status;
}
