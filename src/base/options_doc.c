/* The part of spar/options.h that writes option tables out: help, man pages, shell completion. */
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "spar/options.h"

enum { WIDTH = 80, HELP_COLUMN = 28, TEXT_MAX = 1024 };

/* "spar generate" (separator ' ') or "spar-generate"; the program itself has an empty name. */
static void put_name(const spar_command_doc *doc, char separator, FILE *out) {
    fputs("spar", out);
    if (doc->name[0] != '\0') {
        fprintf(out, "%c%s", separator, doc->name);
    }
}

static bool is_on_by_default(const spar_option *row) {
    return row->type == SPAR_OPTION_FLAG && row->fallback != NULL &&
           strcmp(row->fallback, "true") == 0;
}

static const char *argument_of(const spar_option *row) {
    if (row->type == SPAR_OPTION_FLAG) {
        return NULL;
    }
    if (row->argument != NULL) {
        return row->argument;
    }
    return row->type == SPAR_OPTION_INT || row->type == SPAR_OPTION_NUMBER ? "N" : "VALUE";
}

/* "1..1024", "at least 1", "f32|bf16" or "". */
static void limits_text(const spar_option *row, char *text, size_t n) {
    text[0] = '\0';
    const bool is_number = row->type == SPAR_OPTION_INT || row->type == SPAR_OPTION_NUMBER;
    if (row->type == SPAR_OPTION_CHOICE) {
        snprintf(text, n, "%s", row->choices);
    } else if (is_number && isinf(row->max)) {
        snprintf(text, n, "at least %.15g", row->min);
    } else if (is_number && (row->min < row->max)) {
        snprintf(text, n, "%.15g..%.15g", row->min, row->max);
    }
}

/* The help sentence with what the table knows beside it: "... (1..1024; default 4)". */
static void help_text(const spar_option *row, char *text, size_t n) {
    char limits[TEXT_MAX / 2];
    limits_text(row, limits, sizeof limits);
    const bool has_default =
        row->type != SPAR_OPTION_FLAG && row->fallback != NULL && row->fallback[0] != '\0';
    const bool has_limits = limits[0] != '\0';
    if (!has_default && !has_limits) {
        snprintf(text, n, "%s%s", row->help, is_on_by_default(row) ? " (default: on)" : "");
        return;
    }
    snprintf(text, n, "%s (%s%s%s%s)", row->help, limits, has_default && has_limits ? "; " : "",
             has_default ? "default " : "", has_default ? row->fallback : "");
}

/* Words of text from column `at` on, wrapped before WIDTH and indented to `indent`. */
static void put_wrapped(const char *text, size_t indent, size_t at, FILE *out) {
    while (*text != '\0') {
        if (*text == '\n') {
            fputc('\n', out);
            at = 0;
            text++;
            continue;
        }
        const size_t gap = strspn(text, " ");
        const size_t word = strcspn(text + gap, " \n");
        if (at > indent && at + gap + word > WIDTH) {
            fputc('\n', out);
            at = 0;
        }
        const size_t pad = at == 0 ? indent : gap;
        fprintf(out, "%*s%.*s", (int)pad, "", (int)word, text + gap);
        at += pad + word;
        text += gap + word;
    }
    fputc('\n', out);
}

static void put_row(const char *names, const char *help, FILE *out) {
    size_t at = strlen(names);
    fputs(names, out);
    if (at + 2 > HELP_COLUMN) {
        fputc('\n', out);
        at = 0;
    }
    fprintf(out, "%*s", (int)(HELP_COLUMN - at), "");
    put_wrapped(help, HELP_COLUMN, HELP_COLUMN, out);
}

static void help_row(const spar_option *row, FILE *out) {
    char names[TEXT_MAX], help[TEXT_MAX];
    char letter[8] = "    ";
    const char *argument = argument_of(row);
    if (row->letter != 0) {
        snprintf(letter, sizeof letter, "-%c, ", row->letter);
    }
    snprintf(names, sizeof names, "  %s--%s%s%s%s", letter, is_on_by_default(row) ? "[no-]" : "",
             row->name, argument != NULL ? " " : "", argument != NULL ? argument : "");
    help_text(row, help, sizeof help);
    put_row(names, help, out);
}

void spar_options_help(const spar_command_doc *doc, FILE *out) {
    fputs("Usage: ", out);
    put_name(doc, ' ', out);
    fprintf(out, " %s\n\n", doc->synopsis);
    put_wrapped(doc->summary, 0, 0, out);
    if (doc->details != NULL) {
        fputc('\n', out);
        put_wrapped(doc->details, 0, 0, out);
    }
    fputs("\nOptions:\n", out);
    for (const spar_option *row = doc->options; row != NULL && row->name != NULL; row++) {
        help_row(row, out);
    }
    put_row("  -h, --help", "Show this help", out);
}

/* Text for roff: '\' and '-' are escaped, and no line begins with a control character. */
static void put_roff(const char *text, FILE *out) {
    bool line_start = true;
    for (; *text != '\0'; text++) {
        if (*text == '\n' && text[1] == '\n') {
            fputs("\n.PP\n", out);
            text++;
            line_start = true;
            continue;
        }
        if (line_start && (*text == '.' || *text == '\'')) {
            fputs("\\&", out);
        }
        line_start = *text == '\n';
        if (*text == '\\') {
            fputs("\\e", out);
        } else if (*text == '-') {
            fputs("\\-", out);
        } else {
            fputc(*text, out);
        }
    }
}

static void man_row(const spar_option *row, FILE *out) {
    char help[TEXT_MAX];
    const char *argument = argument_of(row);
    fputs(".TP\n", out);
    if (row->letter != 0) {
        fprintf(out, "\\fB\\-%c\\fR, ", row->letter);
    }
    fprintf(out, "\\fB\\-\\-%s", is_on_by_default(row) ? "[no\\-]" : "");
    put_roff(row->name, out);
    fputs("\\fR", out);
    if (argument != NULL) {
        fputs(" \\fI", out);
        put_roff(argument, out);
        fputs("\\fR", out);
    }
    fputc('\n', out);
    help_text(row, help, sizeof help);
    put_roff(help, out);
    fputs(".\n", out);
}

static void man_exit_status(FILE *out) {
    fputs(".SH EXIT STATUS\n", out);
#define X(name, exit_code, text) fprintf(out, ".TP\n\\fB%d\\fR\n%s\n", exit_code, text);
    SPAR_STATUS_LIST(X)
#undef X
}

static void man_title(const spar_command_doc *doc, FILE *out) {
    fputs(".TH SPAR", out);
    for (const char *p = doc->name; *p != '\0'; p++) {
        fprintf(out, "%s%c", p == doc->name ? "\\-" : "", toupper((unsigned char)*p));
    }
    fputs(" 1 \"\" \"spar\" \"User Commands\"\n", out);
}

void spar_options_man(const spar_command_doc *doc, FILE *out) {
    man_title(doc, out);
    fputs(".SH NAME\n", out);
    put_name(doc, '-', out);
    fputs(" \\- ", out);
    put_roff(doc->summary, out);
    fputs("\n.SH SYNOPSIS\n\\fB", out);
    put_name(doc, ' ', out);
    fputs("\\fR ", out);
    put_roff(doc->synopsis, out);
    fputs("\n.SH DESCRIPTION\n", out);
    put_roff(doc->details != NULL ? doc->details : doc->summary, out);
    fputs("\n.SH OPTIONS\n", out);
    for (const spar_option *row = doc->options; row != NULL && row->name != NULL; row++) {
        man_row(row, out);
    }
    fputs(".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nShow help and exit.\n", out);
    man_exit_status(out);
}

static void bash_choices(const spar_option *row, FILE *out) {
    if (row->letter != 0) {
        fprintf(out, "-%c|", row->letter);
    }
    fprintf(out, "--%s) words='", row->name);
    for (const char *p = row->choices; *p != '\0'; p++) {
        fputc(*p == '|' ? ' ' : *p, out);
    }
    fputs("' ;;\n", out);
}

static void bash_command(const spar_command_doc *doc, FILE *out) {
    fprintf(out, "    %s)\n        words='--help", doc->name);
    for (const spar_option *row = doc->options; row != NULL && row->name != NULL; row++) {
        fprintf(out, " --%s", row->name);
        if (is_on_by_default(row)) {
            fprintf(out, " --no-%s", row->name);
        }
    }
    fputs("'\n        case $previous in\n", out);
    for (const spar_option *row = doc->options; row != NULL && row->name != NULL; row++) {
        if (row->type == SPAR_OPTION_CHOICE) {
            fputs("        ", out);
            bash_choices(row, out);
        } else if (row->type != SPAR_OPTION_FLAG) {
            fprintf(out, "        --%s) return ;;\n", row->name);
        }
    }
    fputs("        esac ;;\n", out);
}

/* bash splits "--name=value" at the '=', which the first lines of the function put together again.
 * Where the function has no words, `-o default` completes file names. */
void spar_options_bash(const spar_command_doc *const *docs, size_t n, FILE *out) {
    fputs("# bash completion for spar\n"
          "_spar() {\n"
          "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local words=''\n"
          "    COMPREPLY=()\n"
          "    if [ \"$current\" = '=' ]; then current=''\n"
          "    elif [ \"$previous\" = '=' ]; then previous=${COMP_WORDS[COMP_CWORD-2]}\n"
          "    fi\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then words='--help --version",
          out);
    for (size_t i = 0; i < n; i++) {
        fprintf(out, " %s", docs[i]->name);
    }
    fputs("'\n    else case ${COMP_WORDS[1]} in\n", out);
    for (size_t i = 0; i < n; i++) {
        if (docs[i]->name[0] != '\0') {
            bash_command(docs[i], out);
        }
    }
    fputs("    esac; fi\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
          "}\n"
          "complete -o default -F _spar spar\n",
          out);
}
