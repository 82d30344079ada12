/* Inside of the reading and writing of configurations: shared by arch.c, arch_gguf.c,
 * arch_rope.c, arch_rope_gguf.c, arch_window.c, arch_conv.c, arch_experts.c and the tables of rows;
 * the keys of encoders go by it too. */
#ifndef SP_MODEL_ARCH_PARTS_H
#define SP_MODEL_ARCH_PARTS_H

#include "io/gguf_write.h"
#include "model/arch.h"

/* The parts of the table that arch_rows_newer.c, with what follows it, and arch_rows_early.c have;
 * NULL past their ends. */
const sp_arch *sp_arch_newer_at(int i);
const sp_arch *sp_arch_early_at(int i);

/* UNSUPPORTED, naming the first key of object that is neither known to be harmless, nor neutral,
 * nor in `known` (between spaces, or NULL). owner: the object that the key is in, or "". */
spar_status sp_arch_check_keys(const json_t *object, const char *known, const char *owner,
                               const char *where, spar_error *err);

/* Whether the layer's queries and keys are not rotated by a rule of the family; windows are read.
 */
bool sp_arch_never_rotates(const sp_config *config, int layer);
/* Suffix of the metadata that has the norms' epsilon. */
const char *sp_arch_gguf_eps(const sp_arch *arch);
/* The number of metadata ARCH.suffix, or the fallback where there is none. */
spar_status sp_arch_gguf_number(const sp_gguf *gguf, const sp_arch *arch, const char *suffix,
                                double fallback, double *out, spar_error *err);
/* Rotary settings from config.json; context, head_dim and rope_local_theta are there already. */
spar_status sp_rope_read(sp_config *config, const json_t *json, const char *where, spar_error *err);
/* Windows of layers, from config.json and to it; sizes are there already. */
spar_status sp_window_read(sp_config *config, const json_t *json, const char *where,
                           spar_error *err);
void sp_window_write(const sp_config *config, json_t *root);
/* Which layers have short convolutions, and of how many taps, from config.json and to it; and what
 * LFM2 makes of the feed-forward's width. Sizes are there already. */
spar_status sp_conv_read(sp_config *config, const json_t *json, const char *where, spar_error *err);
void sp_conv_write(const sp_config *config, json_t *root);
/* How many layers have one. */
int sp_conv_layers(const sp_config *config);
/* The same from GGUF metadata, of a family that has such layers, with the key heads of the others;
 * layers and heads are there already. And to it. */
spar_status sp_conv_read_gguf(sp_config *config, const sp_gguf *gguf, int64_t *kv_heads,
                              spar_error *err);
void sp_conv_put_gguf(const sp_config *config, sp_gguf_out *out);
/* The mixture's settings, of a family that has one: from config.json, from GGUF metadata, and to
 * config.json. Sizes are there already. */
spar_status sp_mixture_read(sp_config *config, const json_t *json, const char *where,
                            spar_error *err);
spar_status sp_mixture_read_gguf(sp_config *config, const sp_gguf *gguf, const char *where,
                                 spar_error *err);
void sp_mixture_write(const sp_config *config, json_t *root);

/* The same from GGUF metadata and tensors; context and head_dim are there already. */
spar_status sp_rope_read_gguf(sp_config *config, const sp_gguf *gguf, spar_error *err);
/* What of them a GGUF file of the family cannot say, or NULL. */
const char *sp_rope_unsaid(const sp_config *config);
/* Their metadata, and tensors of factors, to out [2]; *memory, which these borrow, is owned by the
 * caller. */
void sp_rope_put_gguf(const sp_config *config, sp_gguf_out *out);
spar_status sp_rope_tensors(const sp_config *config, float **memory, sp_gguf_source *out, size_t *n,
                            spar_error *err);
/* yarn's attention factor where none is given (YaRN, Peng et al. 2023). */
double sp_rope_yarn_attention(double factor);

/* rope_scaling for config.json. New reference. */
json_t *sp_rope_json(const sp_config *config);
/* rope_parameters, as transformers 5 has them, with the base. New reference. */
json_t *sp_rope_whole_json(const sp_config *config);
/* The same of a model whose layers with a window have settings of their own. New reference. */
json_t *sp_rope_layers_json(const sp_config *config);

#endif
