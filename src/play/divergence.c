#include "play/divergence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Enough for a figure of two digits, few enough to cost little beside an evaluation. */
enum { MOST = 128 };

/* Whether samples are draws of the policy itself. */
static bool samples_plainly(const spar_sampling *s) {
    return s->temperature == 1 && s->top_k == 0 && s->top_p >= 1 && s->min_p <= 0 &&
           s->repetition_penalty == 1;
}

/* k3 of one response: r - 1 - log r, r = model / opponent. */
static spar_status estimate(sp_run *run, const sp_problem *p, const sp_play_sample *s, double *k3,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    int32_t *ids = NULL;
    float *logps = NULL;
    void *memory;
    double ratio = 0;
    SPAR_TRY(sp_mem_calloc(&memory, p->n_prompt + s->n, sizeof *ids, err));
    ids = memory;
    SPAR_TRY(sp_mem_calloc(&memory, s->n, sizeof *logps, err));
    logps = memory;
    memcpy(ids, p->prompt_ids, p->n_prompt * sizeof *ids);
    memcpy(ids + p->n_prompt, s->ids, s->n * sizeof *ids);
    spar_score_row row = {
        .ids = ids, .n = p->n_prompt + s->n, .first = p->n_prompt, .logps = logps};
    SPAR_TRY(spar_model_score(run->model, &row, 1, err));
    for (size_t i = 0; i < s->n; i++) {
        ratio += (double)logps[i] - (double)s->logps[i];
    }
    *k3 = exp(fmin(ratio, 50)) - 1 - ratio;
done:
    free(ids);
    free(logps);
    return status;
}

spar_status sp_divergence_measure(sp_run *run, int64_t stage, const sp_problems *problems,
                                  const sp_samples *samples, spar_error *err) {
    spar_status status = SPAR_OK;
    double sum = 0;
    size_t n = 0;
    if (!samples_plainly(&run->recipe.sampling)) {
        return SPAR_OK;
    }
    for (size_t i = 0; i < samples->n && n < MOST; i += samples->k) {
        const sp_play_sample *s = &samples->items[i];
        double k3 = 0;
        if (s->older) {
            return SPAR_OK;
        }
        if (s->n > 0) {
            SPAR_TRY(estimate(run, &problems->items[s->problem], s, &k3, err));
        }
        sum += k3;
        n++;
    }
    if (n > 0) {
        SPAR_TRY(sp_run_put_value(run, stage, "kl_moved", sum / (double)n, err));
    }
done:
    return status;
}
