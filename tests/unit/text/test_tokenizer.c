/* Tokenizers against the ids and texts of Hugging Face tokenizers (shared/golden/tokenizers). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/base64.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "spar/token_stream.h"
#include "spar/tokenizer.h"
#include "support.h"
#include "vocab_lines.h"

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static bool same_ids(const json_t *want, const int32_t *got, size_t n) {
    if (json_array_size(want) != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (json_integer_value(json_array_get(want, i)) != got[i]) {
            return false;
        }
    }
    return true;
}

/* special: also what BOS and EOS make of it. */
static bool row_holds(const spar_tokenizer *t, const json_t *row, bool special) {
    spar_error err;
    const json_t *text = json_object_get(row, "text");
    int32_t *ids;
    size_t n, n_decoded;
    char *decoded;
    const char *s = json_string_value(text);
    size_t length = json_string_length(text);
    check(spar_tokenizer_encode(t, s, length, SPAR_TOKENIZE_NO_SPECIAL, &ids, &n, &err), &err);
    bool ok = same_ids(json_object_get(row, "ids"), ids, n);
    const json_t *want = json_object_get(row, "decoded");
    check(spar_tokenizer_decode(t, ids, n, false, &decoded, &n_decoded, &err), &err);
    ok = ok && (!want || (n_decoded == json_string_length(want) &&
                          memcmp(decoded, json_string_value(want), n_decoded) == 0));
    free(ids);
    if (special) {
        check(spar_tokenizer_encode(t, s, length, 0, &ids, &n, &err), &err);
        ok = ok && same_ids(json_object_get(row, "with_special"), ids, n);
        free(ids);
    }
    if (!ok) {
        print_message("text: %.200s\ndecoded: %.200s\n", s, decoded);
    }
    free(decoded);
    return ok;
}

/* t against the rows of a golden file, but those that hold `unlike`. */
static void hold_golden(const spar_tokenizer *t, const char *golden, bool special,
                        const char *unlike) {
    char path[TEST_PATH_MAX];
    size_t wrong = 0;
    size_t held = 0;
    snprintf(path, sizeof path, "%s/tokenizers/%s.json", test_shared("golden"), golden);
    json_t *rows = json_load_file(path, JSON_ALLOW_NUL, NULL); /* a row holds U+0000 */
    assert_non_null(rows);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const char *text = json_string_value(json_object_get(row, "text"));
        if (!unlike || !strstr(text, unlike)) {
            wrong += !row_holds(t, row, special);
            held++;
        }
    }
    print_message("%s: %zu rows, %zu wrong\n", golden, held, wrong);
    assert_true(held > 150);
    assert_int_equal(wrong, 0);
    json_decref(rows);
}

static void run_golden(const char *name) {
    spar_error err;
    char path[TEST_PATH_MAX];
    spar_tokenizer *t;
    snprintf(path, sizeof path, "%s/%s", test_shared("tokenizers"), name);
    check(spar_tokenizer_load(&t, path, &err), &err);
    hold_golden(t, name, true, NULL);
    spar_tokenizer_free(t);
}

/* Files of other kinds, against the values for the same vocabulary. */
static void run_file(const char *file, const char *golden, bool special, const char *unlike) {
    spar_error err;
    char path[TEST_PATH_MAX];
    spar_tokenizer *t;
    snprintf(path, sizeof path, "%s/%s", test_shared("tokenizers"), file);
    check(spar_tokenizer_load(&t, path, &err), &err);
    hold_golden(t, golden, special, unlike);
    spar_tokenizer_free(t);
}

static void test_sentencepiece_bpe(void **state) {
    (void)state;
    run_file("llama2/tokenizer.model", "ggml-vocab-llama-spm.gguf", false, NULL);
}

/* Llama 3 and 3.1 differ in the names of two special tokens. */
static void test_tiktoken(void **state) {
    (void)state;
    run_file("llama3/tokenizer.model", "llama3_1", true, "<|e");
    run_file("llama3", "llama3_1", true, "<|e"); /* found in its folder */
}

static void test_merges_txt(void **state) {
    (void)state;
    run_file("gpt2/vocab.json", "ggml-vocab-gpt-2.gguf", false, NULL);
    run_file("gpt2", "ggml-vocab-gpt-2.gguf", false, NULL);
}

static void test_smollm2(void **state) {
    (void)state;
    run_golden("smollm2");
}

static void test_qwen3(void **state) {
    (void)state;
    run_golden("qwen3");
}

static void test_llama3(void **state) {
    (void)state;
    run_golden("llama3_1");
}

static void test_phi3(void **state) {
    (void)state;
    run_golden("phi-3-mini");
}

static void test_gemma3(void **state) {
    (void)state;
    run_golden("gemma3");
}

static void test_roberta(void **state) {
    (void)state;
    run_golden("roberta-base");
}

static void test_t5(void **state) {
    (void)state;
    run_golden("t5-small");
}

/* ---- T5's vocabulary as a SentencePiece model ---- */

static void put_varint(sp_str *out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) {
        sp_str_putc(out, (char)(unsigned char)(value | 0x80));
    }
    sp_str_putc(out, (char)(unsigned char)value);
}

static void put_number(sp_str *out, unsigned field, int64_t value) {
    put_varint(out, field << 3);
    put_varint(out, (uint64_t)value);
}

static void put_bytes(sp_str *out, unsigned field, const char *bytes, size_t n) {
    put_varint(out, field << 3 | 2U);
    put_varint(out, n);
    sp_str_append(out, bytes, n);
}

static void put_part(sp_str *out, unsigned field, sp_str *part) {
    put_bytes(out, field, sp_str_get(part), part->len);
    sp_str_release(part);
}

/* Piece i: text, score, and a type that is normal but for the special tokens. */
static void put_piece(sp_str *out, const json_t *item, int type) {
    sp_str piece = SP_STR_INIT;
    const char *text = json_string_value(json_array_get(item, 0));
    const float score = (float)json_number_value(json_array_get(item, 1));
    put_bytes(&piece, 1, text, strlen(text));
    put_varint(&piece, 2 << 3 | 5U);
    sp_str_append(&piece, &score, sizeof score);
    put_number(&piece, 3, type);
    put_part(out, 1, &piece);
}

static void write_t5(sp_str *out) {
    spar_error err;
    json_t *root;
    sp_str trainer = SP_STR_INIT;
    sp_str normalizer = SP_STR_INIT;
    sp_str map = SP_STR_INIT;
    check(sp_json_load(&root, test_shared("tokenizers/t5-small/tokenizer.json"), &err), &err);
    const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    for (size_t i = 0; i < json_array_size(vocab); i++) {
        bool special = i < 2 || i >= 32000;
        put_piece(out, json_array_get(vocab, i), special ? 3 : i == 2 ? 2 : 1);
    }
    put_number(&trainer, 3, 1);
    put_number(&trainer, 40, 2);
    put_number(&trainer, 41, -1);
    put_number(&trainer, 42, 1);
    put_number(&trainer, 43, 0);
    put_part(out, 2, &trainer);
    const char *text = json_string_value(
        json_object_get(json_object_get(root, "normalizer"), "precompiled_charsmap"));
    assert_true(sp_base64_decode(text, strlen(text), &map));
    put_bytes(&normalizer, 1, "nmt_nfkc", 8);
    put_part(&normalizer, 2, &map);
    put_part(out, 3, &normalizer);
    json_decref(root);
}

static void test_sentencepiece_unigram(void **state) {
    (void)state;
    spar_error err;
    spar_tokenizer *t = NULL;
    char dir[TEST_PATH_MAX];
    char path[TEST_PATH_MAX];
    sp_str model = SP_STR_INIT;
    write_t5(&model);
    test_path(path, test_temp_dir(dir), "spiece.model");
    check(sp_file_write(path, sp_str_get(&model), model.len, &err), &err);
    check(spar_tokenizer_load(&t, dir, &err), &err);
    hold_golden(t, "t5-small", true, NULL);
    spar_tokenizer_free(t);
    for (size_t n = model.len - 1; n > 2; n -= n / 7 + 1) { /* cut off anywhere */
        t = NULL;
        check(sp_file_write(path, sp_str_get(&model), n, &err), &err);
        if (spar_tokenizer_load(&t, dir, &err) == SPAR_OK) {
            spar_tokenizer_free(t); /* at the end of a part */
        } else {
            assert_true(err.code == SPAR_FORMAT || err.code == SPAR_UNSUPPORTED);
        }
    }
    check(sp_file_write(test_path(path, dir, "tokenizer_config.json"),
                        "{\"tokenizer_class\": \"XLMRobertaTokenizer\"}", 42, &err),
          &err);
    check(sp_file_write(test_path(path, dir, "spiece.model"), sp_str_get(&model), model.len, &err),
          &err);
    assert_int_equal(spar_tokenizer_load(&t, dir, &err), SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "XLMRobertaTokenizer"));
    sp_str_release(&model);
    check(sp_dir_remove(dir, &err), &err);
}

static void run_lines(const char *tokenizer, const char *vocab) {
    spar_error err;
    char path[TEST_PATH_MAX];
    spar_tokenizer *t;
    snprintf(path, sizeof path, "%s/%s", test_shared("tokenizers"), tokenizer);
    check(spar_tokenizer_load(&t, path, &err), &err);
    hold_vocab_lines(t, vocab);
    spar_tokenizer_free(t);
}

static void test_lines(void **state) {
    (void)state;
    run_lines("llama3_1", "llama-bpe");
    run_lines("qwen3", "qwen2");
}

/* Python's bytes.decode(errors="replace"): one U+FFFD for each maximal ill-formed part. */
static void test_ill_formed(void **state) {
    (void)state;
    static const struct {
        const char *text, *repaired;
    } cases[] = {
        {"a\xFF\xFEz", "a\uFFFD\uFFFDz"},
        {"\xE4\xB8", "\uFFFD"},
        {"\xE4\xB8z", "\uFFFDz"},
        {"\xC0\xAF", "\uFFFD\uFFFD"},
        {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
        {"\xF0\x9F\x98", "\uFFFD"},
        {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
    };
    spar_error err;
    spar_tokenizer *t;
    check(spar_tokenizer_load(&t, test_shared("tokenizers/smollm2"), &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t *ids;
        size_t n;
        char *text;
        check(spar_tokenizer_encode(t, cases[i].text, strlen(cases[i].text), 0, &ids, &n, &err),
              &err);
        check(spar_tokenizer_decode(t, ids, n, false, &text, NULL, &err), &err);
        assert_string_equal(text, cases[i].repaired);
        free(ids);
        free(text);
    }
    spar_tokenizer_free(t);
}

static void append(char **all, size_t *n, const char *text, size_t n_text) {
    *all = realloc(*all, *n + n_text + 1);
    memcpy(*all + *n, text, n_text);
    *n += n_text;
    (*all)[*n] = '\0';
}

/* The pieces of a stream are whole characters, and joined the decoded text. */
static void stream_holds(spar_token_stream *stream, const int32_t *ids, size_t n_ids,
                         const char *want, size_t n_want) {
    spar_error err;
    char *all = NULL;
    size_t n = 0;
    const char *piece;
    size_t n_piece;
    for (size_t i = 0; i < n_ids; i++) {
        check(spar_token_stream_push(stream, ids[i], &piece, &n_piece, &err), &err);
        assert_true(n_piece == 0 || ((unsigned char)piece[0] & 0xC0U) != 0x80U);
        append(&all, &n, piece, n_piece);
    }
    check(spar_token_stream_finish(stream, &piece, &n_piece, &err), &err);
    append(&all, &n, piece, n_piece);
    assert_int_equal(n, n_want);
    assert_memory_equal(all, want, n_want);
    free(all);
}

static void run_stream(const char *folder, const char *golden) {
    spar_error err;
    spar_tokenizer *t;
    spar_token_stream *stream;
    char path[TEST_PATH_MAX];
    snprintf(path, sizeof path, "%s/tokenizers/%s.json", test_shared("golden"), golden);
    json_t *rows = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_non_null(rows);
    check(spar_tokenizer_load(&t, folder, &err), &err);
    check(spar_token_stream_create(&stream, t, false, &err), &err);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *text = json_object_get(json_array_get(rows, i), "text");
        int32_t *ids;
        size_t n, n_decoded;
        char *decoded;
        check(spar_tokenizer_encode(t, json_string_value(text), json_string_length(text), 0, &ids,
                                    &n, &err),
              &err);
        check(spar_tokenizer_decode(t, ids, n, false, &decoded, &n_decoded, &err), &err);
        stream_holds(stream, ids, n, decoded, n_decoded);
        free(ids);
        free(decoded);
    }
    spar_token_stream_free(stream);
    spar_tokenizer_free(t);
    json_decref(rows);
}

static void test_streams(void **state) {
    (void)state;
    run_stream(test_shared("tokenizers/smollm2"), "smollm2");
    run_stream(test_shared("tokenizers/phi-3-mini"), "phi-3-mini");
}

static void test_known_tokens(void **state) {
    (void)state;
    spar_error err;
    spar_tokenizer *t;
    check(spar_tokenizer_load(&t, test_shared("tokenizers/smollm2"), &err), &err);
    int32_t id = spar_tokenizer_id(t, "<|im_end|>");
    assert_int_equal(id, 2);
    assert_string_equal(spar_tokenizer_token(t, id), "<|im_end|>");
    assert_true(spar_tokenizer_is_special(t, id));
    assert_false(spar_tokenizer_is_special(t, spar_tokenizer_id(t, "a")));
    assert_int_equal(spar_tokenizer_vocab_size(t), 49152);
    assert_int_equal(spar_tokenizer_id(t, "no such token"), -1);
    assert_null(spar_tokenizer_token(t, -1));
    assert_null(spar_tokenizer_token(t, 49152));
    spar_tokenizer_free(t);
}

static void test_broken_merge(void **state) {
    (void)state;
    spar_error err;
    spar_tokenizer *t = NULL;
    assert_int_equal(spar_tokenizer_load(&t, test_shared("tokenizers/llama2"), &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "merges"));
    assert_null(t);
}

int main(void) {
    if (!test_shared("golden") || !test_shared("tokenizers")) {
        TEST_SKIP("the shared folder with golden/tokenizers is missing");
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smollm2),
        cmocka_unit_test(test_qwen3),
        cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_phi3),
        cmocka_unit_test(test_gemma3),
        cmocka_unit_test(test_roberta),
        cmocka_unit_test(test_t5),
        cmocka_unit_test(test_broken_merge),
        cmocka_unit_test(test_ill_formed),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_known_tokens),
        cmocka_unit_test(test_sentencepiece_bpe),
        cmocka_unit_test(test_tiktoken),
        cmocka_unit_test(test_merges_txt),
        cmocka_unit_test(test_sentencepiece_unigram),
        cmocka_unit_test(test_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
