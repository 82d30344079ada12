#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

enum { BUFFER_SIZE = 1 << 20, READ_CHUNK = 1 << 16 };

/* Counts down to the write, sync or rename that a test wants to fail. */
static _Thread_local long fail_countdown;

void sp_file_fail_at(long k) {
    fail_countdown = k;
}

static bool must_fail(void) {
    if (fail_countdown > 0 && --fail_countdown == 0) {
        errno = ENOSPC;
        return true;
    }
    return false;
}

/* "PATH: cannot VERB: reason" from errno. */
static spar_status system_fail(spar_error *err, const char *verb, const char *path) {
    const int code = errno;
    spar_status status = SPAR_IO;
    if (code == ENOENT || code == ENOTDIR) {
        status = SPAR_NOT_FOUND;
    } else if (code == ENOMEM) {
        status = SPAR_NO_MEMORY;
    }
    return spar_fail(err, status, "%s: cannot %s: %s", path, verb, strerror(code));
}

static spar_status open_to_read(int *fd, struct stat *info, const char *path, spar_error *err) {
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) {
        return system_fail(err, "open", path);
    }
    if (fstat(*fd, info) != 0) {
        return system_fail(err, "stat", path);
    }
    if (S_ISDIR(info->st_mode)) {
        return spar_fail(err, SPAR_IO, "%s: expected a file, found a folder", path);
    }
    return SPAR_OK;
}

static void close_quietly(int fd) {
    if (fd >= 0) {
        close(fd);
    }
}

spar_status sp_map_open(sp_map *out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    int fd = -1;
    struct stat info = {0};
    *out = (sp_map){NULL, 0};
    SPAR_TRY(open_to_read(&fd, &info, path, err));
    if (!S_ISREG(info.st_mode)) {
        SPAR_TRY(spar_fail(err, SPAR_IO, "%s: expected a regular file, which can be mapped", path));
    }
    if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            SPAR_TRY(system_fail(err, "map", path));
        }
        *out = (sp_map){data, (size_t)info.st_size};
    }
done:
    close_quietly(fd);
    return status;
}

void sp_map_close(sp_map *map) {
    if (map->data != NULL) {
        /* munmap takes a plain pointer; nothing is written through it. */
        munmap((void *)(uintptr_t)map->data, map->size);
    }
    *map = (sp_map){NULL, 0};
}

void sp_map_forget(const void *at, size_t n) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)at + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)at + n) / page * page;
    if (first < end) {
        (void)madvise((void *)first, end - first, MADV_DONTNEED); /* a wish */
    }
}

static spar_status too_large(const char *path, size_t limit, spar_error *err) {
    return spar_fail(err, SPAR_LIMIT, "%s: expected at most %zu bytes, found more", path, limit);
}

/* Append what fd holds up to its end; pipes work too, so the size is not known before. */
static spar_status read_all(sp_str *text, int fd, const char *path, size_t limit, spar_error *err) {
    char chunk[READ_CHUNK];
    for (;;) {
        const ssize_t got = read(fd, chunk, sizeof chunk);
        if (got == 0) {
            return SPAR_OK;
        }
        if (got < 0 && errno != EINTR) {
            return system_fail(err, "read", path);
        }
        if (got > 0 && (size_t)got > limit - text->len) {
            return too_large(path, limit, err);
        }
        if (got > 0) {
            sp_str_append(text, chunk, (size_t)got);
        }
    }
}

spar_status sp_file_read(const char *path, size_t limit, char **out, size_t *size,
                         spar_error *err) {
    spar_status status = SPAR_OK;
    int fd = -1;
    struct stat info = {0};
    sp_str text = SP_STR_INIT;
    *out = NULL;
    *size = 0;
    SPAR_TRY(open_to_read(&fd, &info, path, err));
    if (S_ISREG(info.st_mode) && (uintmax_t)info.st_size > limit) {
        SPAR_TRY(too_large(path, limit, err));
    }
    SPAR_TRY(read_all(&text, fd, path, limit, err));
    const size_t n = text.len;
    SPAR_TRY(sp_str_take(&text, out, err));
    *size = n;
done:
    sp_str_release(&text);
    close_quietly(fd);
    return status;
}

bool sp_file_exists(const char *path) {
    struct stat info = {0};
    return lstat(path, &info) == 0;
}

bool sp_file_is_dir(const char *path) {
    struct stat info = {0};
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static spar_status format_path(char **out, spar_error *err, const char *fmt, ...) SPAR_PRINTF(3, 4);

static spar_status format_path(char **out, spar_error *err, const char *fmt, ...) {
    va_list args;
    *out = NULL;
    va_start(args, fmt);
    const int n = vasprintf(out, fmt, args);
    va_end(args);
    if (n < 0) {
        *out = NULL;
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory: a path");
    }
    return SPAR_OK;
}

spar_status sp_path_join(char **out, const char *dir, const char *name, spar_error *err) {
    const size_t n = strlen(dir);
    const char *slash = n == 0 || dir[n - 1] == '/' ? "" : "/";
    return format_path(out, err, "%s%s%s", dir, slash, name);
}

/* A device, a pipe or a socket: no file that another could take the place of. */
static bool is_stream(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode);
}

spar_status sp_writer_open(sp_writer *w, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    void *buffer = NULL;
    *w = (sp_writer){.fd = -1};
    SPAR_TRY(format_path(&w->path, err, "%s", path));
    if (!is_stream(path)) {
        SPAR_TRY(format_path(&w->aside, err, "%s.tmp.%ld", path, (long)getpid()));
    }
    SPAR_TRY(sp_mem_calloc(&buffer, BUFFER_SIZE, 1, err));
    w->buffer = buffer;
    const char *name = w->aside ? w->aside : path;
    w->fd = open(name, O_WRONLY | O_TRUNC | O_CLOEXEC | (w->aside ? O_CREAT : 0), 0666);
    if (w->fd < 0) {
        SPAR_TRY(system_fail(err, "create", name));
    }
done:
    if (status != SPAR_OK) {
        sp_writer_abort(w);
    }
    return status;
}

static void mark_failed(sp_writer *w, const char *verb) {
    w->failed = true;
    system_fail(&w->error, verb, w->path);
}

/* Hand n bytes to the system, through signals and short writes. */
static void write_through(sp_writer *w, const char *bytes, size_t n) {
    while (n > 0 && !w->failed) {
        const ssize_t put = must_fail() ? -1 : write(w->fd, bytes, n);
        if (put > 0) {
            bytes += put;
            n -= (size_t)put;
        } else if (put == 0 || errno != EINTR) {
            errno = put == 0 ? EIO : errno;
            mark_failed(w, "write");
        }
    }
}

static void flush(sp_writer *w) {
    const size_t n = w->buffered;
    w->buffered = 0;
    write_through(w, w->buffer, n);
}

void sp_writer_write(sp_writer *w, const void *bytes, size_t n) {
    if (w->failed || n == 0) {
        return;
    }
    if (n > BUFFER_SIZE - w->buffered) {
        flush(w);
    }
    if (n >= BUFFER_SIZE) {
        write_through(w, bytes, n);
    } else if (!w->failed) {
        memcpy(w->buffer + w->buffered, bytes, n);
        w->buffered += n;
    }
    if (!w->failed) {
        w->written += n;
    }
}

static void finish(sp_writer *w) {
    flush(w);
    if (!w->failed && w->aside && (must_fail() || fsync(w->fd) != 0)) {
        mark_failed(w, "sync");
    }
    /* Some file systems report a failed write only here. */
    if (close(w->fd) != 0 && !w->failed) {
        mark_failed(w, "close");
    }
    w->fd = -1;
    if (!w->failed && w->aside && (must_fail() || rename(w->aside, w->path) != 0)) {
        mark_failed(w, "rename into place");
    }
}

spar_status sp_path_parent(char **out, const char *path, spar_error *err) {
    const char *slash = strrchr(path, '/');
    return slash ? sp_mem_strdup(out, path, (size_t)(slash - path) + (slash == path), err)
                 : sp_mem_strdup(out, ".", 1, err);
}

spar_status sp_dir_sync_parent(const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    char *dir = NULL;
    SPAR_TRY(sp_path_parent(&dir, path, err));
    SPAR_TRY(sp_dir_sync(dir, err));
done:
    free(dir);
    return status;
}

spar_status sp_writer_commit(sp_writer *w, spar_error *err) {
    spar_status status = SPAR_OK;
    if (w->fd < 0 && !w->failed) {
        return spar_fail(err, SPAR_INTERNAL, "commit of a writer that is not open");
    }
    if (w->fd >= 0) {
        finish(w);
    }
    if (w->failed) {
        SPAR_TRY(spar_fail(err, w->error.code, "%s", w->error.message));
    }
    if (w->aside) {
        free(w->aside); /* it has its final name now: nothing to unlink */
        w->aside = NULL;
        SPAR_TRY(sp_dir_sync_parent(w->path, err));
    }
done:
    sp_writer_abort(w);
    return status;
}

void sp_writer_abort(sp_writer *w) {
    if (w->fd >= 0) {
        close(w->fd);
    }
    if (w->aside != NULL) {
        unlink(w->aside);
    }
    free(w->buffer);
    free(w->aside);
    free(w->path);
    *w = (sp_writer){.fd = -1};
}

spar_status sp_file_write(const char *path, const void *bytes, size_t n, spar_error *err) {
    sp_writer w;
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_writer_open(&w, path, err));
    sp_writer_write(&w, bytes, n);
    SPAR_TRY(sp_writer_commit(&w, err));
done:
    return status;
}

static spar_status make_one(const char *path, spar_error *err) {
    if (mkdir(path, 0777) != 0 && !(errno == EEXIST && sp_file_is_dir(path))) {
        return system_fail(err, "make the folder", path);
    }
    return SPAR_OK;
}

spar_status sp_dir_make(const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    char *prefix = NULL;
    SPAR_TRY(format_path(&prefix, err, "%s", path));
    for (char *p = prefix; *p != '\0'; p++) {
        if (*p == '/' && p > prefix) {
            *p = '\0';
            SPAR_TRY(sp_file_is_dir(prefix) ? SPAR_OK : make_one(prefix, err));
            *p = '/';
        }
    }
    SPAR_TRY(make_one(prefix, err));
done:
    free(prefix);
    return status;
}

spar_status sp_dir_sync(const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return system_fail(err, "open", path);
    }
    /* EINVAL: a file system that has no way to sync a folder. */
    if (must_fail() || (fsync(fd) != 0 && errno != EINVAL)) {
        status = system_fail(err, "sync", path);
    }
    close(fd);
    return status;
}

/* A folder's path without slashes at its end. */
static spar_status bare_path(const char *dir, char *out, size_t size, spar_error *err) {
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') {
        n--;
    }
    if (n == 0) {
        return spar_fail(err, SPAR_INVALID, "expected a folder to make, found an empty path");
    }
    if (n >= size) {
        return spar_fail(err, SPAR_INVALID, "%s: the path is too long", dir);
    }
    memcpy(out, dir, n);
    out[n] = '\0';
    return SPAR_OK;
}

spar_status sp_dir_write_whole(const char *dir, sp_dir_fn fn, const void *context,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    char path[4096 - 32], aside[4096];
    bool made = false;
    SPAR_TRY(bare_path(dir, path, sizeof path, err));
    snprintf(aside, sizeof aside, "%s.tmp.%ld", path, (long)getpid());
    if (sp_file_exists(path)) {
        SPAR_TRY(
            spar_fail(err, SPAR_INVALID, "%s: expected a new folder, found one that exists", path));
    }
    SPAR_TRY(sp_dir_remove(aside, err)); /* of a killed process with our number */
    SPAR_TRY(sp_dir_make(aside, err));
    made = true;
    SPAR_TRY(fn(context, aside, err));
    SPAR_TRY(sp_dir_sync(aside, err));
    if (must_fail() || rename(aside, path) != 0) {
        SPAR_TRY(system_fail(err, "rename", aside));
    }
    made = false;
    SPAR_TRY(sp_dir_sync_parent(path, err));
done:
    if (made) {
        spar_error ignored;
        sp_dir_remove(aside, &ignored);
    }
    return status;
}

spar_status sp_lock_take(sp_lock *out, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL, text[32] = "";
    out->fd = -1;
    SPAR_TRY(sp_path_join(&path, dir, "lock", err));
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        SPAR_TRY(system_fail(err, "open", path));
    }
    out->fd = fd;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        const int code = errno;
        const ssize_t n = pread(fd, text, sizeof text - 1, 0);
        text[n < 0 ? 0 : n] = '\0';
        errno = code;
        const long pid = strtol(text, NULL, 10);
        SPAR_TRY(code == EWOULDBLOCK
                     ? spar_fail(err, SPAR_BUSY, "%s: in use by process %ld (%s)", dir, pid, path)
                     : system_fail(err, "lock", path));
    }
    const int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n) {
        SPAR_TRY(system_fail(err, "write", path));
    }
done:
    if (status != SPAR_OK) {
        sp_lock_drop(out);
    }
    free(path);
    return status;
}

void sp_lock_drop(sp_lock *lock) {
    close_quietly(lock->fd);
    lock->fd = -1;
}
