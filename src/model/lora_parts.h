/* Inside of an adapter: shared by its life and its files. */
#ifndef SP_MODEL_LORA_PARTS_H
#define SP_MODEL_LORA_PARTS_H

#include "model/engine.h"
#include "model/lora.h"

/* What a parameter's adapter is to be; rank 0: it has none. */
typedef struct sp_lora_choice {
    int64_t rank;
    float scale;
} sp_lora_choice;

/* s = alpha / rank, or alpha / sqrt(rank). */
float sp_lora_scale(const sp_lora_settings *settings, int64_t rank, double alpha);
/* Adapters of zeros on the parameters as chosen [params.n] says. */
spar_status sp_lora_create(spar_model *model, const sp_lora_settings *settings,
                           const sp_lora_choice *chosen, sp_lora **out, spar_error *err);
void sp_lora_free(spar_model *model, sp_lora *lora); /* NULL is fine */
/* "q_proj", ...; NULL for what cannot be adapted. */
const char *sp_lora_target_name(sp_role role);
/* Whether a role is a mixture's: of experts, shared ones, or routers. */
bool sp_lora_is_mixed(sp_role role);
/* Letters of a tensor's name before ".weight", or all. */
size_t sp_lora_module_length(const char *tensor);

#endif
