/* tiktoken's files of ranks. A word is merged by the rank of what two parts would give, which is
 * BPE with a merge for each way to cut a token into two others. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "text/pre_names.h"
#include "text/step_types.h"
#include "text/tokenizer_parts.h"
#include "text/vocab_files.h"

/* A file does not say its pattern nor its special tokens. */
static const struct known {
    int32_t ranks; /* of the file */
    const char *name, *pre;
    const char *specials; /* separated by spaces; they take the ids after the ranks */
    int32_t reserved;     /* ids of the specials in all; those unnamed are reserved tokens */
    int32_t skip;         /* ids between the ranks and the specials */
} known[] = {
    {128000, "Llama 3", "llama-bpe",
     "<|begin_of_text|> <|end_of_text|> <|reserved_special_token_0|> <|reserved_special_token_1|> "
     "<|reserved_special_token_2|> <|reserved_special_token_3|> <|start_header_id|> "
     "<|end_header_id|> <|reserved_special_token_4|> <|eot_id|>",
     256, 0},
    {151643, "Qwen", "stablelm2", "<|endoftext|> <|im_start|> <|im_end|>", 3, 0},
    {100256, "cl100k_base", "dbrx", " <|endoftext|> <|fim_prefix|> <|fim_middle|> <|fim_suffix|>",
     4, 1},
    {199998, "o200k_base", "gpt-4o", "<|endoftext|>", 1, 0},
    {50256, "r50k_base", "gpt-2", "<|endoftext|>", 1, 0},
};

/* Tokens by rank, in the byte-level alphabet. */
typedef struct ranks {
    sp_bytes *tokens; /* owned; their bytes are in text */
    size_t *begins;   /* owned: where a token begins in text */
    size_t n, tokens_capacity, begins_capacity;
    sp_str text;
} ranks;

/* One line: the token in base64, a space, its rank, which is the number of the line. */
static spar_status take_line(ranks *r, const char *line, size_t n, const char *where,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    const char *space = memchr(line, ' ', n);
    sp_str bytes = SP_STR_INIT;
    char number[24];
    void *memory = r->begins;
    const size_t digits = space ? n - (size_t)(space - line) - 1 : 0;
    bool good = space && digits > 0 && digits < sizeof number &&
                sp_base64_decode(line, (size_t)(space - line), &bytes) && bytes.len > 0;
    if (good) {
        memcpy(number, space + 1, digits);
        number[digits] = '\0';
        good = isdigit((unsigned char)number[0]) && strtoull(number, NULL, 10) == r->n;
    }
    if (!good) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: line %zu: expected a token in base64 and the rank %zu, found %.*s",
                           where, r->n + 1, r->n, (int)(n < 60 ? n : 60), line));
    }
    SPAR_TRY(sp_mem_grow(&memory, &r->begins_capacity, r->n + 1, sizeof *r->begins, err));
    r->begins = memory;
    r->begins[r->n++] = r->text.len;
    for (size_t i = 0; i < bytes.len; i++) {
        sp_str_put_utf8(&r->text, sp_byte_to_char((unsigned char)bytes.data[i]));
    }
    SPAR_TRY(sp_str_status(&r->text, err));
done:
    sp_str_release(&bytes);
    return status;
}

static spar_status read_ranks(ranks *r, const char *bytes, size_t n, const char *where,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    for (const char *at = bytes, *end = bytes + n; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;
        size_t length = (size_t)(stop - at);
        length -= length > 0 && at[length - 1] == '\r';
        if (length > 0) {
            SPAR_TRY(take_line(r, at, length, where, err));
        }
        at = newline ? newline + 1 : end;
    }
    SPAR_TRY(sp_mem_calloc(&memory, r->n, sizeof *r->tokens, err));
    r->tokens = memory;
    for (size_t i = 0; i < r->n; i++) {
        const size_t end = i + 1 < r->n ? r->begins[i + 1] : r->text.len;
        r->tokens[i] = (sp_bytes){r->text.data + r->begins[i], end - r->begins[i]};
    }
done:
    return status;
}

static const struct known *find_known(size_t n) {
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if ((size_t)known[i].ranks == n) {
            return &known[i];
        }
    }
    return NULL;
}

/* The special tokens after the ranks: added_tokens of tokenizer.json. */
static json_t *specials_json(const struct known *k) {
    json_t *list = json_array();
    const char *at = k->specials + (k->specials[0] == ' ');
    int unnamed = 0;
    for (int i = 0; i < k->reserved; i++) {
        size_t n = strcspn(at, " ");
        char text[64];
        if (n > 0) {
            snprintf(text, sizeof text, "%.*s", (int)n, at);
        } else {
            snprintf(text, sizeof text, "<|reserved_special_token_%d|>", 5 + unnamed++);
        }
        at += n + (at[n] == ' ');
        json_array_append_new(list,
                              json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id",
                                        k->ranks + k->skip + i, "content", text, "single_word", 0,
                                        "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
    }
    return list;
}

/* Take the ids of tokens, with the BOS that Llama 3 has, from a description. */
static spar_status make_json(const ranks *r, const struct known *k, const char *where, json_t **out,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    void *scores = NULL;
    json_t *root = NULL;
    SPAR_TRY(sp_mem_calloc(&scores, r->n, sizeof(float), err));
    for (size_t i = 0; i < r->n; i++) {
        ((float *)scores)[i] = -(float)i;
    }
    sp_vocab_spec spec = {.kind = SP_VOCAB_BYTE_LEVEL,
                          .tokens = r->tokens,
                          .n_tokens = r->n,
                          .scores = scores,
                          .pre = {k->pre, strlen(k->pre)},
                          .bos = -1,
                          .eos = -1,
                          .pad = -1,
                          .unk = -1,
                          .add_bos = -1};
    SPAR_TRY(sp_vocab_spec_json(&spec, where, &root, err));
    json_object_set_new(root, "added_tokens", specials_json(k));
    json_object_set_new(json_object_get(root, "model"), "ignore_merges", json_true());
    if (sp_pre_find(k->pre, strlen(k->pre))->add_bos) {
        const char *bos = "<|begin_of_text|>";
        json_object_set_new(
            root, "post_processor",
            json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[], s:{s:{s:s, s:[i], s:[s]}}}",
                      "type", "TemplateProcessing", "single", "SpecialToken", "id", bos, "type_id",
                      0, "Sequence", "id", "A", "type_id", 0, "pair", "special_tokens", bos, "id",
                      bos, "ids", k->ranks + k->skip, "tokens", bos));
    }
    *out = root;
    root = NULL;
done:
    json_decref(root);
    free(scores);
    return status;
}

spar_status sp_tiktoken_json(json_t **out, const char *bytes, size_t n, const char *where,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    ranks r = {.text = SP_STR_INIT};
    SPAR_TRY(read_ranks(&r, bytes, n, where, err));
    const struct known *k = find_known(r.n);
    if (!k) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: expected the 128000 ranks of Llama 3, or those of Qwen, "
                           "cl100k_base, o200k_base or r50k_base, found %zu: such a file does not "
                           "say its pattern",
                           where, r.n));
        goto done;
    }
    SPAR_TRY(make_json(&r, k, where, out, err));
done:
    free(r.tokens);
    free(r.begins);
    sp_str_release(&r.text);
    return status;
}
