/* Inside of an adapter: shared by its life and its files. */
#ifndef SP_MODEL_LORA_PARTS_H
#define SP_MODEL_LORA_PARTS_H

#include "model/lora.h"

/* Adapters of zeros on the parameters i with chosen[i] [params.n]. */
spar_status sp_lora_create(spar_model *model, const sp_lora_settings *settings, const bool *chosen,
                           sp_lora **out, spar_error *err);
void sp_lora_free(spar_model *model, sp_lora *lora); /* NULL is fine */
/* "q_proj", ...; NULL for what cannot be adapted. */
const char *sp_lora_target_name(sp_role role);

#endif
