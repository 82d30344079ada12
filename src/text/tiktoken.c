/* tiktoken's files of ranks. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "text/pre_names.h"
#include "text/token_ranks.h"
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

/* One line: the token in base64, a space, its rank, which is the number of the line. */
static spar_status take_line(sp_token_ranks *r, const char *line, size_t n, const char *where,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    const char *space = memchr(line, ' ', n);
    char number[24];
    const size_t digits = space ? n - (size_t)(space - line) - 1 : 0;
    bool good = space && digits > 0 && digits < sizeof number;
    if (good) {
        memcpy(number, space + 1, digits);
        number[digits] = '\0';
        good = isdigit((unsigned char)number[0]) && strtoull(number, NULL, 10) == r->n;
    }
    if (good) {
        SPAR_TRY(sp_token_ranks_add(r, line, (size_t)(space - line), &good, err));
    }
    if (!good) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: line %zu: expected a token in base64 and the rank %zu, found %.*s",
                           where, r->n + 1, r->n, (int)(n < 60 ? n : 60), line));
    }
done:
    return status;
}

static spar_status read_lines(sp_token_ranks *r, const char *bytes, size_t n, const char *where,
                              spar_error *err) {
    spar_status status = SPAR_OK;
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

/* With the BOS that Llama 3 has. */
static spar_status make_json(const sp_token_ranks *r, const struct known *k, const char *where,
                             json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *root = NULL;
    SPAR_TRY(sp_token_ranks_json(r, k->pre, &root, where, err));
    json_object_set_new(root, "added_tokens", specials_json(k));
    if (sp_pre_find(k->pre, strlen(k->pre))->add_bos) {
        json_object_set_new(root, "post_processor",
                            sp_token_ranks_begin_json("<|begin_of_text|>", k->ranks + k->skip));
    }
    *out = root;
done:
    return status;
}

spar_status sp_tiktoken_json(json_t **out, const char *bytes, size_t n, const char *where,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    sp_token_ranks r = SP_TOKEN_RANKS_INIT;
    SPAR_TRY(read_lines(&r, bytes, n, where, err));
    const struct known *k = find_known(r.n);
    if (!k) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: expected the 128000 ranks of Llama 3, or those of Qwen, "
                           "cl100k_base, o200k_base or r50k_base, found %zu: such a file does not "
                           "say its pattern",
                           where, r.n));
    }
    SPAR_TRY(make_json(&r, k, where, out, err));
done:
    sp_token_ranks_release(&r);
    return status;
}
