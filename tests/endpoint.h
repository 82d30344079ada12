/* A small server on the loopback that speaks OpenAI's chat protocol, well and badly, for tests.
 *
 * Each request is answered as the next letter of a script says; behind its end, well.
 *   o  a verdict with log-probs: 0.7 for the shorter answer, 0.2 for the other, 0.1 for neither
 *   p  the same verdict without log-probs      v  an answer without a verdict
 *   t  nothing, the connection stays open      x  nothing, the connection is closed
 *   d  the beginning of a reply                n  a reply that is no JSON
 *   j  JSON that is no chat completion         4  429, Retry-After 1
 *   9  429, Retry-After 9999                   5  500
 *   1  401 with a message                     q  nothing, and the server ends
 *   s  as o, but a fifth of a second later
 *   w  as o, but slow: behind the answer to a request that came later, the last first
 * A line "LETTER KEY BODY" of each request goes to a log file.
 */
#ifndef SPAR_TESTS_ENDPOINT_H
#define SPAR_TESTS_ENDPOINT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ENDPOINT_MOST = 1 << 18 };

/* Read a request: its body (inside buffer) and key; false where the client went. */
static inline bool endpoint_read(int fd, char *buffer, const char **body, char *key, size_t n_key) {
    size_t n = 0, wanted = 0;
    *body = NULL;
    snprintf(key, n_key, "-");
    while (n < ENDPOINT_MOST && (!*body || n < wanted)) {
        const ssize_t got = read(fd, buffer + n, ENDPOINT_MOST - n);
        if (got <= 0) {
            return false;
        }
        n += (size_t)got;
        buffer[n] = 0;
        const char *end = *body ? NULL : strstr(buffer, "\r\n\r\n");
        if (end) {
            const char *length = strcasestr(buffer, "\r\nContent-Length:");
            const char *bearer = strstr(buffer, "\r\nAuthorization: Bearer ");
            *body = end + 4;
            wanted = (size_t)(*body - buffer) + (length ? strtoul(length + 17, NULL, 10) : 0);
            if (bearer && bearer < end) {
                snprintf(key, n_key, "%.*s", (int)strcspn(bearer + 24, "\r"), bearer + 24);
            }
        }
    }
    return true;
}

static inline size_t endpoint_length(const char *body, const char *begin, const char *end) {
    const char *from = strstr(body, begin), *to = from ? strstr(from, end) : NULL;
    return to ? (size_t)(to - from) : 0;
}

/* The body of a chat completion. */
static inline void endpoint_verdict(const char *body, char letter, char *out, size_t n) {
    const bool first = endpoint_length(body, "=== Answer A ===", "=== End of answer A") <=
                       endpoint_length(body, "=== Answer B ===", "=== End of answer B");
    char logprobs[512] = "null";
    if (letter == 'o') {
        snprintf(logprobs, sizeof logprobs,
                 "{\"content\":[{\"token\":\"[[\",\"top_logprobs\":[]},{\"token\":\"%c\","
                 "\"top_logprobs\":[{\"token\":\"%c\",\"logprob\":-0.35667494393873245},"
                 "{\"token\":\"%c\",\"logprob\":-1.6094379124341003},{\"token\":\"C\","
                 "\"logprob\":-2.302585092994046},{\"token\":\"Hm\",\"logprob\":-9}]},"
                 "{\"token\":\"]]\",\"top_logprobs\":[]}]}",
                 first ? 'A' : 'B', first ? 'A' : 'B', first ? 'B' : 'A');
    }
    snprintf(out, n,
             "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"%s%c%s\"},"
             "\"logprobs\":%s}],\"usage\":{\"total_tokens\":7}}",
             letter == 'v' ? "I cannot tell " : "[[", first ? 'A' : 'B', letter == 'v' ? "" : "]]",
             logprobs);
}

static inline void endpoint_send(int fd, const char *status, const char *more, const char *body,
                                 size_t length) {
    char head[512];
    const int n = snprintf(head, sizeof head,
                           "HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\n"
                           "%sContent-Length: %zu\r\n\r\n",
                           status, more, length);
    (void)!write(fd, head, (size_t)n);
    (void)!write(fd, body, strlen(body));
}

static inline void endpoint_answer(int fd, char letter, const char *request) {
    char body[2048];
    switch (letter) {
    case 'o':
    case 's':
    case 'w':
    case 'p':
    case 'v':
        usleep(letter == 's' ? 200000 : 0);
        endpoint_verdict(request, letter == 'w' || letter == 's' ? 'o' : letter, body, sizeof body);
        endpoint_send(fd, "200 OK", "", body, strlen(body));
        break;
    case 'd':
        endpoint_send(fd, "200 OK", "", "{\"choices\":", 1000);
        break;
    case 'n':
        endpoint_send(fd, "200 OK", "", "<html>busy", 10);
        break;
    case 'j':
        endpoint_send(fd, "200 OK", "", "{\"choices\":[]}", 14);
        break;
    case '4':
        endpoint_send(fd, "429 Too Many Requests", "Retry-After: 1\r\n", "{}", 2);
        break;
    case '9':
        endpoint_send(fd, "429 Too Many Requests", "Retry-After: 9999\r\n", "{}", 2);
        break;
    case '5':
        endpoint_send(fd, "500 Internal Server Error", "", "oh", 2);
        break;
    case '1':
        endpoint_send(fd, "401 Unauthorized", "", "{\"error\":{\"message\":\"no such key\"}}", 35);
        break;
    default: /* x */
        break;
    }
}

/* Requests that wait for the answer to another one. */
typedef struct endpoint_held {
    struct {
        int fd;
        char *body; /* owned */
    } items[64];
    int n;
} endpoint_held;

static inline void endpoint_hold(endpoint_held *held, int fd, const char *body) {
    if (held->n < 64) {
        held->items[held->n].fd = fd;
        held->items[held->n++].body = strdup(body);
    }
}

static inline void endpoint_answer_held(endpoint_held *held) {
    while (held->n > 0) {
        held->n--;
        endpoint_answer(held->items[held->n].fd, 'w', held->items[held->n].body);
        close(held->items[held->n].fd);
        free(held->items[held->n].body);
    }
}

static inline void endpoint_serve(int listener, const char *script, const char *log) {
    static char buffer[ENDPOINT_MOST + 1];
    endpoint_held held = {.n = 0};
    for (;;) {
        const int fd = accept(listener, NULL, NULL);
        const char *body;
        char key[128];
        if (fd < 0 || !endpoint_read(fd, buffer, &body, key, sizeof key)) {
            close(fd);
            continue;
        }
        const char letter = *script ? *script++ : 'o';
        FILE *out = fopen(log, "a");
        if (out) {
            fprintf(out, "%c %s %s\n", letter, key, body);
            fclose(out);
        }
        if (letter == 'q') {
            _exit(0);
        } else if (letter == 'w') {
            endpoint_hold(&held, fd, body);
        } else if (letter != 't') {
            endpoint_answer(fd, letter, body);
            close(fd);
            endpoint_answer_held(&held);
        }
    }
}

/* A listening socket on that port of the loopback; 0: on a free one. */
static inline int endpoint_listen(int *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    socklen_t n = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) != 0 ||
        bind(fd, (struct sockaddr *)&address, n) != 0 || listen(fd, 16) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &n) != 0) {
        perror("endpoint");
        exit(1);
    }
    *port = ntohs(address.sin_port);
    return fd;
}

/* Serve in a child, which ends with this process; *port as endpoint_listen has it. */
static inline pid_t endpoint_start(const char *script, const char *log, int *port) {
    const int listener = endpoint_listen(port);
    const pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        endpoint_serve(listener, script, log);
    }
    close(listener);
    return child;
}

static inline void endpoint_stop(pid_t child) {
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

#endif
