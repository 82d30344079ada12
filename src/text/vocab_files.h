/* Vocabularies in files other than tokenizer.json, as the tokenizer.json that means the same. */
#ifndef SP_TEXT_VOCAB_FILES_H
#define SP_TEXT_VOCAB_FILES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "spar/status.h"

/* A SentencePiece model (tokenizer.model, spiece.model, spm.model): BPE or Unigram. bytes: the
 * whole file; config: tokenizer_config.json beside it, or NULL. *out is a new reference.
 * UNSUPPORTED for models of words or characters, and for classes that shift the ids. */
spar_status sp_sentencepiece_json(json_t **out, const char *bytes, size_t n, const json_t *config,
                                  const char *where, spar_error *err);

/* Ranks of tiktoken: lines of a token in base64 and its rank. The number of ranks tells which
 * vocabulary it is, which says the pattern and the special tokens; UNSUPPORTED for others. */
spar_status sp_tiktoken_json(json_t **out, const char *bytes, size_t n, const char *where,
                             spar_error *err);

/* Mistral's tekken.json, which names its pattern: whether a file is one, what it says, and the
 * tokenizer_config.json that such folders have not. *out and the latter are new references. */
bool sp_is_tekken(const json_t *root);
spar_status sp_tekken_json(json_t **out, const json_t *root, const char *where, spar_error *err);
json_t *sp_tekken_config(void);

/* vocab.json (of GPT-2 and Qwen2) with the text of merges.txt. */
spar_status sp_merges_json(json_t **out, json_t *vocab, const char *merges, size_t n,
                           const json_t *config, const char *where, spar_error *err);

/* vocab.txt of BERT: a token a line. */
spar_status sp_vocab_txt_json(json_t **out, const char *text, size_t n, const json_t *config,
                              const char *where, spar_error *err);

/* Whether bytes begin as a SentencePiece model does: with the piece of the first token. */
bool sp_is_sentencepiece(const char *bytes, size_t n);

#endif
