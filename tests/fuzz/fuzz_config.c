/* Any bytes as config.json: of a decoder, and of an encoder. What is accepted as a decoder's is
 * written and read again, and must then say the same. */
#include "base/jsonx.h"
#include "fuzz.h"
#include "model/arch.h"
#include "model/encoder_config.h"

static void agree(json_t *a, json_t *b) {
    if (!a || !b || !json_equal(a, b)) {
        fprintf(stderr, "a configuration changed on its way out and in\n");
        abort();
    }
    json_decref(a);
    json_decref(b);
}

static void tables(const sp_config *config) {
    float cos_table[2 * 256], sin_table[2 * 256];
    if (config->head_dim <= 512) {
        for (sp_table t = SP_TABLE_ALL; t < SP_TABLES; t++) {
            if (sp_rope_has_table(config, t)) {
                sp_rope_table(config, t, 2, cos_table, sin_table);
            }
        }
    }
}

static void decoder(const json_t *value) {
    static sp_config config, again; /* too large for the stack of a thread */
    spar_error err = {SPAR_OK, ""};
    const spar_status status = sp_config_from_json(&config, value, "input", &err);
    fuzz_check(status, &err);
    if (status != SPAR_OK) {
        return;
    }
    tables(&config);
    json_t *written = sp_config_to_json(&config);
    if (!written || sp_config_from_json(&again, written, "written", &err) != SPAR_OK) {
        fprintf(stderr, "a configuration that was read is not read again: %s\n", err.message);
        abort();
    }
    agree(written, sp_config_to_json(&again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *value = NULL;
    spar_error err = {SPAR_OK, ""};
    const spar_status status = sp_json_parse(&value, (const char *)data, size, "input", &err);
    fuzz_check(status, &err);
    if (status == SPAR_OK) {
        sp_encoder_config encoder;
        decoder(value);
        fuzz_check(sp_encoder_config_read(&encoder, value, "input", &err), &err);
        json_decref(value);
    }
    return 0;
}
