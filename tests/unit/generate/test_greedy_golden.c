/* Greedy continuations through the batching sampler, with its cache and shared openings, against
 * Hugging Face transformers: the tiny models of both golden/arch and SmolLM2 from its GGUF. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch_folders.h"
#include "base/jsonx.h"
#include "quickstart_model.h"
#include "spar/generate.h"
#include "support.h"

enum { MAX_PROMPTS = 8, MAX_TOKENS = 256 };

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static size_t read_ids(const json_t *list, int32_t *out) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return json_array_size(list);
}

/* All prompts in one batch; wanted[i] is a JSON list. */
static void run(spar_model *m, const spar_prompt *prompts, size_t n, json_t *const *wanted,
                int64_t max_new_tokens, bool ignore_eos) {
    spar_error err;
    spar_sampling s;
    spar_response responses[MAX_PROMPTS];
    check(spar_options_default(spar_sampling_options, &s, &err), &err);
    s.temperature = 0;
    s.max_new_tokens = max_new_tokens;
    s.ignore_eos = ignore_eos;
    s.batch = 2;
    check(spar_generate(m, prompts, n, 1, &s, NULL, responses, &err), &err);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(responses[i].n, json_array_size(wanted[i]));
        for (size_t k = 0; k < responses[i].n; k++) {
            assert_int_equal(responses[i].ids[k], json_integer_value(json_array_get(wanted[i], k)));
        }
    }
    spar_responses_free(responses, n);
}

/* LongRoPE's rows end with the context that it was trained for, where transformers goes on with
 * other factors. */
static bool fits(const spar_model *m, size_t prompt, size_t response) {
    return (int64_t)(prompt + response) <= spar_model_context(m);
}

static void run_folder(const char *dir) {
    spar_error err;
    spar_model *m;
    json_t *io;
    char path[TEST_PATH_MAX];
    int32_t ids[MAX_PROMPTS][MAX_TOKENS];
    spar_prompt prompts[MAX_PROMPTS];
    json_t *wanted[MAX_PROMPTS];
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    check(spar_model_load(&m, dir, &options, &err), &err);
    check(sp_json_load(&io, test_path(path, dir, "io.json"), &err), &err);
    const json_t *rows = json_object_get(io, "rows");
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        char key[24];
        snprintf(key, sizeof key, "%zu", i);
        prompts[n] = (spar_prompt){ids[n], read_ids(json_array_get(rows, i), ids[n]), n};
        wanted[n] = json_object_get(json_object_get(io, "greedy"), key);
        n += fits(m, prompts[n].n, json_array_size(wanted[n]));
    }
    assert_true(n > 1);
    run(m, prompts, n, wanted, (int64_t)json_array_size(wanted[0]), true);
    json_decref(io);
    spar_model_free(m);
}

static void test_models(void **state) {
    (void)state;
    test_folders all;
    test_folders_init(&all);
    for (int i = 0; i < all.n; i++) {
        print_message("%s\n", test_folder_name(all.paths[i]));
        run_folder(all.paths[i]);
    }
    test_folders_release(&all);
}

static void test_smollm2(void **state) {
    (void)state;
    spar_error err;
    spar_model *m;
    json_t *io;
    char path[TEST_PATH_MAX];
    int32_t ids[MAX_PROMPTS][MAX_TOKENS];
    spar_prompt prompts[MAX_PROMPTS];
    json_t *wanted[MAX_PROMPTS];
    spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    if (!quickstart_model() || !test_shared("golden/smollm2")) {
        print_message("the quick-start model or shared/golden/smollm2 is missing: not run\n");
        skip();
    }
    check(spar_model_load(&m, quickstart_model(), &options, &err), &err);
    snprintf(path, sizeof path, "%s", test_shared("golden/smollm2/io.json"));
    check(sp_json_load(&io, path, &err), &err);
    json_t *list = json_object_get(io, "prompts");
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++) {
        const json_t *p = json_array_get(list, i);
        int32_t *chat;
        size_t n_chat;
        prompts[i] = (spar_prompt){ids[i], read_ids(json_object_get(p, "ids"), ids[i]), i};
        wanted[i] = json_object_get(p, "greedy_ids");
        /* the chat template and tokenizer give the same prompt */
        check(spar_model_chat_ids(m, json_object_get(p, "messages"), true, &chat, &n_chat, &err),
              &err);
        assert_int_equal(n_chat, prompts[i].n);
        assert_memory_equal(chat, ids[i], n_chat * sizeof *chat);
        free(chat);
    }
    assert_true(n > 0);
    run(m, prompts, n, wanted, 32, false);
    json_decref(io);
    spar_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
