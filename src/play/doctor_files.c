/* A checkpoint's files against each other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "io/safetensors.h"
#include "model/checkpoint.h"
#include "play/doctor_parts.h"

static spar_status load_file(json_t **out, const char *dir, const char *name, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    SPAR_TRY(sp_path_join(&path, dir, name, err));
    SPAR_TRY(sp_json_load_if_there(out, path, err));
done:
    free(path);
    return status;
}

/* Where a parameter outside the layers is, by the family's name; NULL: it is not there. */
static const sp_tensor_entry *find(const sp_doctor *d, const sp_safetensors *file, sp_role role) {
    return sp_checkpoint_find(file, sp_role_name(d->arch, role));
}

static void check_head(sp_doctor *d, const sp_safetensors *file) {
    const sp_tensor_entry *head = find(d, file, SP_HEAD), *embedding = find(d, file, SP_EMBED);
    const json_t *key = json_object_get(d->config, "tie_word_embeddings");
    const bool tied = json_is_true(key);
    const char *name = sp_role_name(d->arch, SP_HEAD);
    if (!tied && !head) {
        sp_doctor_add(d, "tied head missing",
                      "set tie_word_embeddings to true if the head was tied, or save the head",
                      "config.json: tie_word_embeddings is %s, and there is no %s",
                      key ? "false" : "not there, which means false", name);
    }
    if (tied && head && embedding &&
        (head->n_bytes != embedding->n_bytes ||
         memcmp(head->data, embedding->data, head->n_bytes) != 0)) {
        sp_doctor_add(d, "tied head missing",
                      "set tie_word_embeddings to false, or the trained head is thrown away",
                      "config.json: tie_word_embeddings is true, if only by the family's default, "
                      "and %s differs from %s",
                      head->name, embedding->name);
    }
    const json_int_t rows = json_integer_value(json_object_get(d->config, "vocab_size"));
    if (embedding && rows > 0 && embedding->dims[0] != rows) {
        sp_doctor_add(d, "wrong vocabulary size", "set vocab_size to the rows of the embedding",
                      "config.json: vocab_size is %lld, %s has %lld rows", (long long)rows,
                      embedding->name, (long long)embedding->dims[0]);
    }
}

static int64_t count_not_finite(const sp_tensor_entry *e) {
    enum { CHUNK = 4096 };
    float values[CHUNK];
    const sp_dtype_info *type = sp_dtype_info_of(e->dtype);
    const size_t elements = type->to_f32 ? e->n_bytes / type->block_bytes : 0;
    int64_t found = 0;
    for (size_t at = 0; at < elements; at += CHUNK) {
        const size_t n = elements - at < CHUNK ? elements - at : CHUNK;
        type->to_f32((const char *)e->data + at * type->block_bytes, values, (int64_t)n);
        for (size_t i = 0; i < n; i++) {
            found += !isfinite(values[i]);
        }
    }
    return found;
}

/* Every reply of such a model ends in an error that cannot say where the fault is. */
static void check_values(sp_doctor *d, const sp_safetensors *file) {
    const sp_tensor_entry *first = NULL;
    int64_t values = 0, tensors = 0;
    for (size_t i = 0; i < sp_safetensors_count(file); i++) {
        const sp_tensor_entry *e = sp_safetensors_at(file, i);
        const int64_t found = count_not_finite(e);
        first = first || !found ? first : e;
        tensors += found > 0;
        values += found;
    }
    if (first) {
        sp_doctor_add(d, "damaged weights", "get the file anew, or a checkpoint from before",
                      "%lld values of %lld tensors are NaN or infinite, the first in %s",
                      (long long)values, (long long)tensors, first->name);
    }
}

static void check_rope(sp_doctor *d) {
    const json_t *parameters = json_object_get(d->config, "rope_parameters");
    const json_t *scaling =
        json_is_object(parameters) ? parameters : json_object_get(d->config, "rope_scaling");
    const char *type = json_string_value(json_object_get(scaling, "rope_type"));
    type = type ? type : json_string_value(json_object_get(scaling, "type"));
    const json_t *inner = json_object_get(scaling, "original_max_position_embeddings");
    const json_int_t original = json_integer_value(
        inner ? inner : json_object_get(d->config, "original_max_position_embeddings"));
    const json_int_t most =
        json_integer_value(json_object_get(d->config, "max_position_embeddings"));
    const double factor = json_number_value(json_object_get(scaling, "factor"));
    const double named =
        json_number_value(json_object_get(d->tokenizer_config, "model_max_length"));
    if (original > 0 && most > original && (!type || strcmp(type, "default") == 0)) {
        sp_doctor_add(
            d, "rope scaling dropped",
            "put rope_scaling back as the original has it, or lower max_position_embeddings",
            "config.json: max_position_embeddings is %lld and the original length %lld, without "
            "rope scaling",
            (long long)most, (long long)original);
    }
    if (original > 0 && type && strcmp(type, "yarn") == 0 &&
        (double)most > 1.01 * factor * (double)original) {
        sp_doctor_add(
            d, "rope scaling dropped", "lower max_position_embeddings, or raise the factor",
            "config.json: max_position_embeddings is %lld, more than factor %g times the original "
            "%lld",
            (long long)most, factor, (long long)original);
    }
    if (most > 0 && named > (double)most && named < 1e9) { /* above: "no limit" */
        sp_doctor_add(
            d, "rope scaling dropped",
            "put back the rope scaling that the longer context needs, or lower model_max_length",
            "tokenizer_config.json: model_max_length is %.0f, config.json: "
            "max_position_embeddings is %lld",
            named, (long long)most);
    }
}

/* The configuration as its family means it. Where that fails, loading says why. */
static void complete_config(sp_doctor *d) {
    json_t *whole;
    spar_error ignored;
    const sp_arch *arch;
    if (d->config &&
        sp_config_complete(d->config, &arch, &whole, "config.json", &ignored) == SPAR_OK) {
        json_decref(d->config);
        d->config = whole;
        d->arch = arch;
    }
}

spar_status sp_doctor_check_files(sp_doctor *d, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *dir = d->options->model;
    sp_safetensors *file = NULL;
    SPAR_TRY(load_file(&d->config, dir, "config.json", err));
    SPAR_TRY(load_file(&d->generation, dir, "generation_config.json", err));
    SPAR_TRY(load_file(&d->tokenizer_config, dir, "tokenizer_config.json", err));
    complete_config(d);
    check_rope(d);
    SPAR_TRY(sp_safetensors_open(&file, dir, err));
    if (d->arch) {
        check_head(d, file);
    }
    check_values(d, file);
done:
    sp_safetensors_free(file);
    return status;
}
