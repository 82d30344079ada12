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

/* The words of deepseek-v3 with what comes after signs and letters given. */
#define DEEPSEEK_V3(ends)                                                                          \
    "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+" ends
#define CHINESE_JAPANESE "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
/* Letters with a case, as deepseek-llm has them: those of an older Unicode. */
#define CASED                                                                                      \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"                 \
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}"                          \
    "\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}"                  \
    "\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}"                         \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}"                 \
    "\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}"                 \
    "\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}"                 \
    "\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}"                            \
    "\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}"                           \
    "\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}"                 \
    "\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}"                  \
    "\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}"                   \
    "\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}"                  \
    "\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"                  \
    "\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"                  \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}"                 \
    "\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"               \
    "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}"                              \
    "\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"
/* What o200k's letters are of Kimi K2, which takes Chinese characters by themselves. */
#define KIMI_UPPER "(?:(?!\\p{Han})[" UPPER "])"
#define KIMI_LOWER "(?:(?!\\p{Han})[" LOWER "])"

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
    {"minicpm5", {PATTERNS("\\p{N}{1,3}", CL100K("\\p{N}+|")), false, true, false}},
    {"laguna", {PATTERNS("[^\\n]+|[\\n]+", CL100K("\\p{N}|")), false, false, false}},
    {"jais-2",
     {PATTERNS(CONTRACTIONS
               "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
               "\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|"
               "\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}"),
      false, false, false}},
    {"ufakzeka",
     {PATTERNS("[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" ENDS), false,
      false, false}},
    {"exaone-moe",
     {PATTERNS(CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}"
                            "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"),
      false, false, false}},
    {"granite-embed-multi-97m",
     {PATTERNS(O200K(CONTRACTIONS "?", "\\p{N}{1,3}|")), false, true, false}},
    {"tiny_aya cohere2moe",
     {PATTERNS("\\d{1,3}(?=(?:\\d{3})*\\b)", O200K(CONTRACTIONS "?", "\\p{N}{1,3}|")), false, false,
      false}},
    {"youtu",
     {PATTERNS("[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}"
               "\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-"
               "\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+|" CHINESE_JAPANESE,
               O200K(CONTRACTIONS "?", "\\p{N}|")),
      false, true, false}},
    {"kimi-k2",
     {PATTERNS("\\p{Han}+|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "*" KIMI_LOWER "+" CONTRACTIONS
               "?|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "+" KIMI_LOWER "*" CONTRACTIONS
               "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" ENDS),
      false, false, false}},
    {"superbpe", {PATTERNS("\\p{N}+", "(?=(\\d{3})+(?!\\d))"), false, false, false}},
    {"chameleon",
     {PATTERNS("<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )",
               "\\p{N}", "[\\p{P}!-/:-@\\[-`{-~]", GPT2),
      false, false, true}},
    {"gpt-4o llama4 kanana2 minimax-m2 talkie",
     {PATTERNS(O200K(CONTRACTIONS "?", "\\p{N}{1,3}|")), false, false, false}},
    {"tekken", {PATTERNS(O200K("", "\\p{N}|")), false, true, true}},
    {"deepseek-coder",
     {PATTERNS("[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
               "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+", "\\p{N}"),
      false, false, false}},
    {"deepseek-llm",
     {PATTERNS("[\\r\\n]", "\\s?[" CASED "]+",
               "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-"
               "\\x{3002}]+",
               "\\s+$", "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+", "\\p{N}+"),
      false, false, false}},
    {"spark2_5",
     {PATTERNS("\\p{N}{1,3}", CHINESE_JAPANESE, DEEPSEEK_V3("|[\\r\\n]|\\s+(?!\\S)|\\s+"),
               "\\p{N}"),
      false, false, false}},
    {"afmoe",
     {PATTERNS(
          "\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))",
          "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{309F}\\x{30A0}-"
          "\\x{30FF}\\x{FF65}-\\x{FF9F}\\x{2F00}-\\x{2FDF}\\x{E40}-\\x{E7F}\\x{E80}-\\x{EFF}"
          "\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}\\x{A9E0}-\\x{A9FF}\\x{AC00}-"
          "\\x{D7AF}\\x{1100}-\\x{11FF}]+",
          DEEPSEEK_V3("[\\r\\n]*" ENDS)),
      false, false, false}},
    {"deepseek-v3 hunyuan-dense joyai-llm hy_v4",
     {PATTERNS("\\p{N}{1,3}", CHINESE_JAPANESE, DEEPSEEK_V3("[\\r\\n]*" ENDS)), false, false,
      false}},
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
