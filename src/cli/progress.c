/* Progress and log lines on standard error. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

typedef struct screen {
    bool terminal, open; /* open: a progress line is on the screen */
    char phase[64];
    double phase_begun, last; /* seconds */
    double last_done;
} screen;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void clear_line(screen *s) {
    if (s->open) {
        fprintf(stderr, "\r\033[K");
        s->open = false;
    }
}

static void on_log(void *context, spar_log_level level, const char *line) {
    if (level != SPAR_LOG_DEBUG) {
        clear_line(context);
        fputs(level == SPAR_LOG_WARN ? "warning: " : "", stderr);
        cli_put_text(stderr, line, SIZE_MAX);
        fputc('\n', stderr);
    }
}

static void format_eta(double seconds, char *text, size_t n) {
    if (!(seconds >= 0) || seconds > 360000) {
        snprintf(text, n, "--");
    } else if (seconds < 60) {
        snprintf(text, n, "%.0f s", ceil(seconds));
    } else {
        snprintf(text, n, "%.0f min %02.0f s", floor(seconds / 60), fmod(seconds, 60));
    }
}

/* Longest line that does not wrap: only one that fits can be redrawn. */
static size_t line_width(const screen *s) {
    struct winsize size;
    if (!s->terminal) {
        return SIZE_MAX;
    }
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
    return known ? (size_t)size.ws_col - 1 : 79;
}

/* A terminal is redrawn ten times a second, a log gets a line every ten seconds. */
static void on_progress(void *context, const spar_progress *p) {
    screen *s = context;
    double t = now();
    char eta[32], rate[32] = "", line[512];
    if (strcmp(s->phase, p->phase) != 0 || p->done < s->last_done) {
        snprintf(s->phase, sizeof s->phase, "%s", p->phase);
        s->phase_begun = t;
        s->last = s->terminal ? 0 : s->last;
    }
    s->last_done = p->done;
    bool last = p->total > 0 && p->done >= p->total;
    if (t - s->last < (s->terminal ? 0.1 : 10.0) && !(last && s->terminal)) {
        return;
    }
    s->last = t;
    double elapsed = t - s->phase_begun;
    double left = p->done > 0 && p->total > 0 ? elapsed * (p->total - p->done) / p->done : -1;
    format_eta(left, eta, sizeof eta);
    clear_line(s);
    if (p->rate > 0) {
        snprintf(rate, sizeof rate, "  %.0f tok/s", p->rate);
    }
    snprintf(line, sizeof line, "%s %.0f/%.0f %s%s  ETA %s  %s", p->phase, p->done, p->total,
             p->unit, rate, eta, p->detail ? p->detail : "");
    cli_put_text(stderr, line, line_width(s));
    if (s->terminal) {
        fflush(stderr);
        s->open = true;
    } else {
        fputc('\n', stderr);
    }
}

static screen the_screen;

const spar_sink *cli_sink(void) {
    static const spar_sink sink = {on_log, on_progress, &the_screen};
    the_screen.terminal = isatty(STDERR_FILENO) == 1;
    return &sink;
}

void cli_sink_finish(void) {
    clear_line(&the_screen);
}
