/* Checkpoints of llama2.c: a head of sizes, then all weights in f32 in a fixed order. Version 0 has
 * no magic and holds rotary tables too; version 1 begins with "ak42". */
#ifndef SP_MODEL_LLAMA2C_H
#define SP_MODEL_LLAMA2C_H

#include "base/file.h"
#include "model/source.h"

/* The configuration that the head tells. UNSUPPORTED for the 8-bit version 2, FORMAT for sizes that
 * do not fit together or into the file. */
spar_status sp_llama2c_config(sp_config *out, const sp_map *file, const char *path,
                              spar_error *err);
/* sources [params->n], for the parameters of that configuration. */
void sp_llama2c_sources(const sp_params *params, const sp_config *config, const sp_map *file,
                        sp_source *sources);

#endif
