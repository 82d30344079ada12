/* Status codes and error messages.
 *
 * Every fallible function returns a spar_status, gives its results by out-pointer and takes a
 * `spar_error *err` last. On failure err (when not NULL) holds the code and one message that names
 * the file, the field, what was expected and what was found. The library never prints.
 *
 * Inside a fallible function the one control macro is SPAR_TRY: it needs a local
 * `spar_status status = SPAR_OK;` and a label `done:` that frees what must be freed and returns
 * status.
 */
#ifndef SPAR_STATUS_H
#define SPAR_STATUS_H

#include <stdarg.h>

#if defined(__GNUC__)
#define SPAR_API __attribute__((visibility("default")))
#define SPAR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define SPAR_API
#define SPAR_PRINTF(fmt, args)
#endif

/* The one list: X(name, process exit status, text). */
#define SPAR_STATUS_LIST(X)                                                                        \
    X(OK, 0, "ok")                                                                                 \
    X(INVALID, 2, "invalid argument")                                                              \
    X(FORMAT, 3, "malformed input")                                                                \
    X(UNSUPPORTED, 4, "not supported")                                                             \
    X(NOT_FOUND, 5, "not found")                                                                   \
    X(IO, 6, "input/output error")                                                                 \
    X(NO_MEMORY, 7, "out of memory")                                                               \
    X(LIMIT, 8, "limit exceeded")                                                                  \
    X(BUSY, 9, "in use by another process")                                                        \
    X(INTERRUPTED, 10, "interrupted")                                                              \
    X(MISMATCH, 11, "does not match")                                                              \
    X(INTERNAL, 12, "internal error")

typedef enum spar_status {
#define X(name, exit_code, text) SPAR_##name,
    SPAR_STATUS_LIST(X)
#undef X
} spar_status;

typedef struct spar_error {
    spar_status code;
    char message[1024]; /* NUL-terminated, one line, no trailing newline */
} spar_error;

#define SPAR_TRY(call)                                                                             \
    do {                                                                                           \
        if ((status = (call)) != SPAR_OK) {                                                        \
            goto done;                                                                             \
        }                                                                                          \
    } while (0)

/* The short name ("INVALID"), the text ("invalid argument") and the exit status of a code. */
SPAR_API const char *spar_status_name(spar_status code);
SPAR_API const char *spar_status_text(spar_status code);
SPAR_API int spar_status_exit(spar_status code);

/* Fill err (may be NULL) and return code, so that callers write `return spar_fail(err, ...)` or
 * `SPAR_TRY(spar_fail(err, ...))`. */
SPAR_API spar_status spar_fail(spar_error *err, spar_status code, const char *fmt, ...)
    SPAR_PRINTF(3, 4);
SPAR_API spar_status spar_failv(spar_error *err, spar_status code, const char *fmt, va_list args)
    SPAR_PRINTF(3, 0);

/* Put "context: " in front of the message that err holds; returns err's code. */
SPAR_API spar_status spar_error_context(spar_error *err, const char *fmt, ...) SPAR_PRINTF(2, 3);

#endif
