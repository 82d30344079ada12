/* Packing changes nothing: K responses on a shared prompt are K separate sequences, a packed batch
 * is its members alone, and the thread count does not show, bit for bit, in f32. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/rng.h"
#include "model/engine.h"
#include "support.h"

enum { RESPONSES = 4, PROMPT = 37, MAX_LENGTH = 23, MAX_SCORED = 512 };

static const char *const families[] = {"llama",
                                       "llama3-rope",
                                       "qwen2",
                                       "qwen3",
                                       "mistral-window",
                                       "gemma2",
                                       "gemma3",
                                       "olmo2",
                                       "mixtral",
                                       "qwen3-moe",
                                       "qwen3-moe-plain",
                                       "qwen2-moe",
                                       "gpt2-small",
                                       "gpt-neox-serial",
                                       "gpt-neox-tied",
                                       "stablelm",
                                       "stablelm-parallel",
                                       "starcoder2",
                                       "cohere2",
                                       "mpt"};

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static spar_model *load(const char *family, int threads, bool reference) {
    spar_error err;
    spar_model *model;
    char path[TEST_PATH_MAX];
    snprintf(path, sizeof path, "%s/tests/golden/arch/%s", SPAR_SOURCE_DIR, family);
    if (!sp_file_is_dir(path)) {
        snprintf(path, sizeof path, "%s/%s", test_shared("golden/arch"), family);
    }
    spar_model_options options = {
        .dtype = SPAR_DTYPE_F32, .threads = threads, .reference = reference};
    check(spar_model_load(&model, path, &options, &err), &err);
    check(sp_model_prepare(model, true, &err), &err);
    return model;
}

static void random_ids(const spar_model *m, int32_t *ids, size_t n, uint64_t stream) {
    for (size_t i = 0; i < n; i++) {
        ids[i] = 3 + (int32_t)sp_rng_below(11, stream, i, (uint32_t)m->config.vocab - 3);
    }
}

static size_t length_of(int response) {
    return (size_t)(MAX_LENGTH - 5 * response);
}

/* What a batch gave: log-probs of the scored tokens, and gradients of their weighted sum. */
typedef struct result {
    float logp[MAX_SCORED];
    size_t n;
    float *grads; /* owned, [params.total], added up over runs */
} result;

/* Weight of scored token k of response r: any fixed pattern that differs between them. */
static float weight(int response, size_t k) {
    return 0.25F * (float)(response + 1) - 0.03F * (float)k;
}

static void run(spar_model *m, sp_batch *b, const float *c, result *out) {
    spar_error err;
    sp_pass *pass;
    check(sp_pass_create(&pass, m, SP_PASS_TRAIN, &err), &err);
    check(sp_pass_forward(pass, b, NULL, &err), &err);
    check(sp_pass_logp(pass, b, out->logp + out->n, &err), &err);
    check(sp_pass_backward(pass, b, c, out->grads, true, &err), &err);
    out->n += b->n_scored;
    sp_pass_free(pass);
}

static void init(result *r, const spar_model *m) {
    r->n = 0;
    r->grads = calloc((size_t)m->params.total, sizeof *r->grads);
    assert_non_null(r->grads);
}

/* The prompt cut into an opening, shared by all, and its rest; then the responses. */
static void run_shared(spar_model *m, result *out) {
    spar_error err;
    sp_batch b;
    int32_t prompt[PROMPT], response[MAX_LENGTH];
    float c[MAX_SCORED];
    int root, rest, segment;
    sp_batch_init(&b);
    init(out, m);
    random_ids(m, prompt, PROMPT, 1);
    check(sp_batch_add(&b, -1, prompt, 20, &root, &err), &err);
    check(sp_batch_add(&b, root, prompt + 20, PROMPT - 20, &rest, &err), &err);
    for (int r = 0; r < RESPONSES; r++) {
        size_t start;
        random_ids(m, response, length_of(r), 10 + (uint64_t)r);
        check(sp_batch_add(&b, rest, response, length_of(r), &segment, &err), &err);
        check(sp_batch_score(&b, segment, 0, &start, &err), &err);
        for (size_t k = 0; k < length_of(r); k++) {
            c[start + k] = weight(r, k);
        }
    }
    run(m, &b, c, out);
    sp_batch_release(&b);
}

/* Every response with a prompt of its own: packed in one batch, or each in a batch alone. */
static void run_separate(spar_model *m, bool packed, result *out) {
    spar_error err;
    sp_batch b;
    int32_t ids[PROMPT + MAX_LENGTH];
    float c[MAX_SCORED];
    sp_batch_init(&b);
    init(out, m);
    random_ids(m, ids, PROMPT, 1);
    for (int r = 0; r < RESPONSES; r++) {
        size_t start;
        int segment;
        random_ids(m, ids + PROMPT, length_of(r), 10 + (uint64_t)r);
        check(sp_batch_add(&b, -1, ids, PROMPT + length_of(r), &segment, &err), &err);
        check(sp_batch_score(&b, segment, PROMPT, &start, &err), &err);
        for (size_t k = 0; k < length_of(r); k++) {
            c[start + k] = weight(r, k);
        }
        if (!packed) {
            run(m, &b, c, out);
            sp_batch_clear(&b);
        }
    }
    if (packed) {
        run(m, &b, c, out);
    }
    sp_batch_release(&b);
}

static float largest_of(const result *r, const sp_param *p) {
    float largest = 1e-6F;
    for (int64_t k = p->offset; k < p->offset + p->count; k++) {
        largest = fmaxf(largest, fabsf(r->grads[k]));
    }
    return largest;
}

/* Log-probs to 1e-5; gradients of each parameter to 1e-5 of its largest entry. Where nothing turns,
 * a key's bias adds the same to all scores of a query: its gradient is 0, and what is there is the
 * rounding of numbers as large as the query bias's. */
static void compare(const spar_model *m, const result *a, const result *b) {
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        assert_true(fabsf(a->logp[i] - b->logp[i]) <= 1e-5F);
    }
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        float worst = 0;
        const bool none = p->role == SP_K_BIAS && m->config.arch->learned_positions;
        const float largest =
            largest_of(a, none ? sp_params_get(&m->params, SP_Q_BIAS, p->layer) : p);
        for (int64_t k = p->offset; k < p->offset + p->count; k++) {
            worst = fmaxf(worst, fabsf(a->grads[k] - b->grads[k]));
        }
        if (worst > 1e-5F * largest) {
            fail_msg("%s: %g of %g", p->name, (double)worst, (double)largest);
        }
    }
}

static void test_shared_prompt(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        for (int reference = 0; reference < 2; reference++) {
            spar_model *m = load(families[i], 2, reference != 0);
            result shared, packed, alone;
            run_shared(m, &shared);
            run_separate(m, true, &packed);
            run_separate(m, false, &alone);
            compare(m, &shared, &packed);
            compare(m, &packed, &alone);
            free(shared.grads);
            free(packed.grads);
            free(alone.grads);
            spar_model_free(m);
        }
    }
}

static void test_threads(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        result results[3];
        for (int threads = 1; threads <= 3; threads++) {
            spar_model *m = load(families[i], threads, false);
            result *r = &results[threads - 1];
            run_shared(m, r);
            if (threads > 1) {
                size_t bytes = (size_t)m->params.total * sizeof(float);
                assert_memory_equal(r->logp, results[0].logp, r->n * sizeof(float));
                assert_memory_equal(r->grads, results[0].grads, bytes);
            }
            spar_model_free(m);
        }
        for (int k = 0; k < 3; k++) {
            free(results[k].grads);
        }
    }
}

int main(void) {
    test_shared_or_skip("golden/arch");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared_prompt),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
