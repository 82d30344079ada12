#include "spar/bench.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/backend.h"
#include "backend/probe.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "model/engine.h"
#include "model/lora.h"
#include "play/bench_pairs.h"
#include "spar/generate.h"
#include "train/trainer.h"

/* What a child process measured. */
typedef struct measurement {
    double tokens; /* of a run */
    double tokens_per_s, slowest, fastest, peak_rss_mb;
    double pairs;                 /* of a run; 0: it compares none */
    double bytes;                 /* of the text that was tokenised; 0: none was */
    double weight_bytes;          /* of what a token meets in products */
    double error_mean, error_max; /* of kept log-probs; negative: not measured */
    int64_t matmul_parameters;
    spar_error error;
} measurement;

enum { MAX_RUNS = 15 };

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

static void random_ids(const spar_model *m, uint64_t stream, int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)sp_rng_below(1, stream, i, (uint64_t)spar_model_vocab(m));
    }
}

/* ---- the works: each runs once and gives its tokens ---- */

enum { MAX_SEQUENCES = 64, MAX_RESPONSES = 512, MAX_TOKENS = 1 << 16 };

typedef struct bench_state {
    const spar_bench_options *options;
    bool inference; /* the work does not train */
    spar_model *model;
    sp_trainer *trainer;
    sp_bench_pairs *pairs;
    int32_t *ids; /* owned, [MAX_SEQUENCES, MAX_TOKENS] */
    size_t n_prompt;
    spar_response responses[MAX_RESPONSES]; /* of the last run that sampled; owned */
    int n_responses;
} bench_state;

static int64_t length_of(const bench_state *s, int64_t own) {
    return s->options->tokens > 0 ? s->options->tokens : own;
}

/* A step with AdamW on packed sequences of 256 tokens, all scored. */
static spar_status train_step(bench_state *s, int usual, double *tokens, spar_error *err) {
    spar_status status = SPAR_OK;
    const int asked = s->options->sequences, sequences = asked > 0 ? asked : usual;
    sp_example examples[MAX_SEQUENCES];
    sp_reply replies[MAX_SEQUENCES];
    sp_objective sft;
    sp_step_stats stats;
    const size_t length = (size_t)length_of(s, 256);
    if (!s->trainer) {
        sp_trainer_options options = {.optimizer = "adamw",
                                      .beta1 = 0.9,
                                      .beta2 = 0.999,
                                      .eps = 1e-8,
                                      .alpha = 0.99,
                                      .max_grad_norm = 1,
                                      .recompute = s->options->recompute,
                                      .max_tokens = sequences * (int64_t)length};
        SPAR_TRY(sp_trainer_create(&s->trainer, s->model, &options, err));
    }
    for (int i = 0; i < sequences; i++) {
        int32_t *ids = s->ids + (size_t)i * MAX_TOKENS;
        random_ids(s->model, (uint64_t)i, ids, length);
        replies[i] = (sp_reply){.ids = ids + 1, .n = length - 1};
        examples[i] =
            (sp_example){.prompt = ids, .n_prompt = 1, .replies = &replies[i], .n_replies = 1};
    }
    SPAR_TRY(sp_objective_find(&sft, "sft", err));
    SPAR_TRY(sp_trainer_step(s->trainer, examples, (size_t)sequences, &sft, 1e-6, &stats, err));
    *tokens = (double)stats.tokens;
done:
    return status;
}

/* Full fine-tuning on 4 sequences. */
static spar_status work_train(bench_state *s, double *tokens, spar_error *err) {
    return train_step(s, 4, tokens, err);
}

/* An adapter, on one sequence: of the 6 operations a parameter the two of the weights' gradients
 * are saved. */
static spar_status work_lora(bench_state *s, double *tokens, spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t rank = s->options->lora_rank;
    const sp_lora_settings settings = {
        .rank = rank > 0 ? rank : 16, .alpha = 16, .targets = s->options->lora_targets};
    if (!s->trainer) {
        SPAR_TRY(sp_lora_attach(s->model, &settings, 1, err));
    }
    SPAR_TRY(train_step(s, 1, tokens, err));
done:
    return status;
}

static void drop_responses(bench_state *s) {
    spar_responses_free(s->responses, (size_t)s->n_responses);
    s->n_responses = 0;
}

static spar_status sample(bench_state *s, size_t n_prompt, int samples, int64_t new_tokens,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    spar_sampling sampling;
    SPAR_TRY(spar_options_default(spar_sampling_options, &sampling, err));
    sampling.max_new_tokens = new_tokens;
    sampling.ignore_eos = true;
    sampling.batch = samples;
    random_ids(s->model, 100, s->ids, n_prompt);
    spar_prompt prompt = {.ids = s->ids, .n = n_prompt, .key = 0};
    drop_responses(s);
    SPAR_TRY(spar_generate(s->model, &prompt, 1, samples, &sampling, NULL, s->responses, err));
    s->n_prompt = n_prompt;
    s->n_responses = samples;
done:
    return status;
}

/* 32 responses of one 128-token prompt, 128 new tokens each, temperature 1, log-probs kept. */
static spar_status work_rollout(bench_state *s, double *tokens, spar_error *err) {
    const int responses = s->options->responses > 0 ? s->options->responses : 32;
    const int64_t length = length_of(s, 128);
    *tokens = (double)responses * (double)length;
    return sample(s, 128, responses, length, err);
}

/* One stream: 128 tokens after a prompt of 8. */
static spar_status work_single(bench_state *s, double *tokens, spar_error *err) {
    const int64_t length = length_of(s, 128);
    *tokens = (double)length;
    return sample(s, 8, 1, length, err);
}

/* 512 prompt tokens to the first token; as many as fit where the model takes fewer. */
static spar_status work_prefill(bench_state *s, double *tokens, spar_error *err) {
    int64_t most = spar_model_context(s->model) - 1; /* the first token needs its place */
    size_t n = (size_t)(most < length_of(s, 512) ? most : length_of(s, 512));
    *tokens = (double)n;
    return sample(s, n, 1, 1, err);
}

static spar_status load_model(bench_state *s, spar_dtype dtype, spar_error *err) {
    const spar_model_options options = {.dtype = dtype,
                                        .weights = s->options->weights,
                                        .threads = s->options->threads,
                                        .inference = s->inference,
                                        .layers = s->options->layers};
    spar_model_free(s->model);
    s->model = NULL;
    return spar_model_load(&s->model, s->options->model, &options, err);
}

/* From the files to the first token after a prompt of 8. */
static spar_status work_load(bench_state *s, spar_dtype dtype, double *tokens, spar_error *err) {
    spar_status status = SPAR_OK;
    *tokens = 1;
    SPAR_TRY(load_model(s, dtype, err));
    SPAR_TRY(sample(s, 8, 1, 1, err));
done:
    return status;
}

/* All ordered pairs of 4 candidates, of 400 tokens each. */
static spar_status work_pairrm(bench_state *s, double *tokens, spar_error *err) {
    *tokens = sp_bench_pairs_count(s->pairs) * (double)length_of(s, 400);
    return sp_bench_pairs_run(s->pairs, err);
}

static spar_status open_pairs(bench_state *s, spar_dtype dtype, measurement *out, spar_error *err) {
    const spar_bench_options *o = s->options;
    const spar_model_options options = {.dtype = dtype, .threads = o->threads, .layers = o->layers};
    const size_t candidates = o->responses > 0 ? (size_t)o->responses : 4;
    const spar_status status =
        sp_bench_pairs_open(&s->pairs, &options, length_of(s, 400), candidates, err);
    if (status == SPAR_OK) {
        out->pairs = sp_bench_pairs_count(s->pairs);
        out->matmul_parameters = sp_bench_pairs_parameters(s->pairs);
    }
    return status;
}

/* What a work needs besides a language model. */
typedef enum work_kind { OF_MODEL, OF_TEXT, OF_PAIRS } work_kind;

static const struct work {
    const char *name;
    spar_status (*run)(bench_state *s, double *tokens, spar_error *err);
    double flops_a_parameter; /* 0: bound by memory bandwidth */
    bool named_only;          /* not part of a default run */
    work_kind kind; /* OF_TEXT: the tokenizer alone, and no type; OF_PAIRS: it makes its model */
} works[] = {
    {"train", work_train, 6, false, OF_MODEL},     {"rollout", work_rollout, 2, false, OF_MODEL},
    {"prefill", work_prefill, 2, false, OF_MODEL}, {"single", work_single, 0, false, OF_MODEL},
    {"lora", work_lora, 4, true, OF_MODEL},        {"load", NULL, 0, true, OF_MODEL},
    {"tokenize", NULL, 0, true, OF_TEXT},          {"pairrm", work_pairrm, 2, true, OF_PAIRS}};
enum { N_WORKS = sizeof works / sizeof works[0] };

static double weight_bytes(const spar_model *m, bool half) {
    double bytes = 0;
    for (int i = 0; i < m->params.n; i++) {
        const sp_weight *w = &m->matrices[i];
        if (m->params.items[i].role == SP_EMBED && !m->config.tied) {
            continue;
        }
        bytes += sp_params_share(&m->config, m->params.items[i].role) *
                 (w->blocks ? (double)sp_blocks_bytes(w->blocks)
                            : (double)(w->out * w->in) * (half ? 2 : 4));
    }
    return bytes;
}

/* The log-probs that were kept against those of an f32 pass over the same tokens. */
static spar_status measure_errors(bench_state *s, measurement *out, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = s->options->threads};
    float *logps = NULL;
    void *memory;
    double sum = 0, n = 0;
    spar_model_free(s->model);
    s->model = NULL;
    SPAR_TRY(spar_model_load(&s->model, s->options->model, &options, err));
    SPAR_TRY(sp_mem_calloc(&memory, MAX_TOKENS, sizeof *logps, err));
    logps = memory;
    for (int i = 0; i < s->n_responses; i++) {
        const spar_response *r = &s->responses[i];
        memcpy(s->ids + s->n_prompt, r->ids, r->n * sizeof *r->ids);
        spar_score_row row = {
            .ids = s->ids, .n = s->n_prompt + r->n, .first = s->n_prompt, .logps = logps};
        SPAR_TRY(spar_model_score(s->model, &row, 1, err));
        for (size_t k = 0; k < r->n; k++, n++) {
            const double d = fabs((double)r->logps[k] - (double)logps[k]);
            sum += d;
            out->error_max = d > out->error_max ? d : out->error_max;
        }
    }
    out->error_mean = sum / n;
done:
    free(logps);
    return status;
}

static spar_status run_work(bench_state *s, const struct work *work, spar_dtype dtype,
                            double *tokens, spar_error *err) {
    return work->run ? work->run(s, tokens, err) : work_load(s, dtype, tokens, err);
}

static void put_rates(measurement *out, double *rates, int n) {
    struct rusage usage;
    out->tokens_per_s = median(rates, n); /* which sorts them */
    out->slowest = rates[0];
    out->fastest = rates[n - 1];
    getrusage(RUSAGE_SELF, &usage);
    out->peak_rss_mb = (double)usage.ru_maxrss / 1024;
}

/* Encode each line of the text; *tokens of all. */
static spar_status tokenize_lines(const spar_tokenizer *t, const char *text, size_t n,
                                  double *tokens, spar_error *err) {
    spar_status status = SPAR_OK;
    *tokens = 0;
    for (size_t at = 0; at < n;) {
        const char *newline = memchr(text + at, '\n', n - at);
        const size_t end = newline ? (size_t)(newline - text) : n;
        int32_t *ids;
        size_t n_ids;
        SPAR_TRY(spar_tokenizer_encode(t, text + at, end - at, SPAR_TOKENIZE_NO_SPECIAL, &ids,
                                       &n_ids, err));
        free(ids);
        *tokens += (double)n_ids;
        at = end + 1;
    }
done:
    return status;
}

/* A run encodes the whole text. */
static spar_status measure_text(const spar_bench_options *o, measurement *out, spar_error *err) {
    enum { MAX_TEXT = 1 << 28 };
    spar_status status = SPAR_OK;
    spar_tokenizer *t = NULL;
    char *text = NULL;
    size_t n;
    double rates[MAX_RUNS];
    if (!o->text) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "expected --text FILE, found none"));
    }
    SPAR_TRY(sp_file_read(o->text, MAX_TEXT, &text, &n, err));
    SPAR_TRY(spar_vocab_load(&t, o->model, err));
    SPAR_TRY(tokenize_lines(t, text, n, &out->tokens, err)); /* the first run also meets words */
    for (int i = 0; i < o->runs; i++) {
        const double begun = sp_now();
        SPAR_TRY(tokenize_lines(t, text, n, &out->tokens, err));
        rates[i] = out->tokens / (sp_now() - begun);
    }
    out->bytes = (double)n;
    put_rates(out, rates, o->runs);
done:
    spar_tokenizer_free(t);
    free(text);
    return status;
}

static spar_status open_model(bench_state *s, spar_dtype dtype, measurement *out, spar_error *err) {
    const spar_status status = load_model(s, dtype, err);
    if (status == SPAR_OK) {
        out->matmul_parameters = spar_model_matmul_parameters(s->model);
        /* Emulated bf16 reads the weights as the f32 numbers that they round to. */
        out->weight_bytes =
            weight_bytes(s->model, dtype == SPAR_DTYPE_BF16 && sp_backend_has_bf16());
    }
    return status;
}

static spar_status measure(const spar_bench_options *o, const struct work *work, spar_dtype dtype,
                           measurement *out, spar_error *err) {
    spar_status status = SPAR_OK;
    static bench_state s; /* of this process, which measures once */
    double rates[MAX_RUNS];
    double tokens;
    void *memory;
    s.options = o;
    s.inference = work->flops_a_parameter <= 2;
    out->error_mean = out->error_max = -1;
    if (work->kind == OF_TEXT) {
        return measure_text(o, out, err);
    }
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)MAX_SEQUENCES * MAX_TOKENS, sizeof *s.ids, err));
    s.ids = memory;
    SPAR_TRY(work->kind == OF_PAIRS ? open_pairs(&s, dtype, out, err)
                                    : open_model(&s, dtype, out, err));
    /* the first run also makes buffers and primitives */
    SPAR_TRY(run_work(&s, work, dtype, &tokens, err));
    for (int i = 0; i < o->runs; i++) {
        double begun = sp_now();
        SPAR_TRY(run_work(&s, work, dtype, &tokens, err));
        rates[i] = tokens / (sp_now() - begun);
    }
    out->tokens = tokens;
    put_rates(out, rates, o->runs);
    if (work->run == work_rollout && !o->no_limits &&
        (dtype != SPAR_DTYPE_F32 || o->weights >= SPAR_WEIGHTS_FILE)) {
        SPAR_TRY(measure_errors(&s, out, err));
    }
done:
    drop_responses(&s);
    sp_trainer_free(s.trainer);
    sp_bench_pairs_free(s.pairs);
    spar_model_free(s.model);
    free(s.ids);
    return status;
}

/* Run a row in a process of its own and read what it measured from a pipe. */
static spar_status measure_apart(const spar_bench_options *o, const struct work *work,
                                 spar_dtype dtype, measurement *out, spar_error *err) {
    int ends[2];
    fflush(NULL);
    if (pipe(ends) != 0) {
        return spar_fail(err, SPAR_IO, "a pipe cannot be made");
    }
    pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return spar_fail(err, SPAR_IO, "a process cannot be started");
    }
    if (child == 0) {
        measurement m = {0};
        measure(o, work, dtype, &m, &m.error);
        _exit(write(ends[1], &m, sizeof m) == (ssize_t)sizeof m ? 0 : 1);
    }
    close(ends[1]);
    memset(out, 0, sizeof *out);
    size_t got = 0;
    while (got < sizeof *out) {
        ssize_t n = read(ends[0], (char *)out + got, sizeof *out - got);
        if (n <= 0) {
            break;
        }
        got += (size_t)n;
    }
    close(ends[0]);
    waitpid(child, NULL, 0);
    if (got != sizeof *out) {
        return spar_fail(err, SPAR_INTERNAL, "%s: the measuring process died", work->name);
    }
    if (out->error.code != SPAR_OK) {
        return spar_fail(err, out->error.code, "%s: %s", work->name, out->error.message);
    }
    return SPAR_OK;
}

static bool listed(const spar_option_list *list, const char *name) {
    for (int i = 0; i < list->n; i++) {
        if (strcmp(list->items[i], name) == 0) {
            return true;
        }
    }
    return list->n == 0;
}

static spar_status unknown_name(const char *name, const char *what, const char *const *known,
                                int n_known, spar_error *err) {
    sp_str names = SP_STR_INIT;
    for (int i = 0; i < n_known; i++) {
        sp_str_printf(&names, "%s%s", i ? ", " : "", known[i]);
    }
    const spar_status status = spar_fail(err, SPAR_INVALID, "--%s: expected %s, found '%s'", what,
                                         sp_str_get(&names), name);
    sp_str_release(&names);
    return status;
}

static spar_status check_names(const spar_option_list *list, const char *what,
                               const char *const *known, int n_known, spar_error *err) {
    for (int i = 0; i < list->n; i++) {
        bool found = false;
        for (int k = 0; k < n_known; k++) {
            found = found || strcmp(list->items[i], known[k]) == 0;
        }
        if (!found) {
            return unknown_name(list->items[i], what, known, n_known, err);
        }
    }
    return SPAR_OK;
}

static const struct dtype {
    const char *name;
    spar_dtype dtype;
    int peak;     /* of the machine's figures */
    double share; /* of that peak */
    bool named_only, trains;
} dtypes[] = {{"f32", SPAR_DTYPE_F32, 0, 1, false, true},
              {"bf16", SPAR_DTYPE_BF16, 1, 1, false, true},
              {"int8", SPAR_DTYPE_INT8, 2, 1, true, false},
              {"int16", SPAR_DTYPE_INT16, 2, 0.5, true, false}};
enum { N_DTYPES = sizeof dtypes / sizeof dtypes[0] };

typedef struct row {
    const struct work *work;
    int dtype; /* index of dtypes */
    measurement measured;
} row;

typedef struct machine {
    double gemm[3], bandwidth; /* GFLOP/s in f32, bf16, int8; GB/s */
    int cores;
} machine;

static spar_status probe_machine(const spar_bench_options *o, machine *m, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_pool *pool = NULL;
    spar_sink_log(o->sink, SPAR_LOG_INFO, "measuring the machine's limits");
    SPAR_TRY(sp_pool_create(&pool, o->threads, err));
    m->cores = sp_pool_threads(pool);
    SPAR_TRY(sp_probe_gemm(SP_PROBE_F32, pool, &m->gemm[0], err));
    SPAR_TRY(sp_probe_gemm(SP_PROBE_BF16, pool, &m->gemm[1], err));
    SPAR_TRY(sp_probe_gemm(SP_PROBE_INT8, pool, &m->gemm[2], err));
    SPAR_TRY(sp_probe_bandwidth(pool, &m->bandwidth, err));
done:
    sp_pool_free(pool);
    return status;
}

static const char *type_name(const row *r) {
    return r->work->kind == OF_TEXT ? "-" : dtypes[r->dtype].name;
}

/* Whether a work is to be measured in type d; one of text once, by the first. */
static bool wanted(const spar_bench_options *o, const struct work *work, int d) {
    if (!listed(&o->works, work->name) || (work->named_only && o->works.n == 0)) {
        return false;
    }
    if (work->kind == OF_TEXT) {
        return d == 0;
    }
    return listed(&o->dtypes, dtypes[d].name) && !(dtypes[d].named_only && o->dtypes.n == 0) &&
           (dtypes[d].trains || (work->flops_a_parameter <= 2 && work->kind == OF_MODEL));
}

static spar_status measure_rows(const spar_bench_options *o, row *rows, int *n, spar_error *err) {
    spar_status status = SPAR_OK;
    *n = 0;
    for (int d = 0; d < N_DTYPES; d++) {
        for (int w = 0; w < N_WORKS; w++) {
            row *r = &rows[*n];
            if (!wanted(o, &works[w], d)) {
                continue;
            }
            *r = (row){.work = &works[w], .dtype = d};
            spar_sink_log(o->sink, SPAR_LOG_INFO, "measuring %s, %s", works[w].name, type_name(r));
            SPAR_TRY(measure_apart(o, r->work, dtypes[d].dtype, &r->measured, err));
            (*n)++;
        }
    }
done:
    return status;
}

static void put_limit(json_t *json, const row *r, const machine *m) {
    const struct dtype *type = &dtypes[r->dtype];
    const measurement *got = &r->measured;
    const double flops = r->work->flops_a_parameter * (double)got->matmul_parameters;
    const double limit = flops > 0 ? m->gemm[type->peak] * type->share * 1e9 / flops
                                   : m->bandwidth * 1e9 / got->weight_bytes;
    json_object_set_new(json, "limit_tokens_per_s", json_real(limit));
    json_object_set_new(json, "share_of_limit", json_real(got->tokens_per_s / limit));
}

static json_t *row_json(const row *r, const machine *m) {
    const measurement *got = &r->measured;
    json_t *json =
        json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f}", "work", r->work->name, "dtype",
                  type_name(r), "tokens_per_s", got->tokens_per_s, "peak_rss_mb", got->peak_rss_mb,
                  "slowest", got->slowest, "fastest", got->fastest, "tokens", got->tokens);
    if (r->work->kind == OF_TEXT) {
        json_object_set_new(json, "mb_per_s",
                            json_real(1e-6 * got->bytes * got->tokens_per_s / got->tokens));
        return json;
    }
    if (m) {
        put_limit(json, r, m);
    }
    if (!r->work->run) {
        json_object_set_new(json, "seconds", json_real(1 / got->tokens_per_s));
    }
    if (got->pairs > 0) {
        json_object_set_new(json, "pairs_per_s",
                            json_real(got->pairs * got->tokens_per_s / got->tokens));
    }
    if (got->error_mean >= 0) {
        json_object_set_new(json, "logprob_error_mean", json_real(got->error_mean));
        json_object_set_new(json, "logprob_error_max", json_real(got->error_max));
    }
    return json;
}

/* m NULL: without limits. */
static json_t *bench_json(const machine *m, const row *rows, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(list, row_json(&rows[i], m));
    }
    json_t *root = json_pack("{s:o}", "rows", list);
    if (m) {
        json_object_set_new(root, "machine",
                            json_pack("{s:{s:f, s:f, s:f}, s:f, s:i}", "gemm_gflops", "f32",
                                      m->gemm[0], "bf16", m->gemm[1], "int8", m->gemm[2],
                                      "bandwidth_gbs", m->bandwidth, "cores", m->cores));
    }
    return root;
}

/* The rows come first: a process that is forked starts with its parent's memory, and the probe
 * leaves some behind. */
spar_status spar_bench(json_t **out, const spar_bench_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_bench_options o = *options;
    const char *work_names[N_WORKS], *dtype_names[N_DTYPES];
    row rows[N_WORKS * N_DTYPES];
    int n;
    machine m;
    o.runs = o.runs < 1 ? 1 : o.runs > MAX_RUNS ? MAX_RUNS : o.runs;
    for (int i = 0; i < N_WORKS; i++) {
        work_names[i] = works[i].name;
    }
    for (int i = 0; i < N_DTYPES; i++) {
        dtype_names[i] = dtypes[i].name;
    }
    SPAR_TRY(check_names(&o.works, "work", work_names, N_WORKS, err));
    SPAR_TRY(check_names(&o.dtypes, "dtype", dtype_names, N_DTYPES, err));
    SPAR_TRY(measure_rows(&o, rows, &n, err));
    if (n == 0) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "--dtype: none of these works runs in it"));
    }
    if (!o.no_limits) {
        SPAR_TRY(probe_machine(&o, &m, err));
    }
    *out = bench_json(o.no_limits ? NULL : &m, rows, n);
    if (!*out) {
        status = spar_fail(err, SPAR_NO_MEMORY, "out of memory for the figures");
    }
done:
    return status;
}

bool spar_bench_needs_model(const spar_bench_options *options) {
    bool needs = options->works.n == 0;
    for (int i = 0; i < N_WORKS && options->works.n > 0; i++) {
        needs = needs || (works[i].kind != OF_PAIRS && listed(&options->works, works[i].name));
    }
    return needs;
}
