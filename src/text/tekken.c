/* Mistral's tekken.json: ranks with their pattern, and control tokens whose ids come first. As
 * mistral-common reads it (tokens/tokenizers/tekken.py), with the BOS that its encoder adds. */
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "text/token_ranks.h"
#include "text/vocab_files.h"

/* Those of files that list none, by id (versions up to v7). */
static const char *const first_specials[] = {"<unk>",
                                             "<s>",
                                             "</s>",
                                             "[INST]",
                                             "[/INST]",
                                             "[AVAILABLE_TOOLS]",
                                             "[/AVAILABLE_TOOLS]",
                                             "[TOOL_RESULTS]",
                                             "[/TOOL_RESULTS]",
                                             "[TOOL_CALLS]",
                                             "[IMG]",
                                             "<pad>",
                                             "[IMG_BREAK]",
                                             "[IMG_END]",
                                             "[PREFIX]",
                                             "[MIDDLE]",
                                             "[SUFFIX]",
                                             "[SYSTEM_PROMPT]",
                                             "[/SYSTEM_PROMPT]",
                                             "[TOOL_CONTENT]"};
enum { FIRST_SPECIALS = sizeof first_specials / sizeof *first_specials, MAX_TOKENS = 1 << 24 };

/* What a file says of itself, checked. */
typedef struct tekken {
    const json_t *vocab, *specials; /* borrowed; specials NULL: the first ones */
    const char *pattern;
    int64_t n_special, n_vocab;
} tekken;

bool sp_is_tekken(const json_t *root) {
    return json_is_array(json_object_get(root, "vocab")) &&
           json_is_object(json_object_get(root, "config")) && !json_object_get(root, "model");
}

static spar_status read_config(tekken *t, const json_t *root, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *config = json_object_get(root, "config");
    int64_t size;
    t->vocab = json_object_get(root, "vocab");
    t->specials = json_object_get(root, "special_tokens");
    t->specials = json_is_null(t->specials) ? NULL : t->specials;
    if (t->specials && !json_is_array(t->specials)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: special_tokens: expected a list, found %s", where,
                           sp_json_type_name(t->specials)));
    }
    const int64_t listed = t->specials ? (int64_t)json_array_size(t->specials) : FIRST_SPECIALS;
    const int64_t ranks = (int64_t)json_array_size(t->vocab);
    SPAR_TRY(sp_json_get_string(config, "pattern", &t->pattern, where, err));
    SPAR_TRY(sp_json_get_int_or(config, "default_num_special_tokens", listed, MAX_TOKENS, listed,
                                &t->n_special, where, err));
    SPAR_TRY(sp_json_get_int_or(config, "default_vocab_size", t->n_special + 1,
                                t->n_special + ranks, t->n_special + ranks, &size, where, err));
    t->n_vocab = size - t->n_special;
done:
    return status;
}

/* The listed names by their ids; NULL where none is listed. */
static spar_status place_specials(const tekken *t, const char **names, const char *where,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; !t->specials && i < FIRST_SPECIALS; i++) {
        names[i] = first_specials[i];
    }
    for (size_t i = 0; i < json_array_size(t->specials); i++) {
        const json_t *item = json_array_get(t->specials, i);
        const char *name;
        int64_t rank;
        SPAR_TRY(sp_json_get_int(item, "rank", 0, t->n_special - 1, &rank, where, err));
        SPAR_TRY(sp_json_get_string(item, "token_str", &name, where, err));
        if (names[rank]) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: special_tokens: expected one token of rank %lld, found %.40s "
                               "and %.40s",
                               where, (long long)rank, names[rank], name));
        }
        names[rank] = name;
    }
done:
    return status;
}

static spar_status add_specials(sp_token_ranks *r, const tekken *t, int64_t *bos, const char *where,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    void *names = NULL;
    char filler[40];
    *bos = -1;
    SPAR_TRY(sp_mem_calloc(&names, (size_t)t->n_special, sizeof(const char *), err));
    SPAR_TRY(place_specials(t, names, where, err));
    for (int64_t i = 0; i < t->n_special; i++) {
        const char *name = ((const char **)names)[i];
        snprintf(filler, sizeof filler, "<SPECIAL_%lld>", (long long)i);
        *bos = name && strcmp(name, "<s>") == 0 ? i : *bos;
        SPAR_TRY(sp_token_ranks_add_special(r, name ? name : filler, err));
    }
done:
    free(names);
    return status;
}

static spar_status add_ranks(sp_token_ranks *r, const tekken *t, const char *where,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    for (int64_t i = 0; i < t->n_vocab; i++) {
        const json_t *item = json_array_get(t->vocab, (size_t)i);
        const json_t *bytes = json_object_get(item, "token_bytes");
        int64_t rank;
        bool good;
        SPAR_TRY(sp_json_get_int(item, "rank", i, i, &rank, where, err));
        SPAR_TRY(
            sp_token_ranks_add(r, json_string_value(bytes), json_string_length(bytes), &good, err));
        if (!good) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: vocab: token_bytes of rank %lld: expected base64, found %.40s",
                               where, (long long)i,
                               json_is_string(bytes) ? json_string_value(bytes)
                                                     : sp_json_type_name(bytes)));
        }
    }
done:
    return status;
}

/* The file's own pattern in place of the pre-tokeniser's. */
static void set_pattern(json_t *root, const char *pattern) {
    json_t *steps = json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers");
    json_object_set_new(json_object_get(json_array_get(steps, 0), "pattern"), "Regex",
                        json_string(pattern));
}

spar_status sp_tekken_json(json_t **out, const json_t *root, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    tekken t;
    int64_t bos;
    sp_token_ranks r = SP_TOKEN_RANKS_INIT;
    SPAR_TRY(read_config(&t, root, where, err));
    SPAR_TRY(add_specials(&r, &t, &bos, where, err));
    SPAR_TRY(add_ranks(&r, &t, where, err));
    SPAR_TRY(sp_token_ranks_json(&r, "tekken", out, where, err));
    set_pattern(*out, t.pattern);
    json_object_set_new(*out, "post_processor",
                        bos >= 0 ? sp_token_ranks_begin_json("<s>", bos) : json_null());
done:
    sp_token_ranks_release(&r);
    return status;
}

json_t *sp_tekken_config(void) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                     "bos_token", "<s>", "eos_token", "</s>", "pad_token", "<pad>", "unk_token",
                     "<unk>", "clean_up_tokenization_spaces", 0);
}
