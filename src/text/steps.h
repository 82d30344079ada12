/* The steps of a tokenizer's pipeline: normalizers, pre-tokenizers and decoders of tokenizer.json.
 *
 * One const table names each type with its reader and its function. A `Sequence` is read into a
 * flat list. Text to be encoded moves as words, spans of one text; tokens to be decoded as pieces.
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
#include "text/code_points.h"
#include "text/edits.h"
#include "text/pattern_program.h"

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
    sp_program *program;        /* owned; what text is matched by, */
    pcre2_code *regex;          /* or this, owned; both NULL: text is matched as it is */
    sp_code_table *unsafe;      /* owned; NFC: set 0 may change */
    sp_behavior behavior;
    bool invert, prefix_space, use_regex, split, left, right;
    bool rewrites; /* a pre-tokenizer that does not only cut: its words are of a text of its own */
    bool idle;     /* one that does nothing */
    enum { SP_PREPEND_NEVER, SP_PREPEND_FIRST, SP_PREPEND_ALWAYS } prepend;
    bool clean, chinese, accents, lower; /* BertNormalizer: what it does; accents: strips them */
    const sp_charsmap *charsmap;         /* arena; Precompiled */
    long start, stop; /* Strip decoder: characters cut at most; FixedLength: characters */
} sp_step;

/* Words: spans of one text, growing. */
typedef struct sp_span {
    size_t begin, n;
    size_t n_first; /* of its bytes, those that come of the first character of the input */
} sp_span;

typedef struct sp_words {
    const char *base; /* the text: borrowed, or that of `text` */
    sp_str text;      /* owned: what a step wrote */
    sp_edits *edits;  /* borrowed: where a step that rewrites says what it changed; may be NULL */
    sp_span *items;   /* owned */
    size_t n, capacity;
} sp_words;

void sp_words_release(sp_words *words);
spar_status sp_words_grow(sp_words *words, spar_error *err); /* room for one more */

/* Of the first n bytes of something, those behind `at`. */
static inline size_t sp_left_of(size_t n, size_t at) {
    return n > at ? n - at : 0;
}

static inline spar_status sp_words_add(sp_words *words, size_t begin, size_t n, size_t n_first,
                                       spar_error *err) {
    if (words->n == words->capacity) {
        spar_status status = sp_words_grow(words, err);
        if (status != SPAR_OK) {
            return status;
        }
    }
    words->items[words->n++] = (sp_span){begin, n, n_first < n ? n_first : n};
    return SPAR_OK;
}

/* Pieces of text, growing: the tokens that decoders work on. */
typedef struct sp_piece {
    sp_str text; /* owned */
} sp_piece;

typedef struct sp_pieces {
    sp_piece *items; /* owned */
    size_t n, capacity;
} sp_pieces;

void sp_pieces_release(sp_pieces *pieces);
spar_status sp_pieces_add(sp_pieces *pieces, const char *text, size_t n, spar_error *err);

typedef enum sp_stage { SP_NORMALIZER, SP_PRE_TOKENIZER, SP_DECODER } sp_stage;

/* Read the steps of "normalizer", "pre_tokenizer" or "decoder" (value may be NULL or null: none).
 */
spar_status sp_steps_read(sp_step **steps, size_t *n, sp_stage stage, const json_t *value,
                          sp_arena *arena, const char *where, spar_error *err);
void sp_steps_free(sp_step *steps, size_t n);

/* *text is normalised in place. rewrites: what was changed, appended; may be NULL. */
spar_status sp_steps_normalize(const sp_step *steps, size_t n, sp_str *text, sp_rewrites *rewrites,
                               spar_error *err);
/* Split the words further; spare is scratch, empty or of an earlier call. The text that *words was
 * of may be left for another. rewrites: what was changed, appended; may be NULL. */
spar_status sp_steps_split(const sp_step *steps, size_t n, sp_words *words, sp_words *spare,
                           sp_rewrites *rewrites, spar_error *err);
/* Whether a pre-tokenizer treats the beginning of the input in its own way. */
bool sp_steps_know_first(const sp_step *steps, size_t n);
/* Whether the last of the pre-tokenizers writes bytes in the byte-level alphabet. If so it is taken
 * off the list, and the caller does it: sp_bytes_to_alphabet. */
bool sp_steps_leave_bytes(const sp_step *steps, size_t *n);
/* Append every byte as its character of the byte-level alphabet. */
void sp_bytes_to_alphabet(const char *bytes, size_t n, sp_str *out);
/* Run the decoders over tokens (one piece each) and append the result. */
spar_status sp_steps_decode(const sp_step *steps, size_t n, sp_pieces *tokens, sp_str *out,
                            spar_error *err);

/* Whether text is well-formed UTF-8. */
bool sp_utf8_is_valid(const char *text, size_t n);
/* Append text with ill-formed sequences replaced by U+FFFD, one for each maximal ill-formed part.
 */
void sp_utf8_repair(const char *text, size_t n, sp_str *out);

#endif
