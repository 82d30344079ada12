#include "spar/log.h"

#include <stdio.h>

void spar_sink_log(const spar_sink *sink, spar_log_level level, const char *fmt, ...) {
    if (sink == NULL || sink->log == NULL) {
        return;
    }
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    sink->log(sink->context, level, line);
}

void spar_sink_progress(const spar_sink *sink, const spar_progress *progress) {
    if (sink != NULL && sink->progress != NULL) {
        sink->progress(sink->context, progress);
    }
}
