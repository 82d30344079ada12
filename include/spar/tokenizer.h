/* Tokenizers: text to token ids and back, exactly as the Hugging Face tokenizers library does it.
 *
 * Byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM), SentencePiece-style BPE with byte fallback
 * (Llama 2, Mistral, Gemma), Unigram (T5, DeBERTa-v3), WordPiece (BERT) and WordLevel. Other files
 * than tokenizer.json are read as the tokenizer.json that means the same. Life cycle: load, encode
 * and decode, free. A tokenizer does not change after loading and may be used by several threads.
 * What it does not know (a type of step, a construct of a pattern) is an error at loading that
 * names it.
 *
 * Characters count as what they are in the library's own tables (split patterns: Unicode 16.0.0).
 * Known differences: patterns beyond the common kind (text/pattern_program.h) go by the tables of
 * the installed PCRE2, and a caseless pattern does not match one character for two (U+00DF, ss).
 */
#ifndef SPAR_TOKENIZER_H
#define SPAR_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

typedef struct spar_tokenizer spar_tokenizer;

/* path: a tokenizer.json, Mistral's tekken.json, SentencePiece model, tiktoken ranks, vocab.json
 * (with merges.txt beside it) or vocab.txt, or a folder that has one of them (the first in this
 * order). tokenizer_config.json, special_tokens_map.json and chat_template.jinja (or .json) beside
 * it are read where they exist. */
SPAR_API spar_status spar_tokenizer_load(spar_tokenizer **out, const char *path, spar_error *err);
SPAR_API void spar_tokenizer_free(spar_tokenizer *tokenizer);

enum {
    SPAR_TOKENIZE_NO_SPECIAL = 1 /* add no BOS or EOS; special tokens in the text are recognised */
};

/* text: n bytes of UTF-8 (LIMIT above 256 MiB); ill-formed sequences become U+FFFD. *ids is owned
 * by the caller. INVALID for a word that the vocabulary lacks, where it has no token for such. */
SPAR_API spar_status spar_tokenizer_encode(const spar_tokenizer *tokenizer, const char *text,
                                           size_t n, unsigned flags, int32_t **ids, size_t *n_ids,
                                           spar_error *err);
/* Bytes [begin, end) of a text. */
typedef struct spar_text_span {
    size_t begin, end;
} spar_text_span;

/* The same with the place of each token in the text, *spans [n_ids], owned by the caller: whole
 * characters, also where a token has a part of one. What normalisation adds belongs to a neighbour;
 * tokens that are added around the text are at [0, 0). As the library's offsets, without the
 * trimming of its ByteLevel post-processor. INVALID for ill-formed UTF-8. */
SPAR_API spar_status spar_tokenizer_encode_spans(const spar_tokenizer *tokenizer, const char *text,
                                                 size_t n, unsigned flags, int32_t **ids,
                                                 spar_text_span **spans, size_t *n_ids,
                                                 spar_error *err);
/* *text is NUL-terminated and owned by the caller; *n_text (may be NULL) its length. Ids that the
 * vocabulary lacks are left out, as special tokens are with skip_special. An added token is written
 * as its content, also where the library writes the normalised content ("normalized": true). */
SPAR_API spar_status spar_tokenizer_decode(const spar_tokenizer *tokenizer, const int32_t *ids,
                                           size_t n, bool skip_special, char **text, size_t *n_text,
                                           spar_error *err);

SPAR_API int32_t spar_tokenizer_vocab_size(const spar_tokenizer *tokenizer); /* largest id + 1 */
/* The id of a token as written in the vocabulary, or -1; and back, NULL where there is none. */
SPAR_API int32_t spar_tokenizer_id(const spar_tokenizer *tokenizer, const char *token);
SPAR_API const char *spar_tokenizer_token(const spar_tokenizer *tokenizer, int32_t id);
SPAR_API bool spar_tokenizer_is_special(const spar_tokenizer *tokenizer, int32_t id);

/* Ids (-1: none) and texts (NULL: none) of the named special tokens. */
SPAR_API int32_t spar_tokenizer_bos(const spar_tokenizer *tokenizer);
SPAR_API int32_t spar_tokenizer_eos(const spar_tokenizer *tokenizer);
SPAR_API int32_t spar_tokenizer_pad(const spar_tokenizer *tokenizer);
SPAR_API int32_t spar_tokenizer_unk(const spar_tokenizer *tokenizer);
SPAR_API const char *spar_tokenizer_bos_text(const spar_tokenizer *tokenizer);
SPAR_API const char *spar_tokenizer_eos_text(const spar_tokenizer *tokenizer);
SPAR_API const char *spar_tokenizer_pad_text(const spar_tokenizer *tokenizer);
SPAR_API const char *spar_tokenizer_unk_text(const spar_tokenizer *tokenizer);
/* The chat template that came with it, or NULL. Borrowed. */
SPAR_API const char *spar_tokenizer_chat_template(const spar_tokenizer *tokenizer);
/* The one named "tool_use" beside it, for conversations with tools, or NULL. Borrowed. */
SPAR_API const char *spar_tokenizer_tool_template(const spar_tokenizer *tokenizer);

#endif
