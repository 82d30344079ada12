/* The batching scheduler.
 *
 * Cache rows are laid out once: first the opening that all prompts share, then one slot a live
 * prompt (the rest of the prompt), then one slot a live response. A step runs the newly admitted
 * prompts and one token of every live response as one packed batch, samples one token a response,
 * and retires what has ended; freed slots are filled before the next step. With lookup, guessed
 * tokens follow the one of a response, and a step samples on as long as it samples the guess.
 */
#include "spar/generate.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "generate/lookup.h"
#include "generate/sampler.h"
#include "model/engine.h"

const spar_option spar_sampling_options[] = {SPAR_SAMPLING_ROWS(spar_sampling, ), {0}};

const char *spar_finish_name(spar_finish finish) {
    return finish == SPAR_FINISH_STOP ? "stop" : "length";
}

/* A prompt whose keys are in the cache and whose responses are not all done. */
typedef struct live_prompt {
    size_t prompt;     /* index; SIZE_MAX: free slot */
    int started, done; /* responses */
    bool fresh;        /* admitted in this step: its rows are still to be computed */
    int segment;       /* of the current batch */
    int64_t last_row;  /* of the current batch, while fresh */
    float *first;      /* owned: logits after the prompt, [vocab]; kept until all have started */
} live_prompt;

typedef struct live_response {
    int slot; /* of its live_prompt; -1: free */
    int sample;
    size_t capacity;
    spar_response *out; /* borrowed */
    int64_t logits_row; /* in the step's logits; with guesses, those of the next follow */
    int n_guess, n_right;
    int32_t guess[SP_LOOKUP_MAX];
    sp_str text; /* decoded so far, for stop strings */
} live_response;

typedef struct scheduler {
    spar_model *model;
    const spar_prompt *prompts;
    const spar_sampling *sampling;
    const spar_generate_hooks *hooks;
    spar_response *responses;
    size_t n_prompts, next_prompt, n_done;
    int samples;
    size_t shared;         /* tokens of the common opening, in the cache from row 0 */
    size_t longest;        /* rows of a prompt slot */
    int64_t response_rows; /* rows of a response slot */
    int n_prompt_slots, n_response_slots;
    live_prompt *live_prompts;     /* owned */
    live_response *live_responses; /* owned */
    sp_kv_cache cache;
    sp_pass *pass;
    sp_batch batch;
    int64_t *rows;        /* owned: batch rows whose logits are wanted */
    float *logits;        /* owned, [.., vocab] */
    sp_sampler *samplers; /* owned, one a worker */
    spar_error *worker_errors;
    int n_workers;
    int *todo; /* owned: response slots that draw in this step */
    int n_todo;
    double tokens;
    double begun; /* sp_now */
} scheduler;

static size_t common_opening(const spar_prompt *prompts, size_t n) {
    size_t shared = prompts[0].n - 1; /* every prompt keeps a token of its own */
    for (size_t i = 1; i < n; i++) {
        size_t j = 0;
        while (j < shared && j < prompts[i].n - 1 && prompts[i].ids[j] == prompts[0].ids[j]) {
            j++;
        }
        shared = j;
    }
    return n > 1 ? shared : 0;
}

static int64_t prompt_row(const scheduler *s, int slot) {
    return (int64_t)(s->shared + (size_t)slot * s->longest);
}

static int64_t response_row(const scheduler *s, int slot) {
    return prompt_row(s, s->n_prompt_slots) + (int64_t)slot * s->response_rows;
}

static spar_status check_prompts(const scheduler *s, spar_error *err) {
    for (size_t i = 0; i < s->n_prompts; i++) {
        const spar_prompt *p = &s->prompts[i];
        if (p->n == 0 || (int64_t)p->n >= spar_model_context(s->model)) {
            return spar_fail(err, SPAR_LIMIT,
                             "prompt %zu: expected 1 to %lld tokens (the context less one), found "
                             "%zu",
                             i, (long long)spar_model_context(s->model) - 1, p->n);
        }
    }
    return SPAR_OK;
}

static spar_status make_slots(scheduler *s, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    size_t total = s->n_prompts * (size_t)s->samples;
    s->n_response_slots =
        (int)(total < (size_t)s->sampling->batch ? total : (size_t)s->sampling->batch);
    s->n_prompt_slots = s->n_response_slots;
    for (size_t i = 0; i < s->n_prompts; i++) {
        size_t n = s->prompts[i].n - s->shared;
        s->longest = n > s->longest ? n : s->longest;
    }
    int64_t context = spar_model_context(s->model);
    s->response_rows =
        s->sampling->max_new_tokens < context ? s->sampling->max_new_tokens : context;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)s->n_prompt_slots, sizeof *s->live_prompts, err));
    s->live_prompts = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)s->n_response_slots, sizeof *s->live_responses, err));
    s->live_responses = memory;
    for (int i = 0; i < s->n_response_slots; i++) {
        s->live_prompts[i].prompt = SIZE_MAX;
        s->live_responses[i].slot = -1;
    }
    size_t slots = (size_t)(s->n_prompt_slots + s->n_response_slots);
    SPAR_TRY(sp_mem_calloc(&memory, slots, sizeof *s->todo, err));
    s->todo = memory;
    const size_t rows = slots + (size_t)(s->n_response_slots * s->sampling->lookup);
    SPAR_TRY(sp_mem_calloc(&memory, rows, sizeof *s->rows, err));
    s->rows = memory;
    SPAR_TRY(sp_mem_aligned(&memory, rows * (size_t)s->model->config.vocab, sizeof(float), err));
    s->logits = memory;
    s->n_workers = sp_pool_threads(s->model->pool);
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)s->n_workers, sizeof *s->samplers, err));
    s->samplers = memory;
    for (int i = 0; i < s->n_workers; i++) {
        s->samplers[i].exp_sum = s->model->backend->ops->exp_sum;
    }
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)s->n_workers, sizeof *s->worker_errors, err));
    s->worker_errors = memory;
    SPAR_TRY(sp_kv_cache_init(&s->cache, s->model, response_row(s, s->n_response_slots), err));
    SPAR_TRY(sp_pass_create(&s->pass, s->model, SP_PASS_INFER, err));
done:
    return status;
}

static void release(scheduler *s) {
    for (int i = 0; s->live_responses && i < s->n_response_slots; i++) {
        sp_str_release(&s->live_responses[i].text);
    }
    for (int i = 0; s->live_prompts && i < s->n_prompt_slots; i++) {
        free(s->live_prompts[i].first);
    }
    for (int i = 0; s->samplers && i < s->n_workers; i++) {
        sp_sampler_release(&s->samplers[i]);
    }
    free(s->live_prompts);
    free(s->live_responses);
    free(s->rows);
    free(s->todo);
    free(s->logits);
    free(s->samplers);
    free(s->worker_errors);
    sp_kv_cache_release(&s->cache);
    sp_pass_free(s->pass);
    sp_batch_release(&s->batch);
}

/* The common opening goes through the model once, on its own. */
static spar_status prefill_shared(scheduler *s, spar_error *err) {
    spar_status status = SPAR_OK;
    if (s->shared > 0) {
        SPAR_TRY(sp_batch_add_cached(&s->batch, -1, s->prompts[0].ids, s->shared, 0,
                                     (int32_t)s->shared, 0, NULL, err));
        SPAR_TRY(sp_pass_forward(s->pass, &s->batch, &s->cache, err));
    }
done:
    return status;
}

/* Prompts are admitted up to this many new rows a step, so that live responses are not held up. */
enum { PREFILL_ROWS = 512 };

static void admit_prompts(scheduler *s) {
    int free_responses = 0;
    for (int i = 0; i < s->n_response_slots; i++) {
        free_responses += s->live_responses[i].slot < 0;
    }
    size_t rows = 0;
    for (int i = 0; i < s->n_prompt_slots; i++) {
        live_prompt *p = &s->live_prompts[i];
        if (p->prompt != SIZE_MAX) {
            free_responses -= s->samples - p->started;
            continue;
        }
        if (s->next_prompt == s->n_prompts || free_responses <= 0 || rows >= PREFILL_ROWS) {
            continue;
        }
        *p = (live_prompt){.prompt = s->next_prompt++, .fresh = true, .first = p->first};
        rows += s->prompts[p->prompt].n - s->shared;
        free_responses -= s->samples;
    }
}

/* Guesses fit the slot's rows, the response's length and the context. */
static void make_guess(scheduler *s, live_response *r, const spar_prompt *prompt) {
    const spar_response *out = r->out;
    const int64_t context = spar_model_context(s->model) - (int64_t)prompt->n;
    const int64_t room =
        (context < s->response_rows ? context : s->response_rows) - (int64_t)out->n;
    const int64_t most = s->sampling->lookup < room ? s->sampling->lookup : room;
    r->n_right = 0;
    r->n_guess =
        most > 0 ? (int)sp_lookup(prompt->ids, prompt->n, out->ids, out->n, (size_t)most, r->guess)
                 : 0;
}

static spar_status add_response(scheduler *s, int slot, int64_t *n_rows, spar_error *err) {
    spar_status status = SPAR_OK;
    live_response *r = &s->live_responses[slot];
    const live_prompt *p = &s->live_prompts[r->slot];
    const spar_prompt *prompt = &s->prompts[p->prompt];
    const size_t n = r->out->n; /* tokens so far; the newest is not in the cache yet */
    int32_t ids[1 + SP_LOOKUP_MAX] = {r->out->ids[n - 1]};
    make_guess(s, r, prompt);
    const size_t more = (size_t)r->n_guess;
    memcpy(ids + 1, r->guess, more * sizeof *ids);
    SPAR_TRY(sp_batch_add_cached(&s->batch, p->segment, ids, 1 + more, response_row(s, slot),
                                 (int32_t)(n + more), (int32_t)prompt->n, NULL, err));
    r->logits_row = *n_rows;
    for (size_t i = 0; i <= more; i++) {
        s->rows[(*n_rows)++] = (int64_t)(s->batch.n_tokens - 1 - more + i);
    }
done:
    return status;
}

static spar_status build_batch(scheduler *s, int64_t *n_rows, spar_error *err) {
    spar_status status = SPAR_OK;
    int root = -1;
    sp_batch_clear(&s->batch);
    *n_rows = 0;
    if (s->shared > 0) {
        SPAR_TRY(sp_batch_add_cached(&s->batch, -1, NULL, 0, 0, (int32_t)s->shared, 0, &root, err));
    }
    for (int i = 0; i < s->n_prompt_slots; i++) {
        live_prompt *p = &s->live_prompts[i];
        if (p->prompt == SIZE_MAX) {
            continue;
        }
        const spar_prompt *prompt = &s->prompts[p->prompt];
        size_t own = prompt->n - s->shared;
        SPAR_TRY(sp_batch_add_cached(&s->batch, root, prompt->ids + s->shared, p->fresh ? own : 0,
                                     prompt_row(s, i), (int32_t)own, (int32_t)s->shared,
                                     &p->segment, err));
        if (p->fresh) {
            s->rows[(*n_rows)++] = (int64_t)s->batch.n_tokens - 1;
        }
    }
    for (int i = 0; i < s->n_response_slots; i++) {
        if (s->live_responses[i].slot >= 0) {
            SPAR_TRY(add_response(s, i, n_rows, err));
        }
    }
done:
    return status;
}

/* Keep the logits after a fresh prompt until all its responses have drawn their first token. */
static spar_status keep_first_logits(scheduler *s, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t vocab = (size_t)s->model->config.vocab;
    int64_t row = 0;
    for (int i = 0; i < s->n_prompt_slots; i++) {
        live_prompt *p = &s->live_prompts[i];
        if (p->prompt == SIZE_MAX || !p->fresh) {
            continue;
        }
        if (!p->first) {
            void *memory;
            SPAR_TRY(sp_mem_aligned(&memory, vocab, sizeof(float), err));
            p->first = memory;
        }
        memcpy(p->first, s->logits + (size_t)row++ * vocab, vocab * sizeof(float));
        p->fresh = false;
    }
done:
    return status;
}

static spar_status grow_response(live_response *r, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_response *out = r->out;
    size_t capacity = r->capacity;
    void *memory = out->ids;
    SPAR_TRY(sp_mem_grow(&memory, &r->capacity, out->n + 1, sizeof *out->ids, err));
    out->ids = memory;
    memory = out->logps;
    SPAR_TRY(sp_mem_grow(&memory, &capacity, out->n + 1, sizeof *out->logps, err));
    out->logps = memory;
    r->capacity = capacity < r->capacity ? capacity : r->capacity;
done:
    return status;
}

/* Give free response slots to live prompts that still have responses to start. */
static void start_responses(scheduler *s) {
    int slot = 0;
    for (int i = 0; i < s->n_prompt_slots; i++) {
        live_prompt *p = &s->live_prompts[i];
        while (p->prompt != SIZE_MAX && !p->fresh && p->started < s->samples) {
            while (slot < s->n_response_slots && s->live_responses[slot].slot >= 0) {
                slot++;
            }
            if (slot == s->n_response_slots) {
                return;
            }
            live_response *r = &s->live_responses[slot];
            r->slot = i;
            r->sample = p->started++;
            r->capacity = 0;
            r->out = &s->responses[p->prompt * (size_t)s->samples + (size_t)r->sample];
            r->logits_row = -1;
            r->n_guess = r->n_right = 0;
            sp_str_clear(&r->text);
            s->todo[s->n_todo++] = slot;
        }
    }
}

/* The tokens that the repetition penalty looks at: prompt, then response. */
static spar_status seen_tokens(const spar_prompt *p, const spar_response *r, double penalty,
                               int32_t **out, size_t *n, spar_error *err) {
    *out = NULL;
    *n = 0;
    if (penalty == 1.0) {
        return SPAR_OK;
    }
    void *memory;
    spar_status status = sp_mem_calloc(&memory, p->n + r->n, sizeof **out, err);
    if (status == SPAR_OK) {
        *out = memory;
        memcpy(*out, p->ids, p->n * sizeof **out);
        if (r->n) {
            memcpy(*out + p->n, r->ids, r->n * sizeof **out);
        }
        *n = p->n + r->n;
    }
    return status;
}

static void draw_task(void *context, int task, int worker) {
    scheduler *s = context;
    live_response *r = &s->live_responses[s->todo[task]];
    const live_prompt *p = &s->live_prompts[r->slot];
    const spar_prompt *prompt = &s->prompts[p->prompt];
    size_t vocab = (size_t)s->model->config.vocab;
    const float *logits = r->logits_row < 0 ? p->first : s->logits + (size_t)r->logits_row * vocab;
    uint64_t stream = sp_rng_stream(prompt->key, (uint64_t)r->sample, 0, 0);
    double u = sp_rng_uniform((uint64_t)s->sampling->seed, stream, r->out->n);
    spar_error error = {SPAR_OK, ""};
    int32_t *seen;
    size_t n_seen;
    spar_status status =
        seen_tokens(prompt, r->out, s->sampling->repetition_penalty, &seen, &n_seen, &error);
    if (status == SPAR_OK) {
        status =
            sp_sampler_draw(&s->samplers[worker], logits, (int64_t)vocab, s->sampling, seen, n_seen,
                            u, &r->out->ids[r->out->n], &r->out->logps[r->out->n], &error);
        free(seen);
    }
    if (status != SPAR_OK) {
        s->worker_errors[worker] = error;
    }
}

static bool is_eos(const scheduler *s, int32_t id) {
    int n;
    const int32_t *eos = spar_model_eos(s->model, &n);
    for (int i = 0; i < n; i++) {
        if (eos[i] == id) {
            return true;
        }
    }
    return false;
}

/* Cut the text at the first stop string in it; true when there is one. */
static spar_status find_stop(const scheduler *s, live_response *r, bool *found, spar_error *err) {
    spar_status status = SPAR_OK;
    char *text = NULL;
    *found = false;
    if (s->sampling->stop.n == 0 || !s->model->tokenizer) {
        goto done;
    }
    size_t n;
    SPAR_TRY(
        spar_tokenizer_decode(s->model->tokenizer, r->out->ids, r->out->n, true, &text, &n, err));
    const char *first = NULL;
    for (int i = 0; i < s->sampling->stop.n; i++) {
        const char *at = strstr(text, s->sampling->stop.items[i]);
        if (at && (!first || at < first)) {
            first = at;
        }
    }
    if (first) {
        *found = true;
        sp_str_clear(&r->text);
        sp_str_append(&r->text, text, (size_t)(first - text));
        SPAR_TRY(sp_str_status(&r->text, err));
    }
done:
    free(text);
    return status;
}

static spar_status finish_response(scheduler *s, live_response *r, spar_finish finish,
                                   bool stop_string, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_response *out = r->out;
    out->finish = finish;
    if (stop_string) {
        out->n_text = r->text.len;
        SPAR_TRY(sp_str_take(&r->text, &out->text, err));
    } else if (s->model->tokenizer) {
        SPAR_TRY(spar_tokenizer_decode(s->model->tokenizer, out->ids, out->n, true, &out->text,
                                       &out->n_text, err));
    }
    live_prompt *p = &s->live_prompts[r->slot];
    r->slot = -1;
    if (++p->done == s->samples) {
        p->prompt = SIZE_MAX;
    }
    s->n_done++;
done:
    return status;
}

static spar_status take_token(scheduler *s, live_response *r, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_response *out = r->out;
    const live_prompt *p = &s->live_prompts[r->slot];
    int32_t id = out->ids[out->n++];
    s->tokens += 1;
    if (s->hooks && s->hooks->token) {
        s->hooks->token(s->hooks->context, p->prompt, r->sample, id);
    }
    int64_t length = (int64_t)(s->prompts[p->prompt].n + out->n);
    bool stop_string;
    SPAR_TRY(find_stop(s, r, &stop_string, err));
    if (stop_string || (!s->sampling->ignore_eos && is_eos(s, id))) {
        SPAR_TRY(finish_response(s, r, SPAR_FINISH_STOP, stop_string, err));
    } else if ((int64_t)out->n == s->sampling->max_new_tokens ||
               length >= spar_model_context(s->model)) {
        SPAR_TRY(finish_response(s, r, SPAR_FINISH_LENGTH, false, err));
    }
done:
    return status;
}

static spar_status draw_tokens(scheduler *s, spar_error *err) {
    spar_status status = SPAR_OK;
    for (int i = 0; i < s->n_todo; i++) {
        SPAR_TRY(grow_response(&s->live_responses[s->todo[i]], err));
    }
    sp_pool_run(s->model->pool, s->n_todo, draw_task, s);
    for (int i = 0; i < s->n_workers; i++) {
        if (s->worker_errors[i].code != SPAR_OK) {
            SPAR_TRY(spar_fail(err, s->worker_errors[i].code, "%s", s->worker_errors[i].message));
        }
    }
    for (int i = 0; i < s->n_todo; i++) {
        SPAR_TRY(take_token(s, &s->live_responses[s->todo[i]], err));
    }
done:
    return status;
}

/* Those whose newest token was guessed draw on: the logits after it are there. */
static void draw_on(scheduler *s) {
    const int n = s->n_todo;
    s->n_todo = 0;
    for (int i = 0; i < n; i++) {
        live_response *r = &s->live_responses[s->todo[i]];
        if (r->slot >= 0 && r->n_right < r->n_guess &&
            r->out->ids[r->out->n - 1] == r->guess[r->n_right]) {
            r->n_right++;
            r->logits_row++;
            s->todo[s->n_todo++] = s->todo[i];
        }
    }
}

static void report(const scheduler *s) {
    const double seconds = sp_now() - s->begun;
    spar_progress progress = {.phase = s->hooks && s->hooks->phase ? s->hooks->phase : "sample",
                              .done = (double)s->n_done,
                              .total = (double)(s->n_prompts * (size_t)s->samples),
                              .unit = "responses",
                              .rate = seconds > 0 ? s->tokens / seconds : 0,
                              .detail = ""};
    spar_sink_progress(&s->model->sink, &progress);
}

/* Admit, run, draw. Fresh prompts draw their first tokens in the same step. */
static spar_status step(scheduler *s, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t n_rows;
    admit_prompts(s);
    SPAR_TRY(build_batch(s, &n_rows, err));
    if (n_rows > 0) {
        SPAR_TRY(sp_pass_forward(s->pass, &s->batch, &s->cache, err));
        SPAR_TRY(sp_pass_logits(s->pass, s->rows, n_rows, s->logits, err));
        SPAR_TRY(keep_first_logits(s, err));
    }
    s->n_todo = 0;
    for (int i = 0; i < s->n_response_slots; i++) {
        if (s->live_responses[i].slot >= 0) {
            s->todo[s->n_todo++] = i;
        }
    }
    start_responses(s);
    while (s->n_todo > 0) {
        SPAR_TRY(draw_tokens(s, err));
        draw_on(s);
    }
    report(s);
done:
    return status;
}

spar_status spar_generate(spar_model *model, const spar_prompt *prompts, size_t n_prompts,
                          int samples, const spar_sampling *sampling,
                          const spar_generate_hooks *hooks, spar_response *responses,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    size_t total = n_prompts * (size_t)samples;
    scheduler s = {.model = model,
                   .prompts = prompts,
                   .sampling = sampling,
                   .hooks = hooks,
                   .responses = responses,
                   .n_prompts = n_prompts,
                   .samples = samples};
    memset(responses, 0, total * sizeof *responses);
    sp_batch_init(&s.batch);
    s.begun = sp_now();
    if (total == 0) {
        goto done;
    }
    SPAR_TRY(check_prompts(&s, err));
    s.shared = common_opening(prompts, n_prompts);
    SPAR_TRY(make_slots(&s, err));
    SPAR_TRY(prefill_shared(&s, err));
    while (s.n_done < total) {
        if (hooks && hooks->stop && hooks->stop(hooks->context)) {
            SPAR_TRY(spar_fail(err, SPAR_INTERRUPTED, "sampling was stopped"));
        }
        SPAR_TRY(step(&s, err));
    }
done:
    if (status != SPAR_OK) {
        spar_responses_free(responses, total);
    }
    release(&s);
    return status;
}

void spar_responses_free(spar_response *responses, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(responses[i].ids);
        free(responses[i].logps);
        free(responses[i].text);
        memset(&responses[i], 0, sizeof responses[i]);
    }
}
