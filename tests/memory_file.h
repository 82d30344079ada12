/* A file without a disk: bytes that parsers open by path, replaced as often as a test likes. */
#ifndef SPAR_TESTS_MEMORY_FILE_H
#define SPAR_TESTS_MEMORY_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "spar/status.h"

typedef struct memory_file {
    int fd;
    char path[64];
} memory_file;

static inline void memory_file_make(memory_file *f) {
    f->fd = memfd_create("spar-test", MFD_CLOEXEC);
    if (f->fd < 0) {
        perror("memfd_create");
        exit(1);
    }
    snprintf(f->path, sizeof f->path, "/proc/self/fd/%d", f->fd);
}

static inline void memory_file_set(const memory_file *f, const void *bytes, size_t n) {
    if (ftruncate(f->fd, (off_t)n) != 0 || pwrite(f->fd, bytes, n, 0) != (ssize_t)n) {
        perror(f->path);
        exit(1);
    }
}

static inline void memory_file_drop(const memory_file *f) {
    close(f->fd);
}

/* What a parser said of a file: refusals must carry one message. */
typedef spar_status (*memory_file_reader)(const char *path, spar_error *err);

static inline void memory_file_try(const memory_file *f, memory_file_reader read, const void *bytes,
                                   size_t n, size_t counts[2]) {
    spar_error err = {SPAR_OK, ""};
    memory_file_set(f, bytes, n);
    const spar_status status = read(f->path, &err);
    if (status != SPAR_OK && (err.code != status || err.message[0] == '\0')) {
        printf("refused as %s without a message\n", spar_status_name(status));
        exit(1);
    }
    counts[status != SPAR_OK]++;
}

/* Every truncated length, then every byte with each bit flipped and with all bits flipped.
 * counts: files read and files refused; a truncated file must be refused. */
static inline void memory_file_damage(memory_file_reader read, const uint8_t *bytes, size_t n,
                                      size_t counts[2]) {
    memory_file f;
    uint8_t *copy = malloc(n);
    if (copy == NULL) {
        exit(1);
    }
    memory_file_make(&f);
    counts[0] = counts[1] = 0;
    for (size_t cut = 0; cut < n; cut++) {
        memory_file_try(&f, read, bytes, cut, counts);
    }
    if (counts[0] != 0) {
        printf("%zu truncated files were read\n", counts[0]);
        exit(1);
    }
    for (size_t at = 0; at < n; at++) {
        for (unsigned bit = 0; bit <= 8; bit++) {
            memcpy(copy, bytes, n);
            copy[at] ^= (uint8_t)(bit < 8 ? 1U << bit : 0xFFU);
            memory_file_try(&f, read, copy, n, counts);
        }
    }
    free(copy);
    memory_file_drop(&f);
}

#endif
