/* The tokenizer that a GGUF file describes. */
#ifndef SP_MODEL_VOCAB_GGUF_H
#define SP_MODEL_VOCAB_GGUF_H

#include "io/gguf.h"
#include "spar/tokenizer.h"

/* *out NULL where the file has no vocabulary. */
spar_status sp_vocab_from_gguf(const sp_gguf *gguf, spar_tokenizer **out, spar_error *err);

#endif
