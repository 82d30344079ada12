#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/mem.h"
#include "support.h"

static char folder[TEST_PATH_MAX];

static int make_folder(void **state) {
    (void)state;
    test_temp_dir(folder);
    return 0;
}

static int drop_folder(void **state) {
    (void)state;
    sp_file_fail_at(0);
    return sp_dir_remove(folder, NULL) == SPAR_OK ? 0 : -1;
}

static void assert_content(const char *path, const char *expected) {
    char *text = NULL;
    size_t n = 0;
    spar_error err;
    assert_int_equal(sp_file_read(path, 1 << 24, &text, &n, &err), SPAR_OK);
    assert_int_equal(n, strlen(expected));
    assert_string_equal(text, expected);
    free(text);
}

static void assert_entries(const char *dir, size_t expected) {
    char **names = NULL;
    size_t n = 0;
    assert_int_equal(sp_dir_list(dir, &names, &n, NULL), SPAR_OK);
    assert_int_equal(n, expected);
    sp_names_free(names, n);
}

/* Pages that are given back come back from the file, from any byte to any byte. */
static void test_map_forget(void **state) {
    (void)state;
    enum { SIZE = 5 * 4096 + 77 };
    char path[TEST_PATH_MAX + 32], bytes[SIZE];
    sp_map map;
    snprintf(path, sizeof path, "%s/forgotten", folder);
    for (int i = 0; i < SIZE; i++) {
        bytes[i] = (char)(i * 31 % 251);
    }
    assert_int_equal(sp_file_write(path, bytes, SIZE, NULL), SPAR_OK);
    assert_int_equal(sp_map_open(&map, path, NULL), SPAR_OK);
    const struct {
        size_t at, n;
    } parts[] = {{0, SIZE}, {1, 4095}, {5, 9000}, {4096, 4096}, {SIZE - 1, 1}, {7, 0}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        assert_memory_equal(map.data, bytes, SIZE);
        sp_map_forget(map.data + parts[i].at, parts[i].n);
    }
    assert_memory_equal(map.data, bytes, SIZE);
    sp_map_close(&map);
    assert_int_equal(remove(path), 0);
}

static void test_write_read_map(void **state) {
    (void)state;
    char path[TEST_PATH_MAX];
    test_path(path, folder, "a");
    assert_false(sp_file_exists(path));
    assert_int_equal(sp_file_write(path, "hello", 5, NULL), SPAR_OK);
    assert_content(path, "hello");
    assert_entries(folder, 1);
    sp_map map;
    assert_int_equal(sp_map_open(&map, path, NULL), SPAR_OK);
    assert_int_equal(map.size, 5);
    assert_memory_equal(map.data, "hello", 5);
    sp_map_close(&map);
    assert_null(map.data);
    assert_int_equal(sp_file_write(path, "", 0, NULL), SPAR_OK);
    assert_int_equal(sp_map_open(&map, path, NULL), SPAR_OK);
    assert_int_equal(map.size, 0);
    sp_map_close(&map);
    assert_content(path, "");
}

static void test_large_write(void **state) {
    (void)state;
    char path[TEST_PATH_MAX];
    test_path(path, folder, "large");
    const size_t n = 3500000;
    char *bytes = malloc(n);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (char)(i * 31 % 251);
    }
    sp_writer w;
    assert_int_equal(sp_writer_open(&w, path, NULL), SPAR_OK);
    size_t at = 0;
    for (size_t step = 1; at < n; step = step * 3 + 1) {
        const size_t part = step < n - at ? step : n - at;
        sp_writer_write(&w, bytes + at, part);
        at += part;
    }
    assert_int_equal(w.written, n);
    assert_false(sp_file_exists(path));
    assert_int_equal(sp_writer_commit(&w, NULL), SPAR_OK);
    sp_map map;
    assert_int_equal(sp_map_open(&map, path, NULL), SPAR_OK);
    assert_int_equal(map.size, n);
    assert_memory_equal(map.data, bytes, n);
    sp_map_close(&map);
    free(bytes);
}

static void test_missing_and_wrong_kind(void **state) {
    (void)state;
    char path[TEST_PATH_MAX], *text = NULL;
    size_t n = 0;
    sp_map map;
    spar_error err;
    test_path(path, folder, "nothing");
    assert_int_equal(sp_map_open(&map, path, &err), SPAR_NOT_FOUND);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(sp_file_read(path, 10, &text, &n, &err), SPAR_NOT_FOUND);
    assert_int_equal(sp_map_open(&map, folder, &err), SPAR_IO);
    assert_non_null(strstr(err.message, "found a folder"));
    assert_int_equal(sp_file_read(folder, 10, &text, &n, &err), SPAR_IO);
    assert_null(text);
    assert_int_equal(sp_map_open(&map, "/dev/null", &err), SPAR_IO);
    test_path(path, folder, "no/such/folder");
    sp_writer w;
    assert_int_equal(sp_writer_open(&w, path, &err), SPAR_NOT_FOUND);
    sp_writer_abort(&w);
}

static void test_read_limit(void **state) {
    (void)state;
    char path[TEST_PATH_MAX], *text = NULL;
    size_t n = 0;
    spar_error err;
    test_path(path, folder, "a");
    assert_int_equal(sp_file_write(path, "12345", 5, NULL), SPAR_OK);
    assert_int_equal(sp_file_read(path, 4, &text, &n, &err), SPAR_LIMIT);
    assert_non_null(strstr(err.message, "at most 4 bytes"));
    assert_int_equal(sp_file_read(path, 5, &text, &n, &err), SPAR_OK);
    free(text);
    /* A device has no size to look at first. */
    assert_int_equal(sp_file_read("/dev/zero", 100000, &text, &n, &err), SPAR_LIMIT);
    assert_null(text);
}

static void test_abort_leaves_nothing(void **state) {
    (void)state;
    char path[TEST_PATH_MAX];
    test_path(path, folder, "a");
    assert_int_equal(sp_file_write(path, "old", 3, NULL), SPAR_OK);
    sp_writer w;
    assert_int_equal(sp_writer_open(&w, path, NULL), SPAR_OK);
    sp_writer_write(&w, "new", 3);
    assert_entries(folder, 2);
    sp_writer_abort(&w);
    sp_writer_abort(&w);
    assert_entries(folder, 1);
    assert_content(path, "old");
    assert_int_equal(sp_writer_commit(&w, NULL), SPAR_INTERNAL);
}

static spar_status write_twice(const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    static const char block[1 << 20] = "new";
    sp_writer w;
    SPAR_TRY(sp_writer_open(&w, path, err));
    sp_writer_write(&w, block, sizeof block);
    sp_writer_write(&w, "tail", 4);
    SPAR_TRY(sp_writer_commit(&w, err));
done:
    return status;
}

/* The disk fails at each call in turn: what is there is the old file or the whole new one. */
static void test_failing_disk(void **state) {
    (void)state;
    char path[TEST_PATH_MAX];
    test_path(path, folder, "a");
    long k = 1;
    for (;; k++) {
        assert_int_equal(sp_file_write(path, "old", 3, NULL), SPAR_OK);
        spar_error err;
        sp_file_fail_at(k);
        const spar_status status = write_twice(path, &err);
        sp_file_fail_at(0);
        assert_entries(folder, 1);
        if (status == SPAR_OK) {
            break;
        }
        assert_int_equal(status, SPAR_IO);
        assert_non_null(strstr(err.message, folder));
        assert_non_null(strstr(err.message, "No space left"));
        struct stat info;
        assert_int_equal(stat(path, &info), 0);
        assert_true(info.st_size == 3 || info.st_size == (1 << 20) + 4);
        assert_true(info.st_size == 3 || k >= 5);
    }
    /* two writes, sync, rename, sync of the folder */
    assert_int_equal(k, 6);
}

static void test_failing_allocator(void **state) {
    (void)state;
    char path[TEST_PATH_MAX];
    test_path(path, folder, "a");
    sp_mem_fail_at(1);
    sp_writer w;
    assert_int_equal(sp_writer_open(&w, path, NULL), SPAR_NO_MEMORY);
    assert_entries(folder, 0);
}

static void test_full_device(void **state) {
    (void)state;
    if (access("/dev/full", W_OK) != 0) {
        return;
    }
    /* Through a link, so that the writer's own name leads to the device. */
    char path[TEST_PATH_MAX], aside[TEST_PATH_MAX + 32];
    test_path(path, folder, "f");
    snprintf(aside, sizeof aside, "%s.tmp.%ld", path, (long)getpid());
    assert_int_equal(symlink("/dev/full", aside), 0);
    spar_error err;
    assert_int_equal(sp_file_write(path, "x", 1, &err), SPAR_IO);
    assert_non_null(strstr(err.message, "cannot write: No space left"));
    assert_entries(folder, 0);
}

/* What is no file is written to and stays what it is: as root, a file in the place of a device
 * would take it from every program. */
static void test_pipe(void **state) {
    (void)state;
    char path[TEST_PATH_MAX], got[8] = "";
    struct stat s;
    spar_error err;
    test_path(path, folder, "pipe");
    assert_int_equal(mkfifo(path, 0600), 0);
    const int reader = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    assert_int_equal(sp_file_write(path, "text", 4, &err), SPAR_OK);
    assert_int_equal(read(reader, got, sizeof got), 4);
    assert_string_equal(got, "text");
    assert_int_equal(stat(path, &s), 0);
    assert_true(S_ISFIFO(s.st_mode));
    close(reader);
    assert_entries(folder, 1);
}

static void test_read_only_folder(void **state) {
    (void)state;
    if (geteuid() == 0) {
        return; /* root writes everywhere */
    }
    char path[TEST_PATH_MAX];
    spar_error err;
    assert_int_equal(chmod(folder, 0555), 0);
    const spar_status status = sp_file_write(test_path(path, folder, "a"), "x", 1, &err);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(status, SPAR_IO);
    assert_non_null(strstr(err.message, "Permission denied"));
}

static void test_folders(void **state) {
    (void)state;
    char path[TEST_PATH_MAX], file[TEST_PATH_MAX], link[TEST_PATH_MAX];
    spar_error err;
    test_path(path, folder, "x/y//z");
    assert_int_equal(sp_dir_make(path, NULL), SPAR_OK);
    assert_int_equal(sp_dir_make(path, NULL), SPAR_OK);
    assert_true(sp_file_is_dir(path));
    test_path(file, path, "f");
    assert_int_equal(sp_file_write(file, "x", 1, NULL), SPAR_OK);
    assert_int_equal(sp_dir_make(file, &err), SPAR_IO);
    assert_non_null(strstr(err.message, "File exists"));
    /* Removing does not follow links. */
    char kept[TEST_PATH_MAX];
    test_path(kept, folder, "kept");
    assert_int_equal(sp_dir_make(kept, NULL), SPAR_OK);
    assert_int_equal(symlink(kept, test_path(link, path, "link")), 0);
    assert_int_equal(sp_dir_remove(test_path(path, folder, "x"), NULL), SPAR_OK);
    assert_false(sp_file_exists(path));
    assert_true(sp_file_is_dir(kept));
    assert_int_equal(sp_dir_remove(path, NULL), SPAR_OK);
}

static spar_status write_one(const void *context, const char *dir, spar_error *err) {
    char path[TEST_PATH_MAX];
    return sp_file_write(test_path(path, dir, context), "1", 1, err);
}

/* What a killed process with our number left beside the folder does not get into it. */
static void test_write_whole(void **state) {
    char dir[TEST_PATH_MAX], aside[TEST_PATH_MAX + 32], path[TEST_PATH_MAX];
    char **names = NULL;
    size_t n = 0;
    (void)state;
    test_path(dir, folder, "whole");
    snprintf(aside, sizeof aside, "%s.tmp.%ld", dir, (long)getpid());
    assert_int_equal(sp_dir_make(aside, NULL), SPAR_OK);
    assert_int_equal(sp_file_write(test_path(path, aside, "old"), "0", 1, NULL), SPAR_OK);
    assert_int_equal(sp_dir_write_whole(dir, write_one, "new", NULL), SPAR_OK);
    assert_int_equal(sp_dir_list(dir, &names, &n, NULL), SPAR_OK);
    assert_int_equal(n, 1);
    assert_string_equal(names[0], "new");
    sp_names_free(names, n);
    assert_int_equal(sp_dir_write_whole(dir, write_one, "new", NULL), SPAR_INVALID);
    /* A slash at the end is no part of the name. */
    snprintf(aside, sizeof aside, "%s//", test_path(path, folder, "slashed"));
    assert_int_equal(sp_dir_write_whole(aside, write_one, "new", NULL), SPAR_OK);
    assert_int_equal(sp_dir_list(path, &names, &n, NULL), SPAR_OK);
    assert_int_equal(n, 1);
    sp_names_free(names, n);
    assert_int_equal(sp_dir_write_whole(aside, write_one, "new", NULL), SPAR_INVALID);
    assert_int_equal(sp_dir_write_whole("", write_one, "new", NULL), SPAR_INVALID);
}

static void test_list_is_sorted(void **state) {
    (void)state;
    char path[TEST_PATH_MAX], **names = NULL;
    size_t n = 0;
    static const char *const made[] = {"b", "c", "a"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(sp_file_write(test_path(path, folder, made[i]), "", 0, NULL), SPAR_OK);
    }
    assert_int_equal(sp_dir_list(folder, &names, &n, NULL), SPAR_OK);
    assert_int_equal(n, 3);
    assert_string_equal(names[0], "a");
    assert_string_equal(names[2], "c");
    sp_names_free(names, n);
    for (long k = 1; k <= 2; k++) {
        sp_mem_fail_at(k);
        assert_int_equal(sp_dir_list(folder, &names, &n, NULL), SPAR_NO_MEMORY);
        assert_null(names);
    }
    sp_mem_fail_at(0);
}

static void test_path_join(void **state) {
    (void)state;
    static const char *const rows[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < 4; i++) {
        char *path = NULL;
        assert_int_equal(sp_path_join(&path, rows[i][0], rows[i][1], NULL), SPAR_OK);
        assert_string_equal(path, rows[i][2]);
        free(path);
    }
}

/* In a child: try to take the lock that the parent holds; 0 when refused and the pid is named. */
static int child_finds_it_taken(pid_t holder) {
    sp_lock lock;
    spar_error err;
    char expected[64];
    snprintf(expected, sizeof expected, "in use by process %ld", (long)holder);
    if (sp_lock_take(&lock, folder, &err) != SPAR_BUSY) {
        return 1;
    }
    return strstr(err.message, expected) != NULL ? 0 : 2;
}

static void test_lock(void **state) {
    (void)state;
    sp_lock lock;
    spar_error err;
    assert_int_equal(sp_lock_take(&lock, folder, &err), SPAR_OK);
    const pid_t holder = getpid();
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(child_finds_it_taken(holder));
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), 0);
    sp_lock_drop(&lock);
    sp_lock_drop(&lock);
    assert_int_equal(sp_lock_take(&lock, folder, &err), SPAR_OK);
    sp_lock_drop(&lock);
    char path[TEST_PATH_MAX];
    assert_int_equal(sp_lock_take(&lock, test_path(path, folder, "none"), &err), SPAR_NOT_FOUND);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(test_write_read_map),
        WITH_FOLDER(test_map_forget),
        WITH_FOLDER(test_large_write),
        WITH_FOLDER(test_missing_and_wrong_kind),
        WITH_FOLDER(test_read_limit),
        WITH_FOLDER(test_abort_leaves_nothing),
        WITH_FOLDER(test_failing_disk),
        WITH_FOLDER(test_failing_allocator),
        WITH_FOLDER(test_full_device),
        WITH_FOLDER(test_pipe),
        WITH_FOLDER(test_read_only_folder),
        WITH_FOLDER(test_folders),
        WITH_FOLDER(test_write_whole),
        WITH_FOLDER(test_list_is_sorted),
        WITH_FOLDER(test_lock),
        cmocka_unit_test(test_path_join),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
