/* Any bytes as an adapter of a small mixture: adapter_config.json up to the first byte 0, then
 * adapter_model.safetensors. What is attached is merged into every parameter. */
#include <string.h>
#include <unistd.h>

#include "base/jsonx.h"
#include "fuzz.h"
#include "model/engine.h"
#include "model/lora.h"
#include "model/model_create.h"
#include "support.h"

static const char config_text[] =
    "{\"model_type\": \"qwen2_moe\", \"vocab_size\": 16, \"hidden_size\": 8, "
    "\"intermediate_size\": 12, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, "
    "\"num_key_value_heads\": 1, \"max_position_embeddings\": 16, \"num_experts\": 2, "
    "\"num_experts_per_tok\": 1, \"moe_intermediate_size\": 4, \"mlp_only_layers\": [1], "
    "\"shared_expert_intermediate_size\": 6, \"decoder_sparse_step\": 1}";

static void must(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fprintf(stderr, "%s\n", err->message);
        exit(1);
    }
}

static spar_model *make_model(void) {
    static sp_config config; /* too large for the stack of a thread */
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 1};
    json_t *root = NULL;
    spar_model *m = NULL;
    spar_error err;
    must(sp_json_parse(&root, config_text, strlen(config_text), "config", &err), &err);
    must(sp_config_from_json(&config, root, "config", &err), &err);
    json_decref(root);
    must(sp_model_create(&m, &config, "small", &options, NULL, &err), &err);
    return m;
}

/* A folder whose two files are files in memory; it is removed at the end of the process. */
static char folder[TEST_PATH_MAX], links[2][TEST_PATH_MAX];

static void remove_folder(void) {
    unlink(links[0]);
    unlink(links[1]);
    rmdir(folder);
}

static void make_folder(memory_file files[2]) {
    static const char *const names[] = {"adapter_config.json", "adapter_model.safetensors"};
    test_temp_dir(folder);
    for (int i = 0; i < 2; i++) {
        memory_file_make(&files[i]);
        if (symlink(files[i].path, test_path(links[i], folder, names[i])) != 0) {
            perror(links[i]);
            exit(1);
        }
    }
    atexit(remove_folder);
}

static void merge(const spar_model *m) {
    float out[16 * 16];
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        if (p->cols > 0) {
            sp_lora_merge(m, p, out);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static spar_model *m;
    static memory_file files[2];
    spar_error err = {SPAR_OK, ""};
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    const size_t n = end ? (size_t)(end - data) : size;
    if (!m) {
        m = make_model();
        make_folder(files);
    }
    memory_file_set(&files[0], data, n);
    memory_file_set(&files[1], end ? end + 1 : data, end ? size - n - 1 : 0);
    const spar_status status = sp_lora_load(m, folder, &err);
    fuzz_check(status, &err);
    if (status == SPAR_OK) {
        merge(m);
        sp_lora_detach(m);
    }
    return 0;
}
