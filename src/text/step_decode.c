/* Decoders: from tokens to text. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "text/step_types.h"

/* All tokens become one piece with the given bytes. */
static spar_status fuse_into(sp_pieces *tokens, sp_str *text, spar_error *err) {
    spar_status status = sp_str_status(text, err);
    sp_pieces_release(tokens);
    if (status == SPAR_OK) {
        status = sp_pieces_add(tokens, sp_str_get(text), text->len, err);
    }
    sp_str_release(text);
    return status;
}

/* The bytes of a token written in the byte-level alphabet; a token with other characters (an added
 * token) stands for itself. */
static void from_alphabet(const sp_str *token, sp_str *out) {
    const char *s = sp_str_get(token);
    size_t before = out->len;
    for (size_t at = 0; at < token->len;) {
        unsigned c;
        at += sp_utf8_decode(s + at, token->len - at, &c);
        int byte = sp_char_to_byte(c);
        if (byte < 0) {
            sp_str_truncate(out, before);
            sp_str_append(out, s, token->len);
            return;
        }
        sp_str_putc(out, (char)(unsigned char)byte);
    }
}

static spar_status decode_byte_level(const sp_step *step, sp_pieces *tokens, spar_error *err) {
    sp_str bytes = SP_STR_INIT;
    sp_str text = SP_STR_INIT;
    (void)step;
    for (size_t i = 0; i < tokens->n; i++) {
        from_alphabet(&tokens->items[i].text, &bytes);
    }
    sp_utf8_repair(sp_str_get(&bytes), bytes.len, &text);
    spar_status status = sp_str_status(&bytes, err);
    sp_str_release(&bytes);
    if (status != SPAR_OK) {
        sp_str_release(&text);
        return status;
    }
    return fuse_into(tokens, &text, err);
}

static spar_status read_replace(sp_step *step, const json_t *value, sp_arena *arena,
                                const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_step_pattern(step, value, arena, where, err));
    SPAR_TRY(sp_step_string(value, "content", NULL, arena, &step->content, where, err));
done:
    return status;
}

static spar_status decode_replace(const sp_step *step, sp_pieces *tokens, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < tokens->n; i++) {
        SPAR_TRY(sp_step_replace(step, &tokens->items[i].text, NULL, err));
    }
done:
    return status;
}

/* The byte that a token <0xHH> stands for, or -1. */
static int byte_of(const sp_str *token) {
    const char *s = sp_str_get(token);
    if (token->len != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') {
        return -1;
    }
    char digits[3] = {s[3], s[4], 0};
    if (!isxdigit((unsigned char)s[3]) || !isxdigit((unsigned char)s[4])) {
        return -1;
    }
    return (int)strtol(digits, NULL, 16);
}

/* A run of byte tokens is text when it is well-formed, else a piece of U+FFFD for each. */
static spar_status flush_bytes(sp_str *bytes, sp_pieces *out, spar_error *err) {
    spar_status status = sp_str_status(bytes, err);
    if (status != SPAR_OK || bytes->len == 0) {
        return status;
    }
    if (sp_utf8_is_valid(bytes->data, bytes->len)) {
        SPAR_TRY(sp_pieces_add(out, bytes->data, bytes->len, err));
    } else {
        for (size_t i = 0; i < bytes->len; i++) {
            SPAR_TRY(sp_pieces_add(out, "\xEF\xBF\xBD", 3, err));
        }
    }
    sp_str_clear(bytes);
done:
    return status;
}

static spar_status decode_byte_fallback(const sp_step *step, sp_pieces *tokens, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str bytes = SP_STR_INIT;
    sp_pieces out = {0};
    (void)step;
    for (size_t i = 0; i < tokens->n; i++) {
        int byte = byte_of(&tokens->items[i].text);
        if (byte >= 0) {
            sp_str_putc(&bytes, (char)(unsigned char)byte);
            continue;
        }
        SPAR_TRY(flush_bytes(&bytes, &out, err));
        SPAR_TRY(sp_pieces_add(&out, sp_str_get(&tokens->items[i].text), tokens->items[i].text.len,
                               err));
    }
    SPAR_TRY(flush_bytes(&bytes, &out, err));
    sp_pieces_release(tokens);
    *tokens = out;
    memset(&out, 0, sizeof out);
done:
    sp_pieces_release(&out);
    sp_str_release(&bytes);
    return status;
}

static spar_status decode_fuse(const sp_step *step, sp_pieces *tokens, spar_error *err) {
    sp_str text = SP_STR_INIT;
    (void)step;
    for (size_t i = 0; i < tokens->n; i++) {
        sp_str_append(&text, sp_str_get(&tokens->items[i].text), tokens->items[i].text.len);
    }
    return fuse_into(tokens, &text, err);
}

static spar_status read_strip(sp_step *step, const json_t *value, sp_arena *arena,
                              const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t start, stop;
    SPAR_TRY(sp_step_string(value, "content", NULL, arena, &step->content, where, err));
    SPAR_TRY(sp_json_get_int_or(value, "start", 0, 1 << 20, 0, &start, where, err));
    SPAR_TRY(sp_json_get_int_or(value, "stop", 0, 1 << 20, 0, &stop, where, err));
    step->start = (long)start;
    step->stop = (long)stop;
done:
    return status;
}

/* Cut up to `start` copies of the character from the front of each token, `stop` from its end. */
static spar_status decode_strip(const sp_step *step, sp_pieces *tokens, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t n = strlen(step->content);
    for (size_t i = 0; i < tokens->n && n > 0; i++) {
        sp_str *token = &tokens->items[i].text;
        const char *s = sp_str_get(token);
        size_t begin = 0;
        size_t end = token->len;
        for (long k = 0;
             k < step->start && end - begin >= n && memcmp(s + begin, step->content, n) == 0; k++) {
            begin += n;
        }
        for (long k = 0;
             k < step->stop && end - begin >= n && memcmp(s + end - n, step->content, n) == 0;
             k++) {
            end -= n;
        }
        sp_str out = SP_STR_INIT;
        sp_str_append(&out, s + begin, end - begin);
        SPAR_TRY(sp_str_status(&out, err));
        sp_str_release(token);
        *token = out;
    }
done:
    return status;
}

static spar_status read_metaspace(sp_step *step, const json_t *value, sp_arena *arena,
                                  const char *where, spar_error *err) {
    step->content = " ";
    return sp_step_metaspace(step, value, arena, where, err);
}

static void erase(sp_str *text, const char *what) {
    const size_t n = strlen(what);
    size_t kept = 0;
    for (size_t at = 0; at < text->len;) {
        if (n > 0 && text->len - at >= n && memcmp(text->data + at, what, n) == 0) {
            at += n;
        } else {
            text->data[kept++] = text->data[at++];
        }
    }
    sp_str_truncate(text, kept);
}

/* Marks become spaces; those of the first token go, for encoding put one in front. */
static spar_status decode_metaspace(const sp_step *step, sp_pieces *tokens, spar_error *err) {
    if (tokens->n > 0 && step->prepend != SP_PREPEND_NEVER) {
        erase(&tokens->items[0].text, step->text);
    }
    return decode_replace(step, tokens, err);
}

/* ---- decoders of tokenizers that split at white space ---- */

/* Replace every `from` by `to`. */
static spar_status replace_all(sp_str *text, const char *from, const char *to, spar_error *err) {
    const sp_step step = {.text = from, .content = to};
    return sp_step_replace(&step, text, NULL, err);
}

/* English as it is written: no space before punctuation and contractions. */
static spar_status clean_up(sp_str *text, spar_error *err) {
    static const char *const rules[][2] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        SPAR_TRY(replace_all(text, rules[i][0], rules[i][1], err));
    }
done:
    return status;
}

static spar_status read_word_piece(sp_step *step, const json_t *value, sp_arena *arena,
                                   const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_step_string(value, "prefix", "##", arena, &step->text, where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "cleanup", true, &step->clean, where, err));
done:
    return status;
}

/* A token that goes on a word loses its prefix, others get a space before them. */
static spar_status decode_word_piece(const sp_step *step, sp_pieces *tokens, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t n = strlen(step->text);
    for (size_t i = 0; i < tokens->n; i++) {
        sp_str *token = &tokens->items[i].text;
        const char *s = sp_str_get(token);
        bool within = i > 0 && token->len >= n && memcmp(s, step->text, n) == 0;
        sp_str out = SP_STR_INIT;
        sp_str_puts(&out, i > 0 && !within ? " " : "");
        sp_str_append(&out, s + (within ? n : 0), token->len - (within ? n : 0));
        sp_str_release(token);
        *token = out;
        SPAR_TRY(sp_str_status(token, err));
        if (step->clean) {
            SPAR_TRY(clean_up(token, err));
        }
    }
done:
    return status;
}

static spar_status read_bpe(sp_step *step, const json_t *value, sp_arena *arena, const char *where,
                            spar_error *err) {
    return sp_step_string(value, "suffix", "</w>", arena, &step->text, where, err);
}

/* The suffix ends a word; after the last one there is no space. */
static spar_status decode_bpe(const sp_step *step, sp_pieces *tokens, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < tokens->n; i++) {
        SPAR_TRY(
            replace_all(&tokens->items[i].text, step->text, i + 1 < tokens->n ? " " : "", err));
    }
done:
    return status;
}

static spar_status read_ctc(sp_step *step, const json_t *value, sp_arena *arena, const char *where,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_step_string(value, "pad_token", "<pad>", arena, &step->text, where, err));
    SPAR_TRY(sp_step_string(value, "word_delimiter_token", "|", arena, &step->content, where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "cleanup", true, &step->clean, where, err));
done:
    return status;
}

/* Repeated tokens are one, padding goes, and the delimiter is a space (with cleanup). */
static spar_status decode_ctc(const sp_step *step, sp_pieces *tokens, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_pieces out = {0};
    for (size_t i = 0; i < tokens->n; i++) {
        const sp_str *token = &tokens->items[i].text;
        const sp_str *last = i > 0 ? &tokens->items[i - 1].text : NULL;
        if (last && last->len == token->len &&
            memcmp(sp_str_get(last), sp_str_get(token), token->len) == 0) {
            continue;
        }
        SPAR_TRY(sp_pieces_add(&out, sp_str_get(token), token->len, err));
        sp_str *kept = &out.items[out.n - 1].text;
        SPAR_TRY(replace_all(kept, step->text, "", err));
        if (step->clean) {
            SPAR_TRY(clean_up(kept, err));
            SPAR_TRY(replace_all(kept, step->content, " ", err));
        }
        if (kept->len == 0) {
            sp_str_release(kept);
            out.n--;
        }
    }
    sp_pieces_release(tokens);
    *tokens = out;
    out = (sp_pieces){0};
done:
    sp_pieces_release(&out);
    return status;
}

const sp_step_type sp_decoder_types[] = {
    {.name = "ByteLevel", .stage = SP_DECODER, .decode = decode_byte_level},
    {.name = "Replace", .stage = SP_DECODER, .read = read_replace, .decode = decode_replace},
    {.name = "ByteFallback", .stage = SP_DECODER, .decode = decode_byte_fallback},
    {.name = "Fuse", .stage = SP_DECODER, .decode = decode_fuse},
    {.name = "Strip", .stage = SP_DECODER, .read = read_strip, .decode = decode_strip},
    {.name = "WordPiece",
     .stage = SP_DECODER,
     .read = read_word_piece,
     .decode = decode_word_piece},
    {.name = "BPEDecoder", .stage = SP_DECODER, .read = read_bpe, .decode = decode_bpe},
    {.name = "CTC", .stage = SP_DECODER, .read = read_ctc, .decode = decode_ctc},
    {.name = "Metaspace", .stage = SP_DECODER, .read = read_metaspace, .decode = decode_metaspace},
    {.name = NULL}};
