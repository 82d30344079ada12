/* The files of the tokenizers that were before tokenizer.json: vocab.json with merges.txt, and
 * vocab.txt. */
#include "text/vocab_files.h"

#include <string.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "text/pre_names.h"

static json_t *added_token(const char *text, size_t n, json_int_t id) {
    return json_pack("{s:I, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", text, (size_t)n,
                     "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
}

/* ---- vocab.json and merges.txt ---- */

/* Classes whose files these may be; the pattern of their pre-tokeniser has a name of GGUF. */
static const struct family {
    const char *class_name; /* in tokenizer_config.json, with or without "Fast" at its end */
    const char *pre;
    bool around; /* <s> and </s> go around a text */
} families[] = {{"GPT2Tokenizer", "gpt-2", false},
                {"CodeGenTokenizer", "gpt-2", false},
                {"Qwen2Tokenizer", "qwen2", false},
                {"RobertaTokenizer", "gpt-2", true},
                {"BartTokenizer", "gpt-2", true}};

static const struct family *find_family(const json_t *config) {
    const char *name = json_string_value(json_object_get(config, "tokenizer_class"));
    for (size_t i = 0; name && i < sizeof families / sizeof families[0]; i++) {
        const size_t n = strlen(families[i].class_name);
        if (strncmp(name, families[i].class_name, n) == 0 &&
            (!name[n] || strcmp(name + n, "Fast") == 0)) {
            return &families[i];
        }
    }
    return name ? NULL : &families[0];
}

static spar_status merges_list(json_t **out, const char *text, size_t n, const char *where,
                               spar_error *err) {
    json_t *list = json_array();
    size_t line = 0;
    for (const char *at = text, *end = text + n; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((newline ? newline : end) - at);
        length -= length > 0 && at[length - 1] == '\r';
        line++;
        bool header = line == 1 && length >= 8 && memcmp(at, "#version", 8) == 0;
        if (length > 0 && !header) {
            json_t *merge = json_stringn(at, length);
            if (!merge || json_array_append_new(list, merge) != 0) {
                json_decref(list);
                return spar_fail(err, SPAR_FORMAT, "%s: merges, line %zu: expected UTF-8 text",
                                 where, line);
            }
        }
        at = newline ? newline + 1 : end;
    }
    *out = list;
    return SPAR_OK;
}

/* The tokens in angle brackets of GPT-2, Qwen2 and RoBERTa: what a vocabulary has of them. */
static json_t *bracketed_tokens(const json_t *vocab) {
    static const char *const names[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>",
                                        "</s>",          "<pad>",        "<unk>",      "<mask>"};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const json_t *id = json_object_get(vocab, names[i]);
        if (id) {
            json_array_append_new(list,
                                  added_token(names[i], strlen(names[i]), json_integer_value(id)));
        }
    }
    return list;
}

/* BOS before a text, where tokenizer_config.json has add_bos_token and says which token it is
 * (OPT). */
static json_t *bos_processor(const json_t *vocab, const json_t *config) {
    const json_t *token = json_object_get(config, "bos_token");
    const char *bos =
        json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
    const json_t *id = bos ? json_object_get(vocab, bos) : NULL;
    return id && json_is_true(json_object_get(config, "add_bos_token"))
               ? json_pack("{s:s, s:[{s:{s:s}}, {s:{s:s}}], s:{s:{s:s, s:[I]}}}", "type",
                           "TemplateProcessing", "single", "SpecialToken", "id", bos, "Sequence",
                           "id", "A", "special_tokens", bos, "id", bos, "ids",
                           json_integer_value(id))
               : json_null();
}

static json_t *bracket_processor(const json_t *vocab) {
    const json_t *bos = json_object_get(vocab, "<s>");
    const json_t *eos = json_object_get(vocab, "</s>");
    if (!bos || !eos) {
        return json_null();
    }
    return json_pack("{s:s, s:[s, I], s:[s, I], s:b, s:b}", "type", "RobertaProcessing", "sep",
                     "</s>", json_integer_value(eos), "cls", "<s>", json_integer_value(bos),
                     "trim_offsets", 1, "add_prefix_space", 0);
}

spar_status sp_merges_json(json_t **out, json_t *vocab, const char *merges, size_t n,
                           const json_t *config, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *list = NULL;
    const struct family *family = find_family(config);
    if (!family) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: tokenizer_class: expected GPT2Tokenizer, "
                           "CodeGenTokenizer, Qwen2Tokenizer, RobertaTokenizer or BartTokenizer, "
                           "found %.60s, which needs a "
                           "tokenizer.json",
                           where, json_string_value(json_object_get(config, "tokenizer_class"))));
        goto done;
    }
    const sp_pre *pre = sp_pre_find(family->pre, strlen(family->pre));
    SPAR_TRY(merges_list(&list, merges, n, where, err));
    json_t *step = json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                             pre->patterns[0], "behavior", "Isolated", "invert", 0);
    json_t *bytes = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                              "trim_offsets", 1, "use_regex", 0);
    *out = json_pack(
        "{s:s, s:n, s:n, s:o, s:o, s:{s:s, s:[o, O]}, s:o, s:o, s:{s:s, s:n, s:n, s:O, s:O}}",
        "version", "1.0", "truncation", "padding", "added_tokens", bracketed_tokens(vocab),
        "normalizer", pre->nfc ? json_pack("{s:s}", "type", "NFC") : json_null(), "pre_tokenizer",
        "type", "Sequence", "pretokenizers", step, bytes, "post_processor",
        family->around ? bracket_processor(vocab) : bos_processor(vocab, config), "decoder", bytes,
        "model", "type", "BPE", "dropout", "unk_token", "vocab", vocab, "merges", list);
done:
    json_decref(list);
    return status;
}

/* ---- vocab.txt ---- */

static json_t *bert_processor(const json_t *vocab) {
    const json_t *cls = json_object_get(vocab, "[CLS]");
    const json_t *sep = json_object_get(vocab, "[SEP]");
    return cls && sep
               ? json_pack("{s:s, s:[s, I], s:[s, I]}", "type", "BertProcessing", "sep", "[SEP]",
                           json_integer_value(sep), "cls", "[CLS]", json_integer_value(cls))
               : json_null();
}

static json_t *bert_normalizer(const json_t *config) {
    const json_t *lower = json_object_get(config, "do_lower_case");
    const json_t *accents = json_object_get(config, "strip_accents");
    const json_t *chinese = json_object_get(config, "tokenize_chinese_chars");
    return json_pack("{s:s, s:b, s:b, s:o, s:b}", "type", "BertNormalizer", "clean_text", 1,
                     "handle_chinese_chars", !json_is_false(chinese), "strip_accents",
                     json_is_boolean(accents) ? json_boolean(json_is_true(accents)) : json_null(),
                     "lowercase", !json_is_false(lower));
}

static spar_status read_lines(json_t *vocab, const char *text, size_t n, const char *where,
                              spar_error *err) {
    json_int_t id = 0;
    for (const char *at = text, *end = text + n; at < end; id++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((newline ? newline : end) - at);
        length -= length > 0 && at[length - 1] == '\r';
        if (json_object_setn_new(vocab, at, length, json_integer(id)) != 0) {
            return spar_fail(err, SPAR_FORMAT, "%s: line %lld: expected UTF-8 text", where,
                             (long long)id + 1);
        }
        at = newline ? newline + 1 : end;
    }
    return SPAR_OK;
}

spar_status sp_vocab_txt_json(json_t **out, const char *text, size_t n, const json_t *config,
                              const char *where, spar_error *err) {
    static const char *const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    spar_status status = SPAR_OK;
    json_t *vocab = json_object();
    json_t *added = json_array();
    SPAR_TRY(read_lines(vocab, text, n, where, err));
    if (!json_object_get(vocab, "[UNK]")) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: expected the vocabulary of a BERT, found no [UNK]", where));
    }
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        const json_t *id = json_object_get(vocab, specials[i]);
        if (id) {
            json_array_append_new(
                added, added_token(specials[i], strlen(specials[i]), json_integer_value(id)));
        }
    }
    *out = json_pack("{s:s, s:n, s:n, s:O, s:o, s:{s:s}, s:o, s:{s:s, s:s, s:b}, s:{s:s, s:s, s:s, "
                     "s:i, s:O}}",
                     "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer",
                     bert_normalizer(config), "pre_tokenizer", "type", "BertPreTokenizer",
                     "post_processor", bert_processor(vocab), "decoder", "type", "WordPiece",
                     "prefix", "##", "cleanup", 1, "model", "type", "WordPiece", "unk_token",
                     "[UNK]", "continuing_subword_prefix", "##", "max_input_chars_per_word", 100,
                     "vocab", vocab);
done:
    json_decref(vocab);
    json_decref(added);
    return status;
}
