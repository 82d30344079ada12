/* What must hold of any text and any value, tried on random ones until the time is over: a few
 * seconds, or SPAR_PROPERTY_SECONDS. A try is a function of its property's name and its number,
 * which a failure names. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "io/gguf_write.h"
#include "random_text.h"
#include "spar/chat_template.h"
#include "spar/jsonl.h"
#include "spar/model.h"
#include "spar/rows.h"
#include "spar/token_stream.h"
#include "support.h"
#include "text/steps.h"

enum { SHORT_SECONDS = 4 };

static const char *const vocabularies[] = {"smollm2",
                                           "qwen3",
                                           "llama3_1",
                                           "phi-3-mini",
                                           "gemma3",
                                           "t5-small",
                                           "roberta-base",
                                           "llama2/tokenizer.model",
                                           "llama3/tokenizer.model",
                                           "gpt2",
                                           "mistral/tokenizer.model.v1",
                                           "mistral/mistral_instruct_tokenizer_240216.model.v2",
                                           "mistral/mistral_instruct_tokenizer_240323.model.v3",
                                           "gguf-vocab/ggml-vocab-bert-bge.gguf",
                                           "gguf-vocab/ggml-vocab-gpt-2.gguf",
                                           "gguf-vocab/ggml-vocab-gpt-neox.gguf",
                                           "gguf-vocab/ggml-vocab-llama-spm.gguf",
                                           "gguf-vocab/ggml-vocab-phi-3.gguf",
                                           "gguf-vocab/ggml-vocab-starcoder.gguf"};
enum { N_VOCABULARIES = sizeof vocabularies / sizeof *vocabularies };

static spar_tokenizer *tokenizers[N_VOCABULARIES];
static char dir[TEST_PATH_MAX];
/* The try under way, for messages. */
static const char *property_name;
static uint64_t number;

#define HOLD(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fail_msg("%s, try %llu: expected %s", property_name, (unsigned long long)number,       \
                     #condition);                                                                  \
        }                                                                                          \
    } while (0)

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s, try %llu: %s", property_name, (unsigned long long)number, err->message);
    }
}

/* Well-formed text of the try, the i-th of it; owned by the caller. */
static sp_str text_of(uint64_t i) {
    sp_str raw = SP_STR_INIT, text = SP_STR_INIT;
    make_text(tokenizers[0], sp_rng_stream(number, i, 1, 0), &raw);
    sp_utf8_repair(sp_str_get(&raw), raw.len, &text);
    sp_str_release(&raw);
    return text;
}

/* ---- texts ---- */

static void hold_spans(const spar_tokenizer *t, const sp_str *text, const int32_t *ids, size_t n) {
    spar_error err;
    int32_t *again;
    spar_text_span *spans;
    size_t n_again;
    check(spar_tokenizer_encode_spans(t, sp_str_get(text), text->len, SPAR_TOKENIZE_NO_SPECIAL,
                                      &again, &spans, &n_again, &err),
          &err);
    HOLD(n_again == n && memcmp(again, ids, n * sizeof *ids) == 0); /* the other way by no cache */
    for (size_t i = 0; i < n; i++) {
        HOLD(spans[i].begin <= spans[i].end && spans[i].end <= text->len);
    }
    free(again);
    free(spans);
}

/* A text that comes back whole comes back in pieces too. */
static void hold_stream(const spar_tokenizer *t, const sp_str *text, const int32_t *ids, size_t n) {
    spar_error err;
    spar_token_stream *stream;
    sp_str whole = SP_STR_INIT;
    const char *piece;
    size_t length;
    check(spar_token_stream_create(&stream, t, false, &err), &err);
    for (size_t i = 0; i < n; i++) {
        check(spar_token_stream_push(stream, ids[i], &piece, &length, &err), &err);
        sp_str_append(&whole, piece, length);
    }
    check(spar_token_stream_finish(stream, &piece, &length, &err), &err);
    sp_str_append(&whole, piece, length);
    HOLD(whole.len == text->len && memcmp(sp_str_get(&whole), sp_str_get(text), text->len) == 0);
    sp_str_release(&whole);
    spar_token_stream_free(stream);
}

static void tokens(void) {
    const spar_tokenizer *t = tokenizers[number % N_VOCABULARIES];
    spar_error err;
    sp_str text = text_of(0);
    int32_t *ids;
    size_t n, n_back;
    char *back;
    const spar_status status = spar_tokenizer_encode(t, sp_str_get(&text), text.len,
                                                     SPAR_TOKENIZE_NO_SPECIAL, &ids, &n, &err);
    if (status == SPAR_OK) { /* INVALID: a vocabulary without a token for unknown words */
        for (size_t i = 0; i < n; i++) {
            HOLD(ids[i] >= 0 && ids[i] < spar_tokenizer_vocab_size(t) &&
                 spar_tokenizer_token(t, ids[i]));
        }
        hold_spans(t, &text, ids, n);
        check(spar_tokenizer_decode(t, ids, n, false, &back, &n_back, &err), &err);
        HOLD(sp_utf8_is_valid(back, n_back));
        if (n_back == text.len && memcmp(back, sp_str_get(&text), n_back) == 0) {
            hold_stream(t, &text, ids, n);
        }
        free(back);
        free(ids);
    }
    HOLD(status == SPAR_OK || status == SPAR_INVALID);
    sp_str_release(&text);
}

/* ---- values ---- */

static json_t *random_text_value(sp_rng *rng) {
    sp_str text = text_of(sp_rng_next_below(rng, UINT32_MAX));
    json_t *value = json_stringn(sp_str_get(&text), text.len);
    sp_str_release(&text);
    return value;
}

static double random_double(sp_rng *rng) {
    uint64_t bits = sp_rng_next_below(rng, UINT64_MAX);
    double value;
    memcpy(&value, &bits, sizeof value);
    return isfinite(value) ? value : DBL_MAX;
}

static json_t *random_value(sp_rng *rng, int depth) {
    const uint64_t kind = sp_rng_next_below(rng, depth > 0 ? 9 : 6);
    if (kind >= 6) {
        json_t *made = kind == 6 ? json_array() : json_object();
        for (uint64_t n = sp_rng_next_below(rng, 5), i = 0; i < n; i++) {
            char key[32];
            snprintf(key, sizeof key, "k%llu", (unsigned long long)i);
            json_t *value = random_value(rng, depth - 1);
            HOLD((kind == 6 ? json_array_append_new(made, value)
                            : json_object_set_new(made, key, value)) == 0);
        }
        return made;
    }
    switch (kind) {
    case 0:
        return json_null();
    case 1:
        return json_boolean(sp_rng_next_below(rng, 2));
    case 2:
        return json_integer((json_int_t)sp_rng_next_below(rng, UINT64_MAX));
    case 3:
        return json_real(random_double(rng));
    default:
        return random_text_value(rng);
    }
}

static json_t *random_row(sp_rng *rng) {
    json_t *row = json_object();
    for (int i = 0; i < 3; i++) {
        const char *const keys[] = {"a", "b", "messages"};
        HOLD(json_object_set_new(row, keys[i], random_value(rng, 3)) == 0);
    }
    return row;
}

static void json(void) {
    sp_rng rng = {.stream = number};
    json_t *value = random_row(&rng), *again;
    spar_error err;
    char *text = json_dumps(value, number % 2 ? JSON_COMPACT : JSON_INDENT(1) | JSON_ENSURE_ASCII);
    check(sp_json_parse_row(&again, text, strlen(text), "text", &err), &err);
    HOLD(json_equal(value, again));
    json_decref(value);
    json_decref(again);
    free(text);
}

/* The rows of a file are those of the list. */
static void hold_rows(const char *path, const json_t *rows) {
    spar_error err;
    spar_rows *file;
    json_t *row = NULL;
    check(spar_rows_open(&file, path, &err), &err);
    for (size_t i = 0; i <= json_array_size(rows); i++) {
        check(spar_rows_next(file, &row, &err), &err);
        HOLD(i < json_array_size(rows) ? json_equal(row, json_array_get(rows, i)) : !row);
        json_decref(row);
    }
    spar_rows_free(file);
}

static void json_lines(void) {
    sp_rng rng = {.stream = number};
    spar_error err;
    spar_jsonl_writer *writer;
    char path[TEST_PATH_MAX];
    json_t *rows = json_array();
    check(spar_jsonl_create(&writer, test_path(path, dir, "rows.jsonl"), &err), &err);
    for (uint64_t n = sp_rng_next_below(&rng, 8), i = 0; i < n; i++) {
        json_t *row = random_row(&rng);
        check(spar_jsonl_put(writer, row, &err), &err);
        json_array_append_new(rows, row);
    }
    check(spar_jsonl_commit(writer, &err), &err);
    spar_jsonl_writer_free(writer);
    hold_rows(path, rows);
    json_decref(rows);
}

/* Cells of any text within quotes. A list of messages alone would be read as such. */
static void csv(void) {
    sp_rng rng = {.stream = number};
    spar_error err;
    char path[TEST_PATH_MAX];
    sp_str file = SP_STR_INIT;
    json_t *rows = json_array();
    sp_str_puts(&file, "x,y\r\n");
    for (uint64_t n = sp_rng_next_below(&rng, 8), i = 0; i < n; i++) {
        json_t *row =
            json_pack("{s:o, s:o}", "x", random_text_value(&rng), "y", random_text_value(&rng));
        for (int k = 0; k < 2; k++) {
            const json_t *cell = json_object_get(row, k ? "y" : "x");
            sp_str_puts(&file, k ? ",\"" : "\"");
            for (size_t c = 0; c < json_string_length(cell); c++) {
                const char byte = json_string_value(cell)[c];
                sp_str_putc(&file, byte);
                if (byte == '"') {
                    sp_str_putc(&file, byte);
                }
            }
            sp_str_putc(&file, '"');
        }
        sp_str_puts(&file, "\n");
        json_array_append_new(rows, row);
    }
    check(sp_file_write(test_path(path, dir, "rows.csv"), sp_str_get(&file), file.len, &err), &err);
    hold_rows(path, rows);
    sp_str_release(&file);
    json_decref(rows);
}

/* ---- templates ---- */

/* What is rendered as JSON reads back (a member that is null would not), and what a generation
 * block wrote is the message. */
static void templates(void) {
    static const char source[] =
        "{% for m in messages %}{{ m | tojson }}\n{% generation %}{{ m.content }}"
        "{% endgeneration %}{% endfor %}";
    sp_rng rng = {.stream = number};
    spar_error err;
    spar_template *t;
    spar_text_span *spans;
    char *text;
    size_t n, n_spans, at = 0;
    json_t *messages = json_array();
    for (uint64_t i = sp_rng_next_below(&rng, 5); i > 0; i--) {
        json_array_append_new(messages,
                              json_pack("{s:s, s:o, s:[o]}", "role", "user", "content",
                                        random_text_value(&rng), "more", random_value(&rng, 2)));
    }
    check(spar_template_compile(&t, source, sizeof source - 1, "t", &err), &err);
    check(spar_template_render_spans(t, messages, NULL, &text, &n, &spans, &n_spans, &err), &err);
    HOLD(n_spans == json_array_size(messages));
    for (size_t i = 0; i < n_spans; i++) {
        const json_t *message = json_array_get(messages, i),
                     *content = json_object_get(message, "content");
        json_t *again = json_loadb(text + at, spans[i].begin - 1 - at, JSON_ALLOW_NUL, NULL);
        HOLD(json_equal(again, message));
        HOLD(spans[i].end - spans[i].begin == json_string_length(content) &&
             memcmp(text + spans[i].begin, json_string_value(content),
                    json_string_length(content)) == 0);
        at = spans[i].end;
        json_decref(again);
    }
    free(text);
    free(spans);
    spar_template_free(t);
    json_decref(messages);
}

/* ---- GGUF ---- */

static void hold_text(const sp_gguf *file, const char *key, const sp_str *want) {
    spar_error err;
    sp_gguf_string got;
    check(sp_gguf_get_string(file, key, &got, &err), &err);
    HOLD(got.n == want->len && memcmp(got.data, sp_str_get(want), got.n) == 0);
}

static void gguf(void) {
    enum { MOST = 96 };
    sp_rng rng = {.stream = number};
    spar_error err;
    char path[TEST_PATH_MAX];
    sp_gguf_out out = SP_GGUF_OUT_INIT;
    sp_str text = text_of(0);
    sp_gguf *file;
    float values[MOST];
    int32_t integers[MOST];
    const int64_t rows = 1 + (int64_t)sp_rng_next_below(&rng, 6),
                  columns = 1 + (int64_t)sp_rng_next_below(&rng, 16);
    for (int i = 0; i < MOST; i++) {
        values[i] = (float)(sp_rng_next_uniform(&rng) - 0.5) * 1e6F;
        integers[i] = (int32_t)sp_rng_next_below(&rng, UINT32_MAX);
    }
    sp_gguf_put_string(&out, "text", sp_str_get(&text), text.len);
    sp_gguf_put_u32(&out, "number", (uint32_t)integers[0]);
    sp_gguf_put_f32(&out, "value", values[0]);
    sp_gguf_put_bool(&out, "truth", number % 2);
    sp_gguf_put_i32s(&out, "integers", integers, (size_t)rows);
    sp_gguf_put_f32s(&out, "values", values, (size_t)columns);
    const sp_gguf_source tensor = {"t", SP_F32, 2, {rows, columns}, values};
    check(sp_gguf_write(test_path(path, dir, "x.gguf"), &out, &tensor, 1, &err), &err);
    check(sp_gguf_open(&file, path, &err), &err);
    const sp_gguf_value *list = sp_gguf_find(file, "integers"),
                        *floats = sp_gguf_find(file, "values");
    hold_text(file, "text", &text);
    HOLD(sp_gguf_integer(sp_gguf_find(file, "number"), 0) == (uint32_t)integers[0]);
    HOLD((float)sp_gguf_number(sp_gguf_find(file, "value"), 0) == values[0]);
    HOLD(list->n == (uint64_t)rows && floats->n == (uint64_t)columns);
    for (uint64_t i = 0; i < list->n; i++) {
        HOLD(sp_gguf_integer(list, i) == integers[i]);
    }
    for (uint64_t i = 0; i < floats->n; i++) {
        HOLD((float)sp_gguf_number(floats, i) == values[i]);
    }
    const sp_gguf_tensor *read = sp_gguf_find_tensor(file, "t");
    HOLD(read && read->n_dims == 2 && read->dims[0] == rows && read->dims[1] == columns &&
         memcmp(read->data, values, (size_t)(rows * columns) * sizeof *values) == 0);
    sp_gguf_free(file);
    sp_gguf_out_release(&out);
    sp_str_release(&text);
}

/* ---- all of them ---- */

/* Turns: so often for one of the others, which write files. */
static const struct property {
    const char *name;
    void (*try)(void);
    int turns;
} properties[] = {{"tokens", tokens, 4 * N_VOCABULARIES},
                  {"JSON", json, 8},
                  {"JSON Lines", json_lines, 2},
                  {"CSV", csv, 2},
                  {"templates", templates, 8},
                  {"GGUF", gguf, 1}};
enum { N_PROPERTIES = sizeof properties / sizeof *properties };

static void all_hold(void **state) {
    const char *asked = getenv("SPAR_PROPERTY_SECONDS");
    const double until = sp_now() + (asked ? strtod(asked, NULL) : SHORT_SECONDS);
    uint64_t tries[N_PROPERTIES] = {0};
    (void)state;
    do {
        for (int p = 0; p < N_PROPERTIES; p++) {
            property_name = properties[p].name;
            for (int i = 0; i < properties[p].turns; i++) {
                number = tries[p]++;
                properties[p].try();
            }
        }
    } while (sp_now() < until);
    for (int p = 0; p < N_PROPERTIES; p++) {
        print_message("%s: %llu tries\n", properties[p].name, (unsigned long long)tries[p]);
    }
}

int main(void) {
    test_shared_or_skip("tokenizers");
    for (int i = 0; i < N_VOCABULARIES; i++) {
        char path[TEST_PATH_MAX];
        spar_error err;
        snprintf(path, sizeof path, "%s/%s", test_shared("tokenizers"), vocabularies[i]);
        if (spar_vocab_load(&tokenizers[i], path, &err) != SPAR_OK) {
            printf("%s\n", err.message);
            return 1;
        }
    }
    test_temp_dir(dir);
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_hold)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sp_dir_remove(dir, NULL);
    for (int i = 0; i < N_VOCABULARIES; i++) {
        spar_tokenizer_free(tokenizers[i]);
    }
    return failed;
}
