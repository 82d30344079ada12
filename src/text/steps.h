/* The steps of a tokenizer's pipeline: normalizers, pre-tokenizers and decoders of tokenizer.json.
 *
 * One const table names each type with its reader and its function. A `Sequence` is read into a
 * flat list. Text moves as pieces: UTF-8 strings with a flag that says whether they open the input.
 */
#ifndef SP_TEXT_STEPS_H
#define SP_TEXT_STEPS_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"
#include "base/str.h"
#include "spar/status.h"

typedef enum sp_behavior {
    SP_REMOVED,
    SP_ISOLATED,
    SP_MERGED_WITH_PREVIOUS,
    SP_MERGED_WITH_NEXT,
    SP_CONTIGUOUS
} sp_behavior;

typedef struct sp_step_type sp_step_type;
typedef struct sp_charsmap sp_charsmap;

typedef struct sp_step {
    const sp_step_type *type;
    const char *text, *content; /* arena: pattern or string; replacement */
    pcre2_code *regex;          /* owned; NULL: text is matched as it is */
    sp_behavior behavior;
    bool invert, prefix_space, use_regex, split, left, right;
    enum { SP_PREPEND_ALWAYS, SP_PREPEND_FIRST, SP_PREPEND_NEVER } prepend;
    bool clean, chinese, accents, lower; /* BertNormalizer: what it does; accents: strips them */
    const sp_charsmap *charsmap;         /* arena; Precompiled */
    long start, stop; /* Strip decoder: characters cut at most; FixedLength: characters */
} sp_step;

/* Pieces of text, growing. */
typedef struct sp_piece {
    sp_str text; /* owned */
    bool first;  /* opens the input */
} sp_piece;

typedef struct sp_pieces {
    sp_piece *items; /* owned */
    size_t n, capacity;
} sp_pieces;

void sp_pieces_release(sp_pieces *pieces);
spar_status sp_pieces_add(sp_pieces *pieces, const char *text, size_t n, bool first,
                          spar_error *err);

typedef enum sp_stage { SP_NORMALIZER, SP_PRE_TOKENIZER, SP_DECODER } sp_stage;

/* Read the steps of "normalizer", "pre_tokenizer" or "decoder" (value may be NULL or null: none).
 */
spar_status sp_steps_read(sp_step **steps, size_t *n, sp_stage stage, const json_t *value,
                          sp_arena *arena, const char *where, spar_error *err);
void sp_steps_free(sp_step *steps, size_t n);

/* *text is normalised in place. */
spar_status sp_steps_normalize(const sp_step *steps, size_t n, sp_str *text, spar_error *err);
/* Split the one piece that `pieces` holds. */
spar_status sp_steps_split(const sp_step *steps, size_t n, sp_pieces *pieces, spar_error *err);
/* Run the decoders over tokens (one piece each) and append the result. */
spar_status sp_steps_decode(const sp_step *steps, size_t n, sp_pieces *tokens, sp_str *out,
                            spar_error *err);

/* Append text with ill-formed sequences replaced by U+FFFD, one for each maximal ill-formed part.
 */
void sp_utf8_repair(const char *text, size_t n, sp_str *out);

#endif
