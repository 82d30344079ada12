#include "base/part.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

enum { PIECE = 1 << 16 };

static spar_status part_fail(spar_error *err, const char *verb, const char *path) {
    return spar_fail(err, SPAR_IO, "%s: cannot %s: %s", path, verb, strerror(errno));
}

/* Whether fd is still what the path names: who held it before may have renamed it. */
static bool is_current(int fd, const char *path, struct stat *info) {
    struct stat named;
    return fstat(fd, info) == 0 && stat(path, &named) == 0 && named.st_ino == info->st_ino &&
           named.st_dev == info->st_dev;
}

spar_status sp_part_open(sp_part *p, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    struct stat info = {0};
    *p = (sp_part){.fd = -1};
    SPAR_TRY(sp_mem_strdup(&p->path, path, strlen(path), err));
    do {
        if (p->fd >= 0) {
            close(p->fd);
        }
        p->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (p->fd < 0) {
            SPAR_TRY(part_fail(err, "create", path));
        }
        if (flock(p->fd, LOCK_EX | LOCK_NB) != 0) {
            SPAR_TRY(errno == EWOULDBLOCK
                         ? spar_fail(err, SPAR_BUSY, "%s: another process is fetching it", path)
                         : part_fail(err, "lock", path));
        }
    } while (!is_current(p->fd, path, &info));
    p->size = info.st_size;
done:
    if (status != SPAR_OK) { /* not ours to remove */
        if (p->fd >= 0) {
            close(p->fd);
        }
        free(p->path);
        *p = (sp_part){.fd = -1};
    }
    return status;
}

spar_status sp_part_read(const sp_part *p, sp_bytes_fn fn, void *context, spar_error *err) {
    spar_status status = SPAR_OK;
    char piece[PIECE];
    for (int64_t at = 0; at < p->size;) {
        const ssize_t got = pread(p->fd, piece, sizeof piece, at);
        if (got == 0) {
            SPAR_TRY(spar_fail(err, SPAR_IO, "%s: expected %lld bytes, found %lld", p->path,
                               (long long)p->size, (long long)at));
        }
        if (got < 0 && errno != EINTR) {
            SPAR_TRY(part_fail(err, "read", p->path));
        }
        if (got > 0) {
            SPAR_TRY(fn(context, piece, (size_t)got, err));
            at += got;
        }
    }
done:
    return status;
}

spar_status sp_part_append(sp_part *p, const void *bytes, size_t n, spar_error *err) {
    const char *from = bytes;
    while (n > 0) {
        const ssize_t put = write(p->fd, from, n);
        if (put < 0 && errno != EINTR) {
            return part_fail(err, "write", p->path);
        }
        if (put > 0) {
            from += put;
            n -= (size_t)put;
            p->size += put;
        }
    }
    return SPAR_OK;
}

spar_status sp_part_clear(sp_part *p, spar_error *err) {
    if (ftruncate(p->fd, 0) != 0) {
        return part_fail(err, "cut", p->path);
    }
    p->size = 0;
    return SPAR_OK;
}

spar_status sp_part_finish(sp_part *p, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    if (fsync(p->fd) != 0) {
        SPAR_TRY(part_fail(err, "sync", p->path));
    }
    if (rename(p->path, path) != 0) {
        SPAR_TRY(part_fail(err, "rename into place", p->path));
    }
    close(p->fd);
    p->fd = -1;
    SPAR_TRY(sp_dir_sync_parent(path, err));
done:
    return status;
}

void sp_part_close(sp_part *p) {
    if (p->fd >= 0) {
        if (p->size == 0) {
            unlink(p->path);
        }
        close(p->fd);
    }
    free(p->path);
    *p = (sp_part){.fd = -1};
}
