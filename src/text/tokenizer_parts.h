/* Inside of a tokenizer: its parts, and building one from a description.
 *
 * A tokenizer is a pipeline: added tokens are cut out of the text, the rest is normalised, split
 * into words and each word made into ids by a model (word_model.h); decoding runs a chain of
 * decoders. Each stage is a list of steps read from tokenizer.json. A GGUF vocabulary is first
 * written as the tokenizer.json that means the same (tokenizer_spec.c), so there is one way in, and
 * export is what was read.
 */
#ifndef SP_TEXT_TOKENIZER_PARTS_H
#define SP_TEXT_TOKENIZER_PARTS_H

#include <jansson.h>

#include "base/mem.h"
#include "base/str.h"
#include "spar/tokenizer.h"
#include "text/prefixes.h"
#include "text/steps.h"
#include "text/word_cache.h"
#include "text/word_model.h"

typedef struct sp_added_token {
    int32_t id;
    const char *content; /* borrowed from the arena; for normalised tokens, normalised */
    size_t n;
    bool special, lstrip, rstrip, single_word, normalized;
} sp_added_token;

typedef enum sp_special { SP_BOS, SP_EOS, SP_PAD, SP_UNK, SP_SPECIALS } sp_special;

struct spar_tokenizer {
    sp_arena arena;
    sp_vocabulary vocabulary;
    const sp_word_model_type *model_type;
    void *model;           /* owned, of model_type */
    sp_added_token *added; /* owned */
    size_t n_added;
    sp_added_token *added_normalized;
    size_t n_added_normalized;
    sp_prefixes find_added, find_normalized; /* by content, to places in the two arrays */
    uint8_t *special;                        /* owned, one byte an id: 1 special */
    const char **forms; /* owned, by id, or NULL: what decoders see of a token if not its text */
    sp_step *normalizers, *splitters, *decoders; /* owned */
    size_t n_normalizers, n_splitters, n_decoders;
    const char *within, *ending; /* of source, or NULL: what tokens within a word begin with, and
                                  * what the last one ends with, beside their text */
    bool of_bytes; /* words come as bytes, and go to the model in the byte-level alphabet */
    sp_word_caches *caches;  /* owned */
    bool no_decoder;         /* tokens are joined by spaces */
    int32_t *before, *after; /* owned: ids that the post-processor adds */
    size_t n_before, n_after;
    const char *special_text[SP_SPECIALS];
    const char *chat_template, *tool_template; /* arena */
    json_t *source;                            /* owned: the tokenizer.json it was made from */
    json_t *config;                            /* owned: tokenizer_config.json, or NULL */
};

/* Build from the JSON value of a tokenizer.json (borrowed; a reference is kept). */
spar_status sp_tokenizer_from_json(spar_tokenizer **out, json_t *root, const char *where,
                                   spar_error *err);

/* Whether a folder has a file that spar_tokenizer_load reads. */
bool sp_tokenizer_in(const char *dir);

/* Take over the ids that the post-processor (may be NULL or null) puts around a text. */
spar_status sp_tokenizer_read_processor(spar_tokenizer *tokenizer, const json_t *processor,
                                        const char *where, spar_error *err);

/* New references: a complete tokenizer.json and tokenizer_config.json. */
json_t *sp_tokenizer_to_json(const spar_tokenizer *tokenizer);
json_t *sp_tokenizer_config_json(const spar_tokenizer *tokenizer);

/* A vocabulary as GGUF files describe it. Strings are not NUL-terminated; all borrowed. */
typedef struct sp_bytes {
    const char *data;
    size_t n;
} sp_bytes;

typedef enum sp_token_type {
    SP_TOKEN_NORMAL = 1,
    SP_TOKEN_UNKNOWN = 2,
    SP_TOKEN_CONTROL = 3,
    SP_TOKEN_USER = 4,
    SP_TOKEN_UNUSED = 5,
    SP_TOKEN_BYTE = 6
} sp_token_type;

typedef enum sp_vocab_kind {
    SP_VOCAB_BYTE_LEVEL,    /* BPE of bytes, by merges */
    SP_VOCAB_SENTENCEPIECE, /* BPE with byte fallback, by scores */
    SP_VOCAB_UNIGRAM,
    SP_VOCAB_WORD_PIECE /* tokens that begin a word have the mark U+2581 before them */
} sp_vocab_kind;

typedef struct sp_vocab_spec {
    sp_vocab_kind kind;
    sp_bytes *tokens;
    size_t n_tokens;
    const int32_t *types; /* sp_token_type by token; NULL: all normal */
    const float *scores;  /* by token; for SentencePiece and Unigram */
    sp_bytes *merges;     /* "left right"; byte-level with scores in their place: by rank */
    size_t n_merges;
    sp_bytes pre;               /* name of the pre-tokeniser */
    int64_t bos, eos, pad, unk; /* -1: none; for WordPiece, bos is CLS and eos SEP */
    int add_bos;                /* -1: as models with this pre-tokeniser do */
    bool add_eos, add_space_prefix;
    bool strip_spaces; /* SentencePiece: spaces at the ends go, and runs of them are one */
    sp_bytes charsmap; /* SentencePiece: compiled map of characters; data NULL: none */
    bool strip_after;  /* added tokens take the spaces after them */
    sp_bytes chat_template, tool_template; /* data NULL: none */
} sp_vocab_spec;

/* The description as the tokenizer.json that means the same; *out is a new reference. */
spar_status sp_vocab_spec_json(const sp_vocab_spec *spec, const char *where, json_t **out,
                               spar_error *err);
/* The normalizer that readers of WordPiece vocabularies have; a new reference. */
json_t *sp_word_piece_normalizer(void);
spar_status sp_tokenizer_from_spec(spar_tokenizer **out, const sp_vocab_spec *spec,
                                   const char *where, spar_error *err);

#endif
