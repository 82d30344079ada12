/* Adapters of experts, shared experts and routers against PEFT (tests/golden/adapters, made in
 * double precision): log-probs, gradients, files in both directions; their targets; what is
 * refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "model/engine.h"
#include "model/lora.h"
#include "support.h"

enum { MAX_IDS = 32, MAX_ROWS = 4 };

static char folder[TEST_PATH_MAX];

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static const char *golden(char path[TEST_PATH_MAX], const char *kind, const char *name) {
    snprintf(path, TEST_PATH_MAX, "%s/tests/golden/%s/%s", SPAR_SOURCE_DIR, kind, name);
    return path;
}

static spar_model *load(const char *model, const char *adapter) {
    spar_error err;
    spar_model *m;
    char path[TEST_PATH_MAX];
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2, .adapter = adapter};
    check(spar_model_load(&m, golden(path, "arch", model), &options, &err), &err);
    check(sp_model_prepare(m, true, &err), &err);
    return m;
}

static sp_safetensors *open_file(const char *dir, const char *name) {
    spar_error err;
    sp_safetensors *file;
    char path[TEST_PATH_MAX];
    check(sp_safetensors_open(&file, test_path(path, dir, name), &err), &err);
    return file;
}

typedef struct rows {
    int32_t ids[MAX_ROWS][MAX_IDS];
    size_t n[MAX_ROWS], count;
} rows;

static rows read_rows(const char *model) {
    spar_error err;
    json_t *io;
    rows out = {0};
    char dir[TEST_PATH_MAX], path[TEST_PATH_MAX];
    check(sp_json_load(&io, test_path(path, golden(dir, "arch", model), "io.json"), &err), &err);
    const json_t *list = json_object_get(io, "rows");
    for (; out.count < json_array_size(list); out.count++) {
        const json_t *row = json_array_get(list, out.count);
        out.n[out.count] = json_array_size(row);
        for (size_t t = 0; t < json_array_size(row); t++) {
            out.ids[out.count][t] = (int32_t)json_integer_value(json_array_get(row, t));
        }
    }
    json_decref(io);
    return out;
}

static void near_tensor(const sp_safetensors *file, const char *name, const float *got, size_t n,
                        double tolerance) {
    double largest = 0, worst = 0;
    const sp_tensor_entry *e = sp_safetensors_find(file, name);
    if (!e) {
        fail_msg("%s: not in the file", name);
    }
    const float *want = e->data;
    assert_int_equal(e->n_bytes, n * sizeof *want);
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
    }
    if (!(worst <= tolerance * largest)) {
        fail_msg("%s: %g of %g", name, worst, largest);
    }
}

/* The log-probs of all rows against the file's; grads, where wanted, = the gradient of the sum of
 * their negatives, one row after another or all as one batch. */
static void run(spar_model *m, const rows *r, const sp_safetensors *want, float *grads, bool once) {
    spar_error err;
    sp_batch b;
    sp_pass *pass;
    float logp[MAX_ROWS * MAX_IDS], c[MAX_ROWS * MAX_IDS];
    sp_batch_init(&b);
    check(sp_pass_create(&pass, m, grads ? SP_PASS_TRAIN : SP_PASS_INFER, &err), &err);
    for (size_t i = 0; i < r->count; i++) {
        size_t start[MAX_ROWS];
        int segment;
        for (size_t k = i; k < (once ? r->count : i + 1); k++) {
            check(sp_batch_add(&b, -1, r->ids[k], r->n[k], &segment, &err), &err);
            check(sp_batch_score(&b, segment, 1, &start[k], &err), &err);
        }
        check(sp_pass_forward(pass, &b, NULL, &err), &err);
        check(sp_pass_logp(pass, &b, logp, &err), &err);
        for (size_t k = i; k < (once ? r->count : i + 1); k++) {
            char name[32];
            snprintf(name, sizeof name, "logp.%zu", k);
            near_tensor(want, name, logp + start[k], r->n[k] - 1, 2e-5);
        }
        for (size_t k = 0; k < b.n_scored; k++) {
            c[k] = -1;
        }
        if (grads) {
            check(sp_pass_backward(pass, &b, c, grads, i > 0, &err), &err);
        }
        sp_batch_clear(&b);
        i = once ? r->count : i;
    }
    sp_pass_free(pass);
    sp_batch_release(&b);
}

/* Every tensor of one file in another, behind a prefix, with its sizes. */
static void near_files(const sp_safetensors *got, const sp_safetensors *want, const char *prefix,
                       double tolerance) {
    for (size_t i = 0; i < sp_safetensors_count(got); i++) {
        char name[256];
        const sp_tensor_entry *e = sp_safetensors_at(got, i);
        snprintf(name, sizeof name, "%s%s", prefix, e->name);
        near_tensor(want, name, e->data, e->n_bytes / sizeof(float), tolerance);
        assert_memory_equal(sp_safetensors_find(want, name)->dims, e->dims, 2 * sizeof e->dims[0]);
    }
}

/* What is in the flat array of the adapter, as its file has it. */
static sp_safetensors *written(spar_model *m, const char *name) {
    spar_error err;
    char dir[TEST_PATH_MAX];
    check(spar_model_save_adapter(m, test_path(dir, folder, name), &err), &err);
    return open_file(dir, "adapter_model.safetensors");
}

static void hold_against_peft(const char *model, const char *adapter) {
    spar_error err;
    char dir[TEST_PATH_MAX], name[64];
    const rows r = read_rows(model);
    spar_model *m = load(model, golden(dir, "adapters", adapter));
    sp_safetensors *expected = open_file(dir, "expected.safetensors");
    sp_safetensors *file = open_file(dir, "adapter_model.safetensors");
    const size_t total = (size_t)m->lora->total;
    float *grads = calloc(total, sizeof *grads);
    assert_non_null(grads);
    run(m, &r, expected, NULL, false);
    sp_safetensors *again = written(m, adapter);
    assert_int_equal(sp_safetensors_count(again), sp_safetensors_count(file));
    near_files(again, file, "", 0);
    sp_safetensors_free(again);
    for (int once = 0; once < 2; once++) {
        check(sp_lora_load(m, dir, &err), &err);
        run(m, &r, expected, grads, once);
        memcpy(m->lora->values, grads, total * sizeof *grads);
        snprintf(name, sizeof name, "%s-grads%d", adapter, once);
        again = written(m, name);
        near_files(again, expected, "grad.", 1e-4);
        sp_safetensors_free(again);
    }
    free(grads);
    sp_safetensors_free(file);
    sp_safetensors_free(expected);
    spar_model_free(m);
}

static void test_peft(void **state) {
    (void)state;
    hold_against_peft("mixtral", "mixtral-linear");
    hold_against_peft("qwen2-moe-plain", "qwen2-moe");
    hold_against_peft("olmoe", "olmoe-down");
}

/* A module an expert, as older versions have them: read as PEFT reads them, written as it writes
 * them now. */
static void test_by_expert(void **state) {
    (void)state;
    char dir[TEST_PATH_MAX];
    const rows r = read_rows("mixtral");
    spar_model *m = load("mixtral", golden(dir, "adapters", "mixtral-experts"));
    sp_safetensors *expected = open_file(dir, "expected.safetensors");
    run(m, &r, expected, NULL, false);
    sp_safetensors_free(written(m, "stacked"));
    spar_model_free(m);
    m = load("mixtral", test_path(dir, folder, "stacked"));
    assert_int_equal(sp_lora_find(m, SP_EXPERT_UP, 1)->rank, 4);
    assert_int_equal(sp_lora_find(m, SP_EXPERT_DOWN, 1)->rank, 2);
    run(m, &r, expected, NULL, true);
    sp_safetensors_free(expected);
    spar_model_free(m);
}

static json_t *config_of(const char *name) {
    spar_error err;
    json_t *config;
    char dir[TEST_PATH_MAX], path[TEST_PATH_MAX];
    test_path(path, test_path(dir, folder, name), "adapter_config.json");
    check(sp_json_load(&config, path, &err), &err);
    return config;
}

/* The texts of a list, one after another, each behind a space. */
static const char *joined(const json_t *list, char out[512]) {
    out[0] = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        strcat(strcat(out, " "), json_string_value(json_array_get(list, i)));
    }
    return out;
}

/* Which matrices names mean, and what PEFT is told of them: its own targets would take names such
 * as gate_proj for experts. */
static void test_targets(void **state) {
    (void)state;
    static const struct {
        const char *model, *names[2];
        int n;
        const char *modules, *parameters;
    } cases[] = {
        {"mixtral",
         {"all-linear"},
         2 * (4 + 1 + 3 * 4),
         " q_proj k_proj v_proj o_proj",
         " mlp.gate.weight mlp.experts.gate_up_proj mlp.experts.down_proj"},
        {"mixtral", {"w1", "w3"}, 2 * 2 * 4, "", " mlp.experts.gate_up_proj"},
        {"mixtral", {"gate_up_proj"}, 2 * 2 * 4, "", " mlp.experts.gate_up_proj"},
        {"mixtral", {"w2", "q_proj"}, 2 * (4 + 1), " q_proj", " mlp.experts.down_proj"},
        {"mixtral", {"block_sparse_moe.gate"}, 2, "", " mlp.gate.weight"},
        {"qwen3-moe", {"down_proj"}, 2 * 4 + 1, "", " mlp.experts.down_proj mlp.down_proj.weight"},
        {"qwen3-moe", {"mlp.down_proj"}, 1, "", " mlp.down_proj.weight"},
        {"qwen3-moe",
         {"experts.down_proj", "gate"},
         2 * (4 + 1),
         "",
         " mlp.gate.weight mlp.experts.down_proj"},
        {"qwen3-moe",
         {"mlp.experts.gate_proj", "experts.up_proj"},
         2 * 2 * 4,
         "",
         " mlp.experts.gate_up_proj"},
        {"qwen2-moe",
         {"shared_expert.down_proj", "shared_expert_gate"},
         4,
         "",
         " mlp.shared_expert_gate.weight shared_expert.down_proj.weight"},
        {"qwen2-moe",
         {"all-linear"},
         3 * 4 + 3 + 2 * (1 + 4 + 3 * 4),
         " q_proj k_proj v_proj o_proj",
         " mlp.gate.weight mlp.experts.gate_up_proj mlp.experts.down_proj "
         "mlp.shared_expert_gate.weight shared_expert.gate_proj.weight "
         "shared_expert.up_proj.weight shared_expert.down_proj.weight mlp.gate_proj.weight "
         "mlp.up_proj.weight mlp.down_proj.weight"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spar_error err;
        char name[32], list[512];
        spar_model *m = load(cases[i].model, NULL);
        sp_lora_settings s = {.rank = 2, .alpha = 3, .targets = {.n = cases[i].names[1] ? 2 : 1}};
        memcpy(s.targets.items, cases[i].names, sizeof cases[i].names);
        check(sp_lora_attach(m, &s, 1, &err), &err);
        assert_int_equal(m->lora->n, cases[i].n);
        snprintf(name, sizeof name, "targets%zu", i);
        sp_safetensors_free(written(m, name));
        json_t *config = config_of(name);
        assert_string_equal(joined(json_object_get(config, "target_modules"), list),
                            cases[i].modules);
        assert_string_equal(joined(json_object_get(config, "target_parameters"), list),
                            cases[i].parameters);
        assert_true(json_is_null(json_object_get(config, "layers_to_transform")));
        json_decref(config);
        spar_model_free(m);
    }
}

/* A copy of one of PEFT's adapters with those tensors left out whose names hold `without`; its
 * folder, to dir. */
static void copy_without(const char *adapter, const char *without, const char *name,
                         char dir[TEST_PATH_MAX]) {
    spar_error err;
    char from[TEST_PATH_MAX], path[TEST_PATH_MAX], *text;
    size_t n = 0, size;
    sp_tensor_entry entries[64];
    golden(from, "adapters", adapter);
    check(sp_dir_make(test_path(dir, folder, name), &err), &err);
    sp_safetensors *file = open_file(from, "adapter_model.safetensors");
    for (size_t i = 0; i < sp_safetensors_count(file); i++) {
        entries[n] = *sp_safetensors_at(file, i);
        n += !strstr(entries[n].name, without);
    }
    check(sp_safetensors_write(test_path(path, dir, "adapter_model.safetensors"), entries, n, NULL,
                               &err),
          &err);
    sp_safetensors_free(file);
    check(sp_file_read(test_path(path, from, "adapter_config.json"), 1 << 16, &text, &size, &err),
          &err);
    check(sp_file_write(test_path(path, dir, "adapter_config.json"), text, size, &err), &err);
    free(text);
}

/* An adapter of some layers' experts alone names them whole. */
static void test_some_layers(void **state) {
    (void)state;
    spar_error err;
    char dir[TEST_PATH_MAX], list[512];
    spar_model *m = load("olmoe", NULL);
    copy_without("olmoe-down", "layers.0.", "second", dir);
    check(sp_lora_load(m, dir, &err), &err);
    assert_int_equal(m->lora->n, 1 + 3);
    sp_safetensors_free(written(m, "second-again"));
    json_t *config = config_of("second-again");
    assert_string_equal(joined(json_object_get(config, "target_parameters"), list),
                        " model.layers.1.mlp.experts.down_proj");
    assert_int_equal(json_array_size(json_object_get(config, "layers_to_transform")), 1);
    json_decref(config);
    check(sp_lora_load(m, test_path(dir, folder, "second-again"), &err), &err);
    spar_model_free(m);
}

static void refuse(const char *model, const char *adapter, const char *without, const char *more,
                   spar_status status, const char *message) {
    spar_error err;
    json_t *config, *set;
    char dir[TEST_PATH_MAX], path[TEST_PATH_MAX];
    spar_model *m = load(model, NULL);
    copy_without(adapter, without, "refused", dir);
    test_path(path, dir, "adapter_config.json");
    check(sp_json_load(&config, path, &err), &err);
    check(sp_json_parse(&set, more, strlen(more), "more", &err), &err);
    json_object_update(config, set);
    check(sp_json_save(config, path, &err), &err);
    spar_status got = sp_lora_load(m, dir, &err);
    got = got == SPAR_OK ? sp_model_check_trainable(m, &err) : got;
    if (got != status || !strstr(err.message, message)) {
        fail_msg("expected \"%s\", found %d: %s", message, (int)got, err.message);
    }
    json_decref(config);
    json_decref(set);
    spar_model_free(m);
}

static void test_refused(void **state) {
    (void)state;
    spar_error err;
    refuse("mixtral", "mixtral-experts", "layers.1.block_sparse_moe.experts.2.w3", "{}",
           SPAR_NOT_FOUND,
           "adapter of model.layers.1.block_sparse_moe.experts.2.w3 is missing: expected one on "
           "every matrix of model.layers.1.mlp.experts.gate_up_proj");
    refuse("mixtral", "mixtral-experts", "w1", "{}", SPAR_NOT_FOUND, ".w1 is missing");
    refuse("mixtral", "mixtral-experts", "-", "{\"rank_pattern\": {\"w1\": 2}}", SPAR_UNSUPPORTED,
           "beside adapters of single experts");
    refuse("mixtral", "mixtral-experts", "-", "{\"lora_dropout\": 0.1}", SPAR_UNSUPPORTED,
           "an adapter of experts to have no dropout, found 0.1");
    refuse("qwen3-moe", "olmoe-down", "k_proj", "{}", SPAR_UNSUPPORTED,
           "experts.lora_A.weight: expected an adapter of one of the model's linear layers, of its "
           "sizes");
    refuse("olmoe", "olmoe-down", "lora_B", "{}", SPAR_NOT_FOUND, "lora_B.weight is missing");
    refuse("olmoe", "olmoe-down", "-", "{\"r\": 3}", SPAR_MISMATCH, "expected shape [3, 8]");
    refuse("olmoe", "olmoe-down", "k_proj", "{\"r\": 3}", SPAR_MISMATCH, "expected shape [9, 5]");
    refuse("mixtral", "mixtral-experts", "-", "{\"r\": 65536}", SPAR_MISMATCH,
           "w1.lora_A.weight: expected shape [65536, 8], found [2, 8]"); /* before there is room */
    spar_model *m = load("mixtral", NULL);
    sp_lora_settings s = {.rank = 2, .alpha = 3, .targets = {.n = 1, .items = {"w1"}}};
    assert_int_equal(sp_lora_attach(m, &s, 1, &err), SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "stores model.layers.0.mlp.experts.gate_up_proj as one"));
    s.targets.items[0] = "experts.3.w1";
    assert_int_equal(sp_lora_attach(m, &s, 1, &err), SPAR_INVALID);
    s = (sp_lora_settings){.rank = 2, .alpha = 3, .dropout = 0.1};
    check(sp_lora_attach(m, &s, 1, &err), &err); /* attention alone may have dropout */
    check(sp_model_check_trainable(m, &err), &err);
    spar_model_free(m);
}

/* Whatever allocation fails, an adapter is read or written whole, or what was there stays. */
static void test_no_memory(void **state) {
    (void)state;
    static const char *const adapters[] = {"mixtral-linear", "mixtral-experts"};
    spar_model *m = load("mixtral", NULL);
    for (int i = 0; i < 2; i++) {
        spar_error err;
        char from[TEST_PATH_MAX], to[TEST_PATH_MAX], name[32];
        spar_status status = SPAR_NO_MEMORY, written = SPAR_NO_MEMORY;
        golden(from, "adapters", adapters[i]);
        snprintf(name, sizeof name, "no-memory%d", i);
        test_path(to, folder, name);
        long k = 0;
        for (; status != SPAR_OK && k < 10000; k++) {
            const sp_lora *before = m->lora;
            sp_mem_fail_at(k + 1);
            status = sp_lora_load(m, from, &err);
            sp_mem_fail_at(0);
            assert_true(status == SPAR_OK || (status == SPAR_NO_MEMORY && m->lora == before));
        }
        check(status, &err);
        assert_true(k > 10);
        for (k = 0; written != SPAR_OK && k < 10000; k++) {
            sp_mem_fail_at(k + 1);
            written = spar_model_save_adapter(m, to, &err);
            sp_mem_fail_at(0);
            assert_true(written == SPAR_OK || written == SPAR_NO_MEMORY);
            if (sp_file_is_dir(to)) { /* the folder's entry alone was not synced, or all is well */
                spar_error other;
                check(sp_lora_load(m, to, &other), &other);
                check(sp_dir_remove(to, &other), &other);
            }
        }
        check(written, &err);
        assert_true(k > 3);
    }
    spar_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peft),    cmocka_unit_test(test_by_expert),
        cmocka_unit_test(test_targets), cmocka_unit_test(test_some_layers),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_no_memory),
    };
    test_temp_dir(folder);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sp_dir_remove(folder, NULL);
    return failed;
}
