#include "text/word_model.h"

#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"

static const sp_word_model_type *const types[] = {&sp_bpe_type, &sp_unigram_type,
                                                  &sp_word_piece_type, &sp_word_level_type};

/* What a file of before the types were written is: each model has a member that no other has. */
static const char *guess_type(const json_t *model) {
    if (json_object_get(model, "merges")) {
        return "BPE";
    }
    if (json_object_get(model, "max_input_chars_per_word")) {
        return "WordPiece";
    }
    return json_is_array(json_object_get(model, "vocab")) ? "Unigram" : "WordLevel";
}

spar_status sp_word_model_find(const sp_word_model_type **out, const json_t *model,
                               const char *where, spar_error *err) {
    const char *name;
    spar_status status = sp_json_get_string_or(model, "type", guess_type(model), &name, where, err);
    for (size_t i = 0; status == SPAR_OK && i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(types[i]->name, name) == 0) {
            *out = types[i];
            return SPAR_OK;
        }
    }
    return status != SPAR_OK
               ? status
               : spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: model.type: expected BPE, Unigram, WordPiece or WordLevel, found "
                           "%.60s",
                           where, name);
}

spar_status sp_word_model_token(const sp_vocabulary *v, const json_t *model, const char *key,
                                int32_t *id, const char *where, spar_error *err) {
    const char *text;
    spar_status status = sp_json_get_string_or(model, key, NULL, &text, where, err);
    *id = status == SPAR_OK && text ? sp_vocabulary_find(v, text, strlen(text)) : -1;
    if (status == SPAR_OK && text && *id < 0) {
        status = spar_fail(err, SPAR_FORMAT,
                           "%s: model.%s: expected a token of the vocabulary, found %.60s", where,
                           key, text);
    }
    return status;
}

void sp_byte_tokens(const sp_vocabulary *v, int32_t ids[256]) {
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
        ids[i] = sp_vocabulary_find_own(v, name, 6);
    }
}

bool sp_has_bytes(const int32_t ids[256], const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (ids[(uint8_t)s[i]] < 0) {
            return false;
        }
    }
    return true;
}

spar_status sp_unknown_word(const char *word, size_t n, spar_error *err) {
    return spar_fail(err, SPAR_INVALID,
                     "tokenizer: expected tokens of the vocabulary, which has none for unknown "
                     "words, found %.*s",
                     (int)(n < 60 ? n : 60), word);
}
