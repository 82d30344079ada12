/* The judge kind "program": scores by a program of the user's, under limits.
 *
 * The program is started once a row, by /bin/sh, in a process group of its own. Its input is a file
 * in memory, so that it may read as slowly as it likes; its output is read up to a bound. Whatever
 * happens, the group is killed before the row ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "judge/kind.h"
#include "text/conversation.h"

enum { LINE_MAX_BYTES = 4096, WAIT_MS = 5, NOT_STARTED = 127 };

typedef struct program {
    char *command; /* owned */
    double seconds;
    struct rlimit cpu, memory;
} program;

typedef struct child {
    pid_t pid;
    int output;      /* our end of its standard output; -1: closed */
    double deadline; /* on the monotonic clock */
} child;

static void program_close(void *context) {
    program *p = context;
    free(p->command);
    free(p);
}

static spar_status program_open(void **context, const char *model,
                                const spar_judge_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_mem_calloc(context, 1, sizeof(program), err));
    program *p = *context;
    const rlim_t cpu = (rlim_t)ceil(options->time_limit);
    const rlim_t bytes = (rlim_t)options->memory_limit << 20;
    p->seconds = options->time_limit;
    p->cpu = (struct rlimit){cpu, cpu};
    p->memory = (struct rlimit){bytes, bytes};
    if (!model[0]) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "judge program: expected a command, found nothing"));
    }
    SPAR_TRY(sp_mem_strdup(&p->command, model, strlen(model), err));
done:
    return status;
}

/* The rows that the program reads, one a response. */
static spar_status put_input(const sp_judge_item *item, sp_str *out, spar_error *err) {
    for (size_t i = 0; i < item->k; i++) {
        json_t *row = json_pack("{s:O*, s:O, s:O*}", "prompt", item->prompt, "response",
                                json_array_get(item->responses, i), "reference", item->reference);
        sp_conversation_carry(row, item->row);
        char *line = row ? json_dumps(row, JSON_COMPACT) : NULL;
        out->failed = out->failed || !line;
        sp_str_puts(out, line ? line : "");
        sp_str_putc(out, '\n');
        free(line);
        json_decref(row);
    }
    return sp_str_status(out, err);
}

static spar_status input_file(const sp_str *text, int *fd, spar_error *err) {
    *fd = memfd_create("responses", MFD_CLOEXEC);
    size_t done = 0;
    while (*fd >= 0 && done < text->len) {
        const ssize_t n = write(*fd, text->data + done, text->len - done);
        if (n < 0 && errno != EINTR) {
            break;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    if (*fd < 0 || done < text->len || lseek(*fd, 0, SEEK_SET) != 0) {
        return spar_fail(err, SPAR_IO, "judge program: its input: %s", strerror(errno));
    }
    return SPAR_OK;
}

/* In the child: only what is safe behind a fork of many threads. */
static _Noreturn void become(const program *p, int input, int output) {
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    setpgid(0, 0);
    if (dup2(input, 0) == 0 && dup2(output, 1) == 1 && dup2(nowhere, 2) == 2 &&
        setrlimit(RLIMIT_CPU, &p->cpu) == 0 && setrlimit(RLIMIT_AS, &p->memory) == 0) {
        execl("/bin/sh", "sh", "-c", p->command, (char *)NULL);
    }
    _exit(NOT_STARTED);
}

static spar_status start(const program *p, int input, child *out, spar_error *err) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return spar_fail(err, SPAR_IO, "judge program: %s", strerror(errno));
    }
    out->deadline = sp_now() + p->seconds;
    out->pid = fork();
    if (out->pid == 0) {
        become(p, input, ends[1]);
    }
    close(ends[1]);
    out->output = ends[0];
    if (out->pid < 0) {
        return spar_fail(err, SPAR_IO, "judge program: %s", strerror(errno));
    }
    setpgid(out->pid, out->pid); /* whichever of the two comes first */
    return SPAR_OK;
}

static spar_status too_late(const program *p, spar_error *err) {
    return spar_fail(err, SPAR_LIMIT, "judge program: no end after %g seconds", p->seconds);
}

static spar_status read_output(const program *p, child *c, size_t most, sp_str *out,
                               spar_error *err) {
    char buffer[4096];
    for (;;) {
        const double left = c->deadline - sp_now();
        struct pollfd end = {.fd = c->output, .events = POLLIN};
        const int ready = left > 0 ? poll(&end, 1, (int)ceil(1000 * fmin(left, 1e6))) : 0;
        if (left <= 0) {
            return too_late(p, err);
        }
        const ssize_t n = ready > 0 ? read(c->output, buffer, sizeof buffer) : -1;
        if (n == 0) {
            return sp_str_status(out, err);
        }
        sp_str_append(out, buffer, n > 0 ? (size_t)n : 0);
        if (out->len > most) {
            return spar_fail(err, SPAR_LIMIT, "judge program: more than %zu bytes of output", most);
        }
    }
}

/* Until it has ended, left unreaped so that its process group keeps its number. */
static spar_status wait_end(const program *p, const child *c, spar_error *err) {
    static const struct timespec pause = {.tv_nsec = WAIT_MS * 1000000L};
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid) {
            return SPAR_OK;
        }
        if (sp_now() > c->deadline) {
            return too_late(p, err);
        }
        nanosleep(&pause, NULL);
    }
}

/* Kill the group, and what the leader left with. */
static int finish(child *c) {
    int result = 0;
    close(c->output);
    if (c->pid > 0) {
        kill(-c->pid, SIGKILL);
        while (waitpid(c->pid, &result, 0) < 0 && errno == EINTR) {
        }
    }
    return result;
}

static spar_status check_end(int result, spar_error *err) {
    if (WIFSIGNALED(result)) {
        return spar_fail(err, SPAR_LIMIT, "judge program: ended by signal %d (%s)",
                         WTERMSIG(result), strsignal(WTERMSIG(result)));
    }
    return WEXITSTATUS(result)
               ? spar_fail(err, SPAR_INVALID, "judge program: exit status %d", WEXITSTATUS(result))
               : SPAR_OK;
}

static spar_status run_program(const program *p, int input, size_t most, sp_str *out,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    child c = {.pid = -1, .output = -1};
    SPAR_TRY(start(p, input, &c, err));
    SPAR_TRY(read_output(p, &c, most, out, err));
    SPAR_TRY(wait_end(p, &c, err));
done:;
    const int result = finish(&c);
    return status == SPAR_OK ? check_end(result, err) : status;
}

static spar_status read_scores(const sp_str *text, size_t k, double *scores, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *line = sp_str_get(text), *end = line + text->len;
    json_t *row = NULL;
    for (size_t i = 0; i < k; i++) {
        char where[48];
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        stop = stop ? stop : end;
        snprintf(where, sizeof where, "judge program: line %zu", i + 1);
        SPAR_TRY(sp_json_parse_row(&row, line, (size_t)(stop - line), where, err));
        SPAR_TRY(sp_json_get_number(row, "score", &scores[i], where, err));
        json_decref(row);
        row = NULL;
        line = stop < end ? stop + 1 : end;
    }
    if (line != end) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "judge program: expected %zu lines, found more", k));
    }
done:
    json_decref(row);
    return status;
}

static spar_status program_judge(void *context, const sp_judge_item *item, spar_judgement *out,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str input = SP_STR_INIT, output = SP_STR_INIT;
    int fd = -1;
    SPAR_TRY(put_input(item, &input, err));
    SPAR_TRY(input_file(&input, &fd, err));
    SPAR_TRY(run_program(context, fd, item->k * LINE_MAX_BYTES, &output, err));
    SPAR_TRY(read_scores(&output, item->k, out->scores, err));
done:
    if (fd >= 0) {
        close(fd);
    }
    sp_str_release(&input);
    sp_str_release(&output);
    return status;
}

const sp_judge_kind sp_judge_program = {.name = "program",
                                        .fills = SP_JUDGE_FILLS_SCORES,
                                        .open = program_open,
                                        .judge = program_judge,
                                        .close = program_close};
