/* Where tokens are in a text, and which of a conversation the assistant wrote, against what the
 * tokenizers library and transformers say (tools/make_chat_fixtures.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/mem.h"
#include "spar/chat_template.h"
#include "spar/tokenizer.h"
#include "support.h"

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static json_t *load_fixture(void) {
    json_error_t e;
    json_t *fixture = json_load_file(SPAR_SOURCE_DIR "/tests/golden/chat.json", 0, &e);
    if (!fixture) {
        fail_msg("%s", e.text);
    }
    return fixture;
}

static spar_tokenizer *load_tokenizer(const char *name) {
    char path[TEST_PATH_MAX];
    spar_error err;
    spar_tokenizer *t;
    snprintf(path, sizeof path, "%s/%s/tokenizer.json", test_shared_or_skip("tokenizers"), name);
    check(spar_tokenizer_load(&t, path, &err), &err);
    return t;
}

static json_int_t number(const json_t *list, size_t i) {
    return json_integer_value(json_array_get(list, i));
}

static void hold_places(const spar_tokenizer *t, const char *name, const json_t *row) {
    const json_t *text = json_object_get(row, "text"), *want = json_object_get(row, "ids");
    const json_t *places = json_object_get(row, "spans");
    int32_t *ids;
    spar_text_span *spans;
    size_t n;
    spar_error err;
    check(spar_tokenizer_encode_spans(t, json_string_value(text), json_string_length(text),
                                      SPAR_TOKENIZE_NO_SPECIAL, &ids, &spans, &n, &err),
          &err);
    assert_int_equal(n, json_array_size(want));
    for (size_t i = 0; i < n; i++) {
        const json_t *place = json_array_get(places, i);
        if (ids[i] != number(want, i) || spans[i].begin != (size_t)number(place, 0) ||
            spans[i].end != (size_t)number(place, 1)) {
            fail_msg("%s: '%s': token %zu: expected [%lld, %lld), found [%zu, %zu)", name,
                     json_string_value(text), i, (long long)number(place, 0),
                     (long long)number(place, 1), spans[i].begin, spans[i].end);
        }
    }
    free(ids);
    free(spans);
}

static void places_of_tokens(void **state) {
    json_t *fixture = load_fixture(), *all = json_object_get(fixture, "places"), *rows, *row;
    const char *name;
    size_t i;
    (void)state;
    json_object_foreach(all, name, rows) {
        spar_tokenizer *t = load_tokenizer(name);
        json_array_foreach(rows, i, row) {
            hold_places(t, name, row);
        }
        spar_tokenizer_free(t);
    }
    assert_true(json_object_size(all) >= 7);
    json_decref(fixture);
}

static void hold_mask(const spar_tokenizer *t, const char *name, const json_t *fixture,
                      const json_t *row) {
    const json_t *want = json_object_get(row, "ids"), *mask = json_object_get(row, "mask");
    const size_t which = (size_t)json_integer_value(json_object_get(row, "template"));
    const char *source =
        json_string_value(json_array_get(json_object_get(fixture, "templates"), which));
    const json_t *messages =
        json_array_get(json_object_get(fixture, "conversations"),
                       (size_t)json_integer_value(json_object_get(row, "conversation")));
    spar_template *template;
    spar_error err;
    int32_t *ids;
    uint8_t *found;
    size_t n;
    check(spar_template_compile(&template, source, strlen(source), name, &err), &err);
    assert_true(spar_template_marks(template));
    check(spar_template_tokens(template, t, messages, NULL, &ids, &found, &n, &err), &err);
    assert_int_equal(n, json_array_size(want));
    for (size_t i = 0; i < n; i++) {
        if (ids[i] != number(want, i) || found[i] != number(mask, i)) {
            fail_msg("%s: template %zu: token %zu: expected %lld, found %d", name, which, i,
                     (long long)number(mask, i), found[i]);
        }
    }
    free(ids);
    free(found);
    spar_template_free(template);
}

static void masks_of_conversations(void **state) {
    json_t *fixture = load_fixture(), *all = json_object_get(fixture, "masks"), *rows, *row;
    const char *name;
    size_t i, held = 0;
    (void)state;
    json_object_foreach(all, name, rows) {
        spar_tokenizer *t = load_tokenizer(name);
        json_array_foreach(rows, i, row) {
            hold_mask(t, name, fixture, row);
            held++;
        }
        spar_tokenizer_free(t);
    }
    assert_true(held >= 60);
    json_decref(fixture);
}

/* Every allocation fails once: an error and no leak. */
static void failing_allocator(void **state) {
    static const char text[] = "a  b\xc3\xa9 <|im_end|>\nc";
    spar_tokenizer *t = load_tokenizer("smollm2");
    spar_status status = SPAR_NO_MEMORY;
    spar_error err;
    (void)state;
    for (long k = 1; status == SPAR_NO_MEMORY && k < 1000; k++) {
        int32_t *ids;
        spar_text_span *spans;
        size_t n;
        sp_mem_fail_at(k);
        status = spar_tokenizer_encode_spans(t, text, sizeof text - 1, 0, &ids, &spans, &n, &err);
        sp_mem_fail_at(0);
        if (status == SPAR_OK) {
            free(ids);
            free(spans);
        }
    }
    check(status, &err);
    spar_tokenizer_free(t);
}

static void refuses_ill_formed(void **state) {
    spar_tokenizer *t = load_tokenizer("smollm2");
    int32_t *ids;
    spar_text_span *spans;
    size_t n;
    spar_error err;
    (void)state;
    assert_int_equal(spar_tokenizer_encode_spans(t, "a\xff", 2, 0, &ids, &spans, &n, &err),
                     SPAR_INVALID);
    spar_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_of_tokens),
        cmocka_unit_test(masks_of_conversations),
        cmocka_unit_test(failing_allocator),
        cmocka_unit_test(refuses_ill_formed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
