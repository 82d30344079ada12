/* A tokenizer's file, of whichever kind, and the files beside it. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "text/tokenizer_parts.h"
#include "text/vocab_files.h"

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

static bool is_named(const char *name, const char *wanted) {
    return name && strcmp(name, wanted) == 0;
}

/* "chat_template" is a string, or a list of {name, template} of which "default" is taken, and
 * "tool_use" for conversations with tools. */
static spar_status take_template(spar_tokenizer *t, const json_t *value, const char *where,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    const char *text = json_string_value(value);
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        const char *named = json_string_value(json_object_get(item, "template"));
        text = !text || is_named(name, "default") ? named : text;
        if (named && is_named(name, "tool_use")) {
            SPAR_TRY(keep(t, named, strlen(named), &t->tool_template, err));
        }
    }
    if (value && !json_is_null(value) && !text) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: chat_template: expected a string or a list "
                           "of templates, found %s",
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
    SPAR_TRY(sp_json_load_if_there(out, *path, err));
    if (*out && !json_is_object(*out)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected an object, found %s", *path,
                           sp_json_type_name(*out)));
    }
done:
    return status;
}

/* A template's file, where it exists. */
static spar_status take_file(spar_tokenizer *t, const char *dir, const char *name, const char **out,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    char *text = NULL;
    size_t n;
    SPAR_TRY(sp_path_join(&path, dir, name, err));
    if (sp_file_exists(path)) {
        SPAR_TRY(sp_file_read(path, 16 << 20, &text, &n, err));
        SPAR_TRY(keep(t, text, n, out, err));
    }
done:
    free(path);
    free(text);
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

/* config: tokenizer_config.json, or NULL; a reference is kept. A processor's chat_template.json
 * counts where the tokenizer has no template. */
static spar_status read_folder(spar_tokenizer *t, const char *dir, json_t *config,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    json_t *map = NULL;
    json_t *model = NULL;
    json_t *processor = NULL;
    t->config = json_incref(config);
    SPAR_TRY(take_specials(t, t->config, err));
    SPAR_TRY(sp_path_join(&path, dir, "tokenizer_config.json", err));
    SPAR_TRY(take_template(t, json_object_get(t->config, "chat_template"), path, err));
    SPAR_TRY(load_beside(&map, dir, "special_tokens_map.json", &path, err));
    SPAR_TRY(take_specials(t, map, err));
    SPAR_TRY(load_beside(&model, dir, "config.json", &path, err));
    SPAR_TRY(take_config_ids(t, model, err));
    SPAR_TRY(load_beside(&processor, dir, "chat_template.json", &path, err));
    if (!t->chat_template) {
        SPAR_TRY(take_template(t, json_object_get(processor, "chat_template"), path, err));
    }
    SPAR_TRY(take_file(t, dir, "chat_template.jinja", &t->chat_template, err));
    SPAR_TRY(take_file(t, dir, "additional_chat_templates/tool_use.jinja", &t->tool_template, err));
done:
    json_decref(processor);
    json_decref(map);
    json_decref(model);
    free(path);
    return status;
}

/* ---- which file, and of which kind ---- */

/* The file of a folder that is read; where none of them is there, the first is what is missed. */
static spar_status find_file(const char *dir, char **out, spar_error *err) {
    static const char *const names[] = {"tokenizer.json", "tekken.json", "tokenizer.model",
                                        "spiece.model",   "spm.model",   "vocab.json",
                                        "vocab.txt"};
    spar_status status = SPAR_OK;
    char *path = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        SPAR_TRY(sp_path_join(&path, dir, names[i], err));
        if (sp_file_exists(path)) {
            *out = path;
            return SPAR_OK;
        }
        free(path);
        path = NULL;
    }
    SPAR_TRY(sp_path_join(out, dir, names[0], err));
done:
    free(path);
    return status;
}

bool sp_tokenizer_in(const char *dir) {
    char *path = NULL;
    const bool found = find_file(dir, &path, NULL) == SPAR_OK && sp_file_exists(path);
    free(path);
    return found;
}

static bool has_name(const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    return strcmp(slash ? slash + 1 : path, name) == 0;
}

enum { MAX_FILE = 256 << 20 };

static spar_status json_of_merges(json_t **out, const char *file, const char *folder,
                                  const json_t *config, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *vocab = NULL;
    char *path = NULL;
    char *merges = NULL;
    size_t n;
    SPAR_TRY(sp_json_load(&vocab, file, err));
    SPAR_TRY(sp_path_join(&path, folder, "merges.txt", err));
    SPAR_TRY(sp_file_read(path, MAX_FILE, &merges, &n, err));
    SPAR_TRY(sp_merges_json(out, vocab, merges, n, config, file, err));
done:
    json_decref(vocab);
    free(path);
    free(merges);
    return status;
}

/* A file whose name does not say what it is: tokenizer.json all the same, SentencePiece's, or
 * tiktoken's ranks. */
static spar_status json_of_model(json_t **out, const char *file, const json_t *config, bool txt,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    char *bytes = NULL;
    size_t n;
    SPAR_TRY(sp_file_read(file, MAX_FILE, &bytes, &n, err));
    if (n > 0 && bytes[0] == '{') {
        SPAR_TRY(sp_json_parse(out, bytes, n, file, err));
    } else if (txt) {
        SPAR_TRY(sp_vocab_txt_json(out, bytes, n, config, file, err));
    } else if (sp_is_sentencepiece(bytes, n)) {
        SPAR_TRY(sp_sentencepiece_json(out, bytes, n, config, file, err));
    } else {
        SPAR_TRY(sp_tiktoken_json(out, bytes, n, file, err));
    }
done:
    free(bytes);
    return status;
}

/* Files other than tokenizer.json have not the tokens that were added later;
 * tokenizer_config.json lists them. */
static spar_status add_tokens(json_t *root, const json_t *config, const char *where,
                              spar_error *err) {
    json_t *list = json_object_get(root, "added_tokens");
    const char *key;
    json_t *token;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, token) {
        char *end;
        const long long id = strtoll(key, &end, 10);
        size_t i = 0;
        while (i < json_array_size(list) &&
               json_integer_value(json_object_get(json_array_get(list, i), "id")) != id) {
            i++;
        }
        if (*end || !json_is_object(token)) {
            return spar_fail(err, SPAR_FORMAT,
                             "%s: tokenizer_config.json: added_tokens_decoder: expected tokens by "
                             "id, found %.60s",
                             where, key);
        }
        json_t *copy = json_copy(token);
        json_object_set_new(copy, "id", json_integer(id));
        if (i < json_array_size(list)) {
            json_array_set_new(list, i, copy);
        } else {
            json_array_append_new(list, copy);
        }
    }
    return SPAR_OK;
}

static bool ends_with(const char *path, const char *end) {
    const size_t n = strlen(path);
    const size_t m = strlen(end);
    return n >= m && strcmp(path + n - m, end) == 0;
}

/* The texts of tekken.json's tokens, which are not read, may hold U+0000. */
static spar_status load_json(json_t **out, const char *file, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *slash = strrchr(file, '/');
    char *text = NULL;
    size_t n;
    if (!strstr(slash ? slash + 1 : file, "tekken")) {
        return sp_json_load(out, file, err);
    }
    SPAR_TRY(sp_file_read(file, MAX_FILE, &text, &n, err));
    SPAR_TRY(sp_json_parse_row(out, text, n, file, err));
done:
    free(text);
    return status;
}

static spar_status json_of_file(json_t **out, const char *file, const char *folder, json_t **config,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *root = NULL;
    if (has_name(file, "vocab.json")) {
        SPAR_TRY(json_of_merges(&root, file, folder, *config, err));
    } else if (ends_with(file, ".json")) {
        SPAR_TRY(load_json(&root, file, err));
    } else {
        SPAR_TRY(json_of_model(&root, file, *config, ends_with(file, ".txt"), err));
    }
    if (sp_is_tekken(root)) {
        SPAR_TRY(sp_tekken_json(out, root, file, err));
        *config = *config ? *config : sp_tekken_config();
    } else {
        *out = json_incref(root);
    }
    if (!ends_with(file, ".json") || has_name(file, "vocab.json")) {
        SPAR_TRY(add_tokens(*out, *config, file, err));
    }
done:
    json_decref(root);
    return status;
}

spar_status spar_tokenizer_load(spar_tokenizer **out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_tokenizer *t = NULL;
    json_t *root = NULL;
    json_t *config = NULL;
    char *file = NULL;
    char *folder = NULL;
    char *beside = NULL;
    SPAR_TRY(sp_file_is_dir(path) ? find_file(path, &file, err)
                                  : sp_mem_strdup(&file, path, strlen(path), err));
    SPAR_TRY(sp_path_parent(&folder, file, err));
    SPAR_TRY(load_beside(&config, folder, "tokenizer_config.json", &beside, err));
    SPAR_TRY(json_of_file(&root, file, folder, &config, err));
    SPAR_TRY(sp_tokenizer_from_json(&t, root, file, err));
    SPAR_TRY(read_folder(t, folder, config, err));
    *out = t;
    t = NULL;
done:
    spar_tokenizer_free(t);
    json_decref(root);
    json_decref(config);
    free(file);
    free(folder);
    free(beside);
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
