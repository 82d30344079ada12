/* The doctor's rooms: the checkpoint's files against each other (doctor_files.c), the chat template
 * against the tokenizer (doctor_text.c), rows of data as training would see them (doctor_data.c,
 * doctor_groups.c).
 * Each adds its findings to one report; doctor.c goes through them.
 */
#ifndef SP_PLAY_DOCTOR_PARTS_H
#define SP_PLAY_DOCTOR_PARTS_H

#include "base/jsonx.h"
#include "model/engine.h"
#include "spar/doctor.h"

/* What goes wrong with a prompt and its replies. */
typedef enum sp_fault {
    SP_FAULT_EMPTY,
    SP_FAULT_TRUNCATED,
    SP_FAULT_IDENTICAL,
    SP_FAULT_IDENTICAL_CUT,
    SP_FAULT_NO_END,
    SP_FAULT_BOS,
    SP_FAULT_TEMPLATE,
    SP_FAULT_BOUNDARY,
    SP_FAULT_MASK,
    SP_FAULT_UNREAD,
    SP_FAULT_QUOTED,
    SP_FAULT_UNREADABLE,
    SP_FAULT_NUMBERS, /* from here on of rows of several responses */
    SP_FAULT_ALONE,
    SP_FAULT_ALL_SAME,
    SP_FAULT_TORN,
    SP_FAULT_NO_SPREAD,
    SP_FAULT_CUT_BEST,
    SP_FAULTS
} sp_fault;

/* By fault: the check, what is found, and how to mend it. */
typedef struct sp_fault_row {
    const char *check, *found, *mend;
} sp_fault_row;
extern const sp_fault_row sp_doctor_faults[SP_FAULTS];

typedef struct sp_doctor {
    const spar_doctor_options *options;
    json_t *findings, *notes; /* owned */
    /* Owned; NULL: no such file. The configuration is as its family means it (sp_config_complete);
     * of no known family, as it is. */
    json_t *config, *generation, *tokenizer_config;
    const sp_arch *arch; /* NULL: no known family */
    spar_model *model;   /* owned: its first layer; NULL where it does not load */
    int64_t rows;        /* of data */
} sp_doctor;

/* A finding, and a note on what is no fault. */
void sp_doctor_add(sp_doctor *d, const char *check, const char *mend, const char *fmt, ...)
    SPAR_PRINTF(4, 5);
void sp_doctor_note(sp_doctor *d, const char *fmt, ...) SPAR_PRINTF(2, 3);

/* The rooms. Those of text and data need the model. */
spar_status sp_doctor_check_files(sp_doctor *d, spar_error *err);
spar_status sp_doctor_check_text(sp_doctor *d, spar_error *err);
spar_status sp_doctor_check_data(sp_doctor *d, spar_error *err);

/* Whether generation ends at an id. */
bool sp_doctor_ends_generation(const sp_doctor *d, int32_t id);
/* How often ids [n] begin with an id; an id below 0 is none. */
size_t sp_doctor_leading(const int32_t *ids, size_t n, int32_t id);

/* Prompt and reply as ids, owned by the caller; NULL behind SP_FAULT_TEMPLATE. */
typedef struct sp_turn {
    int32_t *prompt, *reply;
    size_t n_prompt, n_reply;
} sp_turn;
/* Prompt and reply by template and tokenizer, as training makes them, and which faults they have.
 */
spar_status sp_doctor_turn(const sp_doctor *d, const json_t *prompt, const json_t *response,
                           bool wrong[SP_FAULTS], sp_turn *out, spar_error *err);
void sp_turn_release(sp_turn *turn);

enum { SP_WHY = 256 };
/* A row of several responses with their numbers (doctor_groups.c): which faults it has. prompt: its
 * conversation; NULL: it holds ids. longest: tokens of prompt and response. unreadable, numbers:
 * why a row is so, where it is and nothing was said yet. */
void sp_doctor_group(const sp_doctor *d, const json_t *prompt, const json_t *json, int64_t longest,
                     bool wrong[SP_FAULTS], char unreadable[static SP_WHY],
                     char numbers[static SP_WHY]);

#endif
