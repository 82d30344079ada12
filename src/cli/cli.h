/* The command line: one file a command, each a row of main.c's table. Commands see the public
 * headers only. */
#ifndef SP_CLI_CLI_H
#define SP_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "spar/log.h"
#include "spar/options.h"
#include "spar/rows.h"
#include "spar/status.h"

typedef struct cli_command {
    spar_command_doc doc;
    /* values: storage of the option struct, defaults already filled in; operands argv[0..argc). */
    spar_status (*run)(void *values, int argc, char **argv, spar_error *err);
    void *values;
} cli_command;

extern const cli_command cli_bench, cli_chat, cli_doctor, cli_compare, cli_eval, cli_generate,
    cli_inspect, cli_judge, cli_export, cli_merge, cli_plan, cli_play, cli_pull, cli_render,
    cli_report, cli_score, cli_tasks, cli_theory, cli_tokenize, cli_train;

/* Rows that every command with a model has; their fields are ints. */
#define CLI_DTYPES "auto|f32|bf16|int8|int16"
#define CLI_WEIGHTS_ROW(values)                                                                    \
    {                                                                                              \
        "weights", 0, SPAR_OPTION_CHOICE, offsetof(values, weights), "auto", 0, 0,                 \
            "auto|f32|file|q8_0|q4_1", "FORM",                                                     \
            "how matrices are kept: floats, the blocks of a GGUF file as they are, or rounded to " \
            "8 or 4 bits; auto takes blocks for int8 and int16"                                    \
    }
/* Of commands that train an adapter; the field is a spar_option_list. */
#define CLI_LORA_TARGETS_ROW(values)                                                               \
    {                                                                                              \
        "lora-targets", 0, SPAR_OPTION_LIST, offsetof(values, lora_targets), NULL, 0, 0, NULL,     \
            "NAME",                                                                                \
            "matrices that the adapter is on: q_proj, ..., experts.down_proj, all-linear; those "  \
            "of attention and dense feed-forwards unless given"                                    \
    }

/* Progress and log lines on standard error: a redrawn line on a terminal, else plain lines now and
 * then. */
const spar_sink *cli_sink(void);
/* End the progress line, before other output. */
void cli_sink_finish(void);

/* Whether Ctrl-C or SIGTERM came since cli_catch_interrupt; a third one ends the program. */
bool cli_interrupted(void *context);
void cli_catch_interrupt(void);
/* Forget a Ctrl-C that was answered; SIGTERM stays. */
void cli_clear_interrupt(void);

/* At most max bytes of text that a file or a model made, on one line: whole characters, a line end
 * as \n, and a ? for each control character that would drive the terminal. */
void cli_put_text(FILE *out, const char *text, size_t max);

/* Write a row (stolen) as one line on standard output. */
spar_status cli_put_row(json_t *row, spar_error *err);
/* {"error": message} in the place of a row; remembers that one failed. */
spar_status cli_put_error(const spar_error *why, int *failed, spar_error *err);
/* OK, or INVALID saying how many rows failed. */
spar_status cli_rows_status(int failed, spar_error *err);

/* The next row of a file that may hold malformed lines: such a one gives no row and sets *why; at
 * the end of the file there is neither. */
spar_status cli_next_row(spar_rows *rows, json_t **row, spar_error *why, spar_error *err);

/* One row in, one row out, for every row of a file: fn makes *out (a new reference; NULL: nothing
 * to write) from row; where it fails, {"error"} stands in the row's place, and the status says so
 * at the end. INTERRUPTED ends them. */
typedef spar_status (*cli_row_fn)(void *context, const json_t *row, json_t **out, spar_error *err);
spar_status cli_map_rows(const char *path, cli_row_fn fn, void *context, spar_error *err);
/* The same with up to `window` rows read at a time, of which `ahead` (may be NULL) is told first;
 * where it fails nothing more is done. */
typedef spar_status (*cli_ahead_fn)(void *context, const json_t *const *rows, size_t n,
                                    spar_error *err);
spar_status cli_map_windows(const char *path, size_t window, cli_ahead_fn ahead, cli_row_fn fn,
                            void *context, spar_error *err);

/* Append a JSON list of token ids to ids[*n..]; *ids (owned by the caller) grows. key names the
 * list in messages. */
spar_status cli_read_ids(const json_t *list, const char *key, int32_t **ids, size_t *n,
                         spar_error *err);

/* Operands: at least min, at most max of them. */
spar_status cli_check_operands(int argc, char **argv, int min, int max, const char *what,
                               spar_error *err);

#endif
