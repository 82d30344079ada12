#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

enum { THREADS_MAX = 1024, SPIN_NS = 100000, SPIN_BATCH = 64, CACHE_LINE = 64 };

/* What a worker other than the caller is about. The caller turns IDLE into POSTED; then either the
 * worker turns it into TAKEN, and into IDLE when it finds no more tasks, or the caller, done with
 * all tasks by itself, takes the post back. So a worker that wakes late is not waited for. */
enum { IDLE, POSTED, TAKEN };

/* On cache lines of its own, so that threads disturb each other only where they take each other's
 * tasks. Worker w begins with the w-th part of the tasks, in order, which keeps to it what it read
 * before; then it helps with the others'. */
typedef struct worker {
    _Alignas(CACHE_LINE) atomic_int next; /* of its part of the tasks */
    int end;                              /* of that part */
    int index;
    sp_pool *pool; /* borrowed */
    pthread_t thread;
    _Alignas(CACHE_LINE) atomic_int state;
    atomic_bool asleep;
} worker;

/* fn, context and the parts are written before a worker's state becomes POSTED (release) and stay
 * put until no worker is TAKEN. Waiting is a short spin, because runs follow each other closely,
 * and then sleep under `mutex`; who changes a state looks for sleepers afterwards, and who is about
 * to sleep says so before a last look at the state (both sequentially consistent). */
struct sp_pool {
    int threads;
    worker *workers; /* owned; [threads]; the caller is worker 0 */
    int started;     /* threads to join */
    sp_pool_fn fn;
    void *context;
    atomic_bool caller_asleep;
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

static bool has_news(worker *w) {
    return atomic_load(&w->state) == POSTED || atomic_load(&w->pool->stop);
}

static bool is_free(worker *w) {
    return atomic_load(&w->state) == IDLE;
}

/* Spin until `done` or for a while; whether it is done. */
static bool spin(bool (*done)(worker *w), worker *w) {
    const int64_t until = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPIN_BATCH; i++) {
            if (done(w)) {
                return true;
            }
            relax();
        }
    } while (now_ns() < until);
    return false;
}

static void sleep_until(bool (*done)(worker *w), worker *w, atomic_bool *asleep,
                        pthread_cond_t *signal) {
    pthread_mutex_lock(&w->pool->mutex);
    atomic_store(asleep, true);
    while (!done(w)) {
        pthread_cond_wait(signal, &w->pool->mutex);
    }
    atomic_store(asleep, false);
    pthread_mutex_unlock(&w->pool->mutex);
}

static void wake_sleeper(sp_pool *pool, atomic_bool *asleep, pthread_cond_t *signal) {
    if (atomic_load(asleep)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(signal);
        pthread_mutex_unlock(&pool->mutex);
    }
}

static void run_tasks(sp_pool *pool, int index) {
    for (int i = 0; i < pool->threads; i++) {
        worker *w = &pool->workers[(index + i) % pool->threads];
        /* A look before taking: a part that is done is left on its owner's cache line. */
        while (atomic_load_explicit(&w->next, memory_order_relaxed) < w->end) {
            const int task = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);
            if (task >= w->end) {
                break;
            }
            pool->fn(pool->context, task, index);
        }
    }
}

static bool take_post(worker *w) {
    int posted = POSTED;
    return atomic_compare_exchange_strong(&w->state, &posted, TAKEN);
}

static void *worker_main(void *argument) {
    worker *self = argument;
    sp_pool *pool = self->pool;
    while (!atomic_load(&pool->stop)) {
        if (take_post(self)) {
            run_tasks(pool, self->index);
            atomic_store(&self->state, IDLE);
            wake_sleeper(pool, &pool->caller_asleep, &pool->idle);
        } else if (!spin(has_news, self)) {
            sleep_until(has_news, self, &self->asleep, &pool->wake);
        }
    }
    return NULL;
}

static void post(sp_pool *pool, int n_tasks) {
    const int64_t threads = pool->threads;
    for (int i = 0; i < pool->threads; i++) {
        worker *w = &pool->workers[i];
        atomic_store_explicit(&w->next, (int)(i * (int64_t)n_tasks / threads),
                              memory_order_relaxed);
        w->end = (int)((i + 1) * (int64_t)n_tasks / threads);
    }
    for (int i = 1; i < pool->threads; i++) {
        atomic_store(&pool->workers[i].state, POSTED);
        wake_sleeper(pool, &pool->workers[i].asleep, &pool->wake);
    }
}

/* All tasks are taken: take the posts back, and wait for those who have taken theirs. */
static void finish(sp_pool *pool) {
    for (int i = 1; i < pool->threads; i++) {
        worker *w = &pool->workers[i];
        int posted = POSTED;
        if (!atomic_compare_exchange_strong(&w->state, &posted, IDLE) && !spin(is_free, w)) {
            sleep_until(is_free, w, &pool->caller_asleep, &pool->idle);
        }
    }
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
    post(pool, n_tasks);
    run_tasks(pool, 0);
    finish(pool);
}

/* A worker hears no signals: they are for the threads of the program, whose handlers have stacks of
 * their own (a worker may be in generated code that keeps something else in the stack pointer). */
static int start_deaf(worker *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(&w->thread, NULL, worker_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

static spar_status start_workers(sp_pool *pool, spar_error *err) {
    for (int i = 0; i < pool->threads; i++) {
        pool->workers[i].pool = pool;
        pool->workers[i].index = i;
    }
    for (int i = 1; i < pool->threads; i++) {
        const int code = start_deaf(&pool->workers[i]);
        if (code != 0) {
            return spar_fail(err, SPAR_LIMIT, "cannot start thread %d of %d", i + 1, pool->threads);
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
    SPAR_TRY(sp_mem_aligned(&workers, (size_t)threads, sizeof(worker), err));
    memset(workers, 0, (size_t)threads * sizeof(worker));
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
    atomic_store(&pool->stop, true);
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 1; i <= pool->started; i++) {
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
