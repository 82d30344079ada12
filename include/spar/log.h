/* Log lines and progress events: the library hands them to a sink that the program sets.
 *
 * Without a sink they are dropped. The sink is called from one thread at a time.
 */
#ifndef SPAR_LOG_H
#define SPAR_LOG_H

#include "spar/status.h"

typedef enum spar_log_level { SPAR_LOG_DEBUG, SPAR_LOG_INFO, SPAR_LOG_WARN } spar_log_level;

/* A step of long work. A terminal redraws one line per phase; a log prints a plain line now and
 * then. */
typedef struct spar_progress {
    const char *phase;  /* "sample", "train", "evaluate", ...; borrowed for the call */
    double done, total; /* in unit; total 0 when unknown */
    const char *unit;   /* "prompts", "steps", "tokens" */
    double rate;        /* tokens per second so far, 0 when unknown */
    const char *detail; /* the figures that matter now: "loss 0.412 margin 0.08"; may be "" */
} spar_progress;

typedef struct spar_sink {
    void (*log)(void *context, spar_log_level level, const char *line);
    void (*progress)(void *context, const spar_progress *progress);
    void *context; /* borrowed */
} spar_sink;

SPAR_API void spar_sink_log(const spar_sink *sink, spar_log_level level, const char *fmt, ...)
    SPAR_PRINTF(3, 4);
SPAR_API void spar_sink_progress(const spar_sink *sink, const spar_progress *progress);

#endif
