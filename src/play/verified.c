#include "play/verified.h"

#include <string.h>

#include "base/mem.h"
#include "train/game.h"

static void compare(sp_judged *out, size_t problem) {
    const size_t k = out->k;
    const double *scores = out->scores + problem * k;
    double *p = out->p + problem * k * k;
    int best, worst;
    for (size_t i = 0; i < k * k; i++) {
        const double a = scores[i / k], b = scores[i % k];
        p[i] = a > b ? 1 : a < b ? 0 : 0.5;
    }
    sp_game_win_rates(p, (int)k, out->win + problem * k, &best, &worst);
}

spar_status sp_verified_make(const sp_samples *samples, sp_judged *out, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    memset(out, 0, sizeof *out);
    out->k = samples->k;
    out->n = samples->n / samples->k;
    SPAR_TRY(sp_mem_calloc(&memory, samples->n, out->k * sizeof *out->p, err));
    out->p = memory;
    SPAR_TRY(sp_mem_calloc(&memory, samples->n, sizeof *out->win, err));
    out->win = memory;
    SPAR_TRY(sp_mem_calloc(&memory, samples->n, sizeof *out->scores, err));
    out->scores = memory;
    for (size_t i = 0; i < samples->n; i++) {
        out->scores[i] = samples->items[i].strict && !samples->items[i].truncated;
    }
    for (size_t i = 0; i < out->n; i++) {
        compare(out, i);
    }
done:
    if (status != SPAR_OK) {
        sp_judged_release(out);
    }
    return status;
}
