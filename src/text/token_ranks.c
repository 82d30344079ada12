#include "text/token_ranks.h"

#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "text/step_types.h"
#include "text/tokenizer_parts.h"

static spar_status begin_token(sp_token_ranks *r, spar_error *err) {
    void *memory = r->begins;
    const spar_status status = sp_mem_grow(&memory, &r->capacity, r->n + 1, sizeof *r->begins, err);
    r->begins = memory;
    if (status == SPAR_OK) {
        r->begins[r->n++] = r->text.len;
    }
    return status;
}

spar_status sp_token_ranks_add_special(sp_token_ranks *r, const char *text, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(begin_token(r, err));
    r->n_special = r->n;
    sp_str_puts(&r->text, text);
    SPAR_TRY(sp_str_status(&r->text, err));
done:
    return status;
}

spar_status sp_token_ranks_add(sp_token_ranks *r, const char *base64, size_t n, bool *good,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str bytes = SP_STR_INIT;
    *good = sp_base64_decode(base64, n, &bytes) && bytes.len > 0;
    SPAR_TRY(sp_str_status(&bytes, err));
    if (*good) {
        SPAR_TRY(begin_token(r, err));
        for (size_t i = 0; i < bytes.len; i++) {
            sp_str_put_utf8(&r->text, sp_byte_to_char((unsigned char)bytes.data[i]));
        }
        SPAR_TRY(sp_str_status(&r->text, err));
    }
done:
    sp_str_release(&bytes);
    return status;
}

spar_status sp_token_ranks_json(const sp_token_ranks *r, const char *pre, json_t **out,
                                const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    void *tokens = NULL, *types = NULL, *scores = NULL;
    SPAR_TRY(sp_mem_calloc(&tokens, r->n, sizeof(sp_bytes), err));
    SPAR_TRY(sp_mem_calloc(&types, r->n, sizeof(int32_t), err));
    SPAR_TRY(sp_mem_calloc(&scores, r->n, sizeof(float), err));
    for (size_t i = 0; i < r->n; i++) {
        const size_t end = i + 1 < r->n ? r->begins[i + 1] : r->text.len;
        ((sp_bytes *)tokens)[i] = (sp_bytes){r->text.data + r->begins[i], end - r->begins[i]};
        ((int32_t *)types)[i] = i < r->n_special ? SP_TOKEN_CONTROL : SP_TOKEN_NORMAL;
        ((float *)scores)[i] = -(float)i; /* exact: there are fewer than 2^24 */
    }
    const sp_vocab_spec spec = {.kind = SP_VOCAB_BYTE_LEVEL,
                                .tokens = tokens,
                                .n_tokens = r->n,
                                .types = types,
                                .scores = scores,
                                .pre = {pre, strlen(pre)},
                                .bos = -1,
                                .eos = -1,
                                .pad = -1,
                                .unk = -1,
                                .add_bos = 0};
    SPAR_TRY(sp_vocab_spec_json(&spec, where, out, err));
    json_object_set_new(json_object_get(*out, "model"), "ignore_merges", json_true());
done:
    free(tokens);
    free(types);
    free(scores);
    return status;
}

json_t *sp_token_ranks_begin_json(const char *bos, int64_t id) {
    return json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[], s:{s:{s:s, s:[I], s:[s]}}}",
                     "type", "TemplateProcessing", "single", "SpecialToken", "id", bos, "type_id",
                     0, "Sequence", "id", "A", "type_id", 0, "pair", "special_tokens", bos, "id",
                     bos, "ids", (json_int_t)id, "tokens", bos);
}

void sp_token_ranks_release(sp_token_ranks *r) {
    free(r->begins);
    sp_str_release(&r->text);
    *r = (sp_token_ranks)SP_TOKEN_RANKS_INIT;
}
