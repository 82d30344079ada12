/* hub_server ROOT LOG: print a port of the loopback, and serve the files under ROOT there until
 * killed, as a model hub with faults.
 *
 * GET PATH gives ROOT/PATH, query included, with ranges and kept connections. Lines of
 * ROOT/PATH.headers are added to the head; a line "Location: ..." makes it a 302. A request whose
 * path has /resolve/ or /cdn/ takes the next letter of the file ROOT/script; behind its end it goes
 * well.
 *   o  well                               c  half of the bytes, then the connection is closed
 *   s  half of the bytes, then nothing    5  503, Retry-After 1
 *   4  429, Retry-After 9999              1  401, GatedRepo
 *   w  a wrong byte                       l  a length that is one too much
 *   r  all bytes whatever the range       u  401 that says nothing
 * A line "LETTER PATH RANGE KEY" of each request goes to LOG; "-" for what is not there.
 */
#include <stdbool.h>

#include "endpoint.h"

typedef struct hub_request {
    char path[1024], range[64], key[128];
    long from;
} hub_request;

static void read_header(const char *head, const char *name, char *out, size_t n) {
    const char *line = strcasestr(head, name);
    snprintf(out, n, "-");
    if (line) {
        line += strlen(name);
        snprintf(out, n, "%.*s", (int)strcspn(line, "\r"), line);
    }
}

/* false where the client went. */
static bool read_request(int fd, hub_request *r) {
    char head[8192];
    size_t n = 0;
    do {
        const ssize_t got = read(fd, head + n, sizeof head - 1 - n);
        if (got <= 0) {
            return false;
        }
        n += (size_t)got;
        head[n] = 0;
    } while (!strstr(head, "\r\n\r\n") && n < sizeof head - 1);
    snprintf(r->path, sizeof r->path, "%.*s", (int)strcspn(head + 4, " "), head + 4);
    read_header(head, "\r\nRange: bytes=", r->range, sizeof r->range);
    read_header(head, "\r\nAuthorization: Bearer ", r->key, sizeof r->key);
    r->from = strtol(r->range, NULL, 10);
    return true;
}

static char next_letter(const char *root, const char *path) {
    char name[2048], rest[256] = "";
    snprintf(name, sizeof name, "%s/script", root);
    FILE *file = strstr(path, "/resolve/") || strstr(path, "/cdn/") ? fopen(name, "r+") : NULL;
    if (!file || !fgets(rest, sizeof rest, file) || !rest[0] || rest[0] == '\n') {
        if (file) {
            fclose(file);
        }
        return 'o';
    }
    (void)!freopen(name, "w", file);
    fputs(rest + 1, file);
    fclose(file);
    return rest[0];
}

static char *slurp(const char *root, const char *path, const char *end, size_t *n) {
    char name[4096];
    snprintf(name, sizeof name, "%s%s%s", root, path, end);
    FILE *file = fopen(name, "rb");
    char *bytes = file ? calloc(1, 1 << 24) : NULL;
    *n = bytes ? fread(bytes, 1, (1 << 24) - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    return bytes;
}

/* All of it, as long as the client takes it. */
static void put(int fd, const char *bytes, size_t n) {
    while (n > 0) {
        const ssize_t sent = write(fd, bytes, n);
        if (sent <= 0) {
            return;
        }
        bytes += sent;
        n -= (size_t)sent;
    }
}

static void put_head(int fd, const char *status, const char *more, size_t length) {
    char head[4096];
    const int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n",
                           status, more, length);
    put(fd, head, (size_t)n);
}

/* Whether the connection stays. */
static bool send_file(int fd, char letter, const hub_request *r, char *bytes, size_t n,
                      const char *more) {
    char head[2048], wait;
    const bool part = r->range[0] != '-' && letter != 'r';
    const size_t from = part ? (size_t)r->from : 0;
    if (part && from >= n) {
        put_head(fd, "416 Range Not Satisfiable", "", 0);
        return true;
    }
    snprintf(head, sizeof head, "%s", more);
    if (part) {
        snprintf(head, sizeof head, "%sContent-Range: bytes %zu-%zu/%zu\r\n", more, from, n - 1, n);
    }
    if (letter == 'w') {
        bytes[n - 1] ^= 1;
    }
    put_head(fd, part ? "206 Partial Content" : "200 OK", head, n - from + (letter == 'l'));
    if (letter == 'c' || letter == 's') {
        put(fd, bytes + from, (n - from) / 2);
        return letter == 's' && read(fd, &wait, 1) > 0; /* until the client goes */
    }
    put(fd, bytes + from, n - from);
    return letter != 'l';
}

static bool answer(int fd, const char *root, char letter, const hub_request *r) {
    size_t n, n_more;
    bool stays = true;
    char *bytes = slurp(root, r->path, "", &n), *more = slurp(root, r->path, ".headers", &n_more);
    if (letter == '5') {
        put_head(fd, "503 Service Unavailable", "Retry-After: 1\r\n", 0);
    } else if (letter == '4') {
        put_head(fd, "429 Too Many Requests", "Retry-After: 9999\r\n", 0);
    } else if (letter == '1') {
        put_head(fd, "401 Unauthorized", "X-Error-Code: GatedRepo\r\n", 0);
    } else if (letter == 'u') {
        put_head(fd, "401 Unauthorized", "", 0);
    } else if (more && strstr(more, "Location:")) {
        put_head(fd, "302 Found", more, 0);
    } else if (!bytes) {
        put_head(fd, "404 Not Found", "", 0);
    } else {
        stays = send_file(fd, letter, r, bytes, n, more ? more : "");
    }
    free(bytes);
    free(more);
    return stays;
}

static void serve_one(int fd, const char *root, const char *log) {
    hub_request r;
    bool stays = true;
    while (stays && read_request(fd, &r)) {
        const char letter = next_letter(root, r.path);
        FILE *out = fopen(log, "a");
        if (out) {
            fprintf(out, "%c %s %s %s\n", letter, r.path, r.range, r.key);
            fclose(out);
        }
        stays = answer(fd, root, letter, &r);
    }
}

/* A process a connection: a client may be slow while another asks. */
static void serve(int listener, const char *root, const char *log) {
    for (;;) {
        const int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve_one(fd, root, log);
            _exit(0);
        }
        close(fd);
    }
}

int main(int argc, char **argv) {
    int port = 0;
    if (argc != 3) {
        fprintf(stderr, "usage: hub_server ROOT LOG\n");
        return 2;
    }
    const int listener = endpoint_listen(&port);
    printf("%d\n", port);
    fflush(stdout);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN); /* no zombies */
    serve(listener, argv[1], argv[2]);
}
