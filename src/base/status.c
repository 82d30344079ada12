#include "spar/status.h"

#include <stdio.h>
#include <string.h>

typedef struct status_row {
    const char *name, *text;
    int exit_code;
} status_row;

static const status_row rows[] = {
#define X(name, exit_code, text) {#name, text, exit_code},
    SPAR_STATUS_LIST(X)
#undef X
};

static const status_row *find_row(spar_status code) {
    const size_t n = sizeof rows / sizeof rows[0];
    return (size_t)code < n ? &rows[code] : &rows[SPAR_INTERNAL];
}

const char *spar_status_name(spar_status code) {
    return find_row(code)->name;
}

const char *spar_status_text(spar_status code) {
    return find_row(code)->text;
}

int spar_status_exit(spar_status code) {
    return find_row(code)->exit_code;
}

/* Messages are one line: what came from a file may hold line ends and control bytes. */
static void make_one_line(char *text) {
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f) {
            *text = ' ';
        }
    }
}

spar_status spar_failv(spar_error *err, spar_status code, const char *fmt, va_list args) {
    if (err != NULL) {
        err->code = code;
        vsnprintf(err->message, sizeof err->message, fmt, args);
        make_one_line(err->message);
    }
    return code;
}

spar_status spar_fail(spar_error *err, spar_status code, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    spar_failv(err, code, fmt, args);
    va_end(args);
    return code;
}

spar_status spar_error_context(spar_error *err, const char *fmt, ...) {
    if (err == NULL) {
        return SPAR_INTERNAL;
    }
    char context[sizeof err->message];
    va_list args;
    va_start(args, fmt);
    vsnprintf(context, sizeof context, fmt, args);
    va_end(args);
    make_one_line(context);
    size_t n = strlen(context);
    const size_t room = sizeof err->message;
    if (n + 3 > room) {
        n = room - 3;
    }
    /* The tail of the old message is lost when both do not fit. */
    size_t kept = strlen(err->message);
    if (kept > room - n - 3) {
        kept = room - n - 3;
    }
    memmove(err->message + n + 2, err->message, kept);
    memcpy(err->message, context, n);
    memcpy(err->message + n, ": ", 2);
    err->message[n + 2 + kept] = '\0';
    return err->code;
}
