#include "text/pre_names.h"

#include <string.h>

#define PATTERNS(...) ((const char *const[]){__VA_ARGS__, NULL})

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define ENDS "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* The words of tiktoken's cl100k, with numbers cut into groups of the given length. */
#define CL100K(number)                                                                             \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" ENDS
/* The words of o200k: lower case may follow upper, with what comes after a word. */
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define O200K(after, number)                                                                       \
    "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+" after "|[^\\r\\n\\p{L}\\p{N}]?[" UPPER        \
    "]+[" LOWER "]*" after "|" number " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" ENDS

static const struct row {
    const char *names; /* separated by spaces */
    sp_pre pre;
} rows[] = {
    {"gpt-2 phi-2 mpt olmo jais trillion exaone4 jina-es jina-de jina-v2-es jina-v2-de gigachat "
     "a.x-4.0 mellum modern-bert granite-docling",
     {PATTERNS(GPT2), false, false, false}},
    {"smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
     {PATTERNS("\\p{N}", GPT2), false, false, false}},
    {"default",
     {PATTERNS("[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"), false, false,
      false}},
    {"falcon",
     {PATTERNS("[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"), false, false, false}},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     {PATTERNS(CL100K("\\p{N}{1,3}|")), false, true, true}},
    {"dbrx smaug-bpe chatglm-bpe glm4", {PATTERNS(CL100K("\\p{N}{1,3}|")), false, false, false}},
    {"qwen2", {PATTERNS(CL100K("\\p{N}|")), true, false, false}},
    {"stablelm2 deepseek-r1-qwen megrez hunyuan solar-open grok-2 kormo f2llmv2",
     {PATTERNS(CL100K("\\p{N}|")), false, false, false}},
    {"gpt-4o llama4 kanana2 minimax-m2 talkie",
     {PATTERNS(O200K(CONTRACTIONS "?", "\\p{N}{1,3}|")), false, false, false}},
    {"tekken", {PATTERNS(O200K("", "\\p{N}|")), false, true, true}},
    {"deepseek-coder",
     {PATTERNS("[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
               "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+", "\\p{N}"),
      false, false, false}},
    {"deepseek-v3 hunyuan-dense joyai-llm hy_v4",
     {PATTERNS("\\p{N}{1,3}", "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
               "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
               "| ?[\\p{P}\\p{S}]+[\\r\\n]*" ENDS),
      false, false, false}},
    {"qwen35",
     {PATTERNS(CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
                            "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" ENDS),
      true, false, false}},
    {"bailingmoe bailingmoe2 llada-moe",
     {PATTERNS("'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
               "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"),
      false, false, false}},
    {"seed-coder",
     {PATTERNS(CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
                            "| ?[^\\s\\p{L}\\p{N}\\r\\n]+" ENDS),
      false, false, false}},
    {"bloom poro-chat gpt3-finnish",
     {PATTERNS(" ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"),
      false, false, false}},
    {"viking",
     {PATTERNS(" ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+",
               "\\p{N}"),
      false, false, false}},
};

static bool lists(const char *names, const char *name, size_t n) {
    while (*names) {
        size_t length = strcspn(names, " ");
        if (length == n && memcmp(names, name, n) == 0) {
            return true;
        }
        names += length + (names[length] == ' ');
    }
    return false;
}

/* Whether a row splits by these patterns and no others. */
static bool has_patterns(const sp_pre *pre, const char *const *patterns, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!pre->patterns[i] || strcmp(pre->patterns[i], patterns[i]) != 0) {
            return false;
        }
    }
    return pre->patterns[n] == NULL;
}

const char *sp_pre_gpt2_words(void) {
    return GPT2;
}

const char *sp_pre_name(const char *const *patterns, size_t n, bool nfc, bool ignore_merges,
                        size_t *length) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (has_patterns(&rows[i].pre, patterns, n) && rows[i].pre.nfc == nfc &&
            rows[i].pre.ignore_merges == ignore_merges) {
            *length = strcspn(rows[i].names, " ");
            return rows[i].names;
        }
    }
    return NULL;
}

const sp_pre *sp_pre_find(const char *name, size_t n) {
    if (n == 0) {
        return sp_pre_find("default", strlen("default"));
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (lists(rows[i].names, name, n)) {
            return &rows[i].pre;
        }
    }
    return NULL;
}
