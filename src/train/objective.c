#include "train/objective.h"

#include <string.h>

static const sp_tunable no_params[] = {{0}};
static const char *const single_names[] = {"sft", "kto"};
enum { SINGLES = sizeof single_names / sizeof single_names[0] };

int sp_objective_count(void) {
    return SINGLES + sp_loss_count() + sp_policy_gradient_count();
}

static sp_objective objective_at(int i) {
    if (i < SINGLES) {
        const bool labelled = i == 1;
        return (sp_objective){.kind = labelled ? SP_OBJECTIVE_LABELLED : SP_OBJECTIVE_SFT,
                              .name = single_names[i],
                              .tunables = labelled ? sp_kto_params : no_params};
    }
    i -= SINGLES;
    if (i < sp_loss_count()) {
        const sp_loss *loss = sp_loss_at(i);
        return (sp_objective){.kind = SP_OBJECTIVE_RESPONSES,
                              .name = loss->name,
                              .loss = loss,
                              .tunables = loss->params};
    }
    const sp_policy_gradient *row = sp_policy_gradient_at(i - sp_loss_count());
    return (sp_objective){
        .kind = SP_OBJECTIVE_TOKENS, .name = row->name, .gradient = row, .tunables = row->params};
}

const char *sp_objective_name_at(int i) {
    return objective_at(i).name;
}

spar_status sp_objective_find(sp_objective *out, const char *name, spar_error *err) {
    for (int i = 0; i < sp_objective_count(); i++) {
        *out = objective_at(i);
        if (strcmp(out->name, name) == 0) {
            sp_tunable_defaults(out->tunables, out->params);
            return SPAR_OK;
        }
    }
    return spar_fail(err, SPAR_INVALID, "unknown method '%s'; the nearest is '%s'", name,
                     sp_tunable_nearest(sp_objective_name_at, sp_objective_count(), name));
}

spar_status sp_objective_set(sp_objective *o, const char *param, double value, spar_error *err) {
    if (sp_tunable_count(o->tunables) == 0) {
        return spar_fail(err, SPAR_INVALID, "method %s: has no parameter %s", o->name, param);
    }
    return sp_tunable_set(o->tunables, o->params, param, value, o->name, err);
}

unsigned sp_objective_reads(const sp_objective *o) {
    const bool pulled = o->kind == SP_OBJECTIVE_TOKENS && o->params[SP_PG_KL] > 0.0;
    switch (o->kind) {
    case SP_OBJECTIVE_RESPONSES:
        return o->loss->reads;
    case SP_OBJECTIVE_TOKENS:
        return SP_READS_OPPONENT | (pulled ? SP_READS_ANCHOR : 0) |
               (o->gradient->advantage == SP_ADVANTAGE_WIN_RATE ? SP_READS_WIN_RATE
                                                                : SP_READS_REWARD);
    case SP_OBJECTIVE_LABELLED:
        return SP_READS_OPPONENT | SP_READS_REWARD;
    case SP_OBJECTIVE_SFT:
        break;
    }
    return 0;
}

void sp_objective_responses(const sp_objective *o, size_t *fewest, size_t *most) {
    *fewest = *most = 1;
    if (o->kind == SP_OBJECTIVE_RESPONSES) {
        *fewest = o->loss->fewest;
        *most = o->loss->most;
    } else if (o->kind == SP_OBJECTIVE_TOKENS) {
        *fewest = o->gradient->advantage == SP_ADVANTAGE_WIN_RATE ? 1 : 2;
        *most = SIZE_MAX;
    }
}
