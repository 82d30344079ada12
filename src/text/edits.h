/* Where a text differs from the one that it was made of.
 *
 * A rewriting of text is a pass: edits in order, each a stretch of the old text with what stands in
 * its place in the new one; between edits the two are the same bytes. Rewrites are passes one after
 * the other, and lead from bytes of the last text back to those of the first. They are kept only
 * where the places of tokens are asked for: NULL takes the place of either type where not.
 */
#ifndef SP_TEXT_EDITS_H
#define SP_TEXT_EDITS_H

#include <stdbool.h>
#include <stddef.h>

#include "spar/status.h"

typedef struct sp_edit {
    size_t from, n_from, to, n_to; /* bytes; either may be none */
} sp_edit;

typedef struct sp_edits {
    sp_edit *items; /* owned */
    size_t n, capacity;
    bool failed; /* out of memory: told by sp_rewrites_status */
} sp_edits;

typedef struct sp_rewrites {
    sp_edits *passes; /* owned */
    size_t n, capacity;
    bool failed;
} sp_rewrites;

void sp_rewrites_release(sp_rewrites *r);
void sp_rewrites_clear(sp_rewrites *r); /* no passes */

/* A further pass, borrowed until the next; NULL where r is. */
sp_edits *sp_rewrites_pass(sp_rewrites *r);
void sp_edits_add(sp_edits *edits, size_t from, size_t n_from, size_t to, size_t n_to);

/* Bytes [*begin, *end) of the last text, at least one, as those of the first. What has a part of an
 * edit has all of it. */
void sp_rewrites_back(const sp_rewrites *r, size_t *begin, size_t *end);

/* NO_MEMORY where an edit was lost. */
spar_status sp_rewrites_status(const sp_rewrites *r, spar_error *err);

#endif
