/* A loaded model: weights, tokenizer, chat template, threads and backend.
 *
 * Life cycle: spar_model_load -> use -> spar_model_free. A model is used by one thread at a time;
 * it parallelises inside. Weights are kept as f32 unless asked for otherwise; with bf16 compute
 * the matrix products read bf16 copies and accumulate in f32.
 */
#ifndef SPAR_MODEL_H
#define SPAR_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/chat_template.h"
#include "spar/log.h"
#include "spar/status.h"
#include "spar/tokenizer.h"

typedef struct spar_model spar_model;

typedef enum spar_dtype {
    SPAR_DTYPE_AUTO, /* bf16 where the CPU multiplies it in hardware, else f32 */
    SPAR_DTYPE_F32,
    SPAR_DTYPE_BF16,
    /* Products in whole numbers, on weights in blocks: not for training. The inputs of a product
     * are rounded to 8 bits, or to twice 8. */
    SPAR_DTYPE_INT8,
    SPAR_DTYPE_INT16
} spar_dtype;

/* How the matrices are kept. In blocks of 32 weights they are frozen: only an adapter trains. */
typedef enum spar_weights {
    SPAR_WEIGHTS_AUTO, /* f32; for whole numbers, blocks as they are in the file, or else q8_0 */
    SPAR_WEIGHTS_F32,
    SPAR_WEIGHTS_FILE, /* the blocks of a GGUF file as they are; what is not in blocks as f32 */
    SPAR_WEIGHTS_Q8_0, /* rounded to 8 bits, a scale a block */
    SPAR_WEIGHTS_Q4_1  /* rounded to 4 bits, a scale and a least value a block */
} spar_weights;

typedef struct spar_model_options {
    spar_dtype dtype;
    spar_weights weights;
    int threads;         /* 0: one per CPU of this process */
    int layers;          /* only the first so many, to try sizes and speeds; 0: all */
    bool reference;      /* plain reference kernels instead of the tuned ones */
    bool inference;      /* to be run alone, not trained, adapted or saved: where products read
                          * bf16 copies, the f32 matrices are not kept */
    const char *adapter; /* folder of a LoRA adapter to attach (PEFT's layout); NULL: none */
    const char *template_path; /* chat template in place of the model's own; NULL: its own */
    const char *template_text; /* the same as text; NULL: its own */
    const char *now;           /* "YYYY-MM-DD" for templates that print the date; NULL: today */
    const spar_sink *sink;     /* borrowed; may be NULL */
} spar_model_options;

/* path: a Hugging Face folder (config.json, model.safetensors or its shards), a GGUF file, or a
 * .bin of llama2.c; names of the hub go through spar_hub_place first. *out is owned by the caller
 * (spar_model_free). What has no tokenizer loads; spar_model_tokenizer then gives NULL. NOT_FOUND,
 * FORMAT; UNSUPPORTED, naming the setting, for what would change the mathematics. */
SPAR_API spar_status spar_model_load(spar_model **out, const char *path,
                                     const spar_model_options *options, spar_error *err);
SPAR_API void spar_model_free(spar_model *model);

/* Borrowed; NULL where the model has none. */
SPAR_API const spar_tokenizer *spar_model_tokenizer(const spar_model *model);
SPAR_API const spar_template *spar_model_template(const spar_model *model);

SPAR_API int64_t spar_model_vocab(const spar_model *model);      /* rows of the output projection */
SPAR_API int64_t spar_model_context(const spar_model *model);    /* longest sequence, tokens */
SPAR_API int64_t spar_model_parameters(const spar_model *model); /* a tied head counts once */
/* Parameters that a token meets in matrix products: the output projection included, and of a
 * mixture's experts those that a token is sent to. */
SPAR_API int64_t spar_model_matmul_parameters(const spar_model *model);
SPAR_API const char *spar_model_backend(const spar_model *model); /* one line: kernels, dtype */
SPAR_API const char *spar_model_path(const spar_model *model);
/* The ids that end a turn; *n of them, borrowed. */
SPAR_API const int32_t *spar_model_eos(const spar_model *model, int *n);

/* Only the tokenizer of a folder, a tokenizer.json or a GGUF file. */
SPAR_API spar_status spar_vocab_load(spar_tokenizer **out, const char *path, spar_error *err);

/* Render a conversation (spar/chat_template.h) through the model's chat template and tokenise,
 * special tokens recognised and none added. *ids is owned by the caller (free()). Refused without
 * tokenizer or template, and where a part of a content is an image, a video or a sound. */
SPAR_API spar_status spar_model_chat_ids(const spar_model *model, const struct json_t *conversation,
                                         bool generation_prompt, int32_t **ids, size_t *n,
                                         spar_error *err);

/* A prompt, which is a conversation, and its response as ids in one array (owned by the caller):
 * the response begins at *first. One message is tokenised apart, as it is sampled, and ends with
 * the end-of-turn token; a list of messages whole. */
SPAR_API spar_status spar_model_response_ids(const spar_model *model, const struct json_t *prompt,
                                             const struct json_t *response, int32_t **ids,
                                             size_t *n, size_t *first, spar_error *err);

/* What is in a checkpoint, as a JSON object (new reference), without loading the weights. */
SPAR_API spar_status spar_model_inspect(struct json_t **out, const char *path, spar_error *err);

/* Sizes of a checkpoint, from its configuration alone. */
typedef struct spar_model_sizes {
    int layers;
    int64_t parameters, active; /* in all; those that act on a token, of a mixture of experts */
} spar_model_sizes;
SPAR_API spar_status spar_model_measure(spar_model_sizes *out, const char *path, spar_error *err);

/* Write the model as a complete Hugging Face folder, an attached adapter merged in: config,
 * generation config, safetensors (f32, sharded above 5 GB), tokenizer and chat template. Written
 * aside and renamed whole; dir must not exist. */
SPAR_API spar_status spar_model_save(spar_model *model, const char *dir, spar_error *err);

/* Write the model, an attached adapter merged in, as a GGUF file (path ends in .gguf; must not be a
 * folder) or as spar_model_save does. type: f32, f16 or bf16, and of a GGUF file also q8_0, q4_0 or
 * q4_k, for its matrices; where the rows of one are no whole blocks it is f16 (for q4_k: q5_0), and
 * with q4_k the output projection is q8_0. UNSUPPORTED for a tokenizer that GGUF files cannot
 * describe. All or nothing. */
SPAR_API spar_status spar_model_export(spar_model *model, const char *path, const char *type,
                                       spar_error *err);

/* Write the attached adapter alone, as a folder in PEFT's layout; INVALID where there is none. */
SPAR_API spar_status spar_model_save_adapter(spar_model *model, const char *dir, spar_error *err);

/* One row to score: log p of ids[t] given those before it, for t in [first, n). */
typedef struct spar_score_row {
    const int32_t *ids; /* borrowed */
    size_t n, first;    /* 1 <= first <= n (first = n scores nothing) */
    float *logps;       /* out, n - first of them; caller's memory */
    float *logits;      /* out, [n, vocab]; NULL when not wanted */
} spar_score_row;

/* Whether the model can score the row: its bounds, its ids, the context. */
SPAR_API spar_status spar_model_check_row(const spar_model *model, const spar_score_row *row,
                                          spar_error *err);

typedef struct spar_named_tensor {
    const char *name; /* borrowed */
    int n_dims;
    int64_t dims[4];
    const float *data; /* borrowed */
} spar_named_tensor;
/* Write f32 tensors as a safetensors file, all or nothing. */
SPAR_API spar_status spar_tensors_write(const char *path, const spar_named_tensor *tensors,
                                        size_t n, spar_error *err);

/* Fill the log-probs (natural) of each row, and its logits where they are wanted. What
 * spar_model_check_row refuses is an error that names the row's fault. */
SPAR_API spar_status spar_model_score(spar_model *model, spar_score_row *rows, size_t n_rows,
                                      spar_error *err);
/* Write d(-sum of all scored log-probs)/d parameter of the rows to a safetensors file, F32, under
 * the names and shapes of the model's file. Fills logps too. */
SPAR_API spar_status spar_model_score_grads(spar_model *model, spar_score_row *rows, size_t n_rows,
                                            const char *path, spar_error *err);

#endif
