#include "train/objective.h"

#include <string.h>

#include "base/str.h"

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

static spar_status has_no(const sp_objective *o, const char *param, spar_error *err) {
    sp_str known = SP_STR_INIT;
    for (int i = 0; o->tunables[i].name; i++) {
        sp_str_printf(&known, "%s%s", i ? ", " : "; it has ", o->tunables[i].name);
    }
    const spar_status status = spar_fail(err, SPAR_INVALID, "method %s: has no parameter %s%s",
                                         o->name, param, sp_str_get(&known));
    sp_str_release(&known);
    return status;
}

spar_status sp_objective_set(sp_objective *o, const char *param, double value, spar_error *err) {
    for (int i = 0; o->tunables[i].name; i++) {
        if (strcmp(o->tunables[i].name, param) == 0) {
            return sp_tunable_set(o->tunables, o->params, param, value, o->name, err);
        }
    }
    return has_no(o, param, err);
}

#define PARAM_NAME(type, field, id, name, option, most, help) [SPAR_PARAM_##id] = name,
static const char *const param_names[] = {SPAR_METHOD_PARAMS(PARAM_NAME, , , )};

spar_status sp_objective_set_given(sp_objective *o, const double *values, spar_error *err) {
    spar_status status = SPAR_OK;
    for (int i = 0; i < SPAR_PARAM_COUNT && status == SPAR_OK; i++) {
        if (values[i] != SPAR_PARAM_OWN) {
            status = sp_objective_set(o, param_names[i], values[i], err);
        }
    }
    return status;
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

bool sp_objective_separates(const sp_objective *o) {
    size_t fewest, most;
    sp_objective_responses(o, &fewest, &most);
    return most == SIZE_MAX;
}
