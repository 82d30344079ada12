/* A fixed pool of threads that runs numbered tasks.
 *
 * The caller cuts the work into tasks without looking at the thread count; the pool only decides
 * who runs which task, so results do not depend on it. sp_pool_run blocks until all tasks are done;
 * the calling thread works too. One run at a time per pool; a task must not call sp_pool_run. Its
 * threads block all signals.
 */
#ifndef SP_BASE_POOL_H
#define SP_BASE_POOL_H

#include "spar/status.h"

typedef struct sp_pool sp_pool;

/* task in [0, n_tasks); worker in [0, sp_pool_threads(pool)): index of per-worker scratch. */
typedef void (*sp_pool_fn)(void *context, int task, int worker);

/* threads = 0: one per CPU that this process may run on (sched_getaffinity). */
spar_status sp_pool_create(sp_pool **out, int threads, spar_error *err);
void sp_pool_free(sp_pool *pool);
int sp_pool_threads(const sp_pool *pool);
void sp_pool_run(sp_pool *pool, int n_tasks, sp_pool_fn fn, void *context);

#endif
