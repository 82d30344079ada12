/* Where the tokens of a text are in it, noted while it is encoded (tokenizer.c). */
#ifndef SP_TEXT_TOKEN_PLACES_H
#define SP_TEXT_TOKEN_PLACES_H

#include "text/tokenizer_parts.h"

typedef struct sp_places {
    spar_text_span *items; /* owned, one a token */
    size_t n, capacity;
    const char *text; /* borrowed: the whole [length] */
    size_t length;
    sp_rewrites normal, words; /* from a part to its normalised form, from there to its words */
    const char *part, *form;   /* the part and that form; NULL: the part is as it is in the text */
} sp_places;

void sp_places_release(sp_places *p);
/* Of a text [n], behind `before` tokens that are none of it; and its end, when there are n_ids. */
spar_status sp_places_begin(sp_places *p, const char *text, size_t n, size_t before,
                            spar_error *err);
spar_status sp_places_end(sp_places *p, size_t n_ids, spar_error *err);
/* What comes is of `form`, which p->normal leads from to `part` of the text. */
void sp_places_enter(sp_places *p, const char *part, const char *form);
void sp_places_leave(sp_places *p);
/* One token: bytes [n] of the text, or of the form. */
spar_status sp_places_add(sp_places *p, const char *at, size_t n, spar_error *err);
/* Those of a word: a span of `base`, which p->words leads from to `at`, of the text or the form. */
spar_status sp_places_add_word(sp_places *p, const spar_tokenizer *t, const char *at,
                               const char *base, const sp_span *word, const int32_t *ids, size_t n,
                               spar_error *err);

#endif
