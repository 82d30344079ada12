/* spar: the table of commands. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "spar/hub.h"
#include "spar/version.h"

static const cli_command *const commands[] = {
    &cli_play,    &cli_compare, &cli_report, &cli_eval,     &cli_generate, &cli_chat,  &cli_train,
    &cli_inspect, &cli_doctor,  &cli_export, &cli_pull,     &cli_merge,    &cli_tasks, &cli_bench,
    &cli_plan,    &cli_judge,   &cli_theory, &cli_tokenize, &cli_render,   &cli_score};
enum { N_COMMANDS = sizeof commands / sizeof commands[0], MOST_MODELS = 8 };

static volatile sig_atomic_t interrupts, terminated;

static void on_interrupt(int signal_number) {
    interrupts = interrupts + 1;
    terminated = terminated || signal_number == SIGTERM;
    if (interrupts > 2) {
        _Exit(130);
    }
}

bool cli_interrupted(void *context) {
    (void)context;
    return interrupts > 0;
}

void cli_clear_interrupt(void) {
    interrupts = terminated;
}

/* Generated code of products may keep another number in the stack pointer for a while, and a
 * signal's frame would be written there: handlers have a stack of their own. */
static bool use_own_stack(void) {
    static char stack[256 * 1024]; /* the frame of a processor with AMX takes 11 kB */
    const stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    return sigaltstack(&own, NULL) == 0;
}

void cli_catch_interrupt(void) {
    struct sigaction action = {.sa_handler = on_interrupt,
                               .sa_flags = use_own_stack() ? SA_ONSTACK : 0};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void let_write_fail(int number) {
    (void)number;
}

/* A file beyond the shell's limit of its size is an error that says so, not the end of the program.
 * The signal is caught, for what is ignored would be so in programs of judges too. */
static void catch_size_limit(void) {
    struct sigaction action = {.sa_handler = let_write_fail,
                               .sa_flags = use_own_stack() ? SA_ONSTACK : 0};
    sigemptyset(&action.sa_mask);
    sigaction(SIGXFSZ, &action, NULL);
}

/* What stands in the place of a command; documented here, read in main(). */
static const spar_option program_options[] = {
    {"version", 0, SPAR_OPTION_FLAG, 0, NULL, 0, 0, NULL, NULL,
     "print the version, the build and the processor"},
    {"man", 0, SPAR_OPTION_STRING, 0, NULL, 0, 0, NULL, "COMMAND",
     "print the manual page of a command, or of spar"},
    {"completion", 0, SPAR_OPTION_CHOICE, 0, NULL, 0, 0, "bash", "SHELL",
     "print the shell's completion function"},
    {0}};

static const cli_command *find(const char *name) {
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i]->doc.name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static int complain(const spar_error *err) {
    cli_sink_finish();
    fputs("spar: ", stderr);
    cli_put_text(stderr, err->message, sizeof err->message);
    fputc('\n', stderr);
    return spar_status_exit(err->code);
}

/* The exit status of a command that has written all it had to. */
static int finish(void) {
    spar_error err;
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return 0;
    }
    spar_fail(&err, SPAR_IO, "standard output: cannot be written");
    return complain(&err);
}

static void usage(FILE *out) {
    fprintf(out, "usage: spar COMMAND [options]\n\n");
    for (int i = 0; i < N_COMMANDS; i++) {
        fprintf(out, "  %-10s %s\n", commands[i]->doc.name, commands[i]->doc.summary);
    }
    fprintf(out, "\n  spar help COMMAND   options of a command\n"
                 "  spar --man COMMAND  its manual page; spar --man spar: the overview\n"
                 "  spar --version      version, build and processor\n");
}

static int unknown(const char *name) {
    spar_error err;
    size_t best = strlen(name) / 2 + 1; /* farther away is another word */
    const char *nearest = NULL;
    for (int i = -1; i < N_COMMANDS; i++) {
        const char *known = i < 0 ? "help" : commands[i]->doc.name;
        size_t d = spar_name_distance(name, known);
        if (d < best) {
            best = d;
            nearest = known;
        }
    }
    spar_fail(&err, SPAR_INVALID, "unknown command %s%s%s%s", name,
              nearest ? ": did you mean " : "", nearest ? nearest : "",
              nearest ? "?" : " (spar --help lists them)");
    return complain(&err);
}

static void overview(void) {
    char details[4096];
    size_t n = (size_t)snprintf(
        details, sizeof details,
        "spar takes an open-weights model from disk, lets it play against itself, and writes back "
        "a better one: rollouts, verifiers, preference training and evaluation in one program on "
        "one copy of the weights. Each command has a page of its own, and spar help COMMAND lists "
        "its options.");
    for (int i = 0; i < N_COMMANDS && n < sizeof details; i++) {
        n += (size_t)snprintf(details + n, sizeof details - n, "\n\nspar %s: %s",
                              commands[i]->doc.name, commands[i]->doc.summary);
    }
    spar_options_man(
        &(spar_command_doc){.name = "",
                            .synopsis = "COMMAND [options]",
                            .summary = "let a language model play against itself and get better",
                            .details = details,
                            .options = program_options},
        stdout);
}

static int manual(const char *name) {
    const cli_command *command = find(name);
    if (command) {
        spar_options_man(&command->doc, stdout);
    } else if (strcmp(name, "spar") == 0) {
        overview();
    } else {
        return unknown(name);
    }
    return finish();
}

static int completion(const char *shell) {
    spar_error err;
    const spar_command_doc *docs[N_COMMANDS];
    if (strcmp(shell, "bash") != 0) {
        spar_fail(&err, SPAR_INVALID, "--completion: expected bash, found %s", shell);
        return complain(&err);
    }
    for (int i = 0; i < N_COMMANDS; i++) {
        docs[i] = &commands[i]->doc;
    }
    spar_options_bash(docs, N_COMMANDS, stdout);
    return finish();
}

/* Options that name a model on disk. */
static bool names_model(const spar_option *row) {
    return row->type == SPAR_OPTION_STRING && row->argument &&
           (strcmp(row->argument, "MODEL") == 0 || strcmp(row->name, "adapter") == 0);
}

/* Models by their names in the hub's cache become paths; *places (to be freed) are what the values
 * then point to. */
static spar_status place_models(const spar_option *table, void *values, char **places,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    int n = 0;
    for (const spar_option *row = table; row->name; row++) {
        const char **field = (const char **)(void *)((char *)values + row->offset);
        if (names_model(row) && *field && n < MOST_MODELS) {
            SPAR_TRY(spar_hub_place(&places[n], *field, err));
            *field = places[n++];
        }
    }
done:
    return status;
}

static bool wants_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

static int run(const cli_command *command, int argc, char **argv) {
    spar_status status = SPAR_OK;
    spar_error err = {SPAR_OK, ""};
    char *places[MOST_MODELS] = {NULL};
    int operands = 0;
    if (wants_help(argc, argv)) {
        spar_options_help(&command->doc, stdout);
        return finish();
    }
    SPAR_TRY(spar_options_default(command->doc.options, command->values, &err));
    SPAR_TRY(
        spar_options_parse(command->doc.options, command->values, argc, argv, &operands, &err));
    SPAR_TRY(place_models(command->doc.options, command->values, places, &err));
    SPAR_TRY(command->run(command->values, operands, argv, &err));
done:
    for (int i = 0; i < MOST_MODELS; i++) {
        free(places[i]);
    }
    cli_sink_finish();
    return status == SPAR_OK ? finish() : complain(&err);
}

/* What is not a command: *result is the exit status where true is returned. */
static bool run_program_option(int argc, char **argv, int *result) {
    const char *first = argv[1];
    bool help = strcmp(first, "help") == 0;
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 || (help && argc < 3)) {
        usage(stdout);
        *result = finish();
    } else if (strcmp(first, "--version") == 0) {
        spar_version_write(stdout);
        *result = finish();
    } else if (strcmp(first, "--man") == 0) {
        *result = manual(argc > 2 ? argv[2] : "spar");
    } else if (strcmp(first, "--completion") == 0) {
        *result = completion(argc > 2 ? argv[2] : "bash");
    } else if (help) {
        const cli_command *command = find(argv[2]);
        if (command) {
            spar_options_help(&command->doc, stdout);
        }
        *result = command ? finish() : unknown(argv[2]);
    } else {
        return false;
    }
    return true;
}

int main(int argc, char **argv) {
    int result;
    catch_size_limit();
    if (argc < 2) {
        usage(stderr);
        return spar_status_exit(SPAR_INVALID);
    }
    if (run_program_option(argc, argv, &result)) {
        return result;
    }
    const cli_command *command = find(argv[1]);
    return command ? run(command, argc - 2, argv + 2) : unknown(argv[1]);
}
