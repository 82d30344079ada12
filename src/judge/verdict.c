#include "judge/verdict.h"

#include <math.h>

#include "base/mem.h"

/* Shares of one another; all equal where none is possible. */
static void shares(const double *logps, int n, double *out) {
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) {
        top = fmax(top, logps[i]);
    }
    for (int i = 0; i < n; i++) {
        out[i] = isinf(top) ? 1 : exp(logps[i] - top);
        sum += out[i];
    }
    for (int i = 0; i < n; i++) {
        out[i] /= sum;
    }
}

/* What a logit says of a verdict that is out of the question. */
static double clamp(double logit) {
    return fmin(fmax(logit, -100), 100);
}

static spar_status judge_pairs(const sp_judge_prompt *prompt, sp_judge_ask ask, void *context,
                               const sp_judge_item *item, spar_judgement *out, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t k = item->k;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, k * k, sizeof *out->logits, err));
    out->logits = memory;
    for (size_t cell = 0; cell < k * k; cell++) {
        double logps[SP_JUDGE_MAX_VERDICTS], p[SP_JUDGE_MAX_VERDICTS];
        out->p[cell] = 0.5;
        if (cell / k != cell % k) {
            SPAR_TRY(ask(context, item, cell / k, cell % k, logps, out, err));
            shares(logps, prompt->n_verdicts, p);
            out->p[cell] = p[0] + (prompt->n_verdicts > 2 ? 0.5 * p[2] : 0);
            out->logits[cell] = isinf(logps[0]) && isinf(logps[1]) ? 0 : clamp(logps[0] - logps[1]);
        }
    }
    sp_judge_score_by_wins(out);
done:
    return status;
}

static spar_status rate_each(const sp_judge_prompt *prompt, sp_judge_ask ask, void *context,
                             const sp_judge_item *item, spar_judgement *out, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < item->k; i++) {
        double logps[SP_JUDGE_MAX_VERDICTS], p[SP_JUDGE_MAX_VERDICTS];
        SPAR_TRY(ask(context, item, i, i, logps, out, err));
        shares(logps, prompt->n_verdicts, p);
        for (int v = 0; v < prompt->n_verdicts; v++) {
            out->scores[i] += p[v] * (v + 1);
        }
    }
    sp_judge_compare_scores(out);
done:
    return status;
}

spar_status sp_judge_each_question(const sp_judge_prompt *prompt, sp_judge_question visit,
                                   void *context, const sp_judge_item *item, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t a = 0; a < item->k; a++) {
        for (size_t b = prompt->pairwise ? 0 : a; b < (prompt->pairwise ? item->k : a + 1); b++) {
            if (!prompt->pairwise || a != b) {
                SPAR_TRY(visit(context, item, a, b, err));
            }
        }
    }
done:
    return status;
}

spar_status sp_judge_by_verdicts(const sp_judge_prompt *prompt, sp_judge_ask ask, void *context,
                                 const sp_judge_item *item, spar_judgement *out, spar_error *err) {
    return (prompt->pairwise ? judge_pairs : rate_each)(prompt, ask, context, item, out, err);
}

spar_status sp_judge_prompt_describe(const sp_judge_prompt *prompt, json_t *out, spar_error *err) {
    char fingerprint[32];
    snprintf(fingerprint, sizeof fingerprint, "%016llx",
             (unsigned long long)sp_judge_prompt_fingerprint(prompt));
    if (json_object_set_new(out, "prompt", json_string(prompt->name)) != 0 ||
        json_object_set_new(out, "prompt_fingerprint", json_string(fingerprint)) != 0) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for a judge's provenance");
    }
    return SPAR_OK;
}
