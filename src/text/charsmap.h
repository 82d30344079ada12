/* The compiled character maps of SentencePiece, as the Precompiled normalizer has them: a trie of
 * texts (a double array; Aoe 1989, in the layout of darts-clone), each with what it becomes. */
#ifndef SP_TEXT_CHARSMAP_H
#define SP_TEXT_CHARSMAP_H

#include <stddef.h>
#include <stdint.h>

#include "text/steps.h"

struct sp_charsmap {
    const uint32_t *units; /* the trie */
    size_t n_units;
    const char *texts; /* what texts become, each ended by NUL; n_texts bytes, the last one NUL */
    size_t n_texts;
};

/* bytes: the map as files have it: size of the trie in bytes (u32), the trie, the texts; little
 * endian. All goes to the arena. FORMAT for sizes that do not fit. */
spar_status sp_charsmap_read(const sp_charsmap **out, const char *bytes, size_t n, sp_arena *arena,
                             const char *where, spar_error *err);

/* Append text with the map applied to each grapheme of fewer than 6 bytes, else to its characters.
 * edits: what it changed; may be NULL. */
spar_status sp_charsmap_apply(const sp_charsmap *map, const char *text, size_t n, sp_str *out,
                              sp_edits *edits, spar_error *err);

#endif
