#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"

enum { THREADS_MAX = 1024, SPIN_NS = 100000, SPIN_BATCH = 64 };

typedef struct worker {
    sp_pool *pool; /* borrowed */
    pthread_t thread;
    int index;
} worker;

/* A run is published by raising `generation` (release); a worker that sees it (acquire) reads fn,
 * context and n_tasks, which stay put until every worker has reported in `active`. Waiting is a
 * short spin, because runs follow each other closely, and then sleep under `mutex`. */
struct sp_pool {
    int threads;
    worker *workers; /* owned; [threads - 1], the caller is worker 0 */
    int started;     /* threads to join */
    sp_pool_fn fn;
    void *context;
    int n_tasks;
    atomic_int next_task;
    atomic_int active; /* workers that have not finished this generation */
    atomic_uint generation;
    atomic_bool stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake, idle;
};

static int cpu_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return 1;
    }
    const int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n;
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool has_news(const sp_pool *pool, unsigned seen) {
    return atomic_load_explicit(&pool->generation, memory_order_acquire) != seen;
}

static bool is_idle(const sp_pool *pool) {
    return atomic_load_explicit(&pool->active, memory_order_acquire) == 0;
}

static void wait_news(sp_pool *pool, unsigned seen) {
    const int64_t until = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPIN_BATCH; i++) {
            if (has_news(pool, seen)) {
                return;
            }
            relax();
        }
    } while (now_ns() < until);
    pthread_mutex_lock(&pool->mutex);
    while (!has_news(pool, seen)) {
        pthread_cond_wait(&pool->wake, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
}

static void wait_idle(sp_pool *pool) {
    const int64_t until = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPIN_BATCH; i++) {
            if (is_idle(pool)) {
                return;
            }
            relax();
        }
    } while (now_ns() < until);
    pthread_mutex_lock(&pool->mutex);
    while (!is_idle(pool)) {
        pthread_cond_wait(&pool->idle, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
}

static void run_tasks(sp_pool *pool, int index) {
    for (;;) {
        const int task = atomic_fetch_add_explicit(&pool->next_task, 1, memory_order_relaxed);
        if (task >= pool->n_tasks) {
            return;
        }
        pool->fn(pool->context, task, index);
    }
}

static void report_done(sp_pool *pool) {
    if (atomic_fetch_sub_explicit(&pool->active, 1, memory_order_acq_rel) == 1) {
        /* Under the mutex, so that a caller between its check and its wait is not missed. */
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_signal(&pool->idle);
        pthread_mutex_unlock(&pool->mutex);
    }
}

static void *worker_main(void *argument) {
    worker *self = argument;
    sp_pool *pool = self->pool;
    for (unsigned seen = 0;; seen++) {
        wait_news(pool, seen);
        if (atomic_load_explicit(&pool->stop, memory_order_acquire)) {
            return NULL;
        }
        run_tasks(pool, self->index);
        report_done(pool);
    }
}

static void publish(sp_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add_explicit(&pool->generation, 1, memory_order_release);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

void sp_pool_run(sp_pool *pool, int n_tasks, sp_pool_fn fn, void *context) {
    if (pool->threads == 1 || n_tasks <= 1) {
        for (int task = 0; task < n_tasks; task++) {
            fn(context, task, 0);
        }
        return;
    }
    pool->fn = fn;
    pool->context = context;
    pool->n_tasks = n_tasks;
    atomic_store_explicit(&pool->next_task, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->active, pool->threads - 1, memory_order_relaxed);
    publish(pool);
    run_tasks(pool, 0);
    wait_idle(pool);
}

static spar_status start_workers(sp_pool *pool, spar_error *err) {
    for (int i = 0; i < pool->threads - 1; i++) {
        pool->workers[i].pool = pool;
        pool->workers[i].index = i + 1;
        const int code =
            pthread_create(&pool->workers[i].thread, NULL, worker_main, &pool->workers[i]);
        if (code != 0) {
            return spar_fail(err, SPAR_LIMIT, "cannot start thread %d of %d", i + 2, pool->threads);
        }
        pool->started++;
    }
    return SPAR_OK;
}

spar_status sp_pool_create(sp_pool **out, int threads, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL, *workers = NULL;
    *out = NULL;
    if (threads < 0 || threads > THREADS_MAX) {
        return spar_fail(err, SPAR_INVALID, "threads: expected 0..%d, found %d", THREADS_MAX,
                         threads);
    }
    threads = threads == 0 ? cpu_count() : threads;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof(sp_pool), err));
    SPAR_TRY(sp_mem_calloc(&workers, (size_t)threads, sizeof(worker), err));
    sp_pool *pool = memory;
    pool->threads = threads;
    pool->workers = workers;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->idle, NULL);
    memory = workers = NULL;
    status = start_workers(pool, err);
    if (status == SPAR_OK) {
        *out = pool;
    } else {
        sp_pool_free(pool);
    }
done:
    free(workers);
    free(memory);
    return status;
}

void sp_pool_free(sp_pool *pool) {
    if (pool == NULL) {
        return;
    }
    atomic_store_explicit(&pool->stop, true, memory_order_release);
    publish(pool);
    for (int i = 0; i < pool->started; i++) {
        pthread_join(pool->workers[i].thread, NULL);
    }
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->workers);
    free(pool);
}

int sp_pool_threads(const sp_pool *pool) {
    return pool->threads;
}
