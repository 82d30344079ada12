/* Encoder models for judging, inference only: BERT, RoBERTa and DeBERTa-v2/v3 with a
 * sequence-classification head, and PairRM (a DeBERTa with a head that compares two candidates).
 *
 * A folder in the layout of Hugging Face (config.json, model.safetensors or its shards) is loaded
 * into one flat f32 array. Rows of token ids are packed without padding; every token sees all
 * tokens of its own row. The sequences are given as ids with their special tokens: an encoder knows
 * no tokenizer. What differs between families is a row of a table (encoder_config.c); a setting
 * that changes the mathematics and is not supported is an error that names it.
 *
 * Sources: BERT, arXiv 1810.04805; RoBERTa, 1907.11692; DeBERTa, 2006.03654 (disentangled
 * attention) with the log buckets of its version 2 and the shared projections of DeBERTa-v3,
 * 2111.09543; PairRM, LLM-Blender, 2306.02561.
 */
#ifndef SP_MODEL_ENCODER_H
#define SP_MODEL_ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/token_row.h"
#include "spar/model.h"
#include "spar/status.h"

struct json_t;
typedef struct sp_encoder sp_encoder;

/* Load a folder. Of the options, threads, reference and dtype are read: AUTO is f32, products in
 * whole numbers are UNSUPPORTED. NOT_FOUND names a missing file or tensor, MISMATCH a tensor of
 * another shape, UNSUPPORTED an unknown family or setting. *out is owned by the caller. */
spar_status sp_encoder_load(sp_encoder **out, const char *dir, const spar_model_options *options,
                            spar_error *err);
/* The same of a configuration (a JSON object as in config.json, borrowed) with weights made in
 * memory, uniform with standard deviation 0.02 from `seed`, gains 1: for measuring. */
spar_status sp_encoder_random(sp_encoder **out, const struct json_t *config, uint64_t seed,
                              const spar_model_options *options, spar_error *err);
void sp_encoder_free(sp_encoder *encoder);

int64_t sp_encoder_hidden_size(const sp_encoder *encoder);
int64_t sp_encoder_labels(const sp_encoder *encoder); /* outputs of the head; PairRM: its tasks */
/* Weights of the layers that every token meets in products. */
int64_t sp_encoder_matmul_parameters(const sp_encoder *encoder);
int64_t sp_encoder_context(const sp_encoder *encoder); /* longest row, tokens */
int64_t sp_encoder_types(const sp_encoder *encoder);   /* of tokens: 2 tells two texts apart */
bool sp_encoder_doubles_separator(const sp_encoder *encoder); /* RoBERTa: between two texts */
bool sp_encoder_compares(const sp_encoder *encoder); /* PairRM: it has no scores of one row */

/* Last hidden states of one row: out [row->n, hidden size]. */
spar_status sp_encoder_hidden(sp_encoder *encoder, const sp_token_row *row, float *out,
                              spar_error *err);
/* The outputs of the classification head for each row: out [n, labels]. INVALID for PairRM and for
 * ids outside the vocabulary, LIMIT for a row that is longer than the context. */
spar_status sp_encoder_scores(sp_encoder *encoder, const sp_token_row *rows, size_t n, float *out,
                              spar_error *err);

/* Token budgets of PairRM with their special tokens: the source, and everything. */
enum { SP_PAIRRM_SOURCE = 1224, SP_PAIRRM_TOTAL = 2048 };

/* Compare K >= 1 candidates for one source with PairRM, each ordered pair by itself:
 *     logits [K, K], entry (i, j) = score of i - score of j, when i is read first; diagonal 0.
 * P(i beats j) = sigmoid(logit). The matrix is as judged: neither antisymmetric nor transitive.
 * source and candidates are text ids without special tokens; the function adds [CLS], the three
 * prefix tokens and [SEP] and cuts ends off as the published code does: the source at 1224 tokens
 * with its special ones, each candidate at half of what the source leaves of 2048. INVALID when the
 * model is no PairRM. */
spar_status sp_pairrm_compare(sp_encoder *encoder, const sp_token_row *source,
                              const sp_token_row *candidates, size_t K, float *logits,
                              spar_error *err);
/* The ranking score that LLM-Blender publishes: out[i] = mean over j of logits(i, j) -
 * logits(j, i), the diagonal counted. */
void sp_pairrm_rank(const float *logits, size_t K, float *out);

#endif
