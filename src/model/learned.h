/* What of a conversation supervised training learns: the tokens that the assistant wrote.
 *
 * There are two ways to find them. A chat template may mark them by {% generation %} blocks: then
 * they are the tokens that a block wrote a part of, of the conversation tokenised whole, as
 * transformers has it. Else they are what stands behind the generation prompt of each turn up to
 * the token that ends the turn, each part tokenised by itself, as sampling sees it.
 */
#ifndef SP_MODEL_LEARNED_H
#define SP_MODEL_LEARNED_H

#include "spar/model.h"

typedef struct sp_learned {
    int32_t *ids;  /* owned, [n] */
    uint8_t *mask; /* owned, [n]: 1 for a token that is learned */
    size_t n;
} sp_learned;

void sp_learned_release(sp_learned *l);

/* conversation: one that ends with the assistant's message. Turns of the assistant's are learned
 * from message `first` on: 0 for every one, the last message's place for that alone. By blocks
 * where the template has them; INVALID where it marks none of these messages. By rendering
 * MISMATCH, where an earlier turn is rendered otherwise than it was generated. */
spar_status sp_learned_of(const spar_model *m, const struct json_t *conversation, size_t first,
                          sp_learned *out, spar_error *err);
/* Either way by itself, for those who compare. */
spar_status sp_learned_by_blocks(const spar_model *m, const struct json_t *conversation,
                                 size_t first, sp_learned *out, spar_error *err);
spar_status sp_learned_by_rendering(const spar_model *m, const struct json_t *conversation,
                                    size_t first, sp_learned *out, spar_error *err);

#endif
