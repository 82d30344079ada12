/* spar: the table of commands. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "spar/version.h"

static const cli_command *const commands[] = {
    &cli_play,  &cli_report, &cli_eval,     &cli_generate, &cli_chat, &cli_inspect,
    &cli_tasks, &cli_bench,  &cli_tokenize, &cli_render,   &cli_score};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static volatile sig_atomic_t interrupts;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupts = interrupts + 1;
    if (interrupts > 2) {
        _Exit(130);
    }
}

bool cli_interrupted(void *context) {
    (void)context;
    return interrupts > 0;
}

void cli_catch_interrupt(void) {
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static const spar_option no_options[] = {{0}};
static const spar_command_doc overview = {
    .name = "",
    .synopsis = "COMMAND [options]",
    .summary = "let a language model play against itself and get better",
    .details =
        "spar takes an open-weights model from disk, lets it play against itself, and writes "
        "back a better one: rollouts, verifiers, preference training and evaluation in one "
        "program on one copy of the weights. See spar help COMMAND.",
    .options = no_options};

static const cli_command *find(const char *name) {
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i]->doc.name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static int usage(FILE *out) {
    fprintf(out, "usage: spar COMMAND [options]\n\n");
    for (int i = 0; i < N_COMMANDS; i++) {
        fprintf(out, "  %-10s %s\n", commands[i]->doc.name, commands[i]->doc.summary);
    }
    fprintf(out, "\n  spar help COMMAND   options of a command\n"
                 "  spar --version      version, build and processor\n");
    return 0;
}

static int complain(const spar_error *err) {
    cli_sink_finish();
    fprintf(stderr, "spar: %s\n", err->message);
    return spar_status_exit(err->code);
}

static int unknown(const char *name) {
    spar_error err;
    const char *nearest = NULL;
    size_t best = 4;
    for (int i = 0; i < N_COMMANDS; i++) {
        size_t d = spar_name_distance(name, commands[i]->doc.name);
        if (d < best) {
            best = d;
            nearest = commands[i]->doc.name;
        }
    }
    spar_fail(&err, SPAR_INVALID, "unknown command %s%s%s%s", name,
              nearest ? ": did you mean " : "", nearest ? nearest : "",
              nearest ? "?" : " (spar --help lists them)");
    return complain(&err);
}

static int manual(const char *name) {
    const cli_command *command = name ? find(name) : NULL;
    if (!command && name && strcmp(name, "spar") != 0) {
        return unknown(name);
    }
    spar_options_man(command ? &command->doc : &overview, stdout);
    return 0;
}

static int completion(void) {
    const spar_command_doc *docs[N_COMMANDS];
    for (int i = 0; i < N_COMMANDS; i++) {
        docs[i] = &commands[i]->doc;
    }
    spar_options_bash(docs, N_COMMANDS, stdout);
    return 0;
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
    int operands = 0;
    if (wants_help(argc, argv)) {
        spar_options_help(&command->doc, stdout);
        return 0;
    }
    SPAR_TRY(spar_options_default(command->doc.options, command->values, &err));
    SPAR_TRY(
        spar_options_parse(command->doc.options, command->values, argc, argv, &operands, &err));
    SPAR_TRY(command->run(command->values, operands, argv, &err));
done:
    cli_sink_finish();
    if (status == SPAR_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        status = spar_fail(&err, SPAR_IO, "standard output: cannot be written");
    }
    return status == SPAR_OK ? 0 : complain(&err);
}

int main(int argc, char **argv) {
    const char *first = argc > 1 ? argv[1] : "--help";
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0) {
        return usage(stdout);
    }
    if (strcmp(first, "--version") == 0) {
        spar_version_write(stdout);
        return 0;
    }
    if (strcmp(first, "--man") == 0) {
        return manual(argc > 2 ? argv[2] : NULL);
    }
    if (strcmp(first, "--completion") == 0) {
        return completion();
    }
    bool help = strcmp(first, "help") == 0;
    if (help && argc < 3) {
        return usage(stdout);
    }
    const cli_command *command = find(help ? argv[2] : first);
    if (!command) {
        return unknown(help ? argv[2] : first);
    }
    if (help) {
        spar_options_help(&command->doc, stdout);
        return 0;
    }
    return run(command, argc - 2, argv + 2);
}
