/* Every code point through each step, against checksums of what the Hugging Face tokenizers library
 * (0.23.3) makes of it; tools/make_step_sums.py wrote the rows and says what is summed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "text/steps.h"

static const struct sum {
    sp_stage stage;
    const char *step;
    uint32_t crc;
} sums[] = {
    {SP_NORMALIZER, "{\"type\": \"NFC\"}", 0x16A939BE},
    {SP_NORMALIZER, "{\"type\": \"NFD\"}", 0xAA2FC027},
    {SP_NORMALIZER, "{\"type\": \"NFKC\"}", 0x5A720466},
    {SP_NORMALIZER, "{\"type\": \"NFKD\"}", 0x59E497E6},
    {SP_NORMALIZER, "{\"type\": \"Lowercase\"}", 0x4BA0E7A3},
    {SP_NORMALIZER, "{\"type\": \"StripAccents\"}", 0x9D909A93},
    {SP_NORMALIZER, "{\"type\": \"Nmt\"}", 0x90C412E9},
    {SP_NORMALIZER, "{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}",
     0x88B837FB},
    {SP_NORMALIZER,
     "{\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": true, "
     "\"strip_accents\": null, \"lowercase\": true}",
     0x45B5679C},
    {SP_NORMALIZER,
     "{\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": false, "
     "\"strip_accents\": false, \"lowercase\": false}",
     0x37CC134D},
    {SP_NORMALIZER,
     "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"\\\\p{M}|\\\\s\"}, \"content\": \"-\"}",
     0x8ECB0DC7},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
     "\"use_regex\": true}",
     0x659B696D},
    {SP_PRE_TOKENIZER, "{\"type\": \"Digits\", \"individual_digits\": false}", 0x6DF2A170},
    {SP_PRE_TOKENIZER, "{\"type\": \"Punctuation\", \"behavior\": \"Isolated\"}", 0xF2EB1379},
    {SP_PRE_TOKENIZER, "{\"type\": \"Whitespace\"}", 0x6DFED346},
    {SP_PRE_TOKENIZER, "{\"type\": \"WhitespaceSplit\"}", 0x8E59AAF1},
    {SP_PRE_TOKENIZER, "{\"type\": \"BertPreTokenizer\"}", 0xDAE574B6},
    {SP_PRE_TOKENIZER, "{\"type\": \"UnicodeScripts\"}", 0x5F09D77D},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"always\", "
     "\"split\": true}",
     0x54C353F2},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{Lu}|\\\\p{Lt}\"}, \"behavior\": "
     "\"Removed\", \"invert\": false}",
     0x4855DDD6},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{Ll}\"}, \"behavior\": \"Removed\", "
     "\"invert\": false}",
     0x913D680E},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{Lm}|\\\\p{Mc}\"}, \"behavior\": "
     "\"Removed\", \"invert\": false}",
     0xB67599A0},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{Lo}\"}, \"behavior\": \"Removed\", "
     "\"invert\": false}",
     0x06F0A27E},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{Mn}|\\\\p{Me}\"}, \"behavior\": "
     "\"Removed\", \"invert\": false}",
     0xDF8F4CCF},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{Nd}|\\\\p{Pc}|\\\\p{Pd}\"}, "
     "\"behavior\": \"Removed\", \"invert\": false}",
     0xF8661C0C},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{Nl}|\\\\p{Sm}\"}, \"behavior\": "
     "\"Removed\", \"invert\": false}",
     0xB213DC39},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{No}|\\\\p{Sc}\"}, \"behavior\": "
     "\"Removed\", \"invert\": false}",
     0x3940BD24},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{P}\"}, \"behavior\": \"Removed\", "
     "\"invert\": false}",
     0x8AE52E5D},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{S}\"}, \"behavior\": \"Removed\", "
     "\"invert\": false}",
     0x1D08DEA0},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{Sk}|\\\\p{Cf}\"}, \"behavior\": "
     "\"Removed\", \"invert\": false}",
     0x9E65BB1C},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{C}|\\\\p{Zs}\"}, \"behavior\": "
     "\"Removed\", \"invert\": false}",
     0x5A466B4B},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s|\\\\p{Co}\"}, \"behavior\": "
     "\"Removed\", \"invert\": false}",
     0xE43EE5E6},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[^\\\\s\\\\p{L}\\\\p{N}]\"}, \"behavior\": "
     "\"Removed\", \"invert\": false}",
     0xB2EAAA82},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\d|\\\\p{Han}\"}, \"behavior\": "
     "\"Removed\", \"invert\": false}",
     0x54722152},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{Hangul}|\\\\p{Hiragana}\"}, "
     "\"behavior\": \"Removed\", \"invert\": false}",
     0x6797D5A2},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(?i:s|k)\"}, \"behavior\": \"Removed\", "
     "\"invert\": false}",
     0xA17D63F4},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\w\"}, \"behavior\": \"Removed\", "
     "\"invert\": false}",
     0x88DF567F},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[\\\\w]\"}, \"behavior\": \"Removed\", "
     "\"invert\": false}",
     0xBC2691EC},
    {SP_PRE_TOKENIZER,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[^\\\\W\\\\d]|\\\\W\"}, \"behavior\": "
     "\"Removed\", \"invert\": false}",
     0x9B9CCE1D},
};

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

/* CRC-32 of ISO 3309, bit by bit, going on from an earlier one. */
static uint32_t crc32(uint32_t crc, const char *bytes, size_t n) {
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= (unsigned char)bytes[i];
        for (int k = 0; k < 8; k++) {
            crc = crc >> 1 ^ (0xEDB88320U & (0U - (crc & 1U)));
        }
    }
    return ~crc;
}

/* The next part of the text from *c on. */
static void make_part(unsigned *c, sp_str *text) {
    sp_str_clear(text);
    for (size_t n = 0; n < 4096 && *c < 0x110000; n++, ++*c) {
        *c = *c == 0xD800 ? 0xE000 : *c;
        sp_str_put_utf8(text, *c);
        sp_str_putc(text, 'x');
    }
}

static uint32_t sum_pieces(const sp_step *steps, size_t n, const sp_str *text, uint32_t crc) {
    spar_error err;
    sp_words words = {.base = sp_str_get(text)}, spare = {0};
    check(sp_words_add(&words, 0, text->len, true, &err), &err);
    check(sp_steps_split(steps, n, &words, &spare, NULL, &err), &err);
    for (size_t i = 0; i < words.n; i++) {
        if (words.items[i].n > 0) {
            crc = crc32(crc, words.base + words.items[i].begin, words.items[i].n);
            crc = crc32(crc, "\xFF", 1);
        }
    }
    sp_words_release(&words);
    sp_words_release(&spare);
    return crc;
}

static uint32_t sum_all(const sp_step *steps, size_t n, sp_stage stage) {
    spar_error err;
    sp_str text = SP_STR_INIT;
    uint32_t crc = 0;
    for (unsigned c = 1; c < 0x110000;) {
        make_part(&c, &text);
        if (stage == SP_NORMALIZER) {
            check(sp_steps_normalize(steps, n, &text, NULL, &err), &err);
            crc = crc32(crc, sp_str_get(&text), text.len);
        } else {
            crc = sum_pieces(steps, n, &text, crc);
        }
    }
    sp_str_release(&text);
    return crc;
}

static void test_sums(void **state) {
    (void)state;
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++) {
        spar_error err;
        sp_arena arena;
        sp_step *steps;
        size_t n;
        json_t *value;
        sp_arena_init(&arena);
        check(sp_json_parse(&value, sums[i].step, strlen(sums[i].step), "test", &err), &err);
        check(sp_steps_read(&steps, &n, sums[i].stage, value, &arena, "test", &err), &err);
        const uint32_t crc = sum_all(steps, n, sums[i].stage);
        if (crc != sums[i].crc) {
            print_message("%s: expected 0x%08X, found 0x%08X\n", sums[i].step, sums[i].crc, crc);
            wrong++;
        }
        sp_steps_free(steps, n);
        sp_arena_release(&arena);
        json_decref(value);
    }
    assert_int_equal(wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
