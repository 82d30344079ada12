/* tokenizer.json and the files beside it. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "text/tokenizer_parts.h"

static const char *const special_keys[SP_SPECIALS] = {"bos_token", "eos_token", "pad_token",
                                                      "unk_token"};

/* A special token is written as a string or as an object with "content". */
static const char *token_text(const json_t *value) {
    return json_is_object(value) ? json_string_value(json_object_get(value, "content"))
                                 : json_string_value(value);
}

static spar_status keep(spar_tokenizer *t, const char *text, size_t n, const char **out,
                        spar_error *err) {
    *out = sp_arena_strndup(&t->arena, text, n);
    return *out ? SPAR_OK : spar_fail(err, SPAR_NO_MEMORY, "out of memory for a tokenizer");
}

static spar_status take_specials(spar_tokenizer *t, const json_t *config, spar_error *err) {
    spar_status status = SPAR_OK;
    for (int i = 0; i < SP_SPECIALS; i++) {
        const char *text = token_text(json_object_get(config, special_keys[i]));
        if (text && !t->special_text[i]) {
            SPAR_TRY(keep(t, text, strlen(text), &t->special_text[i], err));
        }
    }
done:
    return status;
}

/* "chat_template" is a string, or a list of {name, template} of which "default" is taken. */
static spar_status take_template(spar_tokenizer *t, const json_t *value, const char *where,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    const char *text = json_string_value(value);
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        if (!text || (name && strcmp(name, "default") == 0)) {
            text = json_string_value(json_object_get(item, "template"));
        }
    }
    if (value && !json_is_null(value) && !text) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: chat_template: expected a string or a list of templates, found %s",
                           where, sp_json_type_name(value)));
    }
    if (text) {
        SPAR_TRY(keep(t, text, strlen(text), &t->chat_template, err));
    }
done:
    return status;
}

/* Load dir/name where it exists; *out NULL where not. */
static spar_status load_beside(json_t **out, const char *dir, const char *name, char **path,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    *out = NULL;
    free(*path);
    *path = NULL;
    SPAR_TRY(sp_path_join(path, dir, name, err));
    if (sp_file_exists(*path)) {
        SPAR_TRY(sp_json_load(out, *path, err));
        if (!json_is_object(*out)) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected an object, found %s", *path,
                               sp_json_type_name(*out)));
        }
    }
done:
    return status;
}

/* Where no file names BOS and EOS, config.json's ids do. */
static spar_status take_config_ids(spar_tokenizer *t, const json_t *config, spar_error *err) {
    static const char *const keys[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    spar_status status = SPAR_OK;
    for (int i = 0; i < 3; i++) {
        const json_t *id = json_object_get(config, keys[i]);
        id = json_is_array(id) ? json_array_get(id, 0) : id;
        const char *text = json_is_integer(id) && json_integer_value(id) < INT32_MAX
                               ? spar_tokenizer_token(t, (int32_t)json_integer_value(id))
                               : NULL;
        if (text && !t->special_text[i]) {
            SPAR_TRY(keep(t, text, strlen(text), &t->special_text[i], err));
        }
    }
done:
    return status;
}

static spar_status read_folder(spar_tokenizer *t, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    char *text = NULL;
    size_t n;
    json_t *map = NULL;
    json_t *model = NULL;
    SPAR_TRY(load_beside(&t->config, dir, "tokenizer_config.json", &path, err));
    SPAR_TRY(take_specials(t, t->config, err));
    SPAR_TRY(take_template(t, json_object_get(t->config, "chat_template"), path, err));
    SPAR_TRY(load_beside(&map, dir, "special_tokens_map.json", &path, err));
    SPAR_TRY(take_specials(t, map, err));
    SPAR_TRY(load_beside(&model, dir, "config.json", &path, err));
    SPAR_TRY(take_config_ids(t, model, err));
    free(path);
    path = NULL;
    SPAR_TRY(sp_path_join(&path, dir, "chat_template.jinja", err));
    if (sp_file_exists(path)) {
        SPAR_TRY(sp_file_read(path, 16 << 20, &text, &n, err));
        SPAR_TRY(keep(t, text, n, &t->chat_template, err));
    }
done:
    json_decref(map);
    json_decref(model);
    free(path);
    free(text);
    return status;
}

/* The folder that a file is in. */
static spar_status folder_of(const char *file, char **out, spar_error *err) {
    const char *slash = strrchr(file, '/');
    return slash ? sp_mem_strdup(out, file, (size_t)(slash - file) + (slash == file), err)
                 : sp_mem_strdup(out, ".", 1, err);
}

spar_status spar_tokenizer_load(spar_tokenizer **out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_tokenizer *t = NULL;
    json_t *root = NULL;
    char *file = NULL;
    char *folder = NULL;
    if (sp_file_is_dir(path)) {
        SPAR_TRY(sp_path_join(&file, path, "tokenizer.json", err));
    } else {
        SPAR_TRY(sp_mem_strdup(&file, path, strlen(path), err));
    }
    SPAR_TRY(folder_of(file, &folder, err));
    SPAR_TRY(sp_json_load(&root, file, err));
    SPAR_TRY(sp_tokenizer_from_json(&t, root, file, err));
    SPAR_TRY(read_folder(t, folder, err));
    *out = t;
    t = NULL;
done:
    spar_tokenizer_free(t);
    json_decref(root);
    free(file);
    free(folder);
    return status;
}

json_t *sp_tokenizer_config_json(const spar_tokenizer *t) {
    if (t->config) {
        json_t *copy = json_copy(t->config);
        json_object_del(copy, "chat_template"); /* written as chat_template.jinja */
        return copy;
    }
    json_t *config = json_object();
    for (int i = 0; i < SP_SPECIALS; i++) {
        if (t->special_text[i]) {
            json_object_set_new(config, special_keys[i], json_string(t->special_text[i]));
        }
    }
    json_object_set_new(config, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    json_object_set_new(config, "clean_up_tokenization_spaces", json_false());
    return config;
}
