/* Adapters as PEFT (Hugging Face) has them in files: names of tensors, and the order of what is in
 * them.
 *
 * A module has lora_A [rank, in] and lora_B [out, rank]. A stack of E experts, which transformers 5
 * holds as one parameter [E, out, in], has lora_A [E rank, in], an expert's rows after another's,
 * and lora_B [out, rank E], where column k E + e is column k of expert e. Where both parameters of
 * a module of experts are adapted, the names of the first have ".base_layer" in them.
 */
#ifndef SP_MODEL_LORA_PEFT_H
#define SP_MODEL_LORA_PEFT_H

#include "model/lora_parts.h"

enum { SP_PEFT_NAME = 192 };

typedef struct sp_peft_names {
    char a[SP_PEFT_NAME], b[SP_PEFT_NAME], m[SP_PEFT_NAME];
} sp_peft_names;

/* Of the module that is called so: "model.layers.0.self_attn.q_proj" and its tensors begin with
 * that. The magnitude's is "....lora_magnitude_vector" and what follows it. */
void sp_peft_names_of(sp_peft_names *out, const char *module, const char *magnitude_ending);
/* What the names of a matrix's tensors begin with, to out; inner: within the wrapper of another
 * parameter of its module. */
void sp_peft_module(const sp_stored *stored, bool inner, char out[SP_PEFT_NAME]);
/* What patterns of ranks and lists of targets call it. */
void sp_peft_key(const sp_stored *stored, char out[SP_PEFT_NAME]);

/* How many pairs of A and B it has: experts, or one. */
int64_t sp_peft_pairs(const sp_stored *stored);
const sp_adapter *sp_peft_part(const sp_lora *l, const sp_stored *stored, int i);
/* A of all pairs, [pairs rank, in]: joined to `whole`, or cut from it. */
void sp_peft_copy_a(const sp_lora *l, const sp_stored *stored, bool join, float *whole);
/* Rows of B, or magnitudes, of all parts as the matrix has them, [rows, rank pairs] or [rows]:
 * joined to `whole`, or cut from it. */
void sp_peft_copy_rows(const sp_lora *l, const sp_stored *stored, bool magnitudes, bool join,
                       float *whole);

#endif
