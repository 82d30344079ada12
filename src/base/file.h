/* Files: read-only maps, whole-file reads, writes that are all or nothing, directory locks.
 *
 * A writer creates PATH.tmp.PID beside PATH, and commit syncs it, renames it over PATH and syncs
 * the folder: after a crash PATH is either the old file or the whole new one.
 */
#ifndef SP_BASE_FILE_H
#define SP_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

typedef struct sp_map {
    const uint8_t *data; /* borrowed from the map; NULL when size is 0 */
    size_t size;
} sp_map;

spar_status sp_map_open(sp_map *out, const char *path, spar_error *err);
void sp_map_close(sp_map *map);
/* Bytes of a map that will not be read soon: their pages leave the process, and come back from the
 * file when they are read. Any place in any map. */
void sp_map_forget(const void *at, size_t n);

/* Whole file as NUL-terminated bytes, owned by the caller. Refuses files above limit bytes. */
spar_status sp_file_read(const char *path, size_t limit, char **out, size_t *size, spar_error *err);
bool sp_file_exists(const char *path); /* any kind of entry */
bool sp_file_is_dir(const char *path);

typedef struct sp_writer {
    int fd;
    char *path, *aside; /* owned: the final name and the name written to; aside NULL: the final
                         * one is a device or a pipe, which is written to as it is */
    char *buffer;       /* owned: bytes not yet handed to the system */
    size_t buffered;
    uint64_t written;
    bool failed;      /* sticky: set by the first failing write */
    spar_error error; /* of that failure */
} sp_writer;

spar_status sp_writer_open(sp_writer *w, const char *path, spar_error *err);
/* Sticky: after a failure later writes do nothing and commit reports it. */
void sp_writer_write(sp_writer *w, const void *bytes, size_t n);
spar_status sp_writer_commit(sp_writer *w, spar_error *err); /* fsync, rename, fsync the folder */
void sp_writer_abort(sp_writer *w); /* unlink what was written; safe twice */
/* The three steps at once for bytes in memory. */
spar_status sp_file_write(const char *path, const void *bytes, size_t n, spar_error *err);

spar_status sp_dir_make(const char *path, spar_error *err); /* mkdir -p */
spar_status sp_dir_sync(const char *path, spar_error *err);
spar_status sp_dir_sync_parent(const char *path, spar_error *err); /* after a rename to path */
spar_status sp_dir_remove(const char *path, spar_error *err);      /* rm -r; missing is OK */
/* A folder written whole: fn fills a folder beside it, which then takes the name. dir, which may
 * end in slashes, must not exist; where anything fails nothing is left. */
typedef spar_status (*sp_dir_fn)(const void *context, const char *dir, spar_error *err);
spar_status sp_dir_write_whole(const char *dir, sp_dir_fn fn, const void *context, spar_error *err);
/* Sorted names of the entries of a folder, without "." and ".."; release by sp_names_free. */
spar_status sp_dir_list(const char *path, char ***names, size_t *n, spar_error *err);
void sp_names_free(char **names, size_t n);
spar_status sp_path_join(char **out, const char *dir, const char *name, spar_error *err);
/* The folder that a path is in: "." of a bare name, "/" of "/name". */
spar_status sp_path_parent(char **out, const char *path, spar_error *err);

/* An advisory lock (flock) on DIR/lock, held until released or the process dies. A second process
 * gets BUSY, naming the holder's pid. */
typedef struct sp_lock {
    int fd;
} sp_lock;
spar_status sp_lock_take(sp_lock *out, const char *dir, spar_error *err);
void sp_lock_drop(sp_lock *lock);

/* Tests only: make the k-th write/sync/rename through this header fail with ENOSPC; 0 turns it off.
 */
void sp_file_fail_at(long k);

#endif
