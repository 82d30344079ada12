/* Option tables: one row a setting gives parsing, bounds, default, --help, man page, recipe key and
 * shell completion.
 *
 * A table describes the fields of one plain struct. The command line spells a name
 * "max-new-tokens", a recipe spells it "max_new_tokens". Strings that are stored point into argv,
 * into the JSON value or into the table: all must outlive the struct.
 */
#ifndef SPAR_OPTIONS_H
#define SPAR_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "spar/status.h"

typedef enum spar_option_type {
    SPAR_OPTION_FLAG,   /* field is bool; "--name" or "--no-name"; recipe: true, false */
    SPAR_OPTION_INT,    /* field is int64_t */
    SPAR_OPTION_NUMBER, /* field is double */
    SPAR_OPTION_STRING, /* field is const char * */
    SPAR_OPTION_CHOICE, /* field is int: index into choices */
    SPAR_OPTION_LIST    /* field is spar_option_list; repeated or comma-separated; recipe: a list */
} spar_option_type;

enum { SPAR_OPTION_LIST_MAX = 32 };
typedef struct spar_option_list {
    int n;
    const char *items[SPAR_OPTION_LIST_MAX]; /* borrowed, NUL-terminated */
} spar_option_list;

typedef struct spar_option {
    const char *name; /* long name; rows end with name NULL */
    char letter;      /* short form, or 0 */
    spar_option_type type;
    size_t offset;        /* offsetof the field */
    const char *fallback; /* default as text, parsed like the command line; NULL: zero, and a
                           * recipe may say null for a STRING */
    double min, max;      /* bounds of INT and NUMBER, inclusive; both 0: none */
    const char *choices;  /* "f32|bf16" for CHOICE */
    const char *argument; /* name of the value in help: "DIR", "N"; a STRING may be empty on the
                           * command line where it is "TEXT" */
    const char *help;     /* one sentence, no final stop */
} spar_option;

/* Fill the struct with the defaults of the table. */
SPAR_API spar_status spar_options_default(const spar_option *table, void *values, spar_error *err);

/* Parse argv[0..argc) (without the program and command names). POSIX and GNU forms: -x V, -xV,
 * --name V, --name=V, "--" ends options. Operands are moved to the front of argv and counted in
 * *n_operands. An unknown option names the nearest known one. "-h/--help" is not handled here. */
SPAR_API spar_status spar_options_parse(const spar_option *table, void *values, int argc,
                                        char **argv, int *n_operands, spar_error *err);

/* Set fields from a JSON object given as jansson's json_t (recipes). where names the place
 * ("recipe.yaml: train"). An unknown key names the nearest known one. */
struct json_t;
SPAR_API spar_status spar_options_from_json(const spar_option *table, void *values,
                                            const struct json_t *object, const char *where,
                                            spar_error *err);

/* Edit distance between two names, for "did you mean". */
SPAR_API size_t spar_name_distance(const char *a, const char *b);

/* The settings as a JSON object (new reference), for the run record. */
SPAR_API struct json_t *spar_options_to_json(const spar_option *table, const void *values);

/* A command as help, man pages and completion see it. */
typedef struct spar_command_doc {
    const char *name;     /* "generate" */
    const char *synopsis; /* "-m MODEL [options] [PROMPT]" */
    const char *summary;  /* one line */
    const char *details;  /* paragraphs, may be NULL */
    const spar_option *options;
} spar_command_doc;

SPAR_API void spar_options_help(const spar_command_doc *doc, FILE *out);
SPAR_API void spar_options_man(const spar_command_doc *doc, FILE *out); /* roff, man(7) */
/* One bash completion function for all commands. */
SPAR_API void spar_options_bash(const spar_command_doc *const *docs, size_t n, FILE *out);

#endif
