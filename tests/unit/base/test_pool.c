#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <time.h>

#include "base/mem.h"
#include "base/pool.h"
#include "support.h"

enum { TASKS = 257 };

typedef struct tally {
    int runs[TASKS];
    int threads;
    atomic_int workers[64];
    atomic_int bad;
} tally;

/* runs[] is plain memory on purpose: only the pool's own ordering makes it safe to read after. */
static void count(void *context, int task, int worker) {
    tally *t = context;
    if (worker < 0 || worker >= t->threads || task < 0 || task >= TASKS) {
        atomic_fetch_add(&t->bad, 1);
        return;
    }
    t->runs[task]++;
    atomic_fetch_add(&t->workers[worker], 1);
}

static void check_pool(int threads) {
    sp_pool *pool = NULL;
    assert_int_equal(sp_pool_create(&pool, threads, NULL), SPAR_OK);
    assert_int_equal(sp_pool_threads(pool), threads);
    tally t = {.threads = threads};
    const int rounds = 2000;
    for (int round = 0; round < rounds; round++) {
        const int n = round % 3 == 0 ? TASKS : round % TASKS;
        for (int i = 0; i < TASKS; i++) {
            t.runs[i] = 0;
        }
        sp_pool_run(pool, n, count, &t);
        for (int i = 0; i < TASKS; i++) {
            assert_int_equal(t.runs[i], i < n);
        }
    }
    assert_int_equal(atomic_load(&t.bad), 0);
    sp_pool_free(pool);
}

static void test_each_task_once(void **state) {
    (void)state;
    check_pool(1);
    check_pool(2);
    check_pool(5);
}

static void nap(void *context, int task, int worker) {
    (void)task;
    tally *t = context;
    atomic_fetch_add(&t->workers[worker], 1);
    const struct timespec pause = {0, 2000000};
    nanosleep(&pause, NULL);
}

/* Tasks that sleep longer than the pool spins: workers and caller go through the slow wait. */
static void test_sleeping_workers_help(void **state) {
    (void)state;
    sp_pool *pool = NULL;
    tally t = {.threads = 3};
    assert_int_equal(sp_pool_create(&pool, 3, NULL), SPAR_OK);
    nap(&t, 0, 0);
    sp_pool_run(pool, 30, nap, &t);
    assert_true(atomic_load(&t.workers[0]) < 31);
    assert_int_equal(t.workers[0] + t.workers[1] + t.workers[2], 31);
    sp_pool_run(pool, 2, nap, &t);
    assert_int_equal(t.workers[0] + t.workers[1] + t.workers[2], 33);
    sp_pool_free(pool);
}

static void test_create(void **state) {
    (void)state;
    sp_pool *pool = NULL;
    spar_error err;
    assert_int_equal(sp_pool_create(&pool, -1, &err), SPAR_INVALID);
    assert_int_equal(sp_pool_create(&pool, 100000, &err), SPAR_INVALID);
    assert_string_equal(err.message, "threads: expected 0..1024, found 100000");
    assert_null(pool);
    assert_int_equal(sp_pool_create(&pool, 0, &err), SPAR_OK);
    assert_true(sp_pool_threads(pool) >= 1);
    sp_pool_run(pool, 0, count, NULL);
    sp_pool_free(pool);
    sp_pool_free(NULL);
    for (long k = 1; k <= 2; k++) {
        sp_mem_fail_at(k);
        assert_int_equal(sp_pool_create(&pool, 2, &err), SPAR_NO_MEMORY);
        assert_null(pool);
    }
    sp_mem_fail_at(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_task_once),
        cmocka_unit_test(test_sleeping_workers_help),
        cmocka_unit_test(test_create),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
