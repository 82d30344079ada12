#include "model/encoder_ranker.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "io/safetensors.h"

enum { SOURCE_LENGTH = 1224, CANDIDATE_LENGTH = 412, PREFIXES = 3, ADDED = 4 };

bool sp_encoder_is_ranker(const json_t *config) {
    return json_object_get(config, "ranker_type") != NULL;
}

static spar_status check_ranker(const json_t *ranker, const char *where, spar_error *err) {
    const struct {
        const char *key;
        int64_t want;
    } lengths[] = {{"source_maxlength", SOURCE_LENGTH}, {"candidate_maxlength", CANDIDATE_LENGTH}};
    spar_status status = SPAR_OK;
    const char *type;
    SPAR_TRY(sp_json_get_string(ranker, "ranker_type", &type, where, err));
    if (strcmp(type, "pairranker") != 0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: ranker_type: expected pairranker, found %s",
                           where, type));
    }
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        int64_t found;
        SPAR_TRY(sp_json_get_int(ranker, lengths[i].key, 1, 1 << 20, &found, where, err));
        if (found != lengths[i].want) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: %s: expected %lld, found %lld", where,
                               lengths[i].key, (long long)lengths[i].want, (long long)found));
        }
    }
done:
    return status;
}

/* The published sizes of microsoft/deberta-v3-large. */
static json_t *deberta_v3_large(void) {
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:s, s:i, s:i, s:f, s:b, s:i, s:b, s:s, s:i, s:s, "
                     "s:b}",
                     "model_type", "deberta-v2", "hidden_size", 1024, "num_hidden_layers", 24,
                     "num_attention_heads", 16, "intermediate_size", 4096, "hidden_act", "gelu",
                     "max_position_embeddings", 512, "type_vocab_size", 0, "layer_norm_eps", 1e-7,
                     "relative_attention", 1, "max_relative_positions", -1, "position_biased_input",
                     0, "pos_att_type", "p2c|c2p", "position_buckets", 256, "norm_rel_ebd",
                     "layer_norm", "share_att_key", 1);
}

/* *out = the configuration of the model that the ranker was made of. */
static spar_status read_base(json_t **out, const json_t *ranker, const char *dir, const char *where,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    const char *name;
    char *folder = NULL, *path = NULL;
    SPAR_TRY(sp_json_get_string(ranker, "model_name", &name, where, err));
    if (strcmp(name, "microsoft/deberta-v3-large") == 0) {
        *out = deberta_v3_large();
        status = *out ? SPAR_OK : spar_fail(err, SPAR_NO_MEMORY, "out of memory for %s", where);
        goto done;
    }
    SPAR_TRY(sp_path_join(&folder, dir, name, err));
    SPAR_TRY(sp_path_join(&path, folder, "config.json", err));
    status = sp_json_load(out, path, err);
    if (status == SPAR_NOT_FOUND) {
        status =
            spar_fail(err, SPAR_NOT_FOUND,
                      "%s: model_name: expected microsoft/deberta-v3-large, or a folder beside "
                      "this file with the model's config.json, found %s",
                      where, name);
    }
done:
    free(folder);
    free(path);
    return status;
}

/* Rows of the table of words. */
static spar_status read_vocab(int64_t *out, const char *dir, spar_error *err) {
    static const char *const name = "pretrained_model.embeddings.word_embeddings.weight";
    spar_status status = SPAR_OK;
    sp_safetensors *file = NULL;
    SPAR_TRY(sp_safetensors_open(&file, dir, err));
    const sp_tensor_entry *table = sp_safetensors_find(file, name);
    if (!table || table->n_dims != 2 || table->dims[0] < ADDED) {
        SPAR_TRY(spar_fail(err, table ? SPAR_MISMATCH : SPAR_NOT_FOUND,
                           "%s: tensor %s: expected a table of %d words or more, found %s", dir,
                           name, ADDED, table ? "another shape" : "none"));
    }
    *out = table->dims[0];
done:
    sp_safetensors_free(file);
    return status;
}

static spar_status set_prefixes(json_t *config, int64_t vocab, const char *dir, spar_error *err) {
    static const char *const names[PREFIXES][2] = {{"source_prefix_id", "<|source|>"},
                                                   {"cand1_prefix_id", "<|candidate1|>"},
                                                   {"cand2_prefix_id", "<|candidate2|>"}};
    spar_status status = SPAR_OK;
    char *path = NULL;
    json_t *added = NULL;
    SPAR_TRY(sp_path_join(&path, dir, "added_tokens.json", err));
    SPAR_TRY(sp_json_load_if_there(&added, path, err));
    for (int i = 0; i < PREFIXES; i++) {
        int64_t id = vocab - ADDED + i;
        if (added) {
            SPAR_TRY(sp_json_get_int(added, names[i][1], 0, vocab - 1, &id, path, err));
        }
        json_object_set_new(config, names[i][0], json_integer(id));
    }
done:
    json_decref(added);
    free(path);
    return status;
}

spar_status sp_encoder_ranker_config(json_t **out, const json_t *ranker, const char *dir,
                                     const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *config = NULL;
    int64_t vocab;
    SPAR_TRY(check_ranker(ranker, where, err));
    SPAR_TRY(read_base(&config, ranker, dir, where, err));
    SPAR_TRY(read_vocab(&vocab, dir, err));
    json_object_set_new(config, "architectures", json_pack("[s]", "DebertaV2PairRM"));
    json_object_set_new(config, "vocab_size", json_integer(vocab));
    SPAR_TRY(set_prefixes(config, vocab, dir, err));
    *out = config;
    config = NULL;
done:
    json_decref(config);
    return status;
}
