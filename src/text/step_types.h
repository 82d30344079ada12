/* The table of step types, shared by the files that implement them. */
#ifndef SP_TEXT_STEP_TYPES_H
#define SP_TEXT_STEP_TYPES_H

#include "text/steps.h"

struct sp_step_type {
    const char *name; /* "type" in tokenizer.json */
    sp_stage stage;
    /* Read the settings of the step; NULL: none. */
    spar_status (*read)(sp_step *step, const json_t *value, sp_arena *arena, const char *where,
                        spar_error *err);
    /* Rewrite text, in one pass or several. rewrites: what was changed; may be NULL. */
    spar_status (*normalize)(const sp_step *step, sp_str *text, sp_rewrites *rewrites,
                             spar_error *err);
    /* Append what a word of `base` splits into: spans of base, or, where the step rewrites, of
     * what it appends to out->text, and then what it changed to out->edits. */
    spar_status (*split)(const sp_step *step, const char *base, const sp_span *word, sp_words *out,
                         spar_error *err);
    spar_status (*decode)(const sp_step *step, sp_pieces *tokens, spar_error *err);
    const sp_step_type *then; /* a step that always follows; NULL: none */
};

extern const sp_step_type sp_normalizer_types[], sp_splitter_types[], sp_decoder_types[];

/* The byte-level alphabet of GPT-2: every byte as a printable character. */
unsigned sp_byte_to_char(unsigned char byte);
int sp_char_to_byte(unsigned code_point); /* -1: not of the alphabet */

/* Shared readers: a member string into the arena; {"String": s} or {"Regex": r}. */
spar_status sp_step_string(const json_t *value, const char *key, const char *fallback,
                           sp_arena *arena, const char **out, const char *where, spar_error *err);
/* What Metaspace has as a pre-tokenizer and as a decoder: its character, and where it is put before
 * a text. */
spar_status sp_step_metaspace(sp_step *step, const json_t *value, sp_arena *arena,
                              const char *where, spar_error *err);
spar_status sp_step_pattern(sp_step *step, const json_t *value, sp_arena *arena, const char *where,
                            spar_error *err);
/* Replace every match of the step's pattern in text by its content. edits may be NULL. */
spar_status sp_step_replace(const sp_step *step, sp_str *text, sp_edits *edits, spar_error *err);

/* The bytes of a text [n] at `from` as their characters of that alphabet at `to`: those that take
 * two bytes are edits. */
void sp_alphabet_edits(const char *bytes, size_t n, size_t from, size_t to, sp_edits *edits);

#endif
