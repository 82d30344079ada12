/* Unigram and WordPiece tokenizers as GGUF files describe them: read back they give the same ids,
 * and what their readers cannot do is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "support.h"
#include "text/tokenizer_describe.h"

enum { ROWS = 40 }; /* of the model's embedding: more than the tokens */

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

#define MARK "\xE2\x96\x81"
#define ADDED(id, text)                                                                            \
    "{\"id\":" #id ",\"content\":\"" text                                                          \
    "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"             \
    "\"special\":true}"
#define UNIGRAM(pieces, more)                                                                      \
    "\"model\":{\"type\":\"Unigram\",\"unk_id\":1," more "\"vocab\":[[\"</s>\",0],[\"<unk>\",0],"  \
    "[\"" MARK "\",-2.5],[\"a\",-3],[\"b\",-3.25],[\"" MARK "ab\",-4],[\"ba\",-5]" pieces "]},"    \
    "\"added_tokens\":[" ADDED(0, "</s>") "," ADDED(1, "<unk>") "," ADDED(                         \
        12, "<x>") "],"                                                                            \
                   "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"},"            \
                   "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{"             \
                   "\"Sequence\":{\"id\":\"A\","                                                   \
                   "\"type_id\":0}},{\"SpecialToken\":{\"id\":\"</"                                \
                   "s>\",\"type_id\":0}}],\"pair\":[{\"Sequence\":"                                \
                   "{\"id\":\"A\",\"type_id\":0}},{\"Sequence\":{\"id\":\"B\",\"type_id\":0}}],"   \
                   "\"special_tokens\":{\"</s>\":{\"id\":\"</s>\",\"ids\":[0],\"tokens\":[\"</"    \
                   "s>\"]}}}"
#define METASPACE(how) "{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"" how "}"
#define PRE(step) "\"pre_tokenizer\":" step ","
#define NORM(step) "\"normalizer\":" step ","
#define STRIP "{\"type\":\"Strip\",\"strip_left\":false,\"strip_right\":true}"
#define RUNS "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"}"

#define BERT(normalizer, prefix, before)                                                           \
    "\"normalizer\":" normalizer ",\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"             \
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":"     \
    "\"" prefix                                                                                    \
    "\",\"max_input_chars_per_word\":100,\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,"          \
    "\"[SEP]\":3,\"un\":4,\"##able\":5,\"a\":6,\"##b\":7,\".\":8,\"[\":9,\"##[\":10,"              \
    "\"\xE4\xB8\xAD\":11,\"[unused0]\":12,\"e\":13}},\"added_tokens\":[" ADDED(                    \
        0,                                                                                         \
        "[PAD]") "," ADDED(1,                                                                      \
                           "[UNK]") "," ADDED(2,                                                   \
                                              "[CLS]") "," ADDED(3,                                \
                                                                 "[SEP]") "],"                     \
                                                                          "\"decoder\":{\"type\":" \
                                                                          "\"WordPiece\","         \
                                                                          "\"prefix\":\"##\","     \
                                                                          "\"cleanup\":true},"     \
                                                                          "\"post_processor\":{"   \
                                                                          "\"type\":"              \
                                                                          "\"TemplateProcessing\"" \
                                                                          ",\"single\":[" before   \
                                                                          "{\"Sequence\":{\"id\":" \
                                                                          "\"A\",\"type_id\":0}}," \
                                                                          "{\"SpecialToken\":{"    \
                                                                          "\"id\":\"[SEP]\","      \
                                                                          "\"type_id\":0}}],"      \
                                                                          "\"pair\":[{"            \
                                                                          "\"Sequence\":{\"id\":"  \
                                                                          "\"A\",\"type_id\":0}}," \
                                                                          "{\"Sequence\":"         \
                                                                          "{\"id\":\"B\",\"type_"  \
                                                                          "id\":0}}],\"special_"   \
                                                                          "tokens\":{\"[CLS]\":{"  \
                                                                          "\"id\":\"[CLS]\","      \
                                                                          "\"ids\":[2],"           \
                                                                          "\"tokens\":[\"[CLS]\"]" \
                                                                          "},\"[SEP]\":{\"id\":"   \
                                                                          "\"[SEP]\",\"ids\":[3]," \
                                                                          "\"tokens\":[\"[SEP]\"]" \
                                                                          "}}}"
#define UNCASED                                                                                    \
    "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"              \
    "\"strip_accents\":null,\"lowercase\":true}"
#define CLS "{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},"

static spar_tokenizer *from_text(const char *members) {
    char text[8192];
    spar_tokenizer *t;
    spar_error err;
    json_t *root;
    const int n = snprintf(text, sizeof text, "{\"version\":\"1.0\",%s}", members);
    assert_true(n > 0 && (size_t)n < sizeof text);
    check(sp_json_parse(&root, text, (size_t)n, "tokenizer", &err), &err);
    check(sp_tokenizer_from_json(&t, root, "tokenizer", &err), &err);
    json_decref(root);
    return t;
}

static spar_tokenizer *again(const spar_tokenizer *t, size_t rows, sp_vocab_spec *spec) {
    sp_vocab_description d;
    spar_tokenizer *back;
    spar_error err;
    check(sp_tokenizer_describe(&d, t, rows, &err), &err);
    check(sp_tokenizer_from_spec(&back, &d.spec, "described", &err), &err);
    *spec = d.spec;
    sp_vocab_description_release(&d);
    return back;
}

static void same_ids(const spar_tokenizer *a, const spar_tokenizer *b, const char *text) {
    spar_error err;
    int32_t *x, *y;
    size_t n_x, n_y;
    check(spar_tokenizer_encode(a, text, strlen(text), 0, &x, &n_x, &err), &err);
    check(spar_tokenizer_encode(b, text, strlen(text), 0, &y, &n_y, &err), &err);
    if (n_x != n_y || memcmp(x, y, n_x * sizeof *x) != 0) {
        fail_msg("\"%s\": expected the same ids", text);
    }
    free(x);
    free(y);
}

static const char *const texts[] = {"",
                                    "ab",
                                    " ab  ba ",
                                    "a\tb\n",
                                    "abba<x>ab</s> b",
                                    "  ",
                                    "c",
                                    "acca [PAD35]",
                                    "unable",
                                    "a[b] UN.able \xE4\xB8\xAD",
                                    "[UNK] ab.",
                                    "\xC3\xA9 [a[",
                                    "<x>",
                                    "aa ab [unused0] [",
                                    MARK "ab" MARK MARK};

static void hold_texts(const char *members, sp_vocab_kind kind) {
    sp_vocab_spec spec;
    spar_tokenizer *t = from_text(members), *back = again(t, ROWS, &spec);
    assert_int_equal(spec.kind, kind);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        same_ids(t, back, texts[i]);
    }
    spar_tokenizer_free(back);
    back = again(t, (size_t)spar_tokenizer_vocab_size(t), &spec);
    same_ids(t, back, texts[1]);
    spar_tokenizer_free(back);
    spar_tokenizer_free(t);
}

static void test_same_ids(void **state) {
    (void)state;
    static const char *const how[] = {
        ",\"prepend_scheme\":\"always\",\"split\":false",
        ",\"prepend_scheme\":\"always\"",
        ",\"prepend_scheme\":\"never\",\"split\":true",
        ",\"add_prefix_space\":true",
        "",
    };
    char members[4096];
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        snprintf(members, sizeof members,
                 PRE("{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"%s}") UNIGRAM("", ""),
                 how[i]);
        hold_texts(members, SP_VOCAB_UNIGRAM);
    }
    hold_texts(BERT(UNCASED, "##", CLS), SP_VOCAB_WORD_PIECE);
}

/* T5's own: a map of characters, words, and a hundred added tokens. */
static void test_t5(void **state) {
    (void)state;
    const char *path = test_shared_or_skip("tokenizers/t5-small/tokenizer.json");
    static const char *const more[] = {"The quick  brown fox\tjumps.\n\nOver it. ",
                                       "na\xC3\xAFve \xC2\xBD \xEF\xAC\x81", "a <extra_id_0> b</s>",
                                       "\xE4\xB8\xAD\xE6\x96\x87 123,456.78"};
    sp_vocab_spec spec;
    spar_tokenizer *t;
    spar_error err;
    check(spar_tokenizer_load(&t, path, &err), &err);
    spar_tokenizer *back = again(t, 32128, &spec);
    assert_true(spec.strip_spaces && spec.add_space_prefix && spec.charsmap.n > 100000);
    assert_true(spec.add_eos && spec.add_bos == 0 && spec.unk == 2);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        same_ids(t, back, texts[i]);
    }
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        same_ids(t, back, more[i]);
    }
    spar_tokenizer_free(back);
    spar_tokenizer_free(t);
}

static void refuse(const char *members, const char *part) {
    sp_vocab_description d;
    spar_error err;
    spar_tokenizer *t = from_text(members);
    assert_int_equal(sp_tokenizer_describe(&d, t, ROWS, &err), SPAR_UNSUPPORTED);
    if (!strstr(err.message, part)) {
        fail_msg("expected %s in: %s", part, err.message);
    }
    spar_tokenizer_free(t);
}

static void test_refused(void **state) {
    (void)state;
    refuse(PRE(METASPACE(",\"prepend_scheme\":\"first\"")) UNIGRAM("", ""), "pre_tokenizer");
    refuse(PRE(METASPACE("")) UNIGRAM("", "\"byte_fallback\":true,"), "byte_fallback");
    refuse(PRE(METASPACE("")) UNIGRAM(",[\"a" MARK "b\",-6]", ""), "split at marks");
    refuse(NORM("{\"type\":\"NFC\"}") PRE(METASPACE("")) UNIGRAM("", ""), "normalizer");
    refuse(NORM(STRIP) PRE(METASPACE("")) UNIGRAM("", ""), "normalizer");
    /* a tab at the end would be stripped too */
    refuse(NORM("{\"type\":\"Sequence\",\"normalizers\":[" STRIP "," RUNS "]}") PRE(METASPACE(""))
               UNIGRAM("", ""),
           "normalizer");
    refuse(PRE("{\"type\":\"WhitespaceSplit\"}") UNIGRAM("", ""), "pre_tokenizer");
    refuse(BERT("{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
                "\"strip_accents\":null,\"lowercase\":false}",
                "##", CLS),
           "normalizer");
    refuse(BERT(UNCASED, "@@", CLS), "continuing_subword_prefix");
    refuse(BERT(UNCASED, "##", ""), "post_processor");
    refuse(BERT(UNCASED, "##", CLS CLS), "post_processor");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_ids),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_t5),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
