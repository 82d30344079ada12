/* Prompt lookup: a guess at the next tokens from what was there already (Saxena 2023,
 * "prompt lookup decoding"). The model then checks all of a guess in one pass. */
#ifndef SP_GENERATE_LOOKUP_H
#define SP_GENERATE_LOOKUP_H

#include <stddef.h>
#include <stdint.h>

enum { SP_LOOKUP_MAX = 16 };

/* What followed the last place where the last three tokens, or else two, of prompt and response
 * stood before: at most `most` tokens into guess; how many. */
size_t sp_lookup(const int32_t *prompt, size_t n_prompt, const int32_t *response, size_t n_response,
                 size_t most, int32_t *guess);

#endif
