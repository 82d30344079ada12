/* PairRM in the layout of its own program: config.json is the ranker's, and says which model it was
 * made of; names of tensors are those of the Hugging Face layout. */
#ifndef SP_MODEL_ENCODER_RANKER_H
#define SP_MODEL_ENCODER_RANKER_H

#include <jansson.h>
#include <stdbool.h>

#include "spar/status.h"

/* Whether a config.json is a ranker's. */
bool sp_encoder_is_ranker(const json_t *config);
/* *out (a new reference) = the configuration of a DebertaV2PairRM that `ranker`, read from `where`
 * in the folder dir, stands for. The sizes are those of its model_name: microsoft/deberta-v3-large,
 * or a folder within dir that has a config.json. The vocabulary is as long as the table in the
 * weights; the prefix tokens are those of added_tokens.json, or, without one, the first three of
 * the table's last four rows, where the program puts them. NOT_FOUND names what is missing,
 * UNSUPPORTED another kind of ranker or other lengths. */
spar_status sp_encoder_ranker_config(json_t **out, const json_t *ranker, const char *dir,
                                     const char *where, spar_error *err);

#endif
